//! Why a store did not do what it was asked.

use std::{io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {action} {path}: {source}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("another process has {path} open; stop it or choose another --data-dir")]
    Locked { path: PathBuf },
    #[error("the disk is full: free space under {path} and start again")]
    DiskFull { path: PathBuf },
    /// A flush failed: what was staged may be lost, so nothing more is written.
    #[error("writing stopped after a failed flush ({cause}); start the server again")]
    Stopped { cause: String },
    #[error("{what} is damaged: {detail}")]
    Damaged { what: String, detail: String },
    #[error("{what} was written by a newer ringfeed (format {found}, this one knows {known})")]
    NewerFormat {
        what: String,
        found: u32,
        known: u32,
    },
    #[error(
        "{what} was written by an older ringfeed (format {found}, this one reads {known} only): read \
         it out with that version, or move it away and start with an empty directory"
    )]
    OlderFormat {
        what: String,
        found: u32,
        known: u32,
    },
    #[error("the record is {len} bytes, the limit is {limit}")]
    RecordTooLarge { len: usize, limit: usize },
    #[error("a ring is at least {min} bytes, not {asked}")]
    RingTooSmall { asked: u64, min: u64 },
    #[error("the last resize of this feed is still being carried out; try again later")]
    Resizing,
    #[error("reading a block took longer than {seconds} s")]
    ReadTimeout { seconds: u64 },
}
