//! Reading: from an offset to its block, by what is known and otherwise by bisection.
//!
//! A read may wait for ever on a database whose metadata log was damaged unnoticed: it runs on
//! the caller's thread, who gives it a deadline.

use crate::{
    model::{Offset, Span, UnixNanos},
    store::{Clock, Read, StoreError, StoredBlock, block::GROUP},
};

use super::{
    format::{Fault, Stored},
    index::Entry,
    recover::{LoadError, load},
    ring::SledRing,
};

/// A block is overwritten under a read at most this often before something is wrong.
const ATTEMPTS: usize = 16;

/// A block that was looked for.
pub(super) enum Loaded {
    Good(Stored),
    /// It failed its checks, or was never written.
    Bad,
    /// It was overwritten: the head has moved on.
    Gone,
}

impl SledRing {
    pub(super) fn read_at(&self, from: Offset, max_bytes: usize) -> Result<Read, StoreError> {
        for _ in 0..ATTEMPTS {
            let (edge, tail) = {
                let view = self.view.lock();
                (view.edge(from), view.tail)
            };
            if let Some(edge) = edge {
                return Ok(edge);
            }
            let found = self.find(from)?;
            let Some(entry) = found.filter(|entry| from < entry.end) else {
                return self.hole(from, found.map(|entry| entry.number));
            };
            if let Loaded::Good(stored) = self.load(entry.number)? {
                match stored.chunk() {
                    Ok(chunk) => {
                        let records = chunk.slice(Span::new(from, tail));
                        if records.span().from == from && !records.is_empty() {
                            return Ok(Read::Records(records.prefix(max_bytes)));
                        }
                    }
                    Err(fault) => self.condemn(entry.number, &fault),
                }
            }
        }
        Err(StoreError::Damaged {
            what: format!("feed {}", self.feed.0),
            detail: format!("offset {from} cannot be found"),
        })
    }

    /// The gap at `from`, which no block behind block `after` or before the next good one holds.
    fn hole(&self, from: Offset, after: Option<u64>) -> Result<Read, StoreError> {
        let first = match after {
            Some(number) => number + 1,
            None => self.view.lock().head_block,
        };
        let next = self.next_good(first)?;
        let view = self.view.lock();
        if let Some(edge) = view.edge(from) {
            return Ok(edge);
        }
        let to = next.map_or(view.tail, |entry| entry.base.min(view.tail));
        Ok(Read::Gap(view.state.gone.corrupt(Span::new(from, to))))
    }

    /// The newest good block that begins at or before `offset`.
    pub(super) fn find(&self, offset: Offset) -> Result<Option<Entry>, StoreError> {
        let (mut found, mut low, mut high) = {
            let view = self.view.lock();
            let known = view.index.at(offset);
            let low = known.map_or(view.head_block, |entry| entry.number + 1);
            let high = view.index.after(offset).unwrap_or(view.next);
            (known, low, high)
        };
        while low < high {
            // The block right behind the one known is wanted most of the time.
            let near = found.is_some_and(|entry| entry.end == offset);
            let middle = if near { low } else { low + (high - low) / 2 };
            match self.last_good(low, middle)? {
                Some(entry) if entry.base > offset => high = entry.number,
                Some(entry) => {
                    found = Some(entry);
                    low = middle + 1;
                }
                None => low = middle + 1,
            }
        }
        Ok(found)
    }

    /// The newest good block in `low..=high`.
    fn last_good(&self, low: u64, high: u64) -> Result<Option<Entry>, StoreError> {
        for number in (low..=high).rev() {
            if let Some(entry) = self.entry(number)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The oldest good block from `first` on.
    pub(super) fn next_good(&self, first: u64) -> Result<Option<Entry>, StoreError> {
        let next = self.view.lock().next;
        for number in first..next {
            if let Some(entry) = self.entry(number)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// What is known of a block, after reading it where nothing is; `None` for a bad one.
    pub(super) fn entry(&self, number: u64) -> Result<Option<Entry>, StoreError> {
        {
            let view = self.view.lock();
            if view.index.is_bad(number) {
                return Ok(None);
            }
            if let Some(entry) = view.index.get(number) {
                return Ok(Some(entry));
            }
        }
        match self.load(number)? {
            Loaded::Good(stored) => Ok(Some(Entry::of_stored(&stored))),
            Loaded::Bad | Loaded::Gone => Ok(None),
        }
    }

    /// Reads a block and checks that it is the one; notes what it finds.
    pub(super) fn load(&self, number: u64) -> Result<Loaded, StoreError> {
        let (layout, home) = {
            let view = self.view.lock();
            let layout = view.state.layout_of(number);
            (layout, view.state.home(self.feed, layout))
        };
        let fault = match load(&self.core.seam, layout, number, home) {
            Ok(stored) if stored.head.number == number => {
                let mut view = self.view.lock();
                let entry = Entry::of_stored(&stored);
                let known = view.index.get(number);
                // The tail block may have grown since it was read.
                let newer = known.is_none_or(|known| known.end < entry.end);
                if newer && number >= view.head_block && number < view.next {
                    view.index.insert(entry);
                }
                return Ok(Loaded::Good(stored));
            }
            Ok(stored) => Fault::Number {
                found: stored.head.number,
            },
            Err(LoadError::Fault(fault)) => fault,
            Err(LoadError::Store(e)) => return Err(e),
        };
        if number < self.view.lock().head_block {
            return Ok(Loaded::Gone);
        }
        self.condemn(number, &fault);
        Ok(Loaded::Bad)
    }

    fn condemn(&self, number: u64, fault: &Fault) {
        tracing::error!(feed = self.feed.0, block = number, %fault, "a block is damaged");
        self.view.lock().index.mark_bad(number);
    }

    pub(super) fn replay_from(
        &self,
        from: Offset,
        visit: &mut dyn FnMut(StoredBlock),
    ) -> Result<(), StoreError> {
        let head = self.view.lock().head();
        let from = from.max(head);
        let mut number = match self.find(from)? {
            Some(entry) => entry.number,
            None => self.view.lock().head_block,
        };
        while number < self.view.lock().next {
            if let Loaded::Good(stored) = self.load(number)?
                && stored.head.end() > from
                && let Ok(records) = stored.chunk()
                && !records.is_empty()
            {
                let marks = stored.head.marks;
                visit(StoredBlock { records, marks });
            }
            number += 1;
        }
        Ok(())
    }

    pub(super) fn seek_time(&self, clock: Clock, time: UnixNanos) -> Result<Offset, StoreError> {
        let (mut first, next, head) = {
            let view = self.view.lock();
            (view.head_block, view.next, view.head())
        };
        // The head may lie behind its block's records, in a loss.
        if first < next && self.entry(first)?.is_some_and(|entry| entry.end <= head) {
            first += 1;
        }
        let found = match clock {
            Clock::Ingest => self.seek_ingest(first, next, time)?,
            Clock::Event => self.seek_event(first, next, time)?,
        };
        let view = self.view.lock();
        Ok(found.map_or(view.tail, |entry| entry.base.max(view.head())))
    }

    /// Ingest times rise from block to block.
    fn seek_ingest(
        &self,
        mut low: u64,
        mut high: u64,
        time: UnixNanos,
    ) -> Result<Option<Entry>, StoreError> {
        while low < high {
            let middle = low + (high - low) / 2;
            match self.last_good(low, middle)? {
                Some(entry) if entry.last_ingest >= time => high = entry.number,
                Some(_) | None => low = middle + 1,
            }
        }
        self.next_with_records(low)
    }

    /// Event times do not rise: whole groups are passed by what their last block says of them.
    fn seek_event(
        &self,
        first: u64,
        next: u64,
        time: UnixNanos,
    ) -> Result<Option<Entry>, StoreError> {
        let mut number = first;
        while number < next {
            let last = (number / GROUP * GROUP + GROUP - 1).min(next - 1);
            let group = self.entry(last)?;
            if group.is_some_and(|entry| entry.group_event < time) {
                number = last + 1;
                continue;
            }
            for number in number..=last {
                let entry = self.entry(number)?;
                if let Some(entry) = entry.filter(|entry| entry.max_event >= time) {
                    return Ok(Some(entry));
                }
            }
            number = last + 1;
        }
        Ok(None)
    }

    fn next_with_records(&self, first: u64) -> Result<Option<Entry>, StoreError> {
        let mut next = self.next_good(first)?;
        while let Some(entry) = next.filter(|entry| entry.base == entry.end) {
            next = self.next_good(entry.number + 1)?;
        }
        Ok(next)
    }
}
