//! The slow policy of a follower: when it is too far behind, and when it keeps up again.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    hub::{Fidelity, SlowAction, SlowPolicy},
    model::{self, Offset, UnixNanos},
};

/// What one that is too slow gets instead of every record.
pub(super) const RELIEF: Fidelity = Fidelity::Conflate(Duration::from_millis(250));
/// So long it has to keep well within its limits before it gets every record again.
const CALM: Duration = Duration::from_secs(2);
/// Within its limits by this factor.
const EASY: u64 = 2;

#[derive(Debug)]
pub(super) struct Slow {
    policy: SlowPolicy,
    /// It caught up once: what lies behind is its slowness, not the history it asked for.
    live: bool,
    /// When the last record it got came in.
    reached: Option<UnixNanos>,
    /// Since when it keeps well within its limits.
    calm_since: Option<Instant>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    Conflate,
    Full,
    Jump,
    Disconnect,
}

impl Slow {
    pub(super) fn new(policy: SlowPolicy, live: bool) -> Self {
        Self {
            policy,
            live,
            reached: None,
            calm_since: None,
        }
    }

    pub(super) fn is_off(&self) -> bool {
        self.policy.action == SlowAction::CatchUp
    }

    /// One message must not make it too slow.
    pub(super) fn records(&self) -> Offset {
        let records = self.policy.max_lag_records;
        records.filter(|_| !self.is_off()).unwrap_or(Offset::MAX)
    }

    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    pub(super) fn caught_up(&mut self) {
        self.live = true;
        self.reached = None;
    }

    pub(super) fn reached(&mut self, ingest_time: Option<UnixNanos>) {
        self.reached = ingest_time.or(self.reached);
    }

    /// When one that was relieved and waits will have kept up for long enough.
    pub(super) fn calm_at(&self) -> Option<Instant> {
        self.calm_since.map(|since| since + CALM)
    }

    /// `behind` records lie between it and the tail. `relieved`: it is conflated because it was too
    /// slow. `is_between`: it has taken all of what was picked for it, so that what it is behind
    /// says how fast it is.
    pub(super) fn judge(&mut self, behind: Offset, relieved: bool, is_between: bool) -> Verdict {
        if relieved {
            return self.judge_relieved(behind, is_between);
        }
        if !self.live || !self.is_beyond(behind, 1) {
            return Verdict::Fine;
        }
        match self.policy.action {
            SlowAction::CatchUp => Verdict::Fine,
            SlowAction::Conflate => Verdict::Conflate,
            SlowAction::JumpToTail => Verdict::Jump,
            SlowAction::Disconnect => {
                // Whoever comes back is let to catch up first.
                self.live = false;
                Verdict::Disconnect
            }
        }
    }

    fn judge_relieved(&mut self, behind: Offset, is_between: bool) -> Verdict {
        if !is_between {
            return Verdict::Fine;
        }
        if self.is_beyond(behind, EASY) {
            self.calm_since = None;
            return Verdict::Fine;
        }
        let since = *self.calm_since.get_or_insert_with(Instant::now);
        if since.elapsed() < CALM {
            return Verdict::Fine;
        }
        self.calm_since = None;
        Verdict::Full
    }

    /// Whether it is behind by more than one part in `share` of what it may be.
    fn is_beyond(&self, behind: Offset, share: u64) -> bool {
        let records = self.policy.max_lag_records;
        let by_records = records.is_some_and(|max| behind > max / share);
        let time = self.policy.max_lag.map(|max| max.as_nanos());
        let late = self.reached.map_or(0, |at| model::now().saturating_sub(at));
        let late = u128::from(late.max(0).unsigned_abs());
        let by_time = time.is_some_and(|max| behind > 0 && late > max / u128::from(share));
        by_records || by_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_behind_for_too_long_is_too_slow() {
        let policy = SlowPolicy {
            max_lag_records: None,
            max_lag: Some(Duration::from_secs(10)),
            action: SlowAction::Conflate,
        };
        let mut slow = Slow::new(policy, true);
        let ago = |seconds: i64| Some(model::now() - seconds * 1_000_000_000);
        assert_eq!(
            slow.judge(5, false, true),
            Verdict::Fine,
            "nothing came yet"
        );
        slow.reached(ago(8));
        assert_eq!(slow.judge(5, false, true), Verdict::Fine);
        slow.reached(ago(11));
        assert_eq!(
            slow.judge(0, false, true),
            Verdict::Fine,
            "it has all there is"
        );
        assert_eq!(slow.judge(1, false, true), Verdict::Conflate);
        // Half of it is easy; that has to last.
        slow.reached(ago(6));
        assert_eq!(slow.judge(1, true, true), Verdict::Fine);
        assert_eq!(slow.calm_at(), None);
        slow.reached(ago(4));
        assert_eq!(slow.judge(1, true, true), Verdict::Fine);
        assert!(slow.calm_at().is_some());
        assert_eq!(slow.judge(1, true, false), Verdict::Fine, "it is in a pick");
    }
}
