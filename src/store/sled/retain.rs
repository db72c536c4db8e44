//! What leaves: eviction when a flush made room, trim, age, and the change of a ring's size.

use crate::{
    model::{Bounds, Offset, UnixNanos},
    store::{StoreError, block::Geometry},
};

use super::{
    ring::{SledRing, View},
    state::{Layout, Previous},
};

/// Slots of the layout before the last resize that one flush frees.
const FREE_AT_ONCE: u64 = 256;

impl View {
    /// Whether block `number` would go where something lay that the last flush left readable.
    pub(super) fn must_flush_before(&self, number: u64) -> bool {
        number >= self.settled + self.state.layout.spare
    }
}

impl SledRing {
    /// What a flush that begins now makes durable; `None` when it changes nothing here.
    pub(super) fn unsettled(&self) -> Option<u64> {
        let view = self.view.lock();
        let busy = view.next > view.settled || view.state.previous.is_some();
        busy.then_some(view.next)
    }

    /// The blocks before `written` are durable: what no longer fits is evicted.
    pub(super) fn settle(&self, written: u64) -> Result<(), StoreError> {
        let oldest = {
            let mut view = self.view.lock();
            view.settled = view.settled.max(written);
            view.settled
                .checked_sub(1)
                .map(|newest| view.state.oldest(newest))
        };
        if let Some(oldest) = oldest {
            self.move_head(oldest)?;
        }
        self.free_previous()
    }

    /// Where the head is in a ring just opened.
    pub(super) fn find_head(&self) -> Result<(), StoreError> {
        let first = self.view.lock().head_block;
        self.begin_at(first)?;
        let (head, base) = {
            let view = self.view.lock();
            (view.head(), view.head_base)
        };
        if head > base { self.pass(head) } else { Ok(()) }
    }

    fn move_head(&self, block: u64) -> Result<(), StoreError> {
        if block <= self.view.lock().head_block {
            return Ok(());
        }
        self.begin_at(block)
    }

    fn begin_at(&self, block: u64) -> Result<(), StoreError> {
        // A bad block's base is not known: the head goes on to the next good one.
        let entry = self.next_good(block)?;
        let mut view = self.view.lock();
        let head_block = entry.map_or(block, |entry| entry.number);
        view.head_block = head_block;
        view.head_base = entry.map_or(view.tail, |entry| entry.base);
        view.index.forget_before(head_block);
        Ok(())
    }

    /// Moves the oldest block up to the one that holds `head`.
    fn pass(&self, head: Offset) -> Result<(), StoreError> {
        match self.find(head)? {
            Some(entry) => self.move_head(entry.number),
            None => Ok(()),
        }
    }

    pub(super) fn trim_before(&self, before: Offset) -> Result<Bounds, StoreError> {
        let writer = self.writer.lock();
        writer.check()?;
        let head = {
            let view = self.view.lock();
            before.min(view.tail).max(view.state.gone.trimmed)
        };
        self.change(|view| view.state.gone.trimmed = head)?;
        self.leave_below_head()
    }

    pub(super) fn expire_before(&self, time: UnixNanos) -> Result<Bounds, StoreError> {
        let writer = self.writer.lock();
        writer.check()?;
        let (first, next) = {
            let view = self.view.lock();
            (view.head_block, view.next)
        };
        let mut kept = None;
        for number in first..next {
            kept = self
                .entry(number)?
                .filter(|entry| entry.last_ingest >= time);
            if kept.is_some() {
                break;
            }
        }
        let head = {
            let view = self.view.lock();
            kept.map_or(view.tail, |entry| entry.base)
        };
        if head > self.view.lock().head() {
            self.change(|view| view.state.gone.expired = head)?;
        }
        self.leave_below_head()
    }

    fn leave_below_head(&self) -> Result<Bounds, StoreError> {
        let head = self.view.lock().head();
        self.pass(head)?;
        Ok(self.view.lock().bounds())
    }

    /// Begins a new layout behind the tail block. What is kept stays where it lies until it is
    /// evicted; what is not kept is removed after the next flush.
    pub(super) fn resize_to(&self, max_bytes: u64) -> Result<Bounds, StoreError> {
        let writer = self.writer.lock();
        writer.check()?;
        let geometry = Geometry::of(max_bytes)?;
        let kept = {
            let view = self.view.lock();
            if view.state.previous.is_some() && view.head_block < view.state.layout.first {
                return Err(StoreError::Resizing);
            }
            let newest = view.next.checked_sub(1);
            newest.map_or(0, |newest| geometry.oldest(newest).max(view.head_block))
        };
        self.free_all_previous()?;
        self.change(|view| {
            let old = view.state.layout;
            view.state.max_bytes = max_bytes;
            view.state.layout = Layout::new(old.generation + 1, view.next, geometry);
            view.state.previous = view.next.checked_sub(1).map(|newest| Previous {
                layout: old,
                kept,
                present: old.present(newest),
            });
        })?;
        self.move_head(kept)?;
        Ok(self.view.lock().bounds())
    }

    fn free_all_previous(&self) -> Result<(), StoreError> {
        while self.view.lock().state.previous.is_some() {
            self.free_previous()?;
        }
        Ok(())
    }

    /// Frees slots of the previous layout below the head, some at a time.
    fn free_previous(&self) -> Result<(), StoreError> {
        let (previous, end, first) = {
            let view = self.view.lock();
            let Some(previous) = view.state.previous else {
                return Ok(());
            };
            let first = view.state.layout.first;
            (previous, view.head_block.min(first), first)
        };
        let from = previous.present;
        let to = end.min(from + FREE_AT_ONCE);
        for number in from..to {
            let key = previous.layout.key(self.feed, number);
            self.core.seam.remove_block(key)?;
        }
        let present = to.max(from);
        if present >= first {
            return self.change(|view| view.state.previous = None);
        }
        if to <= from {
            return Ok(());
        }
        // In the flush that takes the slots away, so that nobody looks for them.
        self.change(|view| {
            if let Some(previous) = &mut view.state.previous {
                previous.present = present;
            }
        })
    }
}
