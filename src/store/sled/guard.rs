//! What must be put right in sled's files before and after it opens them. sled holds no lock yet
//! when the guard runs: the caller holds the data directory's.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

const COOKIE: &str = "durability_cookie";

/// Run before every open. A kill inside `open`, after the new snapshot has its name and before the
/// new log exists, makes the next open delete the snapshot it has just written, and the one after
/// that find nothing. An empty log above the snapshot keeps that from happening.
pub(super) fn before_open(dir: &Path) -> io::Result<()> {
    drop_empty_cookie(dir)?;
    let metadata = dir.join("metadata");
    let Some(snapshot) = newest(&metadata, "snapshot_")? else {
        return Ok(());
    };
    let log = newest(&metadata, "log_")?;
    if log.is_some_and(|log| log > snapshot) {
        return Ok(());
    }
    tracing::warn!(
        snapshot,
        "restoring the metadata log that an interrupted open left out"
    );
    let path = metadata.join(format!("log_{:016x}", snapshot + 1));
    File::create(path)?.sync_all()?;
    sync_dir(&metadata)
}

/// Run after the open that created the database: sled does not make its cookie durable.
pub(super) fn after_creation(dir: &Path) -> io::Result<()> {
    File::open(dir.join(COOKIE))?.sync_all()?;
    sync_dir(dir)?;
    match dir.parent() {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A cut in the first moments of a database leaves a cookie without content, which sled refuses.
/// It only says what this engine knows anyhow, and sled writes a new one.
fn drop_empty_cookie(dir: &Path) -> io::Result<()> {
    let path = dir.join(COOKIE);
    match fs::metadata(&path) {
        Ok(meta) if meta.len() == 0 => fs::remove_file(path),
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// The greatest id among the files `prefix` + 16 hex digits.
fn newest(dir: &Path, prefix: &str) -> io::Result<Option<u64>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut newest = None;
    for entry in entries {
        let name = entry?.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix(prefix));
        let id = id.and_then(|hex| u64::from_str_radix(hex, 16).ok());
        newest = newest.max(id);
    }
    Ok(newest)
}
