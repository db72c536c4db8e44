//! What must be true: every record that was stored, in plain lists, and what became of them.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use prost::Message as _;
use ringfeed::{
    model::{Bounds, Epoch, Offset, Span},
    proto::v1::{self, record::Payload},
};

/// A key and the field number of a payload kind.
pub(super) type KeyKind = (String, u8);
/// Event time and offset: the greatest is the latest.
pub(super) type Rank = (i64, Offset);

/// A stored record.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub offset: Offset,
    /// As delivered.
    pub bytes: Bytes,
    pub record: v1::Record,
}

/// What a feed kept in memory of the latest records goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub tail: Offset,
    pub dropped_before: Offset,
}

/// One epoch of a feed.
#[derive(Debug, Default)]
pub(super) struct Life {
    pub epoch: Epoch,
    /// All records that were ever visible, by offset.
    pub records: Vec<Stored>,
    pub bounds: Bounds,
    /// Below these places, records went by a trim, or by size or age.
    pub trimmed: Offset,
    pub evicted: Offset,
    pub lost: Vec<Span>,
    pub marks: Vec<Mark>,
    pub is_over: bool,
}

/// All feeds.
#[derive(Debug, Default)]
pub(super) struct Truth {
    feeds: BTreeMap<String, Vec<Life>>,
}

impl Truth {
    /// A feed begins its life.
    pub(super) fn begin(&mut self, feed: &str, epoch: Epoch) {
        let lives = self.feeds.entry(feed.to_owned()).or_default();
        if let Some(last) = lives.last_mut() {
            last.is_over = true;
        }
        lives.push(Life {
            epoch,
            marks: vec![Mark {
                tail: 0,
                dropped_before: 0,
            }],
            ..Life::default()
        });
    }

    pub(super) fn life(&self, feed: &str, epoch: Epoch) -> Option<&Life> {
        let mut lives = self.feeds.get(feed)?.iter();
        lives.find(|life| life.epoch == epoch)
    }

    pub(super) fn present(&self, feed: &str) -> Option<&Life> {
        self.feeds.get(feed)?.last()
    }

    pub(super) fn present_mut(&mut self, feed: &str) -> &mut Life {
        let lives = self.feeds.get_mut(feed);
        lives.and_then(|lives| lives.last_mut()).expect("a feed")
    }

    pub(super) fn feeds(&self) -> impl Iterator<Item = &str> {
        self.feeds.keys().map(String::as_str)
    }
}

/// Why the head moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Trim,
    /// Size or age.
    Retention,
}

impl Life {
    pub(super) fn add(&mut self, bytes: Bytes) {
        let record = v1::Record::decode(bytes.clone()).expect("a stored record");
        let offset = record.offset;
        if let Some(last) = self.records.last() {
            assert!(last.offset < offset, "offset {offset} came again");
        }
        self.records.push(Stored {
            offset,
            bytes,
            record,
        });
    }

    /// What can be read now, after something that may have moved the head.
    pub(super) fn moved(&mut self, bounds: Bounds, cause: Cause) {
        if bounds.head > self.bounds.head {
            match cause {
                Cause::Trim => self.trimmed = bounds.head,
                Cause::Retention => self.evicted = bounds.head,
            }
        }
        self.bounds = bounds;
        self.note(None);
    }

    /// The latest records that are below `dropped_before` are forgotten from now on.
    pub(super) fn note(&mut self, dropped_before: Option<Offset>) {
        let last = self.marks.last().map_or(0, |mark| mark.dropped_before);
        let mark = Mark {
            tail: self.bounds.tail,
            dropped_before: dropped_before.unwrap_or(last),
        };
        if self.marks.last() != Some(&mark) {
            self.marks.push(mark);
        }
    }

    pub(super) fn range(&self, span: Span) -> &[Stored] {
        let from = self.records.partition_point(|r| r.offset < span.from);
        let to = self.records.partition_point(|r| r.offset < span.to);
        &self.records[from..to.max(from)]
    }

    /// The first record that can be read from which on `reached`; the tail where there is none.
    pub(super) fn first(&self, reached: impl Fn(&v1::Record) -> bool) -> Offset {
        let readable = self.range(Span::new(self.bounds.head, self.bounds.tail));
        let found = readable.iter().find(|stored| reached(&stored.record));
        found.map_or(self.bounds.tail, |stored| stored.offset)
    }

    /// The offsets of the last `n` of each wanted key that can be read.
    pub(super) fn last_of_each(&self, n: usize, wants: impl Fn(&str) -> bool) -> Vec<Offset> {
        let readable = self.range(Span::new(self.bounds.head, self.bounds.tail));
        let mut by_key: HashMap<&str, Vec<Offset>> = HashMap::new();
        for stored in readable.iter().filter(|s| wants(&s.record.key)) {
            let of_key = by_key.entry(&stored.record.key).or_default();
            of_key.push(stored.offset);
        }
        let lasts = by_key
            .values()
            .flat_map(|of| &of[of.len().saturating_sub(n)..]);
        let mut lasts: Vec<_> = lasts.copied().collect();
        lasts.sort_unstable();
        lasts
    }

    /// The offsets of a snapshot at one of its marks. What was dropped leaves the newest by arrival
    /// in its place, or nothing.
    pub(super) fn snapshot(&self, as_of: Offset, wants: impl Fn(&str) -> bool) -> Vec<Vec<Offset>> {
        let marks = self.marks.iter().filter(|mark| mark.tail == as_of);
        marks.map(|mark| self.snapshot_at(*mark, &wants)).collect()
    }

    fn snapshot_at(&self, at: Mark, wants: impl Fn(&str) -> bool) -> Vec<Offset> {
        let mut latest: HashMap<KeyKind, [Option<Rank>; 2]> = HashMap::new();
        let mut marks = self.marks.iter().take_while(|mark| **mark != at).peekable();
        let mut dropped = 0;
        let drop = |latest: &mut HashMap<KeyKind, [Option<Rank>; 2]>, before: Offset| {
            for [event, arrival] in latest.values_mut() {
                *arrival = arrival.filter(|rank| rank.1 >= before);
                *event = event.filter(|rank| rank.1 >= before).or(*arrival);
            }
        };
        for stored in self.range(Span::new(0, at.tail)) {
            while let Some(mark) = marks.next_if(|mark| mark.tail <= stored.offset) {
                if mark.dropped_before > dropped {
                    dropped = mark.dropped_before;
                    drop(&mut latest, dropped);
                }
            }
            let rank = rank(stored);
            let [event, arrival] = latest.entry(key_kind(&stored.record)).or_default();
            *event = (*event).max(Some(rank));
            *arrival = Some(rank);
        }
        drop(&mut latest, at.dropped_before);
        let wanted = latest.iter().filter(|((key, _), _)| wants(key));
        let mut offsets: Vec<_> = wanted
            .filter_map(|(_, [event, _])| event.map(|r| r.1))
            .collect();
        offsets.sort_unstable();
        offsets
    }
}

pub(super) fn rank(stored: &Stored) -> Rank {
    let time = stored.record.event_time_unix_nanos.unwrap_or_default();
    (time, stored.offset)
}

pub(super) fn key_kind(record: &v1::Record) -> KeyKind {
    let kind = match record.payload {
        Some(Payload::Quote(_)) => 3,
        Some(Payload::Trade(_)) => 4,
        Some(Payload::Bar(_)) => 5,
        Some(Payload::Reading(_)) => 6,
        Some(Payload::Status(_)) => 7,
        None => panic!("a record without a payload was stored"),
    };
    (record.key.clone(), kind)
}
