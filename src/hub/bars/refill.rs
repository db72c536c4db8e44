//! Bars that a table was asked for and does not have: computed anew from the ring, and merged.

use std::{collections::BTreeSet, mem, sync::Arc};

use hashbrown::HashMap;

use super::{
    BarTable, History, Seen, TooLarge,
    bar::{Bar, Completeness, State},
    keys::{Series, SeriesId, Tag, TradePlace},
};
use crate::model::{Offset, UnixNanos};

/// The series a refill is about.
#[derive(Debug, Default)]
pub(super) struct Scope(HashMap<Arc<str>, Vec<Wanted>>);

/// Bars of one series, and with them all that start later, as far as there is room.
#[derive(Debug)]
struct Wanted {
    tag: Tag,
    starts: BTreeSet<UnixNanos>,
}

impl Scope {
    pub(super) fn has_key(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The start from which on the bars of a series are computed.
    pub(super) fn from(&self, key: &str, tag: Tag) -> Option<UnixNanos> {
        self.wanted(key, tag)?.starts.first().copied()
    }

    pub(super) fn wants(&self, series: &Series, start: UnixNanos) -> bool {
        let wanted = self.wanted(&series.key, series.tag);
        wanted.is_some_and(|wanted| wanted.starts.contains(&start))
    }

    fn wanted(&self, key: &str, tag: Tag) -> Option<&Wanted> {
        self.0.get(key)?.iter().find(|wanted| wanted.tag == tag)
    }

    fn add(&mut self, series: &Series, start: UnixNanos) {
        let of_key = self.0.entry(Arc::clone(&series.key)).or_default();
        match of_key.iter_mut().find(|wanted| wanted.tag == series.tag) {
            Some(wanted) => drop(wanted.starts.insert(start)),
            None => of_key.push(Wanted {
                tag: series.tag,
                starts: [start].into(),
            }),
        }
    }
}

/// Bars being computed anew. It has to see all records from the first with an event time at or
/// after `since` on, and up to where the table is.
#[derive(Debug)]
pub struct Refill {
    table: BarTable,
    wanted: BTreeSet<(SeriesId, UnixNanos)>,
    since: UnixNanos,
}

impl Refill {
    /// The start of the first bar wanted.
    pub fn since(&self) -> UnixNanos {
        self.since
    }

    /// Takes a record as it is stored; offsets rise.
    pub fn see(&mut self, offset: Offset, record: &[u8]) -> Result<(), TooLarge> {
        self.table.see(offset, record)?;
        self.table.release(self.table.position());
        Ok(())
    }
}

impl BarTable {
    /// Bars that records were for which cannot be computed from what is here. They are given back
    /// by `refill` before the table sees any more.
    pub fn take_missing(&mut self) -> Option<Refill> {
        let wanted = mem::take(&mut self.missing);
        let since = wanted.iter().map(|(_, start)| *start).min()?;
        let mut scope = Scope::default();
        for (id, start) in &wanted {
            if let Some(series) = self.keys.get(*id) {
                scope.add(series, *start);
            }
        }
        let interval = self.interval.unsigned_abs();
        let interval = std::time::Duration::from_nanos(interval);
        let mut table = Self::new(interval, self.max_bytes, History::default());
        table.scope = Some(scope);
        Some(Refill {
            table,
            wanted,
            since,
        })
    }

    /// Whether there are such.
    pub fn is_missing(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Lets bars be that are missing: whoever has not seen all there is so far is not served here.
    pub fn forget_missing(&mut self) {
        if !mem::take(&mut self.missing).is_empty() {
            self.horizon = Seen::before(self.position.next);
        }
    }

    /// Merges what a refill computed. Bars that start before `partial_before` may have lost records
    /// to eviction.
    pub fn refill(&mut self, refill: Refill, partial_before: UnixNanos) -> Result<(), TooLarge> {
        let Refill {
            mut table,
            mut wanted,
            ..
        } = refill;
        table.close_until(self.clock);
        let complete = mem::take(&mut table.complete);
        let theirs = table.keys.into_series();
        let ours: Vec<_> = theirs.iter().map(|series| self.find(series)).collect();
        let our = |id: SeriesId| ours.get(id as usize).copied().flatten();
        for (changed, (id, mut bar)) in complete {
            if let Some((id, series)) = our(id).zip(theirs.get(id as usize)) {
                bar.completeness = Completeness::of(bar.start, partial_before);
                bar.changed = changed;
                let is_wanted = wanted.remove(&(id, bar.start));
                self.merge(id, bar, State::Complete, is_wanted, &series.trades);
            }
        }
        for (id, mut series) in (0..).zip(theirs) {
            let Some(id) = our(id) else { continue };
            if let Some(mut bar) = series.open.take() {
                bar.completeness = Completeness::of(bar.start, partial_before);
                let is_wanted = wanted.remove(&(id, bar.start));
                self.merge(id, bar, State::Open, is_wanted, &series.trades);
            }
            if let Some(own) = self.keys.get_mut(id) {
                own.newest = own.newest.max(series.newest);
                own.known_from = own.known_from.min(series.known_from);
            }
        }
        self.close_until(self.clock);
        self.shrink()
    }

    fn find(&self, series: &Series) -> Option<SeriesId> {
        let key = self.keys.key(&series.key)?;
        self.keys.find(key, series.tag)
    }

    /// Takes a bar of a refill, unless the table has it. Its trades can be corrected here as far as
    /// they can be there.
    fn merge(
        &mut self,
        id: SeriesId,
        mut bar: Bar,
        state: State,
        is_wanted: bool,
        trades: &HashMap<Arc<str>, TradePlace>,
    ) {
        let touched = self.touch();
        let Some(own) = self.keys.get_mut(id) else {
            return;
        };
        let is_here = own.complete.contains_key(&bar.start)
            || own
                .open
                .as_ref()
                .is_some_and(|open| open.start == bar.start);
        if bar.start >= own.known_from || is_here {
            return;
        }
        for named in bar.trades().into_iter().flat_map(|trades| trades.named()) {
            let offset = named.at.1;
            let newer = own
                .trades
                .get(&named.id)
                .is_some_and(|p| p.offset >= offset);
            let place = trades
                .get(&named.id)
                .filter(|p| p.offset == offset && !newer);
            if let Some(place) = place {
                own.trades.insert(Arc::clone(&named.id), *place);
            }
        }
        // What no record of the present batch was for changed when it did; it only was not here.
        let changed = match is_wanted {
            true => touched,
            false => Seen {
                next: bar.changed.next,
                version: touched.version,
            },
        };
        self.bytes += bar.bytes;
        let is_newest = own.newest.is_none_or(|newest| newest < bar.start);
        match state {
            State::Open if is_newest => {
                bar.changed = changed;
                self.set_open(id, bar);
            }
            State::Open | State::Complete => self.set_complete(id, bar, changed),
        }
    }
}
