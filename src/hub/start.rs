//! Where a follower starts and ends, and which keys it wants.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{
    Carried, Feed, Fidelity, FollowError, Follower, Hub, KeyFilter, SlowPolicy,
    follow::{Pages, Plan},
    read::read_blocking,
    snapshot,
    views::Pick,
};
use crate::{
    model::{Cursor, Epoch, Gap, GapReason, Offset, Span, UnixNanos},
    proto::wire,
    store::{Clock, Read, StoreError},
};

/// How many offsets the search for the last n of each key looks back first.
const FIRST_LOOK_BACK: u64 = 10_000;
const READ_BYTES: usize = 1 << 20;

/// Where a follower starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Of the present epoch. Above the tail it belongs to another life of the feed: a gap.
    Offset(Offset),
    Cursor(Cursor),
    /// The first record at or after this time.
    Time(Clock, UnixNanos),
    Earliest,
    #[default]
    New,
    /// The last n records of each wanted key.
    LastPerKey(u32),
    /// The latest record of each wanted key and kind, then live.
    Snapshot,
}

/// Where a follower ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    #[default]
    Never,
    /// Before this offset.
    Offset(Offset),
    /// At what was the tail when it began.
    Now,
    /// Before the first record that came in at or after this time.
    IngestTime(UnixNanos),
}

/// Where a follower stands when it begins.
#[derive(Debug)]
pub(super) struct Place {
    pub cursor: Offset,
    /// To be told first.
    pub gap: Option<(Epoch, Gap)>,
    /// As far as it goes, only these offsets.
    pub pick: Option<Pick>,
    /// To be sent first.
    pub snapshot: Option<Pages>,
    /// What lies behind is none of the history that was asked for.
    pub begins_live: bool,
}

impl Place {
    fn at(cursor: Offset) -> Self {
        Self {
            cursor,
            gap: None,
            pick: None,
            snapshot: None,
            begins_live: false,
        }
    }
}

impl Place {
    fn after(self, snapshot: Pages) -> Self {
        Self {
            snapshot: Some(snapshot),
            ..self
        }
    }
}

/// What one selector asks for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// What its messages say they answer.
    pub selector: u32,
    pub filter: KeyFilter,
    pub start: Start,
    pub end: End,
    pub fidelity: Fidelity,
    pub slow: SlowPolicy,
    pub carried: Carried,
}

impl Hub {
    /// Begins to follow a feed.
    pub async fn follow(
        self: &Arc<Self>,
        feed: &Arc<Feed>,
        wanted: Wanted,
    ) -> Result<Follower, FollowError> {
        let bounds = feed.bounds();
        let end = match wanted.end {
            End::Now => End::Offset(bounds.tail),
            end @ (End::Never | End::Offset(_) | End::IngestTime(_)) => end,
        };
        let filter = feed.filters.intern(wanted.filter.clone());
        let place = match wanted.start {
            Start::Earliest => Place::at(bounds.head),
            Start::New => Place {
                begins_live: true,
                ..Place::at(bounds.tail)
            },
            Start::Snapshot => {
                let snapshot = snapshot::take(self, feed, filter.as_ref(), wanted.selector);
                let snapshot = snapshot.await?;
                Place {
                    begins_live: true,
                    ..Place::at(snapshot.as_of)
                }
                .after(Pages::of(snapshot))
            }
            Start::Offset(offset) => {
                let epoch = feed.epoch();
                present(feed, Cursor { epoch, offset })
            }
            Start::Cursor(cursor) => {
                let place = if wanted.carried.is_elsewhere {
                    elsewhere(feed, cursor)
                } else {
                    present(feed, cursor)
                };
                match wanted.carried.last_per_key {
                    Some(last) => pick_rest(feed, wanted.filter, last, place).await?,
                    None => place,
                }
            }
            Start::Time(clock, time) => {
                let feed = Arc::clone(feed);
                Place::at(read_blocking(move || first_at(&feed, clock, time)).await?)
            }
            Start::LastPerKey(n) => pick_last(feed, wanted.filter, n).await?,
        };
        Ok(Follower::new(
            Arc::clone(self),
            Arc::clone(feed),
            Plan {
                selector: wanted.selector,
                filter,
                place,
                end,
                fidelity: wanted.fidelity,
                slow: wanted.slow,
                carried: wanted.carried,
            },
        ))
    }
}

/// Where a cursor goes on. One of another life of the feed begins at the oldest record there is,
/// after a gap that says so.
fn present(feed: &Feed, cursor: Cursor) -> Place {
    let same = cursor.epoch == feed.epoch() || cursor.epoch == 0;
    if same && cursor.offset <= feed.bounds().tail {
        return Place::at(cursor.offset);
    }
    elsewhere(feed, cursor)
}

fn elsewhere(feed: &Feed, cursor: Cursor) -> Place {
    let gap = Gap {
        span: Span::new(cursor.offset, cursor.offset),
        count: None,
        reason: GapReason::EpochChanged,
    };
    Place {
        gap: Some((cursor.epoch, gap)),
        ..Place::at(feed.bounds().head)
    }
}

/// The first record from which on `clock` shows `time` or later.
pub(super) fn first_at(feed: &Feed, clock: Clock, time: UnixNanos) -> Result<Offset, StoreError> {
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

/// At the first of the last `n` records of each wanted key.
async fn pick_last(feed: &Arc<Feed>, keys: KeyFilter, n: u32) -> Result<Place, FollowError> {
    let bounds = feed.bounds();
    let within = Span::new(bounds.head, bounds.tail);
    let feed = Arc::clone(feed);
    let found = read_blocking(move || last_of_each(&feed, &keys, n as usize, within)).await?;
    let first = found.first().copied().unwrap_or(bounds.tail);
    Ok(Place {
        pick: Some(Pick::own(n, found, bounds.tail)),
        ..Place::at(first)
    })
}

/// At a place between the last `n` records of each wanted key before `until`. Of another life of the
/// feed nothing was picked.
async fn pick_rest(
    feed: &Arc<Feed>,
    keys: KeyFilter,
    (n, until): (u32, Offset),
    place: Place,
) -> Result<Place, FollowError> {
    if place.gap.is_some() {
        return Ok(place);
    }
    let (from, bounds) = (place.cursor, feed.bounds());
    let until = until.min(bounds.tail);
    let within = Span::new(from.max(bounds.head).min(until), until);
    let feed = Arc::clone(feed);
    let found = read_blocking(move || {
        let mut found = last_of_each(&feed, &keys, n as usize, within)?;
        // What has left the ring may have been picked: it is a gap, which must be come upon.
        if from < feed.ring.bounds().head.min(until) && found.first() != Some(&from) {
            found.insert(0, from);
        }
        Ok(found)
    });
    Ok(Place {
        pick: Some(Pick::own(n, found.await?, until)),
        ..place
    })
}

/// The offsets of the last `n` records of each wanted key in `within`, rising. Looks back ever
/// further, until every key has n or all was seen.
fn last_of_each(
    feed: &Feed,
    filter: &KeyFilter,
    n: usize,
    within: Span,
) -> Result<Vec<Offset>, StoreError> {
    let keys = feed.newest_offsets(|key| filter.wants(key));
    let in_ring = keys
        .into_iter()
        .filter(|(_, newest)| *newest >= within.from);
    let mut found: HashMap<String, VecDeque<Offset>> =
        in_ring.map(|(key, _)| (key, VecDeque::new())).collect();
    let mut look_back = FIRST_LOOK_BACK;
    loop {
        let from = within.to.saturating_sub(look_back).max(within.from);
        found.values_mut().for_each(VecDeque::clear);
        each_record(feed, Span::new(from, within.to), |offset, record| {
            if let Some(offsets) = found.get_mut(wire::key_of(record)) {
                offsets.push_back(offset);
                if offsets.len() > n {
                    offsets.pop_front();
                }
            }
        })?;
        if from == within.from || found.values().all(|offsets| offsets.len() == n) {
            break;
        }
        look_back = look_back.saturating_mul(10);
    }
    let mut all: Vec<Offset> = found.into_values().flatten().collect();
    all.sort_unstable();
    Ok(all)
}

pub(super) fn each_record(
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
