//! Who we are to a server: a bearer token, as it stands or in a file that is read again for each
//! call when it changed. So a token can be replaced while connections and streams live on.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

/// A file that changed so lately may change again without its times showing it.
const SETTLE: Duration = Duration::from_millis(100);

/// A bearer token. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl From<String> for Token {
    fn from(token: String) -> Self {
        Self(token.trim().into())
    }
}

impl Token {
    /// The token itself: not for logs.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn header(&self) -> Result<MetadataValue<Ascii>, InvalidToken> {
        let header = format!("Bearer {}", self.0).parse();
        let mut header: MetadataValue<Ascii> = header.map_err(|_bytes| InvalidToken)?;
        header.set_sensitive(true);
        Ok(header)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token has bytes that a header cannot carry")]
pub struct InvalidToken;

#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Token(#[from] InvalidToken),
    #[error("it is empty")]
    Empty,
}

/// Adds the present token to each call.
#[derive(Clone)]
pub struct Bearer(Arc<Source>);

enum Source {
    None,
    Fixed(MetadataValue<Ascii>),
    File(TokenFile),
}

struct TokenFile {
    path: PathBuf,
    current: Mutex<Current>,
}

struct Current {
    header: MetadataValue<Ascii>,
    /// Of the file it was read from; `None`: it may have changed just then.
    stamp: Option<Stamp>,
    generation: u64,
}

/// By this a file is known to be the same.
type Stamp = (u64, u64, u64, i64, i64);

impl Bearer {
    pub(super) fn none() -> Self {
        Self(Arc::new(Source::None))
    }

    pub(super) fn fixed(token: &Token) -> Result<Self, InvalidToken> {
        Ok(Self(Arc::new(Source::Fixed(token.header()?))))
    }

    pub(super) fn of_file(path: &Path) -> Result<Self, TokenFileError> {
        let (header, stamp) = read(path)?;
        Ok(Self(Arc::new(Source::File(TokenFile {
            path: path.to_owned(),
            current: Mutex::new(Current {
                header,
                stamp,
                generation: 0,
            }),
        }))))
    }

    /// Counts the tokens that there were.
    pub(super) fn generation(&self) -> u64 {
        match &*self.0 {
            Source::None | Source::Fixed(_) => 0,
            Source::File(file) => file.look().1,
        }
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let header = match &*self.0 {
            Source::None => return Ok(request),
            Source::Fixed(header) => header.clone(),
            Source::File(file) => file.look().0,
        };
        request.metadata_mut().insert("authorization", header);
        Ok(request)
    }
}

impl TokenFile {
    /// The token of now and its number. While the file cannot be read, or is being written, it is
    /// the last one.
    fn look(&self) -> (MetadataValue<Ascii>, u64) {
        let mut current = self.current.lock();
        let stamp = fs::metadata(&self.path).ok().and_then(|meta| stamp(&meta));
        if (stamp.is_none() || stamp != current.stamp)
            && let Ok((header, stamp)) = read(&self.path)
        {
            current.generation += u64::from(header != current.header);
            current.header = header;
            current.stamp = stamp;
        }
        (current.header.clone(), current.generation)
    }
}

fn read(path: &Path) -> Result<(MetadataValue<Ascii>, Option<Stamp>), TokenFileError> {
    // Before the content: what changes in between is seen the next time.
    let stamp = stamp(&fs::metadata(path)?);
    let token = Token::from(fs::read_to_string(path)?);
    if token.reveal().is_empty() {
        return Err(TokenFileError::Empty);
    }
    Ok((token.header()?, stamp))
}

fn stamp(meta: &fs::Metadata) -> Option<Stamp> {
    let changed = Duration::new(
        meta.ctime().try_into().ok()?,
        meta.ctime_nsec().try_into().ok()?,
    );
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let settled = now.ok()?.saturating_sub(changed) >= SETTLE;
    let stamp = (
        meta.dev(),
        meta.ino(),
        meta.len(),
        meta.ctime(),
        meta.ctime_nsec(),
    );
    settled.then_some(stamp)
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(bearer: &mut Bearer) -> String {
        let request = bearer.call(Request::new(())).unwrap();
        let header = request.metadata().get("authorization").unwrap();
        header.to_str().unwrap().to_owned()
    }

    #[test]
    fn each_call_has_the_token_of_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "one\n").unwrap();
        let mut bearer = Bearer::of_file(&path).unwrap();
        assert_eq!(
            (sent(&mut bearer), bearer.generation()),
            ("Bearer one".into(), 0)
        );
        for (n, token) in (1..).zip(["two", "six", "ten"]) {
            fs::write(&path, token).unwrap();
            assert_eq!(sent(&mut bearer), format!("Bearer {token}"));
            assert_eq!(bearer.generation(), n);
        }
        // The same again is no news.
        fs::write(&path, "ten ").unwrap();
        assert_eq!(
            (sent(&mut bearer), bearer.generation()),
            ("Bearer ten".into(), 3)
        );
    }

    #[test]
    fn while_the_file_is_no_good_the_last_token_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert!(Bearer::of_file(&path).is_err());
        for bad in ["", " \n", "a\u{1}b"] {
            fs::write(&path, bad).unwrap();
            assert!(Bearer::of_file(&path).is_err(), "{bad:?}");
        }
        fs::write(&path, "one").unwrap();
        let mut bearer = Bearer::of_file(&path).unwrap();
        for bad in ["", "a\u{1}b"] {
            fs::write(&path, bad).unwrap();
            assert_eq!(
                (sent(&mut bearer), bearer.generation()),
                ("Bearer one".into(), 0)
            );
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(sent(&mut bearer), "Bearer one");
    }

    #[test]
    fn nothing_of_a_token_is_shown() {
        let bearer = Bearer::fixed(&Token::from("topsecret".to_owned())).unwrap();
        assert_eq!(format!("{bearer:?}"), "Bearer(..)");
    }
}
