//! Some offsets of a feed, up to a place: those that a follower gets while it passes the rest.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::model::Offset;

/// Numbers picks that several followers share.
pub(crate) type PickId = u64;

static NEXT: AtomicU64 = AtomicU64::new(1);

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pick {
    /// Where its messages are kept for others; `None`: it is one follower's own.
    pub shared_as: Option<PickId>,
    /// Rising.
    offsets: Box<[Offset]>,
    /// From here on it says nothing.
    pub until: Offset,
}

impl Pick {
    /// `offsets` rise.
    pub(crate) fn own(offsets: Vec<Offset>, until: Offset) -> Self {
        Self {
            shared_as: None,
            offsets: offsets.into(),
            until,
        }
    }

    /// One that many followers will use.
    pub(crate) fn shared(offsets: Vec<Offset>, until: Offset) -> Self {
        Self {
            shared_as: Some(NEXT.fetch_add(1, Relaxed)),
            ..Self::own(offsets, until)
        }
    }

    pub(crate) fn has(&self, offset: Offset) -> bool {
        self.offsets.binary_search(&offset).is_ok()
    }

    /// The first picked offset at or after `offset`.
    pub(crate) fn next_from(&self, offset: Offset) -> Option<Offset> {
        let at = self.offsets.partition_point(|picked| *picked < offset);
        self.offsets.get(at).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }
}
