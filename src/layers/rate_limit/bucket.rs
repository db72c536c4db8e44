//! One rate: a token bucket that holds what a second brings. It may go into debt, so that a batch
//! of any size gets through, and what comes behind it waits the longer.
//!
//! Governor decides. Its cell is a nanosecond of the rate, which makes every rate exact; how many a
//! thing costs follows from the rate.

use std::{
    num::{NonZeroU32, NonZeroU64},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, Reference as _},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::StateStore,
};

use super::clock::{Moment, TokioClock};

const SECOND: NonZeroU32 = NonZeroU32::new(1_000_000_000).expect("it is not 0");

/// In 58 years, in nanoseconds: sums of a few such times do not overflow.
const NEVER: u64 = u64::MAX / 10;

#[derive(Debug)]
pub(super) struct Bucket {
    per_second: NonZeroU64,
    limiter: RateLimiter<Debt, Level, TokioClock, NoOpMiddleware<Moment>>,
    /// The limiter's own.
    level: Level,
    start: Moment,
}

/// Nanoseconds that something costs beyond what a bucket holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Debt(u64);

/// When the bucket is full again, in nanoseconds since its start.
#[derive(Clone, Debug, Default)]
struct Level(Arc<AtomicU64>);

impl Bucket {
    /// `None`: no limit.
    pub(super) fn new(per_second: u64) -> Option<Self> {
        let level = Level::default();
        let quota = Quota::with_period(Duration::from_nanos(1))?.allow_burst(SECOND);
        Some(Self {
            per_second: NonZeroU64::new(per_second)?,
            start: TokioClock.now(),
            limiter: RateLimiter::new(quota, level.clone(), TokioClock),
            level,
        })
    }

    pub(super) fn per_second(&self) -> u64 {
        self.per_second.get()
    }

    /// Takes `count` if the bucket has as many; if they are more than it can hold, when it is full.
    /// Else says how long it takes until then.
    pub(super) fn take(&self, count: u64) -> Result<(), Duration> {
        let cost = self.cost(count);
        let held = u32::try_from(cost).map_or(SECOND.get(), |cost| cost.min(SECOND.get()));
        let debt = Debt(cost - u64::from(held));
        let Some(held) = NonZeroU32::new(held) else {
            return Ok(());
        };
        match self.limiter.check_key_n(&debt, held) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(not_until.wait_time_from(TokioClock.now())),
            Err(_beyond_a_second) => Err(Duration::from_secs(1)),
        }
    }

    /// Undoes a `take` of the same.
    pub(super) fn give_back(&self, count: u64) {
        let cost = self.cost(count);
        self.level.update(|full_at| full_at.saturating_sub(cost));
    }

    /// Takes `count` in any case, and says how long the bucket is in debt.
    pub(super) fn owe(&self, count: u64) -> Duration {
        let (cost, now) = (self.cost(count), self.now());
        let owed = |full_at: u64| (full_at.max(now) + cost).min(NEVER);
        let full_at = owed(self.level.update(owed));
        let free = now + u64::from(SECOND.get());
        Duration::from_nanos(full_at.saturating_sub(free))
    }

    /// Whether it is as a new one.
    pub(super) fn is_full(&self) -> bool {
        self.level.0.load(Acquire) <= self.now()
    }

    fn now(&self) -> u64 {
        TokioClock.now().duration_since(self.start).as_u64()
    }

    /// In nanoseconds of the rate.
    fn cost(&self, count: u64) -> u64 {
        let cost = u128::from(count) * u128::from(SECOND.get()) / u128::from(self.per_second.get());
        u64::try_from(cost).map_or(NEVER, |cost| cost.min(NEVER))
    }
}

impl Level {
    /// Returns what it was.
    fn update(&self, next: impl Fn(u64) -> u64) -> u64 {
        let update = |full_at| Some(next(full_at));
        let (Ok(was) | Err(was)) = self.0.fetch_update(AcqRel, Acquire, update);
        was
    }
}

impl StateStore for Level {
    type Key = Debt;

    fn measure_and_replace<T, F, E>(&self, debt: &Debt, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut was = self.0.load(Acquire);
        loop {
            let known = (was > 0).then(|| Nanos::new(was));
            let (decision, full_at) = decide(known)?;
            let full_at = (full_at.as_u64() + debt.0).min(NEVER);
            match self.0.compare_exchange_weak(was, full_at, AcqRel, Acquire) {
                Ok(_) => return Ok(decision),
                Err(other) => was = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_it_tells_is_exact() {
        for per_second in [1, 3, 1_000, 7_777_777, 3_000_000_000] {
            let bucket = Bucket::new(per_second).unwrap();
            assert_eq!(bucket.take(per_second), Ok(()));
            let wait = bucket.take(per_second).unwrap_err();
            advance(wait - Duration::from_nanos(1)).await;
            assert_eq!(bucket.take(per_second), Err(Duration::from_nanos(1)));
            advance(Duration::from_nanos(1)).await;
            assert_eq!(bucket.take(per_second), Ok(()), "{per_second}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_beyond_a_second_gets_through_and_the_next_one_waits_for_it() {
        let bucket = Bucket::new(10).unwrap();
        assert_eq!(bucket.take(1), Ok(()));
        let wait = bucket.take(1_000).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100), "until it is full");
        advance(wait).await;
        assert_eq!(bucket.take(1_000), Ok(()));
        // 990 beyond what it held, and one for the next.
        assert_eq!(bucket.take(1), Err(Duration::from_millis(99_100)));
        assert_eq!(bucket.owe(0), Duration::from_secs(99));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_was_never_taken() {
        let bucket = Bucket::new(10).unwrap();
        assert_eq!(bucket.take(4), Ok(()));
        assert_eq!(bucket.take(6), Ok(()));
        bucket.give_back(6);
        assert_eq!(bucket.take(7), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(6), Ok(()));
        bucket.give_back(10);
        assert!(bucket.is_full());
    }

    #[tokio::test(start_paused = true)]
    async fn who_owes_is_told_until_when() {
        let bucket = Bucket::new(10).unwrap();
        assert_eq!(bucket.owe(10), Duration::ZERO);
        assert_eq!(bucket.owe(5), Duration::from_millis(500));
        assert_eq!(bucket.owe(5), Duration::from_secs(1));
        assert_eq!(bucket.take(1), Err(Duration::from_millis(1_100)));
        advance(Duration::from_secs(1)).await;
        assert_eq!(bucket.owe(0), Duration::ZERO);
        assert!(!bucket.is_full());
        advance(Duration::from_secs(1)).await;
        assert!(bucket.is_full());
    }

    #[tokio::test(start_paused = true)]
    async fn no_cost_overflows() {
        let bucket = Bucket::new(1).unwrap();
        assert_eq!(bucket.take(u64::MAX), Ok(()));
        for _ in 0..20 {
            assert!(bucket.owe(u64::MAX) > Duration::from_secs(1 << 30));
        }
        assert!(bucket.take(u64::MAX).is_err());
        assert!(Bucket::new(0).is_none());
    }
}
