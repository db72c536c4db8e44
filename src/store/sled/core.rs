//! What the rings of one engine share: the database, the one flush at a time, the room on disk.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    model::FeedId,
    store::{RingSpec, Space, StoreError},
};

use super::{
    keys::{SlotKey, feed_of_state, state_key},
    options::SledOptions,
    ring::SledRing,
    seam::Seam,
    state::{Layout, RingState},
};

/// Room is looked at again after this many bytes were written.
const LOOK_EVERY: u64 = 8 << 20;
/// Slots removed between two flushes while a ring is deleted.
const REMOVE_AT_ONCE: usize = 256;

#[derive(Debug)]
pub(super) struct Core {
    pub(super) seam: Seam,
    rings: Mutex<BTreeMap<FeedId, Arc<SledRing>>>,
    flushing: Mutex<()>,
    reserve_bytes: u64,
    /// Bytes that may be written before room is looked at again.
    allowance: AtomicU64,
}

impl Core {
    pub(super) fn open(options: SledOptions) -> Result<Self, StoreError> {
        let core = Self {
            reserve_bytes: options.reserve_bytes,
            seam: Seam::open(options)?,
            rings: Mutex::new(BTreeMap::new()),
            flushing: Mutex::new(()),
            allowance: AtomicU64::new(0),
        };
        if core.seam.lost_tails() {
            core.shake()?;
        }
        Ok(core)
    }

    /// Any ring may lack its newest records: notes so, in the flush that takes the note away.
    fn shake(&self) -> Result<(), StoreError> {
        for (key, state) in self.seam.scan(Space::Heads, &[])? {
            if let Some(feed) = feed_of_state(&key) {
                let mut state = RingState::decode(&state)?;
                state.shaken = true;
                self.put_state(feed, &state)?;
            }
        }
        self.seam.flush()
    }

    pub(super) fn open_ring(this: &Arc<Self>, spec: RingSpec) -> Result<Arc<SledRing>, StoreError> {
        if let Some(ring) = this.rings.lock().get(&spec.feed).cloned() {
            ring.adopt(spec.visibility)?;
            return Ok(ring);
        }
        let state = match this.state(spec.feed)? {
            Some(state) if state.deleting => {
                this.remove_slots(spec.feed, &state)?;
                None
            }
            state => state,
        };
        let ring = Arc::new(SledRing::open(Arc::clone(this), spec, state)?);
        this.rings.lock().insert(spec.feed, Arc::clone(&ring));
        Ok(ring)
    }

    pub(super) fn state(&self, feed: FeedId) -> Result<Option<RingState>, StoreError> {
        let bytes = self.seam.get(Space::Heads, &state_key(feed))?;
        bytes.map(|bytes| RingState::decode(&bytes)).transpose()
    }

    pub(super) fn put_state(&self, feed: FeedId, state: &RingState) -> Result<(), StoreError> {
        let bytes = state.encode()?;
        self.seam.put(Space::Heads, &state_key(feed), Some(&bytes))
    }

    /// A deletion that is cut short is finished by the next open or deletion of the ring.
    pub(super) fn delete_ring(&self, feed: FeedId) -> Result<(), StoreError> {
        let open = self.rings.lock().remove(&feed);
        if let Some(ring) = &open {
            ring.end()?;
        }
        let Some(mut state) = self.state(feed)? else {
            return Ok(());
        };
        state.deleting = true;
        self.put_state(feed, &state)?;
        self.flush()?;
        self.remove_slots(feed, &state)?;
        self.seam.put(Space::Heads, &state_key(feed), None)
    }

    fn remove_slots(&self, feed: FeedId, state: &RingState) -> Result<(), StoreError> {
        let previous = state.previous.map(|previous| previous.layout);
        let keys = |layout: Layout| {
            (0..layout.slots).map(move |slot| SlotKey {
                feed,
                generation: layout.generation,
                slot,
            })
        };
        let all: Vec<_> = previous
            .into_iter()
            .chain([state.layout])
            .flat_map(keys)
            .collect();
        for some in all.chunks(REMOVE_AT_ONCE) {
            for key in some {
                self.seam.remove_block(*key)?;
            }
            self.flush()?;
        }
        Ok(())
    }

    pub(super) fn put(
        &self,
        space: Space,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        self.admit(key.len() + value.map_or(0, <[u8]>::len))?;
        self.seam.put(space, key, value)
    }

    /// Refuses a write before it is staged when the disk is nearly full.
    pub(super) fn admit(&self, len: usize) -> Result<(), StoreError> {
        self.seam.check()?;
        let len = len as u64;
        let spend = |left: u64| left.checked_sub(len);
        let spent = self
            .allowance
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend);
        if spent.is_ok() {
            return Ok(());
        }
        if self.free_bytes()? < self.reserve_bytes.saturating_add(len) {
            let path = self.seam.dir().to_owned();
            return Err(StoreError::DiskFull { path });
        }
        let allowance = LOOK_EVERY.min(self.reserve_bytes / 4);
        self.allowance.store(allowance, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn free_bytes(&self) -> Result<u64, StoreError> {
        let stat = rustix::fs::statvfs(self.seam.dir()).map_err(|e| StoreError::Io {
            action: "look at the room under",
            path: self.seam.dir().to_owned(),
            source: e.into(),
        })?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let _one = self.flushing.lock();
        let staged: Vec<_> = self
            .rings
            .lock()
            .values()
            .filter_map(|ring| Some((Arc::clone(ring), ring.unsettled()?)))
            .collect();
        self.seam.flush()?;
        for (ring, written) in staged {
            ring.settle(written)?;
        }
        Ok(())
    }

    /// Ends the reservations of offsets, flushes and releases the files.
    pub(super) fn close(&self) -> Result<(), StoreError> {
        self.seam.check()?;
        let rings: Vec<_> = self.rings.lock().values().cloned().collect();
        for ring in rings {
            ring.end()?;
        }
        self.flush()?;
        self.forget_rings();
        self.seam.close()
    }

    pub(super) fn forget_rings(&self) {
        self.rings.lock().clear();
    }
}
