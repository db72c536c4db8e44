//! Some offsets of a feed, up to a place: those that a follower gets while it passes the rest.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::model::Offset;

/// Numbers picks that several followers share.
pub(crate) type PickId = u64;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// Who gets what was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// One follower: the last so many of each key that it wants.
    Own { last_per_key: u32 },
    /// Many followers.
    Shared(PickId),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pick {
    whose: Whose,
    /// Rising.
    offsets: Box<[Offset]>,
    /// From here on it says nothing.
    pub until: Offset,
}

impl Pick {
    /// One follower's own: the last so many of each key. `offsets` rise.
    pub(crate) fn own(last_per_key: u32, offsets: Vec<Offset>, until: Offset) -> Self {
        Self {
            whose: Whose::Own { last_per_key },
            offsets: offsets.into(),
            until,
        }
    }

    /// One that many followers will use. `offsets` rise.
    pub(crate) fn shared(offsets: Vec<Offset>, until: Offset) -> Self {
        Self {
            whose: Whose::Shared(NEXT.fetch_add(1, Relaxed)),
            offsets: offsets.into(),
            until,
        }
    }

    /// Where its messages are kept for others; `None`: it is one follower's own.
    pub(crate) fn shared_as(&self) -> Option<PickId> {
        match self.whose {
            Whose::Own { .. } => None,
            Whose::Shared(id) => Some(id),
        }
    }

    /// How many of each key it took, and before which offset; `None`: it is no follower's own.
    pub(crate) fn last_per_key(&self) -> Option<(u32, Offset)> {
        match self.whose {
            Whose::Own { last_per_key } => Some((last_per_key, self.until)),
            Whose::Shared(_) => None,
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
