//! The table of bars: what a record does to it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
    time::Duration,
};

use hashbrown::HashMap;

use super::{
    GRACE, History, Seen, TooLarge,
    bar::{BAR_BYTES, Bar, Completeness, Input},
    intake::When,
    keys::{Keys, SERIES_BYTES, Series, SeriesId, Tag, TradePlace},
    refill::Scope,
    trades::{Amendment, Named},
};
use crate::{
    model::{Offset, UnixNanos},
    proto::{v1::BarSource, wire::Observed},
};

/// Bytes of a trade that can be corrected, without its id.
const TRADE_BYTES: usize = size_of::<Named>() + size_of::<(Arc<str>, TradePlace)>() + 24;

/// Bars of one feed, selection of keys and interval. The same for all who want these.
#[derive(Debug)]
pub struct BarTable {
    pub(super) interval: i64,
    pub(super) max_bytes: usize,
    pub(super) history: History,
    pub(super) keys: Keys,
    /// Complete bars, by their last change.
    pub(super) complete: BTreeMap<Seen, (SeriesId, Bar)>,
    /// How many bars are open of each start.
    pub(super) open: BTreeMap<UnixNanos, usize>,
    /// When to look whether a series' open bar is complete; not later than it is.
    due: BinaryHeap<Reverse<(UnixNanos, SeriesId)>>,
    pub(super) clock: UnixNanos,
    pub(super) position: Seen,
    pub(super) released: Seen,
    pub(super) horizon: Seen,
    pub(super) missing: BTreeSet<(SeriesId, UnixNanos)>,
    /// Of a refill: the series it is about.
    pub(super) scope: Option<Scope>,
    pub(super) bytes: usize,
}

/// Where a bar is, or whether it is to be made.
#[derive(Clone, Copy, Debug)]
enum Place {
    Open,
    /// It begins after all others.
    Next,
    Complete(Seen),
    /// There was none when a later one began.
    Skipped,
    Unknown,
}

impl BarTable {
    /// `max_bytes`: what keys, bars and remembered trades may take.
    pub fn new(interval: Duration, max_bytes: usize, history: History) -> Self {
        let interval = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX);
        Self {
            interval: interval.max(1),
            max_bytes,
            history,
            keys: Keys::default(),
            complete: BTreeMap::new(),
            open: BTreeMap::new(),
            due: BinaryHeap::new(),
            clock: UnixNanos::MIN,
            position: Seen::before(history.first),
            released: Seen::default(),
            horizon: Seen::before(history.first),
            missing: BTreeSet::new(),
            scope: None,
            bytes: 0,
        }
    }

    /// Length of a bar in nanoseconds.
    pub fn interval(&self) -> UnixNanos {
        self.interval
    }

    /// Takes a record as it is stored; offsets rise. What is no record is passed over.
    pub fn see(&mut self, offset: Offset, record: &[u8]) -> Result<(), TooLarge> {
        self.passed(offset);
        if let Some(observed) = Observed::read(record) {
            self.close_until(observed.ingest_time);
            // What passed the scan reads.
            self.take(&observed, offset);
        }
        self.passed(offset.saturating_add(1));
        self.shrink()
    }

    /// Says that records before `next` were seen, or are of no interest here.
    pub fn passed(&mut self, next: Offset) {
        self.position.next = self.position.next.max(next);
    }

    /// Completes bars by the ingest clock. At the tail the wall clock may be given, once no record
    /// with an earlier ingest time can come any more.
    pub fn close_until(&mut self, clock: UnixNanos) {
        self.clock = self.clock.max(clock);
        let is_due = |due: &Reverse<(UnixNanos, SeriesId)>| due.0.0 <= self.clock;
        if self.due.peek().is_some_and(is_due) {
            self.close_due();
        }
    }

    /// When `close_until` may have something to do, at the earliest.
    pub fn next_due(&self) -> Option<UnixNanos> {
        self.due.peek().map(|due| due.0.0)
    }

    #[cold]
    fn close_due(&mut self) {
        let mut over = vec![];
        while let Some(Reverse((due, id))) = self.due.peek().copied()
            && due <= self.clock
        {
            self.due.pop();
            let Some(series) = self.keys.get_mut(id) else {
                continue;
            };
            if series.due != Some(due) {
                continue;
            }
            series.due = None;
            match series.open.as_ref().map(|bar| due_of(bar, self.interval)) {
                Some(due) if due <= self.clock => over.push(id),
                Some(due) => {
                    series.due = Some(due);
                    self.due.push(Reverse((due, id)));
                }
                None => {}
            }
        }
        self.sort(&mut over);
        over.into_iter().for_each(|id| self.complete(id));
    }

    /// Sorts as in every table.
    pub(super) fn sort(&self, ids: &mut [SeriesId]) {
        ids.sort_unstable_by(|a, b| {
            let series = self.keys.get(*a).zip(self.keys.get(*b));
            series.map_or(std::cmp::Ordering::Equal, |(a, b)| a.order(b))
        });
    }

    /// The key's number; `None` where it is of no interest.
    pub(super) fn key(&mut self, name: &str) -> Option<u32> {
        if let Some(key) = self.keys.key(name) {
            return Some(key);
        }
        if self
            .scope
            .as_ref()
            .is_some_and(|scope| !scope.has_key(name))
        {
            return None;
        }
        let (key, bytes) = self.keys.add_key(name);
        self.bytes += bytes;
        Some(key)
    }

    pub(super) fn put(&mut self, key: &str, tag: Tag, when: When, input: &Input<'_>) {
        if let Some(key) = self.key(key) {
            self.put_in(key, tag, when, input);
        }
    }

    /// Counts an input in the bar it belongs to.
    pub(super) fn put_in(&mut self, key: u32, tag: Tag, when: When, input: &Input<'_>) {
        let Some(id) = self
            .keys
            .find(key, tag)
            .or_else(|| self.add_series(key, tag))
        else {
            return;
        };
        let Some(series) = self.keys.get(id) else {
            return;
        };
        match series.place(when.start) {
            Place::Open => {}
            Place::Next => {
                self.complete(id);
                self.open(id, when);
            }
            Place::Complete(changed) => {
                if let Some((_, bar)) = self.complete.remove(&changed) {
                    self.late(id, bar, when, input);
                }
                return;
            }
            Place::Skipped => {
                let bar = self.new_bar(when.start, tag.source);
                return self.late(id, bar, when, input);
            }
            Place::Unknown => return self.unknown(id, when.start, input),
        }
        let changed = self.touch();
        if let Some(series) = self.keys.get_mut(id)
            && let Some(bar) = &mut series.open
        {
            bar.changed = changed;
            self.bytes += add(bar, &mut series.trades, when, input);
        }
    }

    fn add_series(&mut self, key: u32, tag: Tag) -> Option<SeriesId> {
        let known_from = match &self.scope {
            None => self.history.whole_from,
            Some(scope) => scope.from(self.keys.name(key)?, tag)?,
        };
        self.bytes += SERIES_BYTES;
        self.keys.add(key, tag, known_from)
    }

    fn new_bar(&mut self, start: UnixNanos, source: BarSource) -> Bar {
        self.bytes += BAR_BYTES;
        let completeness = Completeness::of(start, self.history.partial_before);
        Bar::new(start, source, completeness)
    }

    /// Begins the next bar of a series.
    fn open(&mut self, id: SeriesId, when: When) {
        let Some(source) = self.keys.get(id).map(|series| series.tag.source) else {
            return;
        };
        let mut bar = self.new_bar(when.start, source);
        bar.last_ingest = when.ingest;
        self.set_open(id, bar);
    }

    pub(super) fn set_open(&mut self, id: SeriesId, bar: Bar) {
        let (start, due) = (bar.start, due_of(&bar, self.interval));
        let Some(series) = self.keys.get_mut(id) else {
            return;
        };
        series.newest = Some(start);
        series.open = Some(bar);
        if series.due.is_none_or(|earlier| due < earlier) {
            series.due = Some(due);
            self.due.push(Reverse((due, id)));
        }
        *self.open.entry(start).or_default() += 1;
    }

    /// Ends the open bar of a series.
    fn complete(&mut self, id: SeriesId) {
        let open = self.keys.get_mut(id).and_then(|series| series.open.take());
        let Some(bar) = open else {
            return;
        };
        if let Some(count) = self.open.get_mut(&bar.start) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&bar.start);
            }
        }
        let changed = self.touch();
        self.set_complete(id, bar, changed);
    }

    pub(super) fn set_complete(&mut self, id: SeriesId, mut bar: Bar, changed: Seen) {
        bar.changed = changed;
        if let Some(series) = self.keys.get_mut(id) {
            series.complete.insert(bar.start, changed);
            self.complete.insert(changed, (id, bar));
        }
    }

    /// Counts an input in a bar that is complete already and taken from its place.
    fn late(&mut self, id: SeriesId, mut bar: Bar, when: When, input: &Input<'_>) {
        bar.late += 1;
        if let Some(series) = self.keys.get_mut(id) {
            self.bytes += add(&mut bar, &mut series.trades, when, input);
        }
        let changed = self.touch();
        self.set_complete(id, bar, changed);
    }

    /// A record of a bar that cannot be computed from what is here.
    fn unknown(&mut self, id: SeriesId, start: UnixNanos, input: &Input<'_>) {
        if self.scope.is_none() {
            self.missing.insert((id, start));
        }
        if let Input::Trade(Some(trade), _) = input
            && let Some(series) = self.keys.get_mut(id)
        {
            // The id names a trade that is not here.
            series.trades.remove(*trade);
        }
    }

    pub(super) fn amend(&mut self, id: SeriesId, when: When, trade: &str, amendment: Amendment) {
        let changed = self.touch();
        let Some(series) = self.keys.get_mut(id) else {
            return;
        };
        let Some(found) = series.trades.get(trade).copied() else {
            return;
        };
        if matches!(amendment, Amendment::Cancel) {
            series.trades.remove(trade);
        }
        if let Some(bar) = series.open.as_mut().filter(|bar| bar.start == found.start) {
            bar.changed = changed;
            bar.amend(when.ingest, found.place, amendment);
            return;
        }
        let place = series.complete.get(&found.start).copied();
        if let Some((_, mut bar)) = place.and_then(|place| self.complete.remove(&place)) {
            bar.late += 1;
            bar.amend(when.ingest, found.place, amendment);
            self.set_complete(id, bar, changed);
        }
    }

    /// The mark of a change made now.
    pub(super) fn touch(&mut self) -> Seen {
        self.position.version += 1;
        self.position
    }
}

impl Series {
    fn place(&self, start: UnixNanos) -> Place {
        if self.open.as_ref().is_some_and(|bar| bar.start == start) {
            return Place::Open;
        }
        if let Some(changed) = self.complete.get(&start) {
            return Place::Complete(*changed);
        }
        match self.newest {
            _ if start < self.known_from => Place::Unknown,
            Some(newest) if start <= newest => Place::Skipped,
            Some(_) | None => Place::Next,
        }
    }
}

/// Adds an input to a bar; how many bytes it took.
fn add(
    bar: &mut Bar,
    trades: &mut HashMap<Arc<str>, TradePlace>,
    when: When,
    input: &Input<'_>,
) -> usize {
    bar.last_ingest = bar.last_ingest.max(when.ingest);
    let Input::Trade(Some(id), dealt) = input else {
        bar.add(when.at, input);
        return 0;
    };
    let id: Arc<str> = (*id).into();
    let bytes = TRADE_BYTES + id.len();
    bar.bytes += bytes;
    let place = TradePlace {
        start: bar.start,
        offset: when.at.1,
        place: bar.add_named(Arc::clone(&id), when.at, dealt),
    };
    trades.insert(id, place);
    bytes
}

/// When the clock completes a bar.
fn due_of(bar: &Bar, interval: i64) -> UnixNanos {
    let grace = i64::try_from(GRACE.as_nanos()).unwrap_or(i64::MAX);
    let end = bar.start.saturating_add(interval);
    end.max(bar.last_ingest).saturating_add(grace)
}
