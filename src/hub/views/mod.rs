//! What followers are sent: whole messages, made once for all who are at the same place and want
//! the same, and kept for a while in a bounded number of bytes.

mod cache;
mod draft;
mod filter;
mod index;
mod pick;
mod winners;

use bytes::Bytes;

pub use self::filter::KeyFilter;
pub(crate) use self::{
    cache::{Cache, Place, Reach},
    draft::{Choice, Draft, MAX_BYTES, MAX_PASSED, Room},
    filter::{ALL, Filter, FilterId, Filters},
    index::Hot,
    pick::Pick,
    winners::Winners,
};
use crate::{
    model::{Chunk, Span, UnixNanos},
    proto::message::BatchMessage,
};

/// Records, the offsets that they and the selection settle, and all of it as a gRPC message.
#[derive(Clone, Debug)]
pub struct View {
    pub covers: Span,
    /// Records in it.
    pub count: u32,
    /// When the last record passed came in.
    pub last_ingest: Option<UnixNanos>,
    pub origin: Origin,
    pub(crate) message: BatchMessage,
}

/// Where records were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Window,
    Ring,
}

impl View {
    /// The whole message, its prefix included; shared.
    pub fn message(&self) -> Bytes {
        self.message.bytes.clone()
    }

    /// Bytes of the records as they lie in the message.
    pub fn bytes(&self) -> usize {
        self.message.frames.len()
    }

    /// The records, each without its frame.
    pub fn records(&self) -> Vec<Bytes> {
        let frames = self.message.bytes.slice(self.message.frames.clone());
        let chunk = Chunk::parse(self.covers.from, frames);
        chunk.map_or_else(Vec::new, |chunk| chunk.records().map(|(_, r)| r).collect())
    }

    /// Whether a longer message would not be much longer.
    fn is_full(&self) -> bool {
        self.bytes() >= MAX_BYTES / 2 || self.covers.len() >= MAX_PASSED
    }
}
