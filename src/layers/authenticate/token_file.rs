//! The file of static tokens: hashes and what they allow, never a secret. `ringfeed token` writes
//! it, the server reads it.

use std::{
    collections::HashSet,
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use crate::model::{InvalidScope, Scopes};

/// Before each token, so that leaked ones are found by scanners.
const PREFIX: &str = "rf_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;
/// Longer names are none.
const MAX_PRINCIPAL_BYTES: usize = 256;
const HEAD: &str = "# Tokens of ringfeed, as `ringfeed token` makes them. A token itself is shown once, and is not in here.\n\n";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenFile {
    #[serde(default, rename = "token")]
    pub tokens: Vec<TokenEntry>,
}

/// What is kept of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    pub id: String,
    pub principal: String,
    /// BLAKE3 of the secret.
    pub hash: Digest,
    pub scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Moment>,
    pub created: Moment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// 32 bytes, written as hex. Not shown: nobody needs to see it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

/// A time, written as `2026-12-31T00:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub jiff::Timestamp);

/// A new token. Its text is handed out once.
#[derive(Debug)]
pub struct NewToken {
    pub entry: TokenEntry,
    pub text: TokenText,
}

/// A token as its owner has it: `rf_<id>_<secret>`. Its `Debug` shows the id.
#[derive(Clone)]
pub struct TokenText {
    id: String,
    secret: String,
}

#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Without the line itself: what is in it may be secret.
    #[error("line {line}: {message}")]
    Toml { line: usize, message: String },
    #[error("token {id}: {what}")]
    Entry { id: String, what: String },
    /// Of a token that is not made for that reason.
    #[error("{0}")]
    New(String),
    #[error("no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

impl TokenFile {
    pub fn read(path: &Path) -> Result<Self, TokenFileError> {
        Self::parse(&fs::read(path)?)
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, TokenFileError> {
        let text = str::from_utf8(bytes).map_err(|_not_text| TokenFileError::Toml {
            line: 1,
            message: "the file is no text".into(),
        })?;
        let parsed: Result<Self, toml::de::Error> = toml::from_str(text);
        let file = parsed.map_err(|error| TokenFileError::Toml {
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        let mut ids = HashSet::new();
        for entry in &file.tokens {
            if !ids.insert(&entry.id) {
                return Err(entry.error("the id is there twice"));
            }
            if let Some(fault) = principal_fault(&entry.principal) {
                return Err(entry.error(fault));
            }
        }
        Ok(file)
    }

    /// Reads the file, or begins one, lets `change` work on it and puts the outcome in its place,
    /// all at once; others that do the same wait.
    pub fn edit<T>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, TokenFileError>,
    ) -> Result<T, TokenFileError> {
        let _lock = lock(path)?;
        let mut file = Self::read(path)?;
        let done = change(&mut file)?;
        file.write(path)?;
        Ok(done)
    }

    fn write(&self, path: &Path) -> Result<(), TokenFileError> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        write_private(path, format!("{HEAD}{text}").as_bytes())?;
        Ok(())
    }
}

/// Puts a file that only its owner can read in the place of `path`, durably: nobody ever sees half
/// of it.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", hex(&random)));
    let new = path.with_file_name(name);
    let written = write_new(&new, content).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        fs::remove_file(&new).ok();
    }
    written?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    fs::File::open(dir.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = private().create_new(true).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn private() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Holds the file. Whoever had it before may have put another in its place.
fn lock(path: &Path) -> io::Result<fs::File> {
    loop {
        let file = private().create(true).truncate(false).open(path)?;
        file.lock()?;
        let there = fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
        let own = file.metadata()?;
        if there.ok() == Some((own.dev(), own.ino())) {
            return Ok(file);
        }
    }
}

impl TokenEntry {
    pub fn scopes(&self) -> Result<Scopes, TokenFileError> {
        Scopes::parse(&self.scopes, &self.principal)
            .map_err(|invalid: InvalidScope| self.error(&invalid.to_string()))
    }

    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|end| end.time() <= now)
    }

    /// Whether streams that were opened by `before` may go on.
    pub(super) fn allows_as_much_as(&self, before: &Self) -> bool {
        let end = |entry: &Self| entry.expires.map_or(jiff::Timestamp::MAX, |end| end.0);
        self.hash == before.hash
            && self.principal == before.principal
            && self.scopes == before.scopes
            && end(self) >= end(before)
    }

    fn error(&self, what: &str) -> TokenFileError {
        TokenFileError::Entry {
            id: self.id.clone(),
            what: what.to_owned(),
        }
    }
}

impl NewToken {
    pub fn make(
        principal: String,
        scopes: Vec<String>,
        expires: Option<Moment>,
        description: Option<String>,
    ) -> Result<Self, TokenFileError> {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut secret)?;
        let text = TokenText {
            id: hex(&id),
            secret: hex(&secret),
        };
        let entry = TokenEntry {
            id: text.id.clone(),
            principal,
            hash: text.digest(),
            scopes,
            expires,
            created: Moment(
                jiff::Timestamp::now()
                    .round(jiff::Unit::Second)
                    .unwrap_or_default(),
            ),
            description,
        };
        if let Some(fault) = principal_fault(&entry.principal) {
            return Err(TokenFileError::New(fault.to_owned()));
        }
        Scopes::parse(&entry.scopes, &entry.principal)
            .map_err(|invalid| TokenFileError::New(invalid.to_string()))?;
        Ok(Self { entry, text })
    }
}

impl TokenText {
    /// `None`: that is no token of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        (!id.is_empty() && !secret.is_empty()).then(|| Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn digest(&self) -> Digest {
        Digest(*blake3::hash(self.secret.as_bytes()).as_bytes())
    }

    /// The token itself, for its owner.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, self.secret)
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_..", self.id)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let hash = blake3::Hash::from_hex(text);
        // What stands there instead is not repeated: it may be a secret.
        let hash =
            hash.map_err(|_bad| serde::de::Error::custom("the hash is not 64 hex digits"))?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl Moment {
    pub fn time(self) -> SystemTime {
        // Of a time that the system cannot hold: long over.
        SystemTime::try_from(self.0).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Native(toml::value::Datetime),
        }
        let text = match Written::deserialize(from)? {
            Written::Text(text) => text,
            Written::Native(time) => time.to_string(),
        };
        let help = || format!("\"{text}\" is no time; write for instance 2026-12-31T00:00:00Z");
        let time = text.parse();
        time.map(Self)
            .map_err(|_bad| serde::de::Error::custom(help()))
    }
}

/// What is wrong with the name of a principal.
pub fn principal_fault(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("the principal is empty"),
        name if name.len() > MAX_PRINCIPAL_BYTES => Some("the principal is longer than 256 bytes"),
        name if name.chars().any(char::is_control) => Some("the principal has control characters"),
        _ => None,
    }
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    before.bytes().filter(|byte| *byte == b'\n').count() + 1
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn made(principal: &str) -> NewToken {
        NewToken::make(principal.into(), vec!["ingest:a".into()], None, None).unwrap()
    }

    #[test]
    fn a_token_is_read_as_it_was_made_and_never_shown() {
        let token = made("pi17");
        let text = token.text.reveal();
        let read = TokenText::parse(&text).unwrap();
        assert_eq!(
            (read.id(), read.digest()),
            (&*token.entry.id, token.entry.hash)
        );
        let shown = format!("{token:?} {read:?}");
        let secret = text.rsplit('_').next().unwrap();
        assert_eq!(secret.len(), 64);
        assert!(
            !shown.contains(secret) && shown.contains(&token.entry.id),
            "{shown}"
        );
        for text in ["", "rf_", "rf_a", "rf__b", "rf_a_", "x_a_b"] {
            assert!(TokenText::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let mut first = made("pi17").entry;
        first.expires = Some(Moment("2030-01-01T00:00:00Z".parse().unwrap()));
        first.description = Some("\u{1b} \"quoted\"".into());
        let second = made("pi18").entry;
        for entry in [&first, &second] {
            let add = |file: &mut TokenFile| {
                file.tokens.push(entry.clone());
                Ok(())
            };
            TokenFile::edit(&path, add).unwrap();
        }
        assert_eq!(TokenFile::read(&path).unwrap().tokens, [first, second]);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
    }

    #[test]
    fn edits_at_the_same_time_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        std::thread::scope(|scope| {
            for n in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let token = made(&format!("p{n}"));
                    TokenFile::edit(path, |file| {
                        file.tokens.push(token.entry);
                        Ok(())
                    })
                    .unwrap();
                });
            }
        });
        assert_eq!(TokenFile::read(&path).unwrap().tokens.len(), 8);
    }

    #[test]
    fn a_mistake_is_said_without_what_stands_there() {
        let entry = |hash: &str, more: &str| {
            format!(
                "[[token]]\nid = \"a\"\nprincipal = \"p\"\nscopes = []\n\
                 created = 2026-01-01T00:00:00Z\nhash = \"{hash}\"\n{more}"
            )
        };
        let error = |text: &str| TokenFile::parse(text.as_bytes()).unwrap_err().to_string();
        let good = "0".repeat(64);
        assert!(TokenFile::parse(entry(&good, "").as_bytes()).is_ok());
        let pasted = error(&entry("rf_a_topsecret", ""));
        assert!(
            pasted.contains("64 hex digits") && !pasted.contains("topsecret"),
            "{pasted}"
        );
        assert!(pasted.starts_with("line 6"), "{pasted}");
        let unknown = error(&entry(&good, "secret = \"topsecret\""));
        assert!(
            unknown.contains("secret") && !unknown.contains("topsecret"),
            "{unknown}"
        );
        let broken = error("[[token]]\nhash = topsecret");
        assert!(!broken.contains("topsecret"), "{broken}");
        let twice = entry(&good, "") + &entry(&good, "");
        assert_eq!(error(&twice), "token a: the id is there twice");
        assert!(error(&entry(&good, "expires = \"soon\"")).contains("2026-12-31"));
    }
}
