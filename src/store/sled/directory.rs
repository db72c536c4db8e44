//! The data directory itself: its lock, and the version it was written by.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use rustix::fs::FlockOperation;

use crate::store::StoreError;

use super::guard::sync_dir;

/// 1 kept blocks as values of sled's trees.
const FORMAT: u32 = 2;
const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "LOCK";
pub(super) const DATABASE: &str = "sled";

pub(super) fn failed(action: &'static str, path: &Path, source: io::Error) -> StoreError {
    let path = path.to_owned();
    if source.kind() == io::ErrorKind::WouldBlock {
        return StoreError::Locked { path };
    }
    StoreError::Io {
        action,
        path,
        source,
    }
}

/// Takes the data directory's lock, which the guard needs before sled takes its own.
pub(super) fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK_FILE);
    let file = File::create(&path).map_err(|e| failed("create", &path, e))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|e| failed("lock", dir, e.into()))?;
    Ok(file)
}

/// Says so and does not leave it to the end of the file: a process just being started may still
/// hold a copy.
pub(super) fn unlock(lock: &File) {
    if let Err(error) = rustix::fs::flock(lock, FlockOperation::Unlock) {
        tracing::warn!(%error, "cannot give up the lock of the data directory");
    }
}

/// The version the directory was written by; `None` when it is not one of ours. A version other
/// than this one's is an error.
pub(super) fn read_format(dir: &Path) -> Result<Option<u32>, StoreError> {
    let path = dir.join(FORMAT_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("read", &path, e)),
    };
    let found = text.trim().strip_prefix("ringfeed ");
    let what = dir.display().to_string();
    let known = FORMAT;
    match found.and_then(|version| version.parse().ok()) {
        Some(FORMAT) => Ok(Some(FORMAT)),
        Some(found) if found > FORMAT => Err(StoreError::NewerFormat { what, found, known }),
        Some(found) => Err(StoreError::OlderFormat { what, found, known }),
        None => Err(StoreError::Damaged {
            what: path.display().to_string(),
            detail: "it does not say \"ringfeed\" and a version".to_owned(),
        }),
    }
}

pub(super) fn write_format(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(FORMAT_FILE);
    if path.exists() {
        return Ok(());
    }
    let write = || -> io::Result<()> {
        let new = dir.join("FORMAT.new");
        fs::write(&new, format!("ringfeed {FORMAT}\n"))?;
        File::open(&new)?.sync_all()?;
        fs::rename(new, &path)?;
        sync_dir(dir)
    };
    write().map_err(|e| failed("write", &path, e))
}
