//! When an uploader may send how much: as fast as it is taken, as fast as subscribers follow, or
//! by the clock.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use super::{alarm::Alarm, crowd::Progress, load::Clock};
use crate::model::now;

/// Where a closed loop ends, whichever comes first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until {
    pub records: u64,
    pub time: Option<Instant>,
}

impl Until {
    fn left(self, sent: u64) -> u64 {
        if self.time.is_some_and(|end| Instant::now() >= end) {
            return 0;
        }
        self.records.saturating_sub(sent)
    }
}

#[derive(Debug)]
pub(super) enum Pace {
    /// Closed loop: what the server takes.
    Full(Until),
    /// Closed loop: no more than `window` records ahead of the slowest subscriber.
    Followed {
        until: Until,
        window: u64,
        progress: Arc<Progress>,
    },
    /// Open loop.
    Scheduled(Box<Schedule>),
}

/// Each record when it is due, however things go.
#[derive(Debug)]
pub(super) struct Schedule {
    pub clock: Clock,
    pub records: u64,
    /// How often it looks what is due.
    pub tick: Duration,
    pub alarm: Alarm,
    /// Nanoseconds that the first of each turn was sent after its time.
    pub late: Histogram<u64>,
}

impl Schedule {
    async fn next(&mut self, sent: u64) -> anyhow::Result<u64> {
        let left = self.records.saturating_sub(sent);
        let tick = i64::try_from(self.tick.as_nanos())
            .unwrap_or(i64::MAX)
            .max(1);
        let Clock { start, .. } = self.clock;
        let time = self.clock.time(sent);
        if left == 0 {
            return Ok(0);
        }
        loop {
            let now = now();
            let due = self.clock.due(now).saturating_sub(sent).min(left);
            if due > 0 && now >= start {
                let late = u64::try_from(now - time).unwrap_or(0);
                self.late.saturating_record(late);
                return Ok(due);
            }
            // Whole ticks from the start on, so that waking late does not add up.
            let ticks = time.saturating_sub(start).saturating_add(tick - 1) / tick;
            let wake = start.saturating_add(ticks.saturating_mul(tick));
            self.alarm.wait(wake.saturating_sub(now)).await?;
        }
    }
}

/// Enough to fill a chunk, few enough to look at the clock often.
const TURN: u64 = 4_096;

fn turn(batch: u64) -> u64 {
    (TURN / batch.max(1)).max(1) * batch.max(1)
}

impl Pace {
    /// How many records may be sent now, waiting until there are any; 0 at the end.
    pub(super) async fn next(&mut self, sent: u64, batch: u64) -> anyhow::Result<u64> {
        match self {
            Self::Full(until) => Ok(until.left(sent).min(turn(batch))),
            Self::Followed {
                until,
                window,
                progress,
            } => {
                let least = batch.min(*window);
                loop {
                    let left = until.left(sent);
                    let ahead = sent.saturating_sub(progress.slowest());
                    let room = window.saturating_sub(ahead);
                    if left == 0 || room >= least.min(left) {
                        return Ok(left.min(room).min(turn(batch)));
                    }
                    progress.moved().await;
                }
            }
            Self::Scheduled(schedule) => schedule.next(sent).await,
        }
    }
}
