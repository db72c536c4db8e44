//! What followers may see of a feed, and when those who wait are woken. Whoever is running sees a
//! new tail at once; waking costs 5 to 10 µs for each who waits, so a crowd is woken a little
//! later and less often, and takes more each time.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    sync::{
        Arc, LazyLock, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::model::{Bounds, Offset};

/// Wakes of followers per second that need no thought, and those that are too many.
const QUIET: f64 = 20_000.0;
const BUSY: f64 = 100_000.0;
/// How long a crowd waits in a busy time: this for each of it, within bounds.
const LINGER_EACH: Duration = Duration::from_micros(10);
const MIN_LINGER: Duration = Duration::from_micros(500);
const MAX_LINGER: Duration = Duration::from_millis(2);
/// Over how long the rate of commits is measured.
const RATE_OVER: Duration = Duration::from_millis(50);

/// What followers may see of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visible {
    pub bounds: Bounds,
    pub life: Life,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Open,
    Deleted,
}

#[derive(Debug)]
pub(super) struct Tail {
    visible: watch::Sender<Visible>,
    waiting: AtomicU32,
    pace: Mutex<Pace>,
    /// How often those who wait were woken.
    wakes: AtomicU64,
}

impl Tail {
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        let life = Life::Open;
        Arc::new(Self {
            visible: watch::Sender::new(Visible { bounds, life }),
            waiting: AtomicU32::new(0),
            pace: Mutex::new(Pace::default()),
            wakes: AtomicU64::new(0),
        })
    }

    pub(super) fn now(&self) -> Visible {
        *self.visible.borrow()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Visible> {
        self.visible.subscribe()
    }

    pub(super) fn followers(&self) -> usize {
        self.visible.receiver_count()
    }

    /// Waits until woken. Safe to cancel.
    pub(super) async fn changed(&self, visible: &mut watch::Receiver<Visible>) {
        let _waiting = Waiting::begin(&self.waiting);
        // The sender lives as long as the feed.
        drop(visible.changed().await);
    }

    /// Shows new bounds, and sees to it that those who wait are woken now or soon.
    pub(super) fn publish(self: &Arc<Self>, bounds: Bounds) {
        // Held all through: a wake that is due must not come between the decision to rely on it
        // and the bounds it is for.
        let mut pace = self.pace.lock();
        let before = self.now().bounds;
        if bounds == before {
            return;
        }
        let wake = if bounds.tail == before.tail {
            pace.wake_now(Instant::now());
            Wake::Now
        } else {
            pace.commit(Instant::now(), self.waiting.load(Relaxed))
        };
        if let Wake::At(time) = wake
            && let Err(error) = PACER.wake_at(time, self)
        {
            tracing::error!(%error, "followers are woken without delay");
            pace.wake_now(Instant::now());
            return self.show(bounds, Wake::Now);
        }
        self.show(bounds, wake);
    }

    /// Shows that what is before `oldest` has gone; wakes nobody.
    pub(super) fn raise(&self, oldest: Offset, bytes: u64) {
        let _held = self.pace.lock();
        self.visible.send_if_modified(|visible| {
            if visible.bounds.head < oldest {
                visible.bounds.head = oldest;
                visible.bounds.bytes = bytes;
            }
            false
        });
    }

    fn show(&self, bounds: Bounds, wake: Wake) {
        self.visible.send_if_modified(|visible| {
            visible.bounds = bounds;
            wake == Wake::Now
        });
        if wake == Wake::Now {
            self.wakes.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn mark_deleted(&self) {
        self.visible
            .send_modify(|visible| visible.life = Life::Deleted);
    }

    /// The wake that was put off.
    fn wake(&self, now: Instant) {
        let mut pace = self.pace.lock();
        pace.wake_now(now);
        pace.crowd = self.waiting.load(Relaxed);
        self.visible.send_modify(|_| {});
        self.wakes.fetch_add(1, Relaxed);
    }

    #[cfg(test)]
    pub(super) fn wakes(&self) -> u64 {
        self.wakes.load(Relaxed)
    }
}

/// Counts who waits.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a AtomicU32) -> Self {
        waiting.fetch_add(1, Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// When to wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Now,
    /// Has to be arranged for.
    At(Instant),
    /// Is arranged for already.
    Coming,
}

/// How busy a feed is, and when its followers were last woken.
#[derive(Debug, Default)]
struct Pace {
    commits_per_second: f64,
    last_commit: Option<Instant>,
    last_wake: Option<Instant>,
    /// How many waited when last woken.
    crowd: u32,
    /// A wake was put off and has not come yet.
    coming: bool,
}

impl Pace {
    fn commit(&mut self, now: Instant, waiting: u32) -> Wake {
        let over = RATE_OVER.as_secs_f64();
        let since = self.last_commit.map_or(f64::INFINITY, |last| {
            now.saturating_duration_since(last).as_secs_f64()
        });
        self.commits_per_second = self.commits_per_second * (-since / over).exp() + over.recip();
        self.last_commit = Some(now);
        if self.coming {
            return Wake::Coming;
        }
        let linger = linger(self.crowd.max(waiting), self.commits_per_second);
        let due = self.last_wake.map(|last| last + linger);
        if let Some(due) = due.filter(|due| *due > now) {
            self.coming = true;
            return Wake::At(due);
        }
        self.wake_now(now);
        self.crowd = waiting;
        Wake::Now
    }

    fn wake_now(&mut self, now: Instant) {
        self.last_wake = Some(now);
        self.coming = false;
    }
}

/// The least time between two wakes of so many followers at so many commits a second.
fn linger(crowd: u32, commits_per_second: f64) -> Duration {
    let load = f64::from(crowd) * commits_per_second;
    let share = ((load - QUIET) / (BUSY - QUIET)).clamp(0.0, 1.0);
    let longest = LINGER_EACH.saturating_mul(crowd);
    longest.clamp(MIN_LINGER, MAX_LINGER).mul_f64(share)
}

/// One thread of the process wakes whom to wake was put off. It is started when first needed.
static PACER: LazyLock<Pacer> = LazyLock::new(Pacer::start);

struct Pacer {
    queue: Arc<Queue>,
    started: io::Result<()>,
}

#[derive(Default)]
struct Queue {
    due: Mutex<BinaryHeap<Reverse<Due>>>,
    earlier: Condvar,
}

struct Due {
    at: Instant,
    tail: Weak<Tail>,
}

impl Pacer {
    fn start() -> Self {
        let queue = Arc::new(Queue::default());
        let thread = std::thread::Builder::new().name("pacer".into());
        let run = Arc::clone(&queue);
        let started = thread.spawn(move || run.run()).map(drop);
        Self { queue, started }
    }

    fn wake_at(&self, at: Instant, tail: &Arc<Tail>) -> Result<(), &io::Error> {
        self.started.as_ref()?;
        let tail = Arc::downgrade(tail);
        let mut due = self.queue.due.lock();
        let first = due.peek().is_none_or(|Reverse(next)| at < next.at);
        due.push(Reverse(Due { at, tail }));
        drop(due);
        if first {
            self.queue.earlier.notify_one();
        }
        Ok(())
    }
}

impl Queue {
    fn run(&self) {
        let mut due = self.due.lock();
        loop {
            let now = Instant::now();
            match due.peek() {
                None => self.earlier.wait(&mut due),
                Some(Reverse(next)) if next.at > now => {
                    let at = next.at;
                    self.earlier.wait_until(&mut due, at);
                }
                Some(_) => {
                    let next = due.pop();
                    parking_lot::MutexGuard::unlocked(&mut due, || {
                        if let Some(tail) = next.and_then(|Reverse(next)| next.tail.upgrade()) {
                            tail.wake(now);
                        }
                    });
                }
            }
        }
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits every `every` for a second with `waiting` followers: wakes, and how late the
    /// latest was.
    fn wakes(waiting: u32, every: Duration) -> (u32, Duration) {
        let mut pace = Pace::default();
        let start = Instant::now();
        let (mut now, mut wakes) = (start, 0);
        let mut due: Option<Instant> = None;
        let mut latest = Duration::ZERO;
        while now < start + Duration::from_secs(1) {
            if let Some(at) = due.take_if(|at| *at <= now) {
                pace.wake_now(at);
                pace.crowd = waiting;
                wakes += 1;
            }
            match pace.commit(now, waiting) {
                Wake::Now => wakes += 1,
                Wake::At(at) => {
                    latest = latest.max(at - now);
                    due = Some(at);
                }
                Wake::Coming => assert!(due.is_some()),
            }
            now += every;
        }
        (wakes, latest)
    }

    #[test]
    fn few_followers_are_woken_by_every_commit() {
        let (count, latest) = wakes(2, Duration::from_micros(200));
        assert_eq!((count, latest), (5_000, Duration::ZERO));
        let (count, latest) = wakes(1_000, Duration::from_millis(100));
        assert_eq!((count, latest), (10, Duration::ZERO));
    }

    #[test]
    fn a_crowd_is_woken_less_often_and_at_most_two_milliseconds_late() {
        let (count, latest) = wakes(100, Duration::from_micros(200));
        assert!((800..1_200).contains(&count), "{count}");
        assert!(latest <= Duration::from_millis(1), "{latest:?}");
        let (count, latest) = wakes(1_000, Duration::from_micros(200));
        assert!((450..600).contains(&count), "{count}");
        assert!(latest <= MAX_LINGER, "{latest:?}");
    }

    #[test]
    fn the_first_commit_after_a_pause_wakes_at_once() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        for _ in 0..1_000 {
            if pace.commit(now, 1_000) != Wake::Now {
                pace.wake_now(now);
            }
            now += Duration::from_micros(100);
        }
        now += Duration::from_millis(5);
        assert_eq!(pace.commit(now, 1_000), Wake::Now);
    }

    /// Each follower must come to the last tail, however its waits and the wakes interleave.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_is_lost() {
        const LAST: u64 = 20_000;
        let tail = Tail::new(Bounds::default());
        let followers: Vec<_> = (0..100)
            .map(|_| {
                let tail = Arc::clone(&tail);
                tokio::spawn(async move {
                    let mut visible = tail.watch();
                    while visible.borrow_and_update().bounds.tail < LAST {
                        tail.changed(&mut visible).await;
                    }
                })
            })
            .collect();
        let publisher = Arc::clone(&tail);
        let published = std::thread::spawn(move || {
            for tail in 1..=LAST {
                let bounds = Bounds {
                    tail,
                    ..Bounds::default()
                };
                publisher.publish(bounds);
            }
        });
        for follower in followers {
            follower.await.unwrap();
        }
        published.join().unwrap();
        assert!(tail.wakes() < LAST, "{} wakes", tail.wakes());
    }
}
