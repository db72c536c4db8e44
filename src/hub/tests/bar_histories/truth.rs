//! What was stored, and what of it a follower must have been told.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::AddAssign,
};

use prost::Message as _;

use super::reader::Reader;
use crate::{
    hub::{
        Feed, OpenBars,
        bars::reference::{self, Event, Series},
        start::each_record,
    },
    model::{self, Offset, Span, UnixNanos},
    proto::v1,
};

/// A series, and the start of a bar of it.
pub(super) type Place = (Series, UnixNanos);

/// All records of a history, by offset, and where tables may have begun.
#[derive(Debug, Default)]
pub(super) struct Truth {
    records: Vec<v1::Record>,
    pub begins: BTreeSet<Offset>,
}

/// What was checked of how much.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub histories: u64,
    pub checks: u64,
    pub bars: u64,
    pub late: u64,
    /// Not checked: records of theirs are gone.
    pub lost: u64,
    /// Not checked: a change of a trade may have found it unknown.
    pub unknown: u64,
    pub gaps: u64,
    pub resumes: u64,
    pub changes: u64,
    pub dropped: u64,
    pub full: u64,
    pub ends: u64,
    pub shared: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.histories += other.histories;
        self.checks += other.checks;
        self.bars += other.bars;
        self.late += other.late;
        self.lost += other.lost;
        self.unknown += other.unknown;
        self.gaps += other.gaps;
        self.resumes += other.resumes;
        self.changes += other.changes;
        self.dropped += other.dropped;
        self.full += other.full;
        self.ends += other.ends;
        self.shared += other.shared;
    }
}

impl Truth {
    /// Takes over what was just stored.
    pub(super) fn read(&mut self, feed: &Feed) {
        let span = Span::new(self.records.len() as Offset, feed.bounds().tail);
        each_record(feed, span, |offset, bytes| {
            assert_eq!(offset, self.records.len() as Offset, "it was just stored");
            self.records.push(v1::Record::decode(bytes).unwrap());
        })
        .unwrap();
        assert_eq!(self.records.len() as Offset, span.to);
    }

    /// Where a follower that ends at an ingest time ends.
    pub(super) fn first_in(&self, time: UnixNanos) -> Offset {
        let early = |record: &v1::Record| record.ingest_time_unix_nanos < time;
        self.records.partition_point(early) as Offset
    }

    /// The offsets of wanted records.
    pub(super) fn wanted(&self, reader: &Reader, span: Span) -> Vec<Offset> {
        let records = self.records.iter();
        let wanted = records.filter(|r| span.contains(r.offset) && reader.wants(&r.key));
        wanted.map(|record| record.offset).collect()
    }

    fn events(&self, reader: &Reader, to: Offset) -> Vec<Event> {
        let records = self.records.iter();
        let wanted = records.filter(|record| record.offset < to && reader.wants(&record.key));
        wanted.cloned().map(Event::Record).collect()
    }

    /// Whether what came in for a bar, or what completed it, may be gone.
    pub(super) fn is_lost(&self, reader: &Reader, place: &Place, head: Offset) -> bool {
        let origins = reference::origins(&self.events(reader, head), reader.interval());
        let mut origins = origins.iter();
        origins.any(|(series, start, _)| *series == place.0 && *start >= place.1)
    }

    /// Panics unless a follower that is settled up to `at` has what the reference has.
    pub(super) fn check(&self, reader: &Reader, at: Offset, head: Offset) -> Tally {
        let events = self.events(reader, at);
        let mut touched: BTreeMap<Place, Vec<Vec<Offset>>> = BTreeMap::new();
        let mut lost: BTreeMap<Series, UnixNanos> = BTreeMap::new();
        for (series, start, offsets) in reference::origins(&events, reader.interval()) {
            if offsets.iter().any(|offset| *offset < head) {
                let last = lost.entry(series.clone()).or_insert(start);
                *last = start.max(*last);
            }
            touched.entry((series, start)).or_default().push(offsets);
        }
        let mut tally = Tally {
            checks: 1,
            ..Tally::default()
        };
        for theirs in reference::bars(&events, reader.interval()) {
            let place = place_of(&theirs);
            let inputs = &touched[&place];
            if lost.get(&place.0).is_some_and(|last| place.1 <= *last) {
                tally.lost += 1;
            } else if inputs.iter().any(|offsets| self.may_be_unknown(offsets)) {
                tally.unknown += 1;
            } else {
                let is_told = inputs
                    .iter()
                    .flatten()
                    .any(|offset| *offset >= reader.since);
                let must_be_held = is_told && (theirs.complete || reader.open() == OpenBars::Sent);
                match reader.held.get(&place) {
                    Some(ours) => {
                        assert_same(ours, &theirs);
                        tally.bars += 1;
                        tally.late += u64::from(theirs.late_count > 0);
                    }
                    None => assert!(
                        !must_be_held,
                        "never came up to {at}, since {} of {:?}: {theirs:?} {inputs:?}",
                        reader.since, self.begins
                    ),
                }
            }
        }
        for place in reader.held.keys() {
            assert!(touched.contains_key(place), "of no record: {place:?}");
        }
        tally
    }

    /// Whether a table may have begun between a trade and a change of it.
    fn may_be_unknown(&self, offsets: &[Offset]) -> bool {
        let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
        self.begins
            .range(first + 1..=last.max(first + 1))
            .next()
            .is_some_and(|b| *b <= last)
    }
}

/// What is complete by its records is so; what is over may be so by the clock.
fn assert_same(ours: &v1::ViewBar, theirs: &v1::ViewBar) {
    let (_, start) = place_of(ours);
    let over = || start.saturating_add(interval_of(ours)) <= model::now() + super::records::SECOND;
    assert!(
        ours.complete == theirs.complete || ours.complete && over(),
        "{ours:?} {theirs:?}"
    );
    let ours = v1::ViewBar {
        partial: false,
        complete: theirs.complete,
        ..ours.clone()
    };
    reference::assert_same(&ours, theirs);
}

fn interval_of(view: &v1::ViewBar) -> i64 {
    let of_bar = view.bar.and_then(|bar| bar.interval_nanos);
    of_bar.unwrap_or_else(|| view.reading.as_ref().unwrap().interval_nanos)
}

pub(super) fn place_of(view: &v1::ViewBar) -> Place {
    let (start, channel) = match (&view.bar, &view.reading) {
        (Some(bar), None) => (bar.start_unix_nanos.unwrap(), None),
        (None, Some(bar)) => (bar.start_unix_nanos, bar.channel),
        _ => panic!("{view:?}"),
    };
    ((view.key.clone(), view.source, channel), start)
}
