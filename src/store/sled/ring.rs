//! One ring: what its writer holds and what its readers see.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;

use crate::{
    model::{Bounds, Chunk, FeedId, Offset, UnixNanos, Visibility},
    store::{
        Append, Clock, Read, Ring, RingSpec, StoreError, StoredBlock,
        block::{Block, SLOT_BYTES},
    },
};

use super::{core::Core, index::Index, recover::Recovered, state::RingState};

pub(super) struct SledRing {
    pub(super) core: Arc<Core>,
    pub(super) feed: FeedId,
    /// Held through a whole change of the ring. Locked before `view`, never within it.
    pub(super) writer: Mutex<Writer>,
    /// Held for moments, never through a read or write of the database.
    pub(super) view: Mutex<View>,
}

/// What only changes of the ring look at.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) visibility: Visibility,
    /// The tail block, as long as it can grow.
    pub(super) block: Option<Block>,
    pub(super) ended: bool,
}

#[derive(Debug)]
pub(super) struct View {
    pub(super) state: RingState,
    pub(super) index: Index,
    pub(super) tail: Offset,
    /// The number of the next block to be begun.
    pub(super) next: u64,
    /// The same at the last flush.
    pub(super) settled: u64,
    /// The oldest block, and where it begins.
    pub(super) head_block: u64,
    pub(super) head_base: Offset,
    pub(super) last_ingest: Option<UnixNanos>,
}

impl View {
    pub(super) fn head(&self) -> Offset {
        self.head_base.max(self.state.gone.head()).min(self.tail)
    }

    pub(super) fn bounds(&self) -> Bounds {
        let head = self.head();
        let blocks = if head == self.tail {
            0
        } else {
            self.next.saturating_sub(self.head_block)
        };
        Bounds {
            head,
            tail: self.tail,
            bytes: blocks * SLOT_BYTES,
        }
    }

    /// What `from` meets that needs no block: the tail, what left, what was lost.
    pub(super) fn edge(&self, from: Offset) -> Option<Read> {
        if from >= self.tail {
            return Some(Read::AtTail);
        }
        let head = self.head();
        if from < head {
            return Some(Read::Gap(self.state.gone.below(from, head)));
        }
        self.state.gone.lost_at(from).map(Read::Gap)
    }
}

impl SledRing {
    pub(super) fn open(
        core: Arc<Core>,
        spec: RingSpec,
        state: Option<RingState>,
    ) -> Result<Self, StoreError> {
        let Recovered { view, block } = match state {
            Some(state) => super::recover::recover(&core, spec.feed, state)?,
            None => {
                let state = RingState::new(spec.epoch, spec.max_bytes)?;
                core.put_state(spec.feed, &state)?;
                Recovered::empty(state)
            }
        };
        let ring = Self {
            core,
            feed: spec.feed,
            writer: Mutex::new(Writer {
                visibility: spec.visibility,
                block,
                ended: false,
            }),
            view: Mutex::new(view),
        };
        ring.find_head()?;
        Ok(ring)
    }

    /// Changes the state, which is then staged.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut View) -> T) -> Result<T, StoreError> {
        let (done, state) = {
            let mut view = self.view.lock();
            let done = change(&mut view);
            (done, view.state.clone())
        };
        self.core.put_state(self.feed, &state)?;
        Ok(done)
    }
}

impl Ring for SledRing {
    fn bounds(&self) -> Bounds {
        self.view.lock().bounds()
    }

    fn last_ingest_time(&self) -> Option<UnixNanos> {
        self.view.lock().last_ingest
    }

    fn max_bytes(&self) -> u64 {
        self.view.lock().state.max_bytes
    }

    fn append(&self, append: Append<'_>) -> Result<Chunk, StoreError> {
        self.append_records(append)
    }

    fn read(&self, from: Offset, max_bytes: usize) -> Result<Read, StoreError> {
        self.read_at(from, max_bytes)
    }

    fn replay(&self, from: Offset, visit: &mut dyn FnMut(StoredBlock)) -> Result<(), StoreError> {
        self.replay_from(from, visit)
    }

    fn seek(&self, clock: Clock, time: UnixNanos) -> Result<Offset, StoreError> {
        self.seek_time(clock, time)
    }

    fn trim(&self, before: Offset) -> Result<Bounds, StoreError> {
        self.trim_before(before)
    }

    fn expire(&self, time: UnixNanos) -> Result<Bounds, StoreError> {
        self.expire_before(time)
    }

    fn set_visibility(&self, visibility: Visibility) -> Result<(), StoreError> {
        self.adopt(visibility)
    }

    fn resize(&self, max_bytes: u64) -> Result<Bounds, StoreError> {
        self.resize_to(max_bytes)
    }
}

impl fmt::Debug for SledRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledRing")
            .field("feed", &self.feed)
            .finish_non_exhaustive()
    }
}
