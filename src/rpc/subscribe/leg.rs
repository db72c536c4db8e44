//! One selector of a stream: its follower, and what it has been told.

use std::{collections::VecDeque, sync::Arc};

use prost::Message as _;

use super::{info::InfoSender, outgoing::Outgoing};
use crate::{
    hub::{FollowError, Follower, Origin, Step, SubscriberGuard, View},
    model::{self, Epoch, Gap, GapReason, Offset},
    proto::{
        convert::wire_duration,
        v1::{self, subscribe_response::Event},
    },
    rpc::selector,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Behind,
    /// It was told that it has seen everything.
    CaughtUp,
    Done,
}

#[derive(Debug)]
pub(super) struct Leg {
    index: u32,
    /// As asked for, encoded: it is seldom looked at.
    selector: Box<[u8]>,
    follower: Follower,
    guard: SubscriberGuard,
    progress: Progress,
    info: Option<Box<InfoSender>>,
}

impl Leg {
    pub(super) fn new(
        index: usize,
        selector: &v1::Selector,
        follower: Follower,
        guard: SubscriberGuard,
        include_info: bool,
    ) -> Self {
        Self {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            selector: selector.encode_to_vec().into(),
            guard,
            progress: Progress::Behind,
            info: include_info.then(|| Box::new(InfoSender::new(follower.feed()))),
            follower,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.progress == Progress::Done
    }

    pub(super) async fn wait(&mut self) {
        self.follower.wait().await;
    }

    /// Puts what comes next into `ready`; nothing when it waits or is done.
    pub(super) async fn advance(
        &mut self,
        ready: &mut VecDeque<Outgoing>,
    ) -> Result<(), FollowError> {
        if self.is_done() {
            return Ok(());
        }
        match self.follower.next().await? {
            Step::Records(view) => self.records(view, ready),
            Step::Gap { epoch, gap, oldest } => {
                self.progress = Progress::Behind;
                self.guard.sent(self.follower.cursor(), 0, None);
                ready.push_back(self.respond(Event::Gap(self.gap(epoch, gap, oldest))));
            }
            Step::AtTail if self.progress == Progress::Behind => {
                self.settle(ready);
                self.progress = Progress::CaughtUp;
                // The token is filled in when it is known what else goes out before.
                let next = Some(self.cursor(self.follower.cursor()));
                let caught_up = v1::CaughtUp {
                    next,
                    resume_token: String::new(),
                };
                ready.push_back(self.respond(Event::CaughtUp(caught_up)));
            }
            Step::AtTail => {}
            Step::Bars(_)
            | Step::Snapshot(_)
            | Step::SnapshotComplete(_)
            | Step::ModeChanged(_)
            | Step::TooSlow => {}
            Step::Ended => self.progress = Progress::Done,
        }
        Ok(())
    }

    /// Tells what its keys left out so far, before it says where it is.
    pub(super) fn settle(&mut self, ready: &mut VecDeque<Outgoing>) {
        if let Some(view) = self.follower.settle_passed() {
            self.records(view, ready);
        }
    }

    fn records(&mut self, view: View, ready: &mut VecDeque<Outgoing>) {
        if view.origin == Origin::Ring {
            self.progress = Progress::Behind;
        }
        let feed = self.follower.feed();
        if let Some(info) = &mut self.info {
            let updates = info.before(&view.records()).into_iter();
            let index = self.index;
            ready.extend(updates.map(|update| Outgoing::new(index, Event::KeyInfo(update))));
        }
        self.guard
            .sent(view.covers.to, view.covers.len(), view.last_ingest);
        let metrics = feed.metrics();
        metrics.count_sent(u64::from(view.count), view.bytes() as u64);
        if let Some(time) = view.last_ingest.filter(|_| view.origin == Origin::Window) {
            metrics.observe_append_to_send(model::now().saturating_sub(time));
        }
        ready.push_back(Outgoing::Records {
            selector: self.index,
            feed: Arc::clone(feed),
            view,
        });
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
            feed: self.follower.feed().name().to_string(),
            epoch,
            from: gap.span.from,
            to: gap.span.to,
            count: gap.count,
            reason: reason.into(),
            oldest: Some(self.cursor(oldest)),
        }
    }

    pub(super) fn heartbeat(&self, resume_token: String) -> Outgoing {
        let bounds = self.follower.feed().bounds();
        let view = self.guard.view();
        self.respond(Event::Heartbeat(v1::Heartbeat {
            oldest: Some(self.cursor(bounds.head)),
            next: Some(self.cursor(bounds.tail)),
            cursor: Some(self.cursor(self.follower.cursor())),
            lag_records: view.lag_records,
            lag: Some(wire_duration(view.lag)),
            eviction_eta: view.eviction_eta.map(wire_duration),
            resume_token,
            acknowledged: false,
        }))
    }

    /// The selector that goes on after what was sent.
    pub(super) fn resume(&self) -> v1::Selector {
        let asked = v1::Selector::decode(&*self.selector).unwrap_or_default();
        selector::resume(&asked, &self.follower.resume())
    }

    fn cursor(&self, offset: Offset) -> v1::Cursor {
        let feed = self.follower.feed();
        v1::Cursor {
            feed: feed.name().to_string(),
            epoch: feed.epoch(),
            offset,
        }
    }

    fn respond(&self, event: Event) -> Outgoing {
        Outgoing::new(self.index, event)
    }
}
