//! What conflated followers of a feed share: when they are sent something, up to where, and which
//! records that is.
//!
//! Time is cut into ticks of the interval. The first follower that asks in a tick sets how far all
//! of them go in it, so that those of one interval stay at the same places and get the same.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::OnceCell, task::spawn_blocking, time::Instant};

use super::{
    Feed, FollowError, Hub,
    read::read_blocking,
    views::{ALL, Filter, FilterId, Hot, Pick, Winners},
};
use crate::{
    model::{Offset, Span},
    store::{Read, StoreError},
};

/// Intervals that are remembered.
const MAX_INTERVALS: usize = 256;
/// Ranges whose latest records are remembered, and picks made of them.
const MAX_RANGES: usize = 4;
const MAX_PICKS: usize = 1_024;
/// Offsets of all picks that are remembered.
const MAX_PICKED: usize = 1 << 20;
/// So many records are looked at on the thread that asks.
const INLINE: u64 = 8_192;
const READ_BYTES: usize = 1 << 20;
/// Read for one range at the most: a longer backlog takes several.
const RANGE_BYTES: usize = 256 << 20;

type Shared<K, T> = Mutex<VecDeque<(K, Arc<OnceCell<Arc<T>>>)>>;

#[derive(Debug, Default)]
pub(super) struct Conflations {
    /// When a tick was first asked for.
    begun: OnceLock<Instant>,
    ticks: Mutex<HashMap<Duration, Tick>>,
    ranges: Shared<(Offset, Offset), Winners>,
    picks: Shared<(Offset, Offset, FilterId), Pick>,
    /// Ranges whose records were looked at, for tests.
    pub computed: AtomicU64,
}

/// How far followers go in a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick {
    pub number: u128,
    pub to: Offset,
}

impl Conflations {
    /// The present tick; who asks first in it says that it goes to `tail`.
    pub(super) fn tick(&self, interval: Duration, tail: Offset) -> Tick {
        let number = self.number(interval);
        let mut ticks = self.ticks.lock();
        if ticks.len() >= MAX_INTERVALS {
            ticks.clear();
        }
        let fresh = Tick { number, to: tail };
        let tick = ticks.entry(interval).or_insert(fresh);
        if tick.number != number {
            *tick = fresh;
        }
        *tick
    }

    /// When the next tick begins.
    pub(super) fn next_tick(&self, interval: Duration) -> Instant {
        let nanos = (self.number(interval) + 1) * interval.as_nanos();
        self.begun() + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn number(&self, interval: Duration) -> u128 {
        let since = Instant::now().saturating_duration_since(self.begun());
        since.as_nanos() / interval.as_nanos().max(1)
    }

    fn begun(&self) -> Instant {
        *self.begun.get_or_init(Instant::now)
    }
}

/// The latest records of the wanted keys in `range`, or in a part of it from its beginning. An
/// empty part: a gap begins there.
pub(super) async fn pick(
    hub: &Arc<Hub>,
    feed: &Arc<Feed>,
    filter: Option<&Arc<Filter>>,
    range: Span,
) -> Result<Arc<Pick>, FollowError> {
    let shared = &feed.conflations;
    let id = filter.map_or(ALL, |filter| filter.id);
    let cell = cell(&shared.picks, (range.from, range.to, id), MAX_PICKS);
    let picked = cell.get_or_try_init(|| async {
        let winners = winners(hub, feed, range).await?;
        Ok::<_, FollowError>(Arc::new(winners.pick(filter.map(AsRef::as_ref))))
    });
    let picked = Arc::clone(picked.await?);
    forget_old(&shared.picks);
    Ok(picked)
}

async fn winners(
    hub: &Arc<Hub>,
    feed: &Arc<Feed>,
    range: Span,
) -> Result<Arc<Winners>, FollowError> {
    let shared = &feed.conflations;
    let cell = cell(&shared.ranges, (range.from, range.to), MAX_RANGES);
    let found = cell.get_or_try_init(|| async {
        shared.computed.fetch_add(1, Relaxed);
        let hot = hub
            .window
            .run(feed.id(), range.from, |hot| hot.span().to >= range.to);
        // What was trimmed may still be in memory.
        let is_there = range.from >= feed.bounds().head;
        let in_memory = is_there && hot.last().is_some_and(|last| last.span().to >= range.to);
        let found = match in_memory {
            true if range.len() <= INLINE => of_chunks(&hot, range),
            true => spawn_blocking(move || of_chunks(&hot, range))
                .await
                .map_err(|_stopped| FollowError::Stopping)?,
            false => {
                let feed = Arc::clone(feed);
                read_blocking(move || of_ring(&feed, range)).await?
            }
        };
        Ok::<_, FollowError>(Arc::new(found))
    });
    found.await.cloned()
}

fn of_chunks(chunks: &[Arc<Hot>], range: Span) -> Winners {
    let mut winners = Winners::from(range.from);
    for hot in chunks {
        winners.see(&hot.chunk.slice(Span::new(winners.until, range.to)));
    }
    winners
}

fn of_ring(feed: &Feed, range: Span) -> Result<Winners, StoreError> {
    let mut winners = Winners::from(range.from);
    let mut bytes = 0;
    while winners.until < range.to && bytes < RANGE_BYTES {
        let at = winners.until;
        match feed.ring.read(at, READ_BYTES)? {
            Read::Records(chunk) => {
                let chunk = chunk.slice(Span::new(at, range.to));
                bytes += chunk.body_len();
                winners.see(&chunk);
            }
            Read::Gap(_) | Read::AtTail => break,
        }
    }
    Ok(winners)
}

/// The place of what is to be found once.
fn cell<K: PartialEq, T>(kept: &Shared<K, T>, key: K, most: usize) -> Arc<OnceCell<Arc<T>>> {
    let mut kept = kept.lock();
    if let Some((_, cell)) = kept.iter().rev().find(|(known, _)| *known == key) {
        return Arc::clone(cell);
    }
    if kept.len() >= most {
        kept.pop_front();
    }
    let cell = Arc::new(OnceCell::new());
    kept.push_back((key, Arc::clone(&cell)));
    cell
}

/// Keeps what is remembered within its bound.
fn forget_old<K>(picks: &Shared<K, Pick>) {
    let mut picks = picks.lock();
    let len = |cell: &OnceCell<Arc<Pick>>| cell.get().map_or(0, |pick| pick.len());
    let mut offsets: usize = picks.iter().map(|(_, cell)| len(cell)).sum();
    while offsets > MAX_PICKED
        && let Some((_, cell)) = picks.pop_front()
    {
        offsets -= len(&cell);
    }
}
