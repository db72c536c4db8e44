//! Every record from one place on: a reader holds a cursor, reads up to the tail, and waits for it
//! to move. Live is reading near the tail; there is no queue of records, so there is nothing to
//! overflow.

mod front;

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};

use super::Step;
use crate::{
    hub::{
        End, Feed, FollowError, Hub, Life, Visible,
        read::{Ahead, Ask, Found, Reading},
        start::{Place, first_at},
        views::{Choice, Draft, Filter, MAX_PASSED, Origin, Pick, View},
    },
    metrics,
    model::{self, Cursor, Epoch, Gap, GapReason, Offset, UnixNanos},
    store::{Clock, Read},
};

/// How long a filtered follower hears nothing while records pass it by.
const MAX_SILENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Reader {
    hub: Arc<Hub>,
    feed: Arc<Feed>,
    visible: watch::Receiver<Visible>,
    selector: u32,
    filter: Option<Arc<Filter>>,
    /// As far as it goes, only these offsets.
    pick: Option<Arc<Pick>>,
    /// What was returned is settled up to here.
    cursor: Offset,
    /// Up to here nothing is wanted.
    passed: Passed,
    end: End,
    /// Still to be told. What is rare is in a box: each stream pays for it.
    gap: Option<Box<(Epoch, Gap)>>,
    /// The next message, on its way from the ring.
    ahead: Option<Box<Ahead>>,
    /// Where an end lies that is a time, being looked for.
    ending: Option<Box<Reading<Offset>>>,
    /// Whether a gap begins at an offset, being looked for.
    nearing: Option<Box<(Offset, Reading<Read>)>>,
}

/// What a filter let nothing through of, and nobody was told yet.
#[derive(Clone, Copy, Debug)]
struct Passed {
    to: Offset,
    since: Option<Instant>,
    /// 0: not known.
    last_ingest: UnixNanos,
}

impl Passed {
    fn none(cursor: Offset) -> Self {
        Self {
            to: cursor,
            since: None,
            last_ingest: 0,
        }
    }

    fn tell_at(&self) -> Option<Instant> {
        self.since.map(|since| since + MAX_SILENCE)
    }
}

impl Reader {
    /// `selector` is what its messages say they answer.
    pub(super) fn new(
        hub: Arc<Hub>,
        feed: Arc<Feed>,
        selector: u32,
        filter: Option<Arc<Filter>>,
        place: Place,
        end: End,
    ) -> Self {
        let visible = feed.tail().watch();
        Self {
            hub,
            feed,
            visible,
            selector,
            filter,
            pick: place.pick.map(Arc::new),
            cursor: place.cursor,
            passed: Passed::none(place.cursor),
            end,
            gap: place.gap.map(Box::new),
            ahead: None,
            ending: None,
            nearing: None,
        }
    }

    pub(super) fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// What is settled ends here.
    pub(super) fn cursor(&self) -> Offset {
        self.cursor
    }

    /// From where it can be resumed: what was returned is settled, a gap still to be told is not.
    pub(super) fn resume_at(&self) -> Cursor {
        match self.gap.as_deref() {
            Some((epoch, gap)) => Cursor {
                epoch: *epoch,
                offset: gap.span.from,
            },
            None => Cursor {
                epoch: self.feed.epoch(),
                offset: self.cursor,
            },
        }
    }

    /// Where it ends: resolved, so that it can be resumed.
    pub(super) fn end(&self) -> End {
        self.end
    }

    /// What comes next. Safe to cancel: the cursor moves only with what is returned.
    pub(super) async fn next(&mut self) -> Result<Step, FollowError> {
        let visible = self.look()?;
        self.next_before(visible, visible.bounds.tail).await
    }

    /// What is visible now, unless the feed was deleted.
    pub(super) fn look(&mut self) -> Result<Visible, FollowError> {
        let visible = *self.visible.borrow_and_update();
        if visible.life == Life::Deleted {
            return Err(self.deleted());
        }
        Ok(visible)
    }

    /// What is damaged or cannot be read may be a ring that is just being deleted.
    fn unless_deleted(&self, found: Result<Found, FollowError>) -> Result<Found, FollowError> {
        let is_strange = match &found {
            Ok(Found::Gap(gap)) => gap.reason == GapReason::Corrupt,
            Ok(Found::View(_) | Found::AtTail) => false,
            Err(_) => true,
        };
        if is_strange && self.feed.is_deleted() {
            return Err(self.deleted());
        }
        found
    }

    fn deleted(&self) -> FollowError {
        FollowError::FeedDeleted {
            feed: self.feed.name().clone(),
        }
    }

    /// What comes next before `tail`, which is taken for the tail.
    pub(super) async fn next_before(
        &mut self,
        visible: Visible,
        tail: Offset,
    ) -> Result<Step, FollowError> {
        if let Some(told) = self.gap.take() {
            let (epoch, gap) = *told;
            return Ok(self.tell(epoch, gap));
        }
        loop {
            if self.is_silent_for_long()
                && let Some(view) = self.settle_passed()
            {
                return Ok(Step::Records(view));
            }
            let limit = self.limit(tail);
            if self.passed.to >= limit {
                return Ok(self.at_limit(visible));
            }
            let found = match self.look_in_memory(limit, visible) {
                Some(view) => Found::View(view),
                // In a box, as all that is rare: most streams wait, and each pays for the largest.
                None => {
                    let found = Box::pin(self.look_in_ring(limit)).await;
                    self.unless_deleted(found)?
                }
            };
            match found {
                Found::View(view) if self.reaches_end(&view) => {
                    Box::pin(self.resolve_end()).await?;
                }
                Found::View(view) => {
                    if let Some(step) = self.take(view, visible) {
                        return Ok(step);
                    }
                }
                // However little is wanted at a time, a gap is one.
                Found::Gap(gap) => {
                    let end = self.limit(visible.bounds.tail);
                    return Ok(self.come_upon(gap.before(end)));
                }
                Found::AtTail => return Ok(self.at_limit(visible)),
            }
        }
    }

    /// Waits until there may be more to come upon.
    pub(super) async fn wait(&mut self) {
        let end = match self.end {
            End::IngestTime(time) => {
                let left = time.saturating_sub(model::now()).max(1_000_000);
                Some(Instant::now() + Duration::from_nanos(left.unsigned_abs()))
            }
            End::Never | End::Offset(_) | End::Now => None,
        };
        let until = self.passed.tell_at().into_iter().chain(end).min();
        let alarm = until.map(|until| Box::pin(sleep_until(until)));
        tokio::select! {
            () = self.feed.tail().changed(&mut self.visible) => {}
            () = rings(alarm) => {}
        }
    }

    /// What was passed without a record and not told yet, so that everything up to where it looks
    /// is settled. For whoever is about to say where it is.
    pub(super) fn settle_passed(&mut self) -> Option<View> {
        let draft = Draft::new(&self.feed, Choice::All, self.cursor, self.passed.to);
        let mut view = draft.finish(self.selector, Origin::Window)?;
        view.last_ingest = Some(self.passed.last_ingest).filter(|time| *time != 0);
        self.move_to(view.covers.to);
        Some(view)
    }

    fn is_silent_for_long(&self) -> bool {
        self.passed.to - self.cursor >= MAX_PASSED
            || self.passed.tell_at().is_some_and(|at| at <= Instant::now())
    }

    fn move_to(&mut self, offset: Offset) {
        self.cursor = offset;
        self.passed = Passed::none(offset);
    }

    /// The first offset that is not for this follower, as far as it can be known.
    pub(super) fn limit(&self, tail: Offset) -> Offset {
        match self.end {
            End::Offset(end) => end.min(tail),
            End::Never | End::Now | End::IngestTime(_) => tail,
        }
    }

    fn ask(&self, limit: Offset) -> Ask {
        let pick = self.pick.as_ref();
        let pick = pick.filter(|pick| self.passed.to < pick.until);
        Ask {
            feed: Arc::clone(&self.feed),
            selector: self.selector,
            filter: self.filter.clone(),
            pick: pick.cloned(),
            from: self.cursor,
            passed: self.passed.to,
            limit: pick.map_or(limit, |pick| limit.min(pick.until)),
        }
    }

    fn look_in_memory(&mut self, limit: Offset, visible: Visible) -> Option<View> {
        let ask = self.ask(limit);
        self.ahead = self.ahead.take().filter(|ahead| ahead.is_for(&ask));
        // What was trimmed may still be in memory.
        if self.ahead.is_some() || ask.passed < visible.bounds.head {
            return None;
        }
        let window = &self.hub.window;
        let view = ask.hot(window).or_else(|| ask.found(window))?;
        metrics::count_window_hit();
        Some(view)
    }

    async fn look_in_ring(&mut self, limit: Offset) -> Result<Found, FollowError> {
        metrics::count_window_miss();
        let (window, ask) = (&self.hub.window, self.ask(limit));
        let ahead = self
            .ahead
            .get_or_insert_with(|| Box::new(Ahead::begin(ask)));
        let found = ahead.end(window).await;
        self.ahead = None;
        match found? {
            // The end was resolved since; what is before it is read again.
            Found::View(view) if view.covers.to > limit => {
                let mut again = Ahead::begin(self.ask(limit));
                again.end(window).await
            }
            found @ (Found::View(_) | Found::Gap(_) | Found::AtTail) => Ok(found),
        }
    }

    /// Whether the end that is a time lies in this message.
    fn reaches_end(&self, view: &View) -> bool {
        matches!((self.end, view.last_ingest), (End::IngestTime(time), Some(last)) if last >= time)
    }

    /// An end that is a time is an offset once the time has come. For a view that looks further
    /// than one message.
    pub(super) async fn resolve_end_in_time(&mut self) -> Result<(), FollowError> {
        match self.end {
            End::IngestTime(time) if model::now() >= time => Box::pin(self.resolve_end()).await,
            End::IngestTime(_) | End::Never | End::Offset(_) | End::Now => Ok(()),
        }
    }

    /// Makes an end that is a time an offset, now that there is one.
    async fn resolve_end(&mut self) -> Result<(), FollowError> {
        if let End::IngestTime(time) = self.end {
            let feed = Arc::clone(&self.feed);
            let begin = || Box::new(Reading::begin(move || first_at(&feed, Clock::Ingest, time)));
            let found = self.ending.get_or_insert_with(begin).end().await;
            self.ending = None;
            self.end = End::Offset(found?.max(self.passed.to));
        }
        Ok(())
    }

    /// Moves past a message; `None` when there is nothing in it to return.
    fn take(&mut self, view: View, visible: Visible) -> Option<Step> {
        let origin = view.origin;
        let step = if view.count == 0 {
            let since = self.passed.since.unwrap_or_else(Instant::now);
            self.passed = Passed {
                to: view.covers.to,
                since: Some(since),
                last_ingest: view.last_ingest.unwrap_or(self.passed.last_ingest),
            };
            None
        } else {
            self.move_to(view.covers.to);
            Some(Step::Records(view))
        };
        if origin == Origin::Ring {
            self.read_ahead(visible);
        }
        step
    }

    /// Begins to read the next message while this one is sent.
    fn read_ahead(&mut self, visible: Visible) {
        let ask = self.ask(self.limit(visible.bounds.tail));
        let hot = || self.hub.window.has(self.feed.id(), ask.passed);
        let done = ask.passed >= ask.limit || ask.pick.is_some();
        if !done && ask.passed >= visible.bounds.head && !hot() {
            self.ahead = Some(Box::new(Ahead::begin(ask)));
        }
    }

    /// A gap: what was passed before it is settled first, then it is come upon again.
    fn come_upon(&mut self, gap: Gap) -> Step {
        if let Some(view) = self.settle_passed() {
            return Step::Records(view);
        }
        self.move_to(gap.span.to);
        self.tell(self.feed.epoch(), gap)
    }

    fn at_limit(&mut self, visible: Visible) -> Step {
        let at = self.passed.to;
        let ended = match self.end {
            End::Offset(end) => at >= end,
            End::IngestTime(time) => at >= visible.bounds.tail && model::now() >= time,
            End::Never | End::Now => false,
        };
        if !ended {
            return Step::AtTail;
        }
        self.settle_passed().map_or(Step::Ended, Step::Records)
    }

    fn tell(&self, epoch: Epoch, gap: Gap) -> Step {
        self.feed.metrics().count_gap(gap.reason.label());
        let oldest = match gap.reason {
            // It says where the new life is read from: what left since is a gap of its own.
            GapReason::EpochChanged => self.cursor,
            GapReason::Evicted
            | GapReason::Trimmed
            | GapReason::Jumped
            | GapReason::Lost
            | GapReason::Corrupt => self.feed.bounds().head,
        };
        Step::Gap { epoch, gap, oldest }
    }
}

pub(super) async fn rings(alarm: Option<Pin<Box<Sleep>>>) {
    match alarm {
        Some(alarm) => alarm.await,
        None => std::future::pending().await,
    }
}
