//! One feed of one selector: its follower, and what it has been told.

use std::{collections::VecDeque, sync::Arc};

use super::{
    info::InfoSender,
    open::Who,
    outgoing::{self, Outgoing},
    turns::Share,
};
use crate::{
    hub::{
        Feed, Fidelity, FollowError, Follower, Origin, Resume, SlowPolicy, Step, SubscriberGuard,
        View,
    },
    model::{self, Cursor, Epoch, Gap, GapReason, Offset, Span},
    proto::{
        convert::wire_duration,
        v1::{self, subscribe_response::Event},
        wire,
    },
    rpc::selector,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Behind,
    /// It was told that it has seen everything.
    CaughtUp,
    /// It is too slow, and the stream ends.
    SentAway,
    Done,
}

#[derive(Debug)]
pub(super) struct Leg {
    selector: u32,
    progress: Progress,
    pub(super) share: Share,
    follower: Follower,
    guard: SubscriberGuard,
    info: Option<Box<InfoSender>>,
    /// To be said before anything else.
    narrowed: Option<Box<v1::Narrowed>>,
}

/// Whether a key's description is sent before the key's first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Infos {
    Sent,
    LeftOut,
}

impl Leg {
    pub(super) fn new(
        selector: u32,
        follower: Follower,
        guard: SubscriberGuard,
        infos: Infos,
    ) -> Self {
        let info = (infos == Infos::Sent).then(|| Box::new(InfoSender::new(follower.feed())));
        Self {
            selector,
            progress: Progress::Behind,
            share: Share::default(),
            guard,
            info,
            follower,
            narrowed: None,
        }
    }

    /// Has to say so first.
    pub(super) fn narrowed(mut self, narrowed: Option<v1::Narrowed>) -> Self {
        self.narrowed = narrowed.map(Box::new);
        self
    }

    /// What is to be said before anything else, once.
    pub(super) fn introduction(&mut self) -> Option<Outgoing> {
        let narrowed = self.narrowed.take()?;
        Some(self.respond(Event::Narrowed(*narrowed)))
    }

    pub(super) fn selector(&self) -> u32 {
        self.selector
    }

    pub(super) fn feed(&self) -> &Arc<Feed> {
        self.follower.feed()
    }

    pub(super) fn is_done(&self) -> bool {
        self.progress == Progress::Done
    }

    /// What comes next, once there is something to say. May be dropped and asked again at any
    /// time, and often is.
    pub(super) async fn come(&mut self) -> Result<Step, FollowError> {
        loop {
            match self.follower.next().await? {
                Step::AtTail if self.progress == Progress::CaughtUp => self.follower.wait().await,
                Step::NotYet => self.follower.wait().await,
                step @ (Step::Records(_)
                | Step::Bars(_)
                | Step::Snapshot(_)
                | Step::SnapshotComplete(_)
                | Step::ModeChanged(_)
                | Step::TooSlow
                | Step::Gap { .. }
                | Step::AtTail
                | Step::Ended) => return Ok(step),
            }
        }
    }

    /// Says in the traces of records that they are delivered.
    pub(super) fn trace(&self, step: &Step, who: &Who) {
        if let Step::Records(view) = step
            && view.count > 0
        {
            let subscriber = who.call.source().map(AsRef::as_ref);
            let hub = &who.context.hub;
            hub.delivered(self.feed(), view.covers, subscriber);
        }
    }

    /// Puts into `ready` what a step has to tell.
    pub(super) fn say(&mut self, step: Step, ready: &mut VecDeque<Outgoing>) {
        match step {
            Step::Records(view) => self.records(view, ready),
            Step::Bars(view) => {
                self.moved_by(&view);
                self.whole(&view, ready);
            }
            Step::Snapshot(view) => self.whole(&view, ready),
            Step::SnapshotComplete(at) => {
                let as_of = Some(self.cursor(at));
                let complete = Event::SnapshotComplete(v1::SnapshotComplete { as_of });
                ready.push_back(self.respond(complete));
            }
            Step::ModeChanged(fidelity) => {
                self.guard.set_fidelity(fidelity);
                let changed = v1::ModeChanged {
                    fidelity: Some(selector::wire_fidelity(fidelity)),
                    at: Some(self.here(self.follower.cursor())),
                };
                ready.push_back(self.respond(Event::ModeChanged(changed)));
            }
            Step::Gap { epoch, gap, oldest } => {
                self.progress = Progress::Behind;
                self.guard.sent(self.follower.cursor(), 0, None);
                ready.push_back(self.respond(Event::Gap(self.gap(epoch, gap, oldest))));
            }
            Step::AtTail => self.caught_up(ready),
            Step::NotYet => {}
            Step::Ended => self.progress = Progress::Done,
            // What is to be said is the stream's matter.
            Step::TooSlow => self.progress = Progress::SentAway,
        }
    }

    fn caught_up(&mut self, ready: &mut VecDeque<Outgoing>) {
        self.settle(ready);
        self.progress = Progress::CaughtUp;
        // The token is filled in when it is known what else goes out before.
        let caught_up = v1::CaughtUp {
            next: Some(self.here(self.follower.cursor())),
            resume_token: String::new(),
        };
        ready.push_back(self.respond(Event::CaughtUp(caught_up)));
    }

    /// Tells what its keys left out so far, before it says where it is.
    pub(super) fn settle(&mut self, ready: &mut VecDeque<Outgoing>) {
        if let Some(view) = self.follower.settle_passed() {
            self.records(view, ready);
        }
    }

    /// Tells what it will not see of a feed that was deleted; where it was in it.
    pub(super) fn leave(&mut self, ready: &mut VecDeque<Outgoing>) -> Cursor {
        self.settle(ready);
        let tail = self.feed().bounds().tail;
        let span = Span::new(self.follower.cursor(), tail);
        if !self.is_done() && !span.is_empty() {
            let gap = Gap {
                span,
                count: None,
                reason: GapReason::Trimmed,
            };
            self.feed().metrics().count_gap(gap.reason.label());
            let gap = self.gap(self.feed().epoch(), gap, tail);
            ready.push_back(self.respond(Event::Gap(gap)));
        }
        Cursor {
            epoch: self.feed().epoch(),
            offset: tail,
        }
    }

    fn moved_by(&self, view: &View) {
        self.guard
            .sent(view.covers.to, view.covers.len(), view.last_ingest);
    }

    fn records(&mut self, view: View, ready: &mut VecDeque<Outgoing>) {
        if view.origin == Origin::Ring {
            self.progress = Progress::Behind;
        }
        if let Some(info) = &mut self.info {
            let records = view.records();
            let keys = records.iter().map(|record| wire::key_of(record));
            describe(self.selector, info, keys, ready);
        }
        self.moved_by(&view);
        self.count(&view);
        if let Some(time) = view.last_ingest.filter(|_| view.origin == Origin::Window) {
            let metrics = self.feed().metrics();
            metrics.observe_append_to_send(model::now().saturating_sub(time));
        }
        ready.push_back(Outgoing::Records {
            selector: self.selector,
            feed: Arc::clone(self.follower.feed()),
            view,
        });
    }

    /// A message of another view than records.
    fn whole(&mut self, view: &View, ready: &mut VecDeque<Outgoing>) {
        let message = view.message();
        if let Some(info) = &mut self.info {
            match outgoing::read(&message).event {
                Some(Event::Bars(batch)) => {
                    let keys = batch.bars.iter().map(|bar| bar.key.as_str());
                    describe(self.selector, info, keys, ready);
                }
                Some(Event::Snapshot(batch)) => {
                    let keys = batch.records.iter().map(|record| wire::key_of(record));
                    describe(self.selector, info, keys, ready);
                }
                Some(_) | None => {}
            }
        }
        self.count(view);
        ready.push_back(Outgoing::Whole(message));
    }

    fn count(&self, view: &View) {
        let metrics = self.feed().metrics();
        metrics.count_sent(u64::from(view.count), view.bytes() as u64);
    }

    fn gap(&self, epoch: Epoch, gap: Gap, oldest: Offset) -> v1::Gap {
        let reason = match gap.reason {
            GapReason::Evicted => v1::GapReason::Evicted,
            GapReason::Trimmed => v1::GapReason::Trimmed,
            GapReason::Jumped => v1::GapReason::Jumped,
            GapReason::Lost => v1::GapReason::Lost,
            GapReason::Corrupt => v1::GapReason::Corrupt,
            GapReason::EpochChanged => v1::GapReason::EpochChanged,
        };
        v1::Gap {
            feed: self.feed().name().to_string(),
            epoch,
            from: gap.span.from,
            to: gap.span.to,
            count: gap.count,
            reason: reason.into(),
            oldest: Some(self.here(oldest)),
        }
    }

    pub(super) fn heartbeat(&self) -> v1::Heartbeat {
        let bounds = self.feed().bounds();
        let view = self.guard.view();
        let cursor = if view.acknowledged {
            view.cursor
        } else {
            self.follower.cursor()
        };
        v1::Heartbeat {
            oldest: Some(self.here(bounds.head)),
            next: Some(self.here(bounds.tail)),
            cursor: Some(self.here(cursor)),
            lag_records: bounds.tail.saturating_sub(cursor),
            lag: Some(wire_duration(view.lag)),
            eviction_eta: view.eviction_eta.map(wire_duration),
            resume_token: String::new(),
            acknowledged: view.acknowledged,
        }
    }

    /// How it goes on after what was sent.
    pub(super) fn resume(&self) -> Resume {
        let mut resume = self.follower.resume();
        // Who was sent away is behind when it comes back: it has to be let to catch up first.
        resume.carried.is_live &= self.progress != Progress::SentAway;
        resume
    }

    /// Changes how much it gets, or its slow policy.
    pub(super) fn change(&mut self, fidelity: Option<Fidelity>, slow: Option<SlowPolicy>) {
        self.follower.change(fidelity, slow);
        self.guard.set_fidelity(self.follower.fidelity());
    }

    /// Notes what a subscriber without a name has processed.
    pub(super) fn acknowledged(&self, offset: Offset) {
        self.guard.acknowledged(offset);
    }

    /// A place in the present epoch.
    fn here(&self, offset: Offset) -> v1::Cursor {
        let epoch = self.feed().epoch();
        self.cursor(Cursor { epoch, offset })
    }

    fn cursor(&self, at: Cursor) -> v1::Cursor {
        v1::Cursor {
            feed: self.feed().name().to_string(),
            epoch: at.epoch,
            offset: at.offset,
        }
    }

    pub(super) fn respond(&self, event: Event) -> Outgoing {
        Outgoing::new(self.selector, event)
    }
}

/// Sends descriptions before something of these keys.
fn describe<'a>(
    selector: u32,
    info: &mut InfoSender,
    keys: impl Iterator<Item = &'a str>,
    ready: &mut VecDeque<Outgoing>,
) {
    let updates = info.before(keys).into_iter();
    ready.extend(updates.map(|update| Outgoing::new(selector, Event::KeyInfo(update))));
}
