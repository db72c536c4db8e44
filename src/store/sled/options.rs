//! What an operator may tune of the sled engine.

use std::path::PathBuf;

const MIB: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SledOptions {
    /// The data directory; created where there is none.
    pub dir: PathBuf,
    /// Memory for blocks read, in bytes. Default 32 MiB.
    pub cache_bytes: usize,
    /// sled keeps in memory what was written since it was opened, so it is opened again, between a
    /// flush and the next write, when this many bytes were written. Default 64 MiB: a pause of
    /// about 0.1 s each time, and with a 64 MiB hot window less than 300 MiB in all.
    pub reopen_bytes: u64,
    /// Writes are refused when the disk has less than this left. A disk that fills up in the
    /// middle of a flush stops the engine for good. Default 64 MiB.
    pub reserve_bytes: u64,
}

impl SledOptions {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cache_bytes: 32 << 20,
            reopen_bytes: 64 * MIB,
            reserve_bytes: 64 * MIB,
        }
    }
}
