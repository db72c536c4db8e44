//! A feed with a table, and subscribers that keep what they are sent.

use std::{collections::BTreeMap, time::Duration};

use prost::Message as _;

use super::super::{
    BarTable, History, Seen, TooLarge,
    reference::{self, Event},
};
use crate::{
    hub::OpenBars,
    model::{Offset, UnixNanos},
    proto::v1,
};

pub(super) const SECOND: i64 = 1_000_000_000;
pub(super) const INTERVAL: i64 = 10 * SECOND;
pub(super) const PLENTY: usize = 1 << 30;

/// Key, source, channel, start.
type Place = (String, i32, Option<u32>, UnixNanos);

/// What a subscriber has: of each bar what was said last.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown(pub BTreeMap<Place, v1::ViewBar>);

impl Shown {
    /// What somebody has who was sent all that was complete.
    pub(super) fn complete(events: &[Event]) -> Self {
        let bars = reference::bars(events, INTERVAL).into_iter();
        Self(
            bars.filter(|bar| bar.complete)
                .map(|bar| (place(&bar), bar))
                .collect(),
        )
    }

    pub(super) fn show(&mut self, bar: v1::ViewBar) -> Option<v1::ViewBar> {
        self.0.insert(place(&bar), bar)
    }

    /// Panics unless it has what the reference has, apart from open bars where they are left out.
    pub(super) fn check(&self, events: &[Event], open: OpenBars) {
        let bars = reference::bars(events, INTERVAL);
        let wanted = |bar: &&v1::ViewBar| bar.complete || open == OpenBars::Sent;
        let theirs: Vec<_> = bars.iter().filter(wanted).collect();
        let places: Vec<_> = theirs.iter().map(|bar| place(bar)).collect();
        assert_eq!(self.0.keys().cloned().collect::<Vec<_>>(), places);
        for (ours, theirs) in self.0.values().zip(theirs) {
            reference::assert_same(ours, theirs);
        }
    }
}

fn place(bar: &v1::ViewBar) -> Place {
    let start = match (&bar.bar, &bar.reading) {
        (Some(bar), None) => bar.start_unix_nanos.unwrap(),
        (None, Some(bar)) => bar.start_unix_nanos,
        _ => panic!("{bar:?}"),
    };
    let channel = bar.reading.as_ref().and_then(|bar| bar.channel);
    (bar.key.clone(), bar.source, channel, start)
}

/// A ring and what happened to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Feed {
    pub events: Vec<Event>,
    ring: Vec<Vec<u8>>,
}

impl Feed {
    /// Stores a record, and gives it an offset.
    pub(super) fn store(&mut self, mut record: v1::Record, ingest: UnixNanos) -> Offset {
        let offset = self.ring.len() as Offset;
        record.offset = offset;
        record.ingest_time_unix_nanos = ingest;
        self.ring.push(record.encode_to_vec());
        self.events.push(Event::Record(record));
        offset
    }

    pub(super) fn record(&self, at: usize) -> &[u8] {
        &self.ring[at]
    }

    pub(super) fn next(&self) -> Offset {
        self.ring.len() as Offset
    }

    /// Records from one offset to another.
    fn records(&self, from: Offset, to: Offset) -> impl Iterator<Item = (Offset, &[u8])> {
        let records = (0..).zip(self.ring.iter().map(Vec::as_slice));
        records.filter(move |(offset, _)| (from..to).contains(offset))
    }

    /// The first offset with this event time or a later one, as a ring finds it.
    fn seek(&self, time: UnixNanos) -> Offset {
        let is_there = |record: &Vec<u8>| {
            let record = v1::Record::decode(record.as_slice()).unwrap();
            record.event_time_unix_nanos.unwrap() >= time
        };
        self.ring
            .iter()
            .position(is_there)
            .unwrap_or(self.ring.len()) as Offset
    }

    /// Lets a table see records as the service does: what it misses is read again.
    pub(super) fn feed(
        &self,
        table: &mut BarTable,
        from: Offset,
        to: Offset,
    ) -> Result<usize, TooLarge> {
        for (offset, record) in self.records(from, to) {
            table.see(offset, record)?;
        }
        let Some(mut refill) = table.take_missing() else {
            return Ok(0);
        };
        for (offset, record) in self.records(self.seek(refill.since()), to) {
            refill.see(offset, record)?;
        }
        table.refill(refill, UnixNanos::MIN)?;
        Ok(1)
    }

    /// A table for somebody who was sent all before `cursor`, of whom no bar was open that starts
    /// before `since`.
    pub(super) fn table_at(&self, cursor: Offset, since: Option<UnixNanos>) -> BarTable {
        let first = since.map_or(cursor, |since| self.seek(since).min(cursor));
        let mut table = table(
            PLENTY,
            History {
                first,
                whole_from: since.unwrap_or(UnixNanos::MAX),
                partial_before: UnixNanos::MIN,
            },
        );
        for (offset, record) in self.records(first, cursor) {
            table.see(offset, record).unwrap();
        }
        table.forget_missing();
        table
    }
}

pub(super) fn table(max_bytes: usize, history: History) -> BarTable {
    let interval = Duration::from_nanos(INTERVAL.unsigned_abs());
    BarTable::new(interval, max_bytes, history)
}

/// Somebody who is sent what changed.
#[derive(Clone, Debug)]
pub(super) struct Subscriber {
    pub seen: Seen,
    pub shown: Shown,
    pub open: OpenBars,
}

impl Subscriber {
    pub(super) fn new(open: OpenBars) -> Self {
        Self {
            seen: Seen::default(),
            shown: Shown::default(),
            open,
        }
    }

    /// Takes what changed; what was sent, and what was shown in its place before.
    pub(super) fn take(&mut self, table: &mut BarTable) -> Vec<(v1::ViewBar, Option<v1::ViewBar>)> {
        assert!(table.serves(self.seen));
        let bars: Vec<_> = table.changed_since(self.seen, self.open).collect();
        self.seen = table.position();
        let show = |bar: v1::ViewBar| (bar.clone(), self.shown.show(bar));
        bars.into_iter().map(show).collect()
    }
}
