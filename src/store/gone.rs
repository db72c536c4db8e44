//! What of a ring will not come any more, and why. Pure values, shared by the engines.

use serde::{Deserialize, Serialize};

use crate::model::{Gap, GapReason, Offset, Span};

/// Losses are remembered, for the count of gaps, as long as there are not more of them than this.
const MAX_LOST: usize = 256;

/// Offsets an `Immediate` ring reserves at a time.
pub(super) const RESERVE_AHEAD: u64 = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gone {
    /// Everything below was trimmed.
    pub trimmed: Offset,
    /// Everything below aged out.
    pub expired: Offset,
    /// Offsets handed out that an unclean stop took, in order.
    lost: Vec<(Offset, Offset)>,
}

impl Gone {
    /// The head is at least here, whatever blocks there are.
    pub(super) fn head(&self) -> Offset {
        self.trimmed.max(self.expired)
    }

    /// The tail is at least here, whatever blocks there are.
    pub(super) fn tail(&self) -> Offset {
        let lost = self.lost.last().map_or(0, |lost| lost.1);
        lost.max(self.head())
    }

    pub(super) fn lose(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        self.lost.push((span.from, span.to));
        if self.lost.len() > MAX_LOST {
            self.lost.remove(0);
        }
    }

    /// The gap that `from`, below `head`, looks at. What a trim covered counts as trimmed, however
    /// much of it had been evicted before.
    pub(super) fn below(&self, from: Offset, head: Offset) -> Gap {
        if from >= self.trimmed
            && let Some(mut lost) = self.lost_at(from)
        {
            lost.span.to = lost.span.to.min(head);
            return lost;
        }
        let (to, reason) = if from < self.trimmed {
            (self.trimmed.min(head), GapReason::Trimmed)
        } else {
            (head, GapReason::Evicted)
        };
        let span = Span::new(from, to);
        let lost: u64 = self.lost_in(span).map(Span::len).sum();
        Gap {
            span,
            count: Some(span.len() - lost),
            reason,
        }
    }

    /// The gap at `from` when it was lost.
    pub(super) fn lost_at(&self, from: Offset) -> Option<Gap> {
        let rest = Span::new(from, from + 1);
        let at = self.lost_in(rest).next()?;
        let (_, to) = self.lost.iter().find(|(_, to)| at.to <= *to)?;
        Some(Gap {
            span: Span::new(from, *to),
            count: None,
            reason: GapReason::Lost,
        })
    }

    pub(super) fn lost_ends_at(&self, offset: Offset) -> bool {
        self.lost.iter().any(|(_, to)| *to == offset)
    }

    /// The gap a bad block leaves, up to the next readable offset or the next loss.
    pub(super) fn corrupt(&self, span: Span) -> Gap {
        let lost = self.lost_in(span).next();
        let to = lost.map_or(span.to, |lost| lost.from);
        let span = Span::new(span.from, to);
        Gap {
            span,
            count: Some(span.len()),
            reason: GapReason::Corrupt,
        }
    }

    fn lost_in(&self, span: Span) -> impl Iterator<Item = Span> + '_ {
        self.lost
            .iter()
            .map(move |(from, to)| Span::new(span.from.max(*from), span.to.min(*to)))
            .filter(|lost| !lost.is_empty())
    }
}
