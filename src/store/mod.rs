//! Where records rest: the contract every engine keeps, and the engines behind it.
//!
//! ```text
//!             trim / retention            append
//!                  v                        v
//!   ring   ...... head ================= tail
//!           gone  |<------ readable ---->|  first unwritten offset
//! ```
//!
//! One thread writes (the hub's committer); any thread reads. Writing is in two steps: `append`
//! and `put` stage, `flush` makes everything staged durable. What is staged can be read at once,
//! so whoever promises durability must not show it before the flush.

mod block;
mod error;
mod gone;
mod memory;
pub mod sled;

#[cfg(test)]
mod conformance;

use std::{fmt::Debug, sync::Arc};

pub use error::StoreError;
pub use memory::MemoryEngine;

use crate::model::{
    Bounds, Chunk, FeedId, Frames, Gap, MarkNote, MarkRun, Offset, UnixNanos, Visibility,
};

/// The small durable maps beside the rings: what must outlive the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Feeds, key descriptions, secrets.
    Catalog,
    /// Producers and how far each came.
    Marks,
    /// The newest record per key and kind.
    Latest,
    /// Named cursors.
    Cursors,
    /// Ring states: layout, what was trimmed or aged out, what was lost.
    Heads,
}

impl Space {
    pub const ALL: [Self; 5] = [
        Self::Catalog,
        Self::Marks,
        Self::Latest,
        Self::Cursors,
        Self::Heads,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Marks => "marks",
            Self::Latest => "latest",
            Self::Cursors => "cursors",
            Self::Heads => "heads",
        }
    }
}

/// What a ring needs to know of its feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSpec {
    pub feed: FeedId,
    pub epoch: u64,
    /// Bytes on disk the ring may take, its blocks' headers included.
    pub max_bytes: u64,
    /// `Immediate` rings reserve offsets ahead: what followers saw before its flush is never
    /// handed out again, but becomes a gap `Lost` after an unclean stop.
    pub visibility: Visibility,
}

/// One append: consecutive records of one feed.
#[derive(Clone, Debug)]
pub struct Append<'a> {
    /// Each at most `MAX_RECORD_BYTES`. May be empty: then nothing is written.
    pub records: Frames,
    /// When they came in; MUST NOT be below that of an earlier append of the ring.
    pub ingest_time: UnixNanos,
    /// How far producers came with their records, in record order; records without a producer lie
    /// between the runs. Each block notes the last of each producer that it has a record of, and
    /// no later one.
    pub marks: &'a [MarkRun],
    pub unit: Unit,
}

impl Append<'_> {
    /// Whether every record fits into a block.
    fn check(&self) -> Result<(), StoreError> {
        match self.records.largest() {
            Some(len) if len > MAX_RECORD_BYTES => Err(StoreError::RecordTooLarge {
                len,
                limit: MAX_RECORD_BYTES,
            }),
            Some(_) | None => Ok(()),
        }
    }
}

/// What a crash may leave of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Any number of its leading records.
    Record,
    /// All of them or none.
    Batch,
}

/// The largest record a ring takes, without the server's fields.
pub const MAX_RECORD_BYTES: usize = 60_000;

/// Bytes of a block at the most: what one `read` gives.
pub const MAX_BLOCK_BYTES: usize = block::BLOCK_BYTES;

/// Key and value of a small entry.
pub type Entry = (Vec<u8>, Vec<u8>);

/// The answer of a read.
#[derive(Clone, Debug)]
pub enum Read {
    /// Records; the first has the offset asked for, or the next one assigned.
    Records(Chunk),
    /// Nothing can be read before `gap.span.to`. Its `from` is the offset asked for.
    Gap(Gap),
    /// The offset is the tail (or above it).
    AtTail,
}

/// A whole block as it rests, for rebuilding what is derived from records.
#[derive(Clone, Debug)]
pub struct StoredBlock {
    pub records: Chunk,
    /// How far the producers of these records came at the end of the block.
    pub marks: Vec<MarkNote>,
}

/// A clock of records to look up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    Event,
    Ingest,
}

/// A store of rings and small maps. Dropping it without `close` is an unclean stop.
pub trait Engine: Send + Sync + Debug {
    /// The metric label and `--engine` name.
    fn name(&self) -> &'static str;

    /// Opens the ring of `spec.feed`, creating it where there is none. MUST NOT read the ring as
    /// a whole. A ring whose size differs from `spec.max_bytes` keeps the size it has: `resize`
    /// changes it. A ring of an `Immediate` feed that was not closed goes on at the offsets it
    /// had reserved.
    fn open_ring(&self, spec: RingSpec) -> Result<Arc<dyn Ring>, StoreError>;

    /// Deletes the ring of a feed and its space. The feed's small entries are the caller's.
    fn delete_ring(&self, feed: FeedId) -> Result<(), StoreError>;

    /// Stages a small entry; `None` removes it. Durable with the next `flush`. Within one flush
    /// no later write is durable without the earlier ones.
    fn put(&self, space: Space, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError>;

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The entries whose keys begin with `prefix`, in key order.
    fn scan(&self, space: Space, prefix: &[u8]) -> Result<Vec<Entry>, StoreError>;

    /// Makes everything staged durable: survives `kill -9` and power loss. After an error every
    /// later write fails; reads go on.
    fn flush(&self) -> Result<(), StoreError>;

    /// Bytes that can still be written to the engine's disk; `None` where there is no disk.
    fn free_bytes(&self) -> Result<Option<u64>, StoreError>;

    /// Bytes moved from and to the disk since the engine was opened.
    fn io(&self) -> Io;

    /// Flushes, notes that the stop is clean, and releases files. Writes fail afterwards.
    fn close(&self) -> Result<(), StoreError>;
}

/// What an engine moved since it was opened; what is written is all that flushes wrote, the
/// engine's own logs included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Io {
    pub block_bytes_read: u64,
    pub block_bytes_written: u64,
}

/// The records of one feed.
pub trait Ring: Send + Sync + Debug {
    /// `head..tail` of what is staged. Neither ever moves back, over restarts included: the head
    /// of a flush is still readable until the next flush, whatever is staged meanwhile.
    fn bounds(&self) -> Bounds;

    /// Ingest time of the newest record; `None` when there never was one.
    fn last_ingest_time(&self) -> Option<UnixNanos>;

    /// Bytes on disk the ring may take.
    fn max_bytes(&self) -> u64;

    /// Stages records at the tail, evicting at the head what no longer fits; offsets are
    /// consecutive within the call. Returns the records as they will be read. May flush.
    fn append(&self, append: Append<'_>) -> Result<Chunk, StoreError>;

    /// Reads from `from`: at least one record, at most about `max_bytes`, from one block.
    /// A block that fails its checks is a gap `Corrupt`; it is never served.
    fn read(&self, from: Offset, max_bytes: usize) -> Result<Read, StoreError>;

    /// The whole blocks that hold offsets from `from` on, in order, until `visit` says stop;
    /// bad blocks are left out.
    fn replay(&self, from: Offset, visit: &mut dyn FnMut(StoredBlock)) -> Result<(), StoreError>;

    /// The first offset from which on `clock` may show `time` or later: no record before it that
    /// is still readable has a time at or after `time`. Block-accurate: the caller looks inside.
    fn seek(&self, clock: Clock, time: UnixNanos) -> Result<Offset, StoreError>;

    /// Moves the head to `before` (at most the tail). Staged like an append.
    fn trim(&self, before: Offset) -> Result<Bounds, StoreError>;

    /// Moves the head past the blocks whose newest record came in before `time`. Staged.
    fn expire(&self, time: UnixNanos) -> Result<Bounds, StoreError>;

    /// From now on reserves offsets ahead, or no longer. Staged.
    fn set_visibility(&self, visibility: Visibility) -> Result<(), StoreError>;

    /// Changes the size; keeps what still fits. Staged.
    fn resize(&self, max_bytes: u64) -> Result<Bounds, StoreError>;
}
