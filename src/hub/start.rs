//! Where a follower starts and ends, and which keys it wants.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use super::{Feed, FollowError, Follower, Hub, follow::read_blocking};
use crate::{
    model::{Cursor, Gap, GapReason, Offset, Span, UnixNanos},
    proto::wire,
    store::{Clock, Read, StoreError},
};

/// How many offsets the search for the last n of each key looks back first.
const FIRST_LOOK_BACK: u64 = 10_000;
const READ_BYTES: usize = 1 << 20;

/// Where a follower starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Of the present epoch. Above the tail it belongs to another life of the feed: a gap.
    Offset(Offset),
    Cursor(Cursor),
    /// The first record at or after this time.
    Time(Clock, UnixNanos),
    Earliest,
    New,
    /// The last n records of each wanted key.
    LastPerKey(u32),
}

/// Where a follower ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Never,
    /// Before this offset.
    Offset(Offset),
    /// At what was the tail when it began.
    Now,
    /// Before the first record that came in at or after this time.
    IngestTime(UnixNanos),
}

/// Which keys are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFilter {
    /// `None`: all.
    pub include: Option<HashSet<String>>,
    pub exclude: HashSet<String>,
}

impl KeyFilter {
    pub fn is_all(&self) -> bool {
        self.include.is_none() && self.exclude.is_empty()
    }

    pub fn wants(&self, key: &str) -> bool {
        self.include.as_ref().is_none_or(|keys| keys.contains(key)) && !self.exclude.contains(key)
    }
}

/// What a follower picks of the records it passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub filter: KeyFilter,
    /// Before `.1` only these offsets, in order.
    pub(super) only: Option<(VecDeque<Offset>, Offset)>,
}

impl Selection {
    /// Whether a record is wanted; asked in offset order.
    pub(super) fn takes(&mut self, offset: Offset, record: &[u8]) -> bool {
        match &mut self.only {
            Some((picked, until)) if offset < *until => {
                while picked.front().is_some_and(|first| *first < offset) {
                    picked.pop_front();
                }
                picked.front() == Some(&offset)
            }
            _ => self.filter.is_all() || self.filter.wants(wire::key_of(record)),
        }
    }
}

impl Hub {
    /// Begins to follow a feed.
    pub async fn follow(
        self: &Arc<Self>,
        feed: &Arc<Feed>,
        filter: KeyFilter,
        start: Start,
        end: End,
    ) -> Result<Follower, FollowError> {
        let bounds = feed.bounds();
        let end = match end {
            End::Now => End::Offset(bounds.tail),
            End::Never | End::Offset(_) | End::IngestTime(_) => end,
        };
        let mut selection = Selection { filter, only: None };
        let mut gap = None;
        let cursor = match start {
            Start::Earliest => bounds.head,
            Start::New => bounds.tail,
            Start::Offset(offset) => {
                let cursor = Cursor {
                    epoch: feed.epoch(),
                    offset,
                };
                present(feed, cursor, &mut gap)
            }
            Start::Cursor(cursor) => present(feed, cursor, &mut gap),
            Start::Time(clock, time) => {
                let feed = Arc::clone(feed);
                read_blocking(move || first_at(&feed, clock, time)).await?
            }
            Start::LastPerKey(n) => {
                let (searched, filter) = (Arc::clone(feed), selection.filter.clone());
                let found =
                    read_blocking(move || last_of_each(&searched, &filter, n as usize)).await?;
                let first = found.front().copied().unwrap_or(bounds.tail);
                selection.only = Some((found, bounds.tail));
                first
            }
        };
        Ok(Follower::new(
            Arc::clone(self),
            Arc::clone(feed),
            selection,
            cursor,
            end,
            gap,
        ))
    }
}

/// Where a cursor goes on. One of another life of the feed begins at the oldest record there is,
/// after a gap that says so.
fn present(feed: &Feed, cursor: Cursor, gap: &mut Option<(u64, Gap)>) -> Offset {
    let bounds = feed.bounds();
    let same = cursor.epoch == feed.epoch() || cursor.epoch == 0;
    if same && cursor.offset <= bounds.tail {
        return cursor.offset;
    }
    let span = Span::new(cursor.offset, cursor.offset);
    *gap = Some((
        cursor.epoch,
        Gap {
            span,
            count: None,
            reason: GapReason::EpochChanged,
        },
    ));
    bounds.head
}

/// The first record from which on `clock` shows `time` or later.
fn first_at(feed: &Feed, clock: Clock, time: UnixNanos) -> Result<Offset, StoreError> {
    let tail = feed.bounds().tail;
    let mut at = feed.ring.seek(clock, time)?.max(feed.bounds().head);
    while at < tail {
        match feed.ring.read(at, READ_BYTES)? {
            Read::Records(chunk) => {
                let reached = |bytes: &[u8]| match clock {
                    Clock::Ingest => wire::ingest_time(bytes) >= time,
                    Clock::Event => wire::stored(bytes).is_some_and(|r| r.event_time >= time),
                };
                if let Some((offset, _)) = chunk.records().find(|(_, bytes)| reached(bytes)) {
                    return Ok(offset.min(tail));
                }
                at = chunk.span().to;
            }
            Read::Gap(gap) => at = gap.span.to,
            Read::AtTail => break,
        }
    }
    Ok(tail)
}

/// The offsets of the last `n` records of each wanted key, rising. Looks back ever further, until
/// every key has n or the ring is at its end.
fn last_of_each(feed: &Feed, filter: &KeyFilter, n: usize) -> Result<VecDeque<Offset>, StoreError> {
    let bounds = feed.bounds();
    let keys = feed.newest_offsets(|key| filter.wants(key));
    let in_ring = keys
        .into_iter()
        .filter(|(_, newest)| *newest >= bounds.head);
    let mut found: HashMap<String, VecDeque<Offset>> =
        in_ring.map(|(key, _)| (key, VecDeque::new())).collect();
    let mut look_back = FIRST_LOOK_BACK;
    loop {
        let from = bounds.tail.saturating_sub(look_back).max(bounds.head);
        found.values_mut().for_each(VecDeque::clear);
        each_record(feed, Span::new(from, bounds.tail), |offset, record| {
            if let Some(offsets) = found.get_mut(wire::key_of(record)) {
                offsets.push_back(offset);
                if offsets.len() > n {
                    offsets.pop_front();
                }
            }
        })?;
        if from == bounds.head || found.values().all(|offsets| offsets.len() == n) {
            break;
        }
        look_back = look_back.saturating_mul(10);
    }
    let mut all: Vec<Offset> = found.into_values().flatten().collect();
    all.sort_unstable();
    Ok(all.into())
}

fn each_record(
    feed: &Feed,
    span: Span,
    mut each: impl FnMut(Offset, &[u8]),
) -> Result<(), StoreError> {
    let mut at = span.from;
    while at < span.to {
        match feed.ring.read(at, READ_BYTES)? {
            Read::Records(chunk) => {
                let chunk = chunk.slice(span);
                chunk
                    .records()
                    .for_each(|(offset, bytes)| each(offset, &bytes));
                at = chunk.span().to.max(at + 1);
            }
            Read::Gap(gap) => at = gap.span.to.max(at + 1),
            Read::AtTail => break,
        }
    }
    Ok(())
}
