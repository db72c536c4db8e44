//! What can be wrong with a response.

use std::fmt;

use crate::model::{Offset, Span};

/// What a server sent does not add up: going on would hide a loss.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("feed {feed:?}, selector {selector}: {fault}")]
pub struct Broken {
    pub selector: u32,
    pub feed: String,
    pub fault: Fault,
}

impl Broken {
    pub(super) fn new(selector: u32, feed: &str, fault: Fault) -> Self {
        Self {
            selector,
            feed: feed.to_owned(),
            fault,
        }
    }
}

/// What is wrong with a response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("offsets {expected}..{from} were skipped without a gap")]
    Hole { expected: Offset, from: Offset },
    #[error("offset {from} came again, {expected} was expected")]
    Again { expected: Offset, from: Offset },
    #[error("the epoch went from {expected} to {found} without a gap")]
    Epoch { expected: u64, found: u64 },
    #[error("the range {0} ends before it begins")]
    Range(Offsets),
    #[error("a record at offset {offset} lies outside {within} or out of order")]
    Order { offset: Offset, within: Offsets },
    #[error("{found} records where {count} were announced for {within}")]
    Count {
        count: u32,
        found: usize,
        within: Offsets,
    },
    #[error("a record cannot be decoded")]
    Record,
    #[error("records came before the snapshot was complete")]
    Early,
    #[error("a snapshot came where none was due")]
    Snapshot,
    #[error("the snapshot was as of offset {expected} and then as of {found}")]
    AsOf { expected: Offset, found: Offset },
    #[error("a response lacks {0}")]
    Lacks(&'static str),
    #[error("this client does not know the message: a newer server? update the client")]
    Unknown,
    #[error("there is no such selector in the request")]
    Selector,
    #[error("it answers for feed {0:?}")]
    Feed(String),
}

/// A span, printed as `from..to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets(pub Span);

impl fmt::Display for Offsets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.0.from, self.0.to)
    }
}
