//! When an uploader may send how much: as fast as it is taken, as fast as subscribers follow, or
//! by the clock.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

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
    /// Open loop: each record when it is due, however things go; looks at the clock every `tick`.
    Scheduled {
        clock: Clock,
        records: u64,
        tick: Duration,
        alarm: Alarm,
    },
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
            Self::Scheduled {
                clock,
                records,
                tick,
                alarm,
            } => {
                if sent >= *records {
                    return Ok(0);
                }
                let tick = i64::try_from(tick.as_nanos()).unwrap_or(i64::MAX);
                loop {
                    let now = now();
                    let due = clock.due(now).min(*records).saturating_sub(sent);
                    if due > 0 && now >= clock.start {
                        return Ok(due);
                    }
                    // Whole ticks from the start on, so that waking late does not add up.
                    let after = clock.time(sent).saturating_sub(clock.start);
                    let ticks = after.saturating_add(tick - 1) / tick.max(1);
                    let wake = clock.start.saturating_add(ticks.saturating_mul(tick));
                    alarm.wait(wake.saturating_sub(now)).await?;
                }
            }
        }
    }
}
