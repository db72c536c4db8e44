//! Who uploads, and how far each came.

use std::{ops::Range, sync::Arc};

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

/// How far one producer came with consecutive records of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkRun {
    pub producer: u32,
    /// Which records of the append.
    pub records: Range<usize>,
    /// Sequence and content after each of them.
    pub notes: Vec<(u64, u64)>,
}

impl MarkRun {
    /// How far the producer came with record `index` of the append.
    pub fn at(&self, index: usize) -> Option<MarkNote> {
        let note = self.notes.get(index.checked_sub(self.records.start)?)?;
        Some(MarkNote {
            producer: self.producer,
            sequence: note.0,
            content: note.1,
        })
    }
}
