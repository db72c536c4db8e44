//! What views and slow policies in front of a reader ask of it, and tell it.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Passed, Reader};
use crate::{
    hub::{
        FollowError, Hub, Visible,
        follow::Step,
        read::{Found, Reading},
        views::{ALL, Filter, FilterId, Pick},
    },
    model::{Gap, GapReason, Offset, Span},
    store::Read,
};

impl Reader {
    pub(in crate::hub::follow) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub(in crate::hub::follow) fn filter(&self) -> Option<&Arc<Filter>> {
        self.filter.as_ref()
    }

    /// Everything before is settled or known to be of no interest.
    pub(in crate::hub::follow) fn passed(&self) -> Offset {
        self.passed.to
    }

    pub(in crate::hub::follow) fn selector(&self) -> u32 {
        self.selector
    }

    pub(in crate::hub::follow) fn filter_id(&self) -> FilterId {
        self.filter.as_ref().map_or(ALL, |filter| filter.id)
    }

    pub(in crate::hub::follow) fn has_gap(&self) -> bool {
        self.gap.is_some()
    }

    /// A message of another view settled everything before `offset`.
    pub(in crate::hub::follow) fn settled(&mut self, offset: Offset) {
        self.move_to(offset);
    }

    /// Another view has nothing to say of what is before `offset`.
    pub(in crate::hub::follow) fn pass(&mut self, offset: Offset) {
        if offset > self.passed.to {
            self.passed = Passed {
                to: offset,
                since: self.passed.since.or_else(|| Some(Instant::now())),
                last_ingest: self.passed.last_ingest,
            };
        }
    }

    /// The last of each key that it still gets in place of all records.
    pub(in crate::hub::follow) fn last_per_key(&self) -> Option<(u32, Offset)> {
        let pick = self.pick.as_ref();
        pick.filter(|pick| self.cursor < pick.until)?.last_per_key()
    }

    /// From here on only these offsets, as far as the pick goes; `None`: all.
    pub(in crate::hub::follow) fn pick(&mut self, pick: Option<Arc<Pick>>) {
        self.pick = pick;
        self.ahead = None;
    }

    /// Goes on from its cursor: what was passed was left out by a view that is not wanted any more.
    pub(in crate::hub::follow) fn look_again(&mut self) {
        self.passed = Passed::none(self.cursor);
        self.pick(None);
    }

    /// Leaves out what is between its cursor and the tail: what was passed before is settled
    /// first. `None`: it is at the tail.
    pub(in crate::hub::follow) fn jump(&mut self) -> Option<Step> {
        if let Some(view) = self.settle_passed() {
            return Some(Step::Records(view));
        }
        let tail = self.feed.bounds().tail;
        let span = Span::new(self.cursor, tail);
        if span.is_empty() || self.gap.is_some() {
            return None;
        }
        let gap = Gap {
            span,
            count: None,
            reason: GapReason::Jumped,
        };
        self.pick(None);
        Some(self.come_upon(gap))
    }

    /// The gap that begins where it looks, if one does.
    pub(in crate::hub::follow) async fn gap_here(
        &mut self,
        visible: Visible,
    ) -> Result<Option<Step>, FollowError> {
        let (feed, at) = (Arc::clone(&self.feed), self.passed.to);
        self.nearing = self.nearing.take().filter(|near| near.0 == at);
        let begin = || Box::new((at, Reading::begin(move || feed.ring.read(at, 1))));
        let found = self.nearing.get_or_insert_with(begin).1.end().await;
        self.nearing = None;
        let found = found.map(|read| match read {
            Read::Gap(gap) => Found::Gap(gap),
            Read::Records(_) | Read::AtTail => Found::AtTail,
        });
        let Found::Gap(gap) = self.unless_deleted(found)? else {
            return Ok(None);
        };
        let end = self.limit(visible.bounds.tail);
        Ok(Some(self.come_upon(gap.before(end))))
    }

    /// What comes next, of `most` offsets at the most.
    pub(in crate::hub::follow) async fn next_few(
        &mut self,
        most: Offset,
    ) -> Result<Step, FollowError> {
        loop {
            let visible = self.look()?;
            let tail = visible.bounds.tail;
            let end = tail.min(self.passed.to.saturating_add(most.max(1)));
            let step = self.next_before(visible, end).await?;
            let is_through = self.passed.to >= self.limit(tail);
            if !matches!(step, Step::AtTail) || is_through {
                return Ok(step);
            }
        }
    }
}
