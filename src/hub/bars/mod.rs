//! Bars of a feed: open, high, low, close of prices, and least, greatest, mean and last of
//! readings, per interval. A pure computation over records as they are stored; the caller brings
//! records and the clock, and reads the ring where it is asked to.
//!
//! A *series* is a key, a source and, of vectors, a channel: prices of trades, of shorter bars, of
//! the bid, the ask and the middle of quotes, and values of readings. A bar of a series starts at
//! a multiple of the interval since the Unix epoch, before 1970 as well. A record belongs to the
//! bar its event time lies in; a shorter bar to the one its own start lies in, all of it, however
//! long it is.
//!
//! **Figures.** Open is the price with the least (event time, offset), close and last that with the
//! greatest. Of equal highs and lows the one with more digits behind the point stays; every price
//! keeps its scale. The middle of a quote has one digit more where it must, and is left out where
//! no decimal holds it. A volume is the sum of the sizes there are, absent when it has more digits
//! than a decimal; the average is there when every input has a size (or volume) and price (or
//! average). A count is the number of quotes with that side, or of trades; of shorter bars it is
//! the sum of their counts where all have one, else their number. Readings of quality BAD are
//! counted apart, whatever value they have, one without a value in the series without a channel;
//! texts are not counted. A number that is not finite is no value.
//!
//! **Trades.** CORRECT replaces price and size of the last NEW trade of the key with this id, which
//! keeps its time and bar; CANCEL takes it back for good. A second NEW with an id is another
//! trade, and has the id from then on. What is about an unknown trade, or one whose bar is not in
//! the table any more, is ignored.
//!
//! **Complete.** A bar is complete when a record of its series with a later start was seen, or when
//! the ingest clock (the greatest ingest time seen, or the caller's) reaches a second beyond its
//! end and the ingest time of its newest record. What comes for it then is *late*: it makes a
//! revision. Both are functions of the records alone, so the same bar comes out wherever a table
//! began; a record that is the first of a bar before the newest one is late, too.
//!
//! **What a table knows** is said by its [`History`]. A record for a bar that it cannot know is not
//! counted; the caller reads the ring once for all of these ([`BarTable::take_missing`]).
//!
//! **Bytes.** Keys, bars and the trades that can be corrected count. Beyond the limit, bars that are
//! complete and were sent go, those first that have not changed for longest.

mod bar;
mod exact;
mod intake;
mod keys;
mod prices;
mod readings;
#[cfg(test)]
pub(super) mod reference;
mod refill;
mod serve;
mod table;
#[cfg(test)]
mod tests;
mod trades;

use std::time::Duration;

pub use self::table::BarTable;
use crate::model::{Offset, UnixNanos};

/// How long a bar stays open beyond its end for records that are under way.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// How far somebody has seen a table's changes: all before an offset, and those of the clock.
/// Valid with one table only, unless it is `before` an offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seen {
    next: Offset,
    version: u64,
}

impl Seen {
    /// All that records before `cursor` changed, and nothing else.
    pub fn before(cursor: Offset) -> Self {
        Self {
            next: cursor,
            version: 0,
        }
    }

    /// The first offset not seen.
    pub fn next(self) -> Offset {
        self.next
    }
}

/// What a table is going to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// The first offset it sees.
    pub first: Offset,
    /// All records of bars from this start on come at or after `first`.
    pub whole_from: UnixNanos,
    /// Bars from before this start may have lost records to eviction.
    pub partial_before: UnixNanos,
}

impl Default for History {
    /// Of a feed from its very first record on.
    fn default() -> Self {
        Self {
            first: 0,
            whole_from: UnixNanos::MIN,
            partial_before: UnixNanos::MIN,
        }
    }
}

/// What may not be dropped is more than the table may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bars in progress take {bytes} bytes, the limit is {max_bytes}")]
pub struct TooLarge {
    pub bytes: usize,
    pub max_bytes: usize,
}
