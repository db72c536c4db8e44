//! How much of a feed a follower gets, and what becomes of one that is too slow.

use std::time::Duration;

use crate::model::{Offset, UnixNanos};

/// How much of its feed a follower gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fidelity {
    /// Every record.
    #[default]
    Full,
    /// The latest record of each key and kind, at most once per interval.
    Conflate(Duration),
    /// Open, high, low, close per interval.
    Bars(BarsFidelity),
}

/// Which bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BarsFidelity {
    /// Length of a bar.
    pub interval: Duration,
    pub open_bars: OpenBars,
}

/// What becomes of bars in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenBars {
    /// Only complete bars are sent.
    LeftOut,
    /// Bars in progress are sent now and then.
    Sent,
}

impl Fidelity {
    /// As users read it in lists.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Conflate(_) => "conflate",
            Self::Bars(_) => "bars",
        }
    }
}

/// What becomes of a follower that is too far behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlowPolicy {
    /// Records it may be behind; `None`: any number.
    pub max_lag_records: Option<u64>,
    /// Time it may be behind; `None`: any.
    pub max_lag: Option<Duration>,
    pub action: SlowAction,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowAction {
    /// It reads on.
    #[default]
    CatchUp,
    /// It is conflated until it keeps up.
    Conflate,
    /// It goes on at the tail, after a gap.
    JumpToTail,
    /// It ends.
    Disconnect,
}

/// What a resumed follower brings along beside its cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Bars that begin at or after this time may be in progress; of BARS only.
    pub bars_since: Option<UnixNanos>,
    /// It had caught up once, so its slow policy counts.
    pub is_live: bool,
    /// It gets the last so many records of each key of those before an offset, and every record
    /// from there on: `Start::LastPerKey`, and the tail when that was asked for.
    pub last_per_key: Option<(u32, Offset)>,
    /// Its cursor was found to be of another life of the feed, and that was not told yet. So it
    /// stays, even if the feed has grown to there since.
    pub is_elsewhere: bool,
}
