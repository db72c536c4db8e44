//! A stretch of CONFLATE: of each key and kind comes at most one record per tick.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::model::KeyKind;

/// Ticks that a stretch may have beyond its length: the one it began in, the one it ended in, and
/// one for an end, at which nobody waits.
const MORE_TICKS: u128 = 3;

/// What came since one place where it began anew.
#[derive(Debug)]
pub(super) struct Stretch {
    came: HashMap<KeyKind, u128>,
    /// After a gap it picks anew.
    pub gaps: u128,
    since: Instant,
}

impl Stretch {
    pub(super) fn new(since: Instant) -> Self {
        Self {
            came: HashMap::new(),
            gaps: 0,
            since,
        }
    }

    /// One more came.
    pub(super) fn count(
        &mut self,
        of: KeyKind,
        interval: Duration,
        now: Instant,
    ) -> Result<(), String> {
        let ticks = (now - self.since).as_nanos() / interval.as_nanos();
        let times = self.came.entry(of.clone()).or_default();
        *times += 1;
        if *times > ticks + MORE_TICKS + self.gaps {
            return Err(format!("{of:?} came {times} times in {ticks} ticks"));
        }
        Ok(())
    }
}
