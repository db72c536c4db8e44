//! Waits of microseconds: tokio's own timers know milliseconds.

use std::os::fd::OwnedFd;

use anyhow::Context as _;
use rustix::{
    io::{Errno, read},
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};
use tokio::io::unix::AsyncFd;

/// A timer of the kernel.
#[derive(Debug)]
pub(super) struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    /// Must be called within the runtime that waits for it.
    #[expect(
        deprecated,
        reason = "its successor is unsafe; an `OwnedFd` keeps the promise that one asks for"
    )]
    pub(super) fn new() -> anyhow::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags);
        let timer = timer.context("cannot create a timer")?;
        Ok(Self(AsyncFd::new(timer)?))
    }

    /// Waits for so many nanoseconds; not at all when they are over.
    pub(super) async fn wait(&self, nanos: i64) -> anyhow::Result<()> {
        if nanos <= 0 {
            return Ok(());
        }
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let once = Itimerspec {
            it_interval: zero,
            it_value: Timespec {
                tv_sec: nanos / 1_000_000_000,
                tv_nsec: nanos % 1_000_000_000,
            },
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            match read(self.0.get_ref(), &mut [0; 8]) {
                Err(Errno::AGAIN) => ready.clear_ready(),
                read => {
                    ready.clear_ready();
                    read?;
                    return Ok(());
                }
            }
        }
    }
}
