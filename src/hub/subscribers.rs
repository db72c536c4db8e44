//! Who follows what, and how far behind: for the subscriber itself, operators and metrics.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Feed, Hub, rate::Rate};
use crate::model::{self, Offset, Principal, UnixNanos};

#[derive(Debug, Default)]
pub(super) struct Subscribers {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Position>>>,
}

/// One that is behind and took nothing for so long is called stalled.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// Where a subscription of one feed is. Written for each message: no lock, no clock.
#[derive(Debug)]
struct Position {
    name: String,
    principal: Principal,
    feed: Arc<Feed>,
    started: UnixNanos,
    cursor: AtomicU64,
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

/// A subscription as users see it. Lag is counted from what was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriberView {
    pub name: String,
    pub principal: Principal,
    pub feed: model::FeedName,
    pub cursor: Offset,
    pub lag_records: u64,
    pub lag: Duration,
    pub eviction_eta: Option<Duration>,
    pub started: UnixNanos,
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

    fn view_at(&self, now: Instant) -> SubscriberView {
        let bounds = self.feed.bounds();
        let cursor = self.cursor.load(Relaxed);
        let lag_records = bounds.tail.saturating_sub(cursor);
        let reached = self.reached.load(Relaxed).cast_signed();
        let behind = if lag_records > 0 && reached > 0 {
            model::now() - reached
        } else {
            0
        };
        let (read_rate, silent) =
            self.seen
                .lock()
                .look(self.settled.load(Relaxed), lag_records > 0, now);
        SubscriberView {
            name: self.name.clone(),
            principal: Arc::clone(&self.principal),
            feed: self.feed.name().clone(),
            cursor,
            lag_records,
            lag: Duration::from_nanos(u64::try_from(behind).unwrap_or(0)),
            eviction_eta: self.feed.eviction_eta(cursor, read_rate),
            started: self.started,
            stalled: silent >= STALLED_AFTER,
        }
    }
}

impl Seen {
    /// How fast it reads, and for how long it has taken nothing that was there.
    fn look(&mut self, settled: u64, is_behind: bool, now: Instant) -> (f64, Duration) {
        let new = settled - self.settled;
        self.settled = settled;
        self.rate.add(new, now);
        if new > 0 || !is_behind {
            self.live = now;
        }
        (self.rate.get(now), now.saturating_duration_since(self.live))
    }
}

impl Subscribers {
    /// Sets the figures of one feed's subscribers.
    pub(super) fn observe(&self, feed: &Feed) {
        let views: Vec<_> = self.of(Some(feed));
        let lag = views.iter().map(|view| view.lag_records).max().unwrap_or(0);
        let eta = views.iter().filter_map(|view| view.eviction_eta).min();
        let stalled = views.iter().filter(|view| view.stalled).count();
        feed.metrics.set_subscribers(views.len() as u64);
        feed.metrics.set_stalled(stalled as u64);
        feed.metrics.set_slowest(lag, eta);
    }

    fn of(&self, feed: Option<&Feed>) -> Vec<SubscriberView> {
        let open: Vec<_> = self.open.lock().values().cloned().collect();
        let of_feed = |p: &&Arc<Position>| feed.is_none_or(|feed| feed.id() == p.feed.id());
        open.iter()
            .filter(of_feed)
            .map(|position| position.view())
            .collect()
    }
}

impl Hub {
    /// Puts a subscription on the list.
    pub fn register_subscriber(
        self: &Arc<Self>,
        name: String,
        principal: Principal,
        feed: &Arc<Feed>,
        cursor: Offset,
    ) -> SubscriberGuard {
        let now = Instant::now();
        let position = Arc::new(Position {
            name,
            principal,
            feed: Arc::clone(feed),
            started: model::now(),
            cursor: AtomicU64::new(cursor),
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
        let mut views = self.subscribers.of(feed);
        views.sort_by(|a, b| (&a.feed, &a.name, a.started).cmp(&(&b.feed, &b.name, b.started)));
        views
    }
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

    pub fn view(&self) -> SubscriberView {
        self.position.view()
    }
}

impl Drop for SubscriberGuard {
    fn drop(&mut self) {
        self.hub.subscribers.open.lock().remove(&self.id);
    }
}
