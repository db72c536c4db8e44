//! What an operator may tune of the sled engine.

use std::path::PathBuf;

const MIB: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SledOptions {
    /// The data directory; created where there is none.
    pub dir: PathBuf,
    /// Memory for blocks read lately, in bytes. Default 32 MiB.
    pub cache_bytes: usize,
    /// Writes are refused when the disk has less than this left. A disk that fills up in the
    /// middle of a flush stops the engine for good. Default 64 MiB.
    pub reserve_bytes: u64,
}

impl SledOptions {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cache_bytes: 32 << 20,
            reserve_bytes: 64 * MIB,
        }
    }
}
