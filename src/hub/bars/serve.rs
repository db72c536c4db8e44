//! The table of bars: what it gives out, and what it lets go.

use std::ops::Bound::{Excluded, Unbounded};

use super::{
    BarTable, Seen, TooLarge,
    bar::{Bar, State},
    keys::SeriesId,
};
use crate::{hub::OpenBars, model::UnixNanos, proto::v1};

impl BarTable {
    /// How far one has seen who was sent everything.
    pub fn position(&self) -> Seen {
        self.position
    }

    /// How many changes there were of its bars.
    pub fn changes(&self) -> u64 {
        self.position.version
    }

    /// What somebody has to be sent who has `seen` so much: complete bars in the order of their
    /// last change, then open ones by key.
    pub fn changed_since(
        &mut self,
        seen: Seen,
        open_bars: OpenBars,
    ) -> impl Iterator<Item = v1::ViewBar> {
        let open = match open_bars {
            OpenBars::LeftOut => vec![],
            OpenBars::Sent => self.open_changed_since(seen),
        };
        let since = (Excluded(seen), Unbounded);
        for (_, bar) in self.complete.range_mut(since).map(|(_, entry)| entry) {
            bar.refresh();
        }
        let (keys, interval) = (&self.keys, self.interval);
        let complete = self
            .complete
            .range(since)
            .filter_map(move |(_, (id, bar))| {
                let series = keys.get(*id)?;
                Some(bar.view(&series.key, series.tag, interval, State::Complete))
            });
        complete.chain(open.into_iter().filter_map(move |id| {
            let series = keys.get(id)?;
            let bar = series.open.as_ref()?;
            Some(bar.view(&series.key, series.tag, interval, State::Open))
        }))
    }

    fn open_changed_since(&mut self, seen: Seen) -> Vec<SeriesId> {
        let mut open = vec![];
        for (id, series) in (0..).zip(self.keys.iter_mut()) {
            if let Some(bar) = series.open.as_mut().filter(|bar| bar.changed > seen) {
                bar.refresh();
                open.push(id);
            }
        }
        self.sort(&mut open);
        open
    }

    /// Whether `changed_since` knows all that changed since.
    pub fn serves(&self, seen: Seen) -> bool {
        seen >= self.horizon
    }

    /// Whether it has every bar in progress that begins at or after `start`: one of a quiet series
    /// may be older than the table.
    pub fn knows_from(&self, start: UnixNanos) -> bool {
        start >= self.history.whole_from
    }

    /// The start of the oldest bar that was not complete to somebody who has `seen` so much. A
    /// table of records from that event time on goes on there.
    pub fn open_since(&self, seen: Seen) -> Option<UnixNanos> {
        let open = self.open.keys().next().copied();
        let since = self.complete.range((Excluded(seen), Unbounded));
        since.map(|(_, (_, bar))| bar.start).chain(open).min()
    }

    /// Says that complete bars changed up to there were sent to those who want them, or that
    /// nobody does: they may be dropped.
    pub fn release(&mut self, seen: Seen) {
        self.released = self.released.max(seen);
    }

    /// What keys, bars and remembered trades take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops what may be dropped until the rest is within the limit.
    #[inline]
    pub(super) fn shrink(&mut self) -> Result<(), TooLarge> {
        if self.bytes <= self.max_bytes {
            return Ok(());
        }
        self.drop_oldest()
    }

    #[cold]
    fn drop_oldest(&mut self) -> Result<(), TooLarge> {
        let mut candidates = self.complete.len();
        while self.bytes > self.max_bytes {
            let oldest = self.complete.first_entry();
            let oldest = oldest.filter(|oldest| *oldest.key() <= self.released);
            let Some(oldest) = oldest.filter(|_| candidates > 0) else {
                return Err(TooLarge {
                    bytes: self.bytes,
                    max_bytes: self.max_bytes,
                });
            };
            candidates -= 1;
            let (changed, (id, bar)) = oldest.remove_entry();
            match self.is_wanted(id, bar.start) {
                true => {
                    let newest = self.touch();
                    self.set_complete(id, bar, newest);
                }
                false => self.forget(id, &bar, changed),
            }
        }
        Ok(())
    }

    /// Whether it is for this bar that a refill is made.
    pub(super) fn is_wanted(&self, id: SeriesId, start: UnixNanos) -> bool {
        let scope = self.scope.as_ref().zip(self.keys.get(id));
        scope.is_some_and(|(scope, series)| scope.wants(series, start))
    }

    /// Forgets a complete bar that was taken from its place.
    fn forget(&mut self, id: SeriesId, bar: &Bar, changed: Seen) {
        self.horizon = self.horizon.max(changed);
        self.bytes = self.bytes.saturating_sub(bar.bytes);
        let Some(series) = self.keys.get_mut(id) else {
            return;
        };
        series.complete.remove(&bar.start);
        series.known_from = series.known_from.max(bar.start.saturating_add(1));
        for named in bar.trades().into_iter().flat_map(|trades| trades.named()) {
            let place = series.trades.get(&named.id);
            if place.is_some_and(|place| place.offset == named.at.1) {
                series.trades.remove(&named.id);
            }
        }
    }
}
