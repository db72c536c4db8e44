//! What a ring keeps beside its blocks: where they lie, and what of them is gone.

use serde::{Deserialize, Serialize};

use crate::{
    model::{FeedId, Offset},
    store::{StoreError, block::Geometry, gone::Gone},
};

use super::{format::Home, keys::SlotKey};

const VERSION: u32 = 1;

/// Where the blocks from `first` on lie: block n in slot (n - first) mod slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    pub generation: u16,
    pub slots: u64,
    pub spare: u64,
    pub first: u64,
}

/// The layout before the last resize, until its blocks are evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Previous {
    pub layout: Layout,
    /// The oldest block kept by the resize.
    pub kept: u64,
    /// The oldest block that may still be there to be removed.
    pub present: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RingState {
    version: u32,
    pub epoch: u64,
    pub max_bytes: u64,
    pub layout: Layout,
    pub previous: Option<Previous>,
    pub gone: Gone,
    /// Offsets below may have been seen: `Some` while an `Immediate` ring is in use.
    pub reserved: Option<Offset>,
    /// The ring is being deleted.
    pub deleting: bool,
    /// A note that may have held its newest records was damaged.
    #[serde(default)]
    pub shaken: bool,
}

impl Layout {
    pub(super) fn new(generation: u16, first: u64, geometry: Geometry) -> Self {
        Self {
            generation,
            slots: geometry.slots,
            spare: geometry.spare,
            first,
        }
    }

    pub(super) fn geometry(&self) -> Geometry {
        Geometry {
            slots: self.slots,
            spare: self.spare,
        }
    }

    pub(super) fn slot(&self, number: u64) -> u64 {
        number.saturating_sub(self.first) % self.slots.max(1)
    }

    pub(super) fn key(&self, feed: FeedId, number: u64) -> SlotKey {
        SlotKey {
            feed,
            generation: self.generation,
            slot: self.slot(number),
        }
    }

    /// The oldest block whose slot no block up to `tail` has taken.
    pub(super) fn present(&self, tail: u64) -> u64 {
        (tail + 1).saturating_sub(self.slots).max(self.first)
    }
}

impl RingState {
    pub(super) fn new(epoch: u64, max_bytes: u64) -> Result<Self, StoreError> {
        Ok(Self {
            version: VERSION,
            epoch,
            max_bytes,
            layout: Layout::new(0, 0, Geometry::of(max_bytes)?),
            previous: None,
            gone: Gone::default(),
            reserved: None,
            deleting: false,
            shaken: false,
        })
    }

    /// The layout that block `number` lies in.
    pub(super) fn layout_of(&self, number: u64) -> Layout {
        match self.previous {
            Some(previous) if number < self.layout.first => previous.layout,
            Some(_) | None => self.layout,
        }
    }

    pub(super) fn home(&self, feed: FeedId, layout: Layout) -> Home {
        Home {
            feed,
            generation: layout.generation,
            epoch: self.epoch,
        }
    }

    /// The oldest block that is kept when `tail` is the newest.
    pub(super) fn oldest(&self, tail: u64) -> u64 {
        let floor = self
            .previous
            .map_or(self.layout.first, |p| p.kept.max(p.present));
        self.layout.geometry().oldest(tail).max(floor)
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(self).map_err(|e| damaged(&e))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(bytes).map_err(|e| damaged(&e))?;
        if version > VERSION {
            return Err(StoreError::NewerFormat {
                what: "the state of a ring".to_owned(),
                found: version,
                known: VERSION,
            });
        }
        serde_json::from_slice(bytes).map_err(|e| damaged(&e))
    }
}

fn damaged(e: &serde_json::Error) -> StoreError {
    StoreError::Damaged {
        what: "the state of a ring".to_owned(),
        detail: e.to_string(),
    }
}
