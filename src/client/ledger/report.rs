//! What a lane holds, and what it was told it will not get.

use crate::model::{Cursor, GapReason, Offset, Span};

/// Gaps that are listed one by one; further ones are only summed up.
const KEPT_GAPS: usize = 1_000;

/// A gap as it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapEntry {
    pub epoch: u64,
    pub span: Span,
    pub count: Option<u64>,
    pub reason: GapReason,
    /// The oldest place that can be read.
    pub oldest: Option<Cursor>,
}

/// All gaps of one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    pub reason: GapReason,
    pub gaps: u64,
    /// Offsets in them; of EPOCH_CHANGED only those of the new epoch are known.
    pub offsets: u64,
}

/// What a selector holds of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Nothing is missing: no gaps, and everything before the asked offset is settled.
    pub whole: bool,
    /// Records that came, those of snapshots aside.
    pub delivered: u64,
    /// Offsets that were settled without a record: filtered, conflated, or gone into bars.
    pub left_out: u64,
    /// What did not come and why: the first 1,000.
    pub gaps: Vec<GapEntry>,
    /// Gaps beyond those.
    pub unlisted_gaps: u64,
    /// All gaps by reason, in the order in which the reasons came up.
    pub losses: Vec<Loss>,
    /// What is not settled yet before the asked offset.
    pub unsettled: Option<Span>,
}

/// The figures behind a report.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    delivered: u64,
    left_out: u64,
    gaps: Vec<GapEntry>,
    unlisted_gaps: u64,
    losses: Vec<Loss>,
}

impl Account {
    /// `settled` offsets, `delivered` of which were records that came.
    pub(super) fn settle(&mut self, settled: u64, delivered: u64) {
        self.delivered += delivered;
        self.left_out += settled.saturating_sub(delivered);
    }

    /// A gap, of which `offsets` were not held before.
    pub(super) fn miss(&mut self, gap: GapEntry, offsets: u64) {
        match self.losses.iter_mut().find(|l| l.reason == gap.reason) {
            Some(loss) => {
                loss.gaps += 1;
                loss.offsets += offsets;
            }
            None => self.losses.push(Loss {
                reason: gap.reason,
                gaps: 1,
                offsets,
            }),
        }
        if self.gaps.len() < KEPT_GAPS {
            self.gaps.push(gap);
        } else {
            self.unlisted_gaps += 1;
        }
    }

    /// The report of a lane that stands at `next`.
    pub(super) fn report(&self, next: Offset, until: Option<Offset>) -> Report {
        let unsettled = until
            .map(|until| Span::new(next, until))
            .filter(|span| !span.is_empty());
        Report {
            whole: unsettled.is_none() && self.losses.is_empty(),
            delivered: self.delivered,
            left_out: self.left_out,
            gaps: self.gaps.clone(),
            unlisted_gaps: self.unlisted_gaps,
            losses: self.losses.clone(),
            unsettled,
        }
    }
}
