//! Who follows what, and how far behind: for the subscriber itself, operators and metrics.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{CursorKey, Feed, Fidelity, Hub, NamedCursor, rate::Rate};
use crate::model::{self, FeedId, Offset, Principal, UnixNanos};

#[derive(Debug, Default)]
pub(super) struct Subscribers {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Position>>>,
}

/// One that is behind and took nothing for so long is called stalled.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// No offset of a record.
const NEVER: u64 = u64::MAX;

/// Where a subscription of one feed is. Written for each message: no lock, no clock.
#[derive(Debug)]
struct Position {
    key: CursorKey,
    feed: Arc<Feed>,
    started: UnixNanos,
    begun: Begun,
    fidelity: AtomicU8,
    cursor: AtomicU64,
    /// What it acknowledged without a name; `NEVER` before that.
    acknowledged: AtomicU64,
    /// Ingest time of the last record sent, in nanoseconds; 0 before the first.
    reached: AtomicU64,
    /// Offsets settled so far.
    settled: AtomicU64,
    seen: Mutex<Seen>,
}

/// What was found when somebody last looked.
#[derive(Debug)]
struct Seen {
    rate: Rate,
    settled: u64,
    /// When it last had moved, or was not behind.
    live: Instant,
}

/// Where a subscription began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// At its named cursor: its lag is counted from there.
    AtNamedCursor,
    Elsewhere,
}

/// A subscription to be put on the list.
#[derive(Clone, Debug)]
pub struct Registration {
    /// An empty name is none.
    pub key: CursorKey,
    pub begun: Begun,
    pub cursor: Offset,
    pub fidelity: Fidelity,
}

/// A subscription as users see it. Lag is counted from what was sent, or from what was
/// acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriberView {
    pub name: Arc<str>,
    pub principal: Principal,
    pub feed: model::FeedName,
    pub fidelity: &'static str,
    pub cursor: Offset,
    /// The cursor is what it acknowledged.
    pub acknowledged: bool,
    pub lag_records: u64,
    pub lag: Duration,
    pub eviction_eta: Option<Duration>,
    /// `None`: it is away, and this is its named cursor.
    pub started: Option<UnixNanos>,
    /// It is behind and has taken nothing for a while.
    pub stalled: bool,
}

/// Keeps a subscription on the list until it is dropped.
#[derive(Debug)]
pub struct SubscriberGuard {
    id: u64,
    hub: Arc<Hub>,
    position: Arc<Position>,
}

impl Position {
    fn view(&self) -> SubscriberView {
        self.view_at(Instant::now())
    }

    /// What it acknowledged, if it does that.
    fn acknowledged(&self) -> Option<Offset> {
        let unnamed = self.acknowledged.load(Relaxed);
        if self.key.subscriber.is_empty() {
            return Some(unnamed).filter(|offset| *offset != NEVER);
        }
        let named = self.feed.cursors.find(&self.key)?;
        let counts = self.begun == Begun::AtNamedCursor || named.time >= self.started;
        counts.then_some(named.cursor.offset)
    }

    fn view_at(&self, now: Instant) -> SubscriberView {
        let next = self.feed.bounds().tail;
        let acknowledged = self.acknowledged();
        let cursor = acknowledged.unwrap_or_else(|| self.cursor.load(Relaxed));
        let lag_records = next.saturating_sub(cursor);
        let reached = match acknowledged {
            Some(offset) => self.feed.came_in(offset),
            None => Some(self.reached.load(Relaxed).cast_signed()).filter(|time| *time > 0),
        };
        let settled = acknowledged.unwrap_or_else(|| self.settled.load(Relaxed));
        let (read_rate, silent) = self.seen.lock().look(settled, lag_records > 0, now);
        SubscriberView {
            name: Arc::clone(&self.key.subscriber),
            principal: Arc::clone(&self.key.principal),
            feed: self.feed.name().clone(),
            fidelity: label(self.fidelity.load(Relaxed)),
            cursor,
            acknowledged: acknowledged.is_some(),
            lag_records,
            lag: lag(lag_records, reached),
            eviction_eta: self.feed.eviction_eta(cursor, read_rate),
            started: Some(self.started),
            stalled: silent >= STALLED_AFTER,
        }
    }
}

/// Who is `lag_records` behind a record that came in at `reached`.
fn lag(lag_records: u64, reached: Option<UnixNanos>) -> Duration {
    let since = |reached| model::now().saturating_sub(reached);
    let behind = reached.filter(|_| lag_records > 0).map_or(0, since);
    Duration::from_nanos(u64::try_from(behind).unwrap_or(0))
}

fn code(fidelity: Fidelity) -> u8 {
    match fidelity {
        Fidelity::Full => 0,
        Fidelity::Conflate(_) => 1,
        Fidelity::Bars(_) => 2,
    }
}

/// What `Fidelity::label` says.
fn label(code: u8) -> &'static str {
    ["full", "conflate", "bars"]
        .get(usize::from(code))
        .unwrap_or(&"full")
}

/// A subscriber that is away. When it acknowledged is how old what it acknowledged is at the least.
fn away(feed: &Feed, key: &CursorKey, named: &NamedCursor) -> SubscriberView {
    let cursor = named.cursor.offset;
    let lag_records = feed.bounds().tail.saturating_sub(cursor);
    let reached = feed.came_in(cursor).unwrap_or(named.time);
    SubscriberView {
        name: Arc::clone(&key.subscriber),
        principal: Arc::clone(&key.principal),
        feed: feed.name().clone(),
        fidelity: "",
        cursor,
        acknowledged: true,
        lag_records,
        lag: lag(lag_records, Some(reached)),
        eviction_eta: feed.eviction_eta(cursor, 0.0),
        started: None,
        stalled: false,
    }
}

impl Seen {
    /// How fast it reads, and for how long it has taken nothing that was there.
    fn look(&mut self, settled: u64, is_behind: bool, now: Instant) -> (f64, Duration) {
        // It may have begun to acknowledge, which counts anew.
        let new = settled.saturating_sub(self.settled);
        self.settled = settled;
        self.rate.add(new, now);
        if new > 0 || !is_behind {
            self.live = now;
        }
        (self.rate.get(now), now.saturating_duration_since(self.live))
    }
}

impl Subscribers {
    /// Sets the figures of each feed's subscribers.
    pub(super) fn observe(&self, feeds: &[Arc<Feed>]) {
        let mut by_feed: HashMap<FeedId, Vec<SubscriberView>> = HashMap::new();
        for position in self.positions(None) {
            let views = by_feed.entry(position.feed.id()).or_default();
            views.push(position.view());
        }
        for feed in feeds {
            let views = by_feed.remove(&feed.id()).unwrap_or_default();
            let stalled = views.iter().filter(|view| view.stalled).count();
            feed.metrics.set_subscribers(views.len() as u64);
            feed.metrics.set_stalled(stalled as u64);
            feed.metrics.set_slowest(
                views.iter().map(|v| v.lag_records).max().unwrap_or(0),
                views.iter().map(|v| v.lag).max().unwrap_or_default(),
                views.iter().filter_map(|v| v.eviction_eta).min(),
            );
        }
    }

    fn positions(&self, feed: Option<&Feed>) -> Vec<Arc<Position>> {
        let of_feed = |p: &&Arc<Position>| feed.is_none_or(|feed| feed.id() == p.feed.id());
        let open = self.open.lock();
        open.values().filter(of_feed).map(Arc::clone).collect()
    }

    fn of(&self, feed: Option<&Feed>) -> Vec<SubscriberView> {
        let open = self.positions(feed);
        open.iter().map(|position| position.view()).collect()
    }

    /// The named cursors of those who are not there.
    fn away(&self, feed: &Feed) -> Vec<SubscriberView> {
        let there = self.positions(Some(feed));
        let there: HashSet<&CursorKey> = there.iter().map(|position| &position.key).collect();
        let named = feed.cursors.all();
        let absent = named.iter().filter(|(key, _)| !there.contains(key));
        absent.map(|(key, named)| away(feed, key, named)).collect()
    }
}

impl Hub {
    /// Puts a subscription on the list.
    pub fn register_subscriber(
        self: &Arc<Self>,
        feed: &Arc<Feed>,
        registration: Registration,
    ) -> SubscriberGuard {
        let now = Instant::now();
        let position = Arc::new(Position {
            key: registration.key,
            feed: Arc::clone(feed),
            started: model::now(),
            begun: registration.begun,
            fidelity: AtomicU8::new(code(registration.fidelity)),
            cursor: AtomicU64::new(registration.cursor),
            acknowledged: AtomicU64::new(NEVER),
            reached: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            seen: Mutex::new(Seen {
                rate: Rate::new(now),
                settled: 0,
                live: now,
            }),
        });
        let id = self.subscribers.next.fetch_add(1, Relaxed);
        self.subscribers
            .open
            .lock()
            .insert(id, Arc::clone(&position));
        SubscriberGuard {
            id,
            hub: Arc::clone(self),
            position,
        }
    }

    /// Open subscriptions of a feed, or of all, in a stable order.
    pub fn subscribers(&self, feed: Option<&Feed>) -> Vec<SubscriberView> {
        sorted(self.subscribers.of(feed))
    }

    /// Open subscriptions, and the named cursors of subscribers that are away.
    pub fn all_subscribers(&self, feed: Option<&Feed>) -> Vec<SubscriberView> {
        let mut views = self.subscribers.of(feed);
        match feed {
            Some(feed) => views.extend(self.subscribers.away(feed)),
            None => {
                let feeds: Vec<_> = self.feeds.read().values().cloned().collect();
                views.extend(feeds.iter().flat_map(|feed| self.subscribers.away(feed)));
            }
        }
        sorted(views)
    }
}

fn sorted(mut views: Vec<SubscriberView>) -> Vec<SubscriberView> {
    views.sort_by(|a, b| {
        let a = (&a.feed, &a.name, &a.principal, a.started);
        a.cmp(&(&b.feed, &b.name, &b.principal, b.started))
    });
    views
}

impl SubscriberGuard {
    /// Notes what was sent: the new cursor, how many offsets that settled, and when the last
    /// record came in.
    pub fn sent(&self, cursor: Offset, settled: u64, last_ingest: Option<UnixNanos>) {
        self.position.cursor.store(cursor, Relaxed);
        if let Some(time) = last_ingest {
            self.position.reached.store(time.cast_unsigned(), Relaxed);
        }
        self.position.settled.fetch_add(settled, Relaxed);
    }

    /// Notes what a subscriber without a name has processed; it only moves forward.
    pub fn acknowledged(&self, offset: Offset) {
        let acknowledged = &self.position.acknowledged;
        let before = acknowledged.load(Relaxed);
        // Only its own stream writes it.
        if before == NEVER || before < offset {
            acknowledged.store(offset, Relaxed);
        }
    }

    pub fn set_fidelity(&self, fidelity: Fidelity) {
        self.position.fidelity.store(code(fidelity), Relaxed);
    }

    pub fn view(&self) -> SubscriberView {
        self.position.view()
    }
}

impl Drop for SubscriberGuard {
    fn drop(&mut self) {
        self.hub.subscribers.open.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_nothing_that_is_there_is_stalled_after_a_while() {
        let start = Instant::now();
        let mut seen = Seen {
            rate: Rate::new(start),
            settled: 0,
            live: start,
        };
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut silent = |settled, is_behind, now| seen.look(settled, is_behind, now).1;
        assert_eq!(silent(5, true, at(1)), Duration::ZERO);
        assert_eq!(silent(5, true, at(12)), Duration::from_secs(11));
        assert_eq!(silent(6, true, at(13)), Duration::ZERO, "it took one");
        assert_eq!(silent(6, false, at(40)), Duration::ZERO, "all is taken");
        assert_eq!(silent(6, true, at(49)), Duration::from_secs(9));
        assert!(silent(6, true, at(50)) >= STALLED_AFTER);
    }
}
