//! Messages by the place they begin at: the first who asks makes one, the others take it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use hashbrown::HashMap;
use parking_lot::RwLock;

use super::{View, filter::FilterId, pick::PickId};
use crate::{
    metrics::ViewMetrics,
    model::{FeedId, Offset},
};

/// What a message costs beside its bytes.
const OVERHEAD: usize = 256;
/// A message that settles less than one in so many of the offsets there are is made anew, longer:
/// who is behind must not follow the small steps of who was not.
const SHORT: u64 = 4;

/// Who gets the same message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub feed: FeedId,
    /// Where the message begins.
    pub from: Offset,
    pub filter: FilterId,
    pub selector: u32,
    /// Whose records are picked, not all.
    pub pick: Option<PickId>,
}

/// What may be taken at a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// What is settled up to here is known already.
    pub passed: Offset,
    pub limit: Offset,
}

type Slot = OnceLock<Option<View>>;

#[derive(Debug)]
pub(crate) struct Cache {
    max_bytes: usize,
    metrics: ViewMetrics,
    inner: RwLock<Inner>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Inner {
    slots: HashMap<Place, Arc<Slot>>,
    /// The oldest first.
    order: VecDeque<(Place, Arc<Slot>, usize)>,
    bytes: usize,
}

/// What was done, for tests.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub computed: AtomicU64,
    pub shared: AtomicU64,
    /// Bytes written into messages.
    pub copied: AtomicU64,
}

impl Cache {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            metrics: ViewMetrics::new(),
            inner: RwLock::default(),
            counts: Counts::default(),
        }
    }

    /// The message at `place`, made with `compute` by the first who asks. `None` when it cannot
    /// be made this way.
    pub(crate) fn get(
        &self,
        place: Place,
        reach: Reach,
        compute: impl Fn() -> Option<View>,
    ) -> Option<View> {
        let slot = self.slot(place, reach);
        let mut computed = false;
        let view = slot.get_or_init(|| {
            computed = true;
            self.count_computed(compute())
        });
        if computed {
            self.keep(place, Arc::clone(&slot), view.as_ref());
            return view.clone();
        }
        match view {
            Some(view) if reach.fits(view) => {
                self.count_shared();
                Some(view.clone())
            }
            // Somebody else's end, or what was not there for him may be there for us.
            Some(_) | None => self.count_computed(compute()),
        }
    }

    /// The message at `place`, if somebody made it.
    pub(crate) fn find(&self, place: Place, reach: Reach) -> Option<View> {
        let inner = self.inner.read();
        let view = inner.slots.get(&place)?.get()?.as_ref()?;
        if !reach.fits(view) {
            return None;
        }
        self.count_shared();
        Some(view.clone())
    }

    /// Keeps a message for others.
    pub(crate) fn put(&self, place: Place, view: &View) {
        let slot = Arc::new(Slot::from(Some(view.clone())));
        self.inner.write().slots.insert(place, Arc::clone(&slot));
        self.keep(place, slot, Some(view));
    }

    /// Counts a message that was made; `None`: it was not.
    pub(crate) fn count_computed(&self, view: Option<View>) -> Option<View> {
        if let Some(view) = &view {
            self.metrics.count_computed();
            self.counts.computed.fetch_add(1, Relaxed);
            let len = view.message.bytes.len() as u64;
            self.counts.copied.fetch_add(len, Relaxed);
        }
        view
    }

    fn count_shared(&self) {
        self.metrics.count_shared();
        self.counts.shared.fetch_add(1, Relaxed);
    }

    fn slot(&self, place: Place, reach: Reach) -> Arc<Slot> {
        if let Some(slot) = self.inner.read().slots.get(&place)
            && reach.may_fit(slot)
        {
            return Arc::clone(slot);
        }
        let mut inner = self.inner.write();
        match inner.slots.get(&place) {
            Some(slot) if reach.may_fit(slot) => Arc::clone(slot),
            Some(_) | None => {
                let slot = Arc::new(Slot::new());
                inner.slots.insert(place, Arc::clone(&slot));
                slot
            }
        }
    }

    fn keep(&self, place: Place, slot: Arc<Slot>, view: Option<&View>) {
        let mut inner = self.inner.write();
        let Some(view) = view else {
            inner.forget(place, &slot);
            return;
        };
        let bytes = OVERHEAD + view.message.bytes.len();
        inner.bytes += bytes;
        inner.order.push_back((place, slot, bytes));
        while inner.bytes > self.max_bytes
            && let Some((place, slot, bytes)) = inner.order.pop_front()
        {
            inner.bytes -= bytes;
            inner.forget(place, &slot);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.inner.read().bytes
    }

    #[cfg(test)]
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Inner {
    fn forget(&mut self, place: Place, slot: &Arc<Slot>) {
        let same = |kept: &Arc<Slot>| Arc::ptr_eq(kept, slot);
        if self.slots.get(&place).is_some_and(same) {
            self.slots.remove(&place);
        }
    }
}

impl Reach {
    fn fits(self, view: &View) -> bool {
        let to = view.covers.to;
        let there_are = self.limit.saturating_sub(view.covers.from);
        let long = view.is_full() || view.covers.len() >= there_are.div_ceil(SHORT);
        self.passed < to && to <= self.limit && long
    }

    /// One that is being made may.
    fn may_fit(self, slot: &Slot) -> bool {
        slot.get()
            .is_none_or(|view| view.as_ref().is_some_and(|view| self.fits(view)))
    }
}
