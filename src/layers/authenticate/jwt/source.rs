//! Where the keys of JWT come from, and how they are taken up when they change.

use std::{io, path::Path};

use jsonwebtoken::Algorithm;
use parking_lot::Mutex;

use super::{
    InvalidKeys, Jwt, JwtError, JwtOptions,
    keys::{self, Key},
    remote::Remote,
};
use crate::layers::authenticate::{
    reload::{Origin, reloaded},
    watched_file::WatchedFile,
};

#[derive(Debug)]
pub(super) enum Source {
    File(Mutex<WatchedFile>, Format),
    Url(Box<Remote>),
}

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Key,
    Jwks,
}

#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Keys(#[from] InvalidKeys),
}

impl Format {
    fn read(self, content: &[u8], allowed: &[Algorithm]) -> Result<Vec<Key>, InvalidKeys> {
        match self {
            Self::Key => keys::from_file(content, allowed),
            Self::Jwks => keys::from_jwks(content, allowed),
        }
    }

    fn origin(self) -> Origin {
        match self {
            Self::Key => Origin::KeyFile,
            Self::Jwks => Origin::JwksFile,
        }
    }
}

impl Source {
    /// The source, and the keys that can be had at once.
    pub(super) fn open(
        options: &JwtOptions,
        allowed: &[Algorithm],
    ) -> Result<(Self, Vec<Key>), JwtError> {
        match (&options.key_file, &options.jwks_file, &options.jwks_url) {
            (Some(file), None, None) => {
                if allowed.contains(&Algorithm::HS256) && allowed.iter().any(is_public) {
                    return Err(JwtError::MixedKeyFile);
                }
                Self::of_file(file, Format::Key, allowed)
            }
            (None, Some(file), None) => Self::of_file(file, Format::Jwks, allowed),
            (None, None, Some(url)) => Ok((Self::Url(Box::new(Remote::new(url)?)), vec![])),
            _ => Err(JwtError::Sources),
        }
    }

    fn of_file(
        path: &Path,
        format: Format,
        allowed: &[Algorithm],
    ) -> Result<(Self, Vec<Key>), JwtError> {
        let (file, content) = WatchedFile::open(path).map_err(|error| JwtError::File {
            file: path.to_owned(),
            error,
        })?;
        let keys = format.read(&content, allowed);
        let keys = keys.map_err(|error| JwtError::Keys {
            file: path.to_owned(),
            error,
        })?;
        Ok((Self::File(Mutex::new(file), format), keys))
    }

    /// A file of public keys may be read by anybody.
    pub(super) fn warn(&self, allowed: &[Algorithm]) {
        if let Self::File(file, _) = self
            && allowed.contains(&Algorithm::HS256)
        {
            file.lock().warn_if_open_to_others();
        }
    }

    /// Blocks.
    pub(super) fn reload_file(&self, jwt: &Jwt) {
        let Self::File(file, format) = self else {
            return;
        };
        let mut file = file.lock();
        let read = |content: Vec<u8>| Ok(format.read(&content, &jwt.allowed)?);
        let taken = match file.changed() {
            Ok(None) => return,
            Ok(Some(content)) => read(content).map(|keys| jwt.put(keys)),
            Err(error) => Err(ReloadError::Io(error)),
        };
        reloaded(format.origin(), file.path().display(), &taken);
    }

    /// Looks behind a URL if it is time to.
    pub(super) async fn refresh(&self, jwt: &Jwt) {
        if let Self::Url(remote) = self {
            remote.refresh(jwt).await;
        }
    }

    /// Looks behind a URL because a key is not known, unless that was done a moment ago; several
    /// that ask at a time are answered together.
    pub(super) async fn ask(&self, jwt: &Jwt, is_known: impl Fn() -> bool) {
        if let Self::Url(remote) = self {
            remote.ask(jwt, is_known).await;
        }
    }
}

fn is_public(algorithm: &Algorithm) -> bool {
    *algorithm != Algorithm::HS256
}
