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
use tokio::{sync::OnceCell, time::Instant};

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

/// Which records are picked, of whose keys.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub hub: Arc<Hub>,
    pub feed: Arc<Feed>,
    pub filter: Option<Arc<Filter>>,
    pub range: Span,
}

impl Wish {
    /// The latest records of the wanted keys in the range, or in a part of it from its beginning, if
    /// they are known or soon found. An empty part: a gap begins there.
    pub(super) fn pick_now(&self) -> Option<Arc<Pick>> {
        let cell = self.cell();
        if cell.get().is_none() {
            let winners = self.winners_cell();
            if winners.get().is_none() && self.range.len() <= INLINE {
                let found = of_chunks(&self.in_memory()?, self.range);
                // Somebody else may have been faster.
                if winners.set(Arc::new(found)).is_ok() {
                    self.count();
                }
            }
            let picked = self.pick_of(winners.get()?);
            drop(cell.set(picked));
        }
        cell.get().cloned()
    }

    /// The same, however long it takes.
    pub(super) async fn pick(self) -> Result<Arc<Pick>, FollowError> {
        let cell = self.cell();
        let picked = cell.get_or_try_init(|| async {
            let cell = self.winners_cell();
            let winners = cell.get_or_try_init(|| self.find()).await?;
            Ok::<_, FollowError>(self.pick_of(winners))
        });
        picked.await.cloned()
    }

    fn cell(&self) -> Arc<OnceCell<Arc<Pick>>> {
        let id = self.filter.as_ref().map_or(ALL, |filter| filter.id);
        let place = (self.range.from, self.range.to, id);
        cell(&self.feed.conflations.picks, place, MAX_PICKS)
    }

    fn winners_cell(&self) -> Arc<OnceCell<Arc<Winners>>> {
        let place = (self.range.from, self.range.to);
        cell(&self.feed.conflations.ranges, place, MAX_RANGES)
    }

    fn pick_of(&self, winners: &Winners) -> Arc<Pick> {
        forget_old(&self.feed.conflations.picks);
        Arc::new(winners.pick(self.filter.as_deref()))
    }

    fn count(&self) {
        self.feed.conflations.computed.fetch_add(1, Relaxed);
    }

    /// The chunks of the range, if all of it is in memory.
    fn in_memory(&self) -> Option<Vec<Arc<Hot>>> {
        let range = self.range;
        // What was trimmed may still be in memory.
        if range.from < self.feed.bounds().head {
            return None;
        }
        let is_last = |hot: &Hot| hot.span().to >= range.to;
        let hot = self.hub.window.run(self.feed.id(), range.from, is_last);
        hot.last().is_some_and(|last| is_last(last)).then_some(hot)
    }

    async fn find(&self) -> Result<Arc<Winners>, FollowError> {
        self.count();
        let (feed, hot, range) = (Arc::clone(&self.feed), self.in_memory(), self.range);
        let found = read_blocking(move || match hot {
            Some(hot) => Ok(of_chunks(&hot, range)),
            None => of_ring(&feed, range),
        });
        Ok(Arc::new(found.await?))
    }
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
