//! Who uploads, and how far each came.

use std::sync::Arc;

/// Whom a call belongs to, as authentication found it.
pub type Principal = Arc<str>;

/// How a producer names itself, 1 to 128 bytes; unique within its principal and feed.
pub type ProducerName = Arc<str>;

/// How far one producer of a feed came: written into each block it has records in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkNote {
    /// The producer's number within the feed.
    pub producer: u32,
    /// Its last sequence, refused records included.
    pub sequence: u64,
    /// Sum of the content hashes of all its records up to there (wrapping).
    pub content: u64,
}
