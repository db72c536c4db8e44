//! The clock of an open loop: wakes on a fixed grid, whatever the systems do, and says how many
//! records are due. A timerfd, since the runtime's own timers tick in milliseconds.

use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// No more wakes than this a second: records due between two go out together.
const SHORTEST: Duration = Duration::from_micros(100);

#[derive(Debug)]
pub struct Pace {
    timer: AsyncFd<std::os::fd::OwnedFd>,
    start: Instant,
    interval: u64,
}

impl Pace {
    /// Records are due from `start` on, each `interval` nanoseconds after the last.
    #[expect(
        deprecated,
        reason = "the new way is unsafe code; this owned descriptor is closed here"
    )]
    pub fn new(start: Instant, interval: u64) -> Result<Self> {
        let tick = Duration::from_nanos(interval).max(SHORTEST);
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(tick.subsec_nanos()),
        };
        let first = start.saturating_duration_since(Instant::now());
        let first = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(first.subsec_nanos()).max(1),
        };
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let spec = Itimerspec {
            it_interval: tick,
            it_value: first,
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
        Ok(Self {
            timer: AsyncFd::new(timer)?,
            start,
            interval,
        })
    }

    /// Nanoseconds between two records.
    pub fn interval(&self) -> u64 {
        self.interval
    }

    /// How many records were due so far: number n at n intervals after the start.
    pub fn due(&self) -> u64 {
        let since = Instant::now().checked_duration_since(self.start);
        since.map_or(0, |since| since.as_nanos() as u64 / self.interval + 1)
    }

    /// Waits for the next tick.
    pub async fn tick(&self) -> Result<()> {
        let mut ready = self.timer.readable().await?;
        let mut expirations = [0; 8];
        // Only reading makes the timer unready until its next tick.
        match rustix::io::read(&self.timer, &mut expirations) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
