//! The way out: what a follower of a feed comes upon next. Every record is what its reader reads;
//! a snapshot, a view or a slow policy stands between, and costs nothing where there is none.

mod barred;
mod conflated;
mod reader;
mod slow;
mod snapshot;

use std::sync::Arc;

pub(super) use self::snapshot::Pages;
use self::{barred::Barred, conflated::Conflated, reader::Reader, slow::Slow};
use super::{
    Carried, End, Feed, Fidelity, FollowError, Hub, SlowPolicy,
    start::Place,
    views::{Filter, View},
};
use crate::model::{Cursor, Epoch, Gap, Offset, UnixNanos};

/// What a follower comes upon next.
#[derive(Debug)]
pub enum Step {
    Records(View),
    /// Bars, and the offsets that they settle.
    Bars(View),
    /// A part of the snapshot that was asked for.
    Snapshot(View),
    /// The snapshot is complete as of this place; what comes in from there follows.
    SnapshotComplete(Cursor),
    /// The slow policy changed how much it gets, from its cursor on.
    ModeChanged(Fidelity),
    /// It is too slow, and its policy is to end.
    TooSlow,
    Gap {
        /// The epoch the gap's offsets belong to.
        epoch: Epoch,
        gap: Gap,
        /// What can be read now, in the feed's present epoch.
        oldest: Offset,
    },
    /// Everything visible was seen: `wait`, then ask again.
    AtTail,
    /// There is more, and it is not time for it: `wait`, then ask again.
    NotYet,
    /// The end that was asked for.
    Ended,
}

/// What it takes to go on where a follower is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// `None`: its snapshot was not complete, so it has to begin anew.
    pub cursor: Option<Cursor>,
    /// Where it ends: resolved, so that it is the same place again.
    pub end: End,
    pub carried: Carried,
}

/// Follows one feed from one place.
#[derive(Debug)]
pub struct Follower {
    reader: Reader,
    /// What is more than every record: few have it, and each stream pays for its size.
    more: Option<Box<More>>,
}

/// What stands between a follower and its reader.
#[derive(Debug)]
struct More {
    /// What was asked for.
    fidelity: Fidelity,
    mode: Mode,
    snapshot: Option<Pages>,
    slow: Slow,
}

/// What it gets at present.
#[derive(Debug)]
enum Mode {
    Full,
    Conflated(Conflated),
    Barred(Barred),
}

/// What a new follower is to do.
#[derive(Debug)]
pub(super) struct Plan {
    pub selector: u32,
    pub filter: Option<Arc<Filter>>,
    pub place: Place,
    pub end: End,
    pub fidelity: Fidelity,
    pub slow: SlowPolicy,
    pub carried: Carried,
}

impl Follower {
    pub(super) fn new(hub: Arc<Hub>, feed: Arc<Feed>, mut plan: Plan) -> Self {
        let snapshot = plan.place.snapshot.take();
        let slow = Slow::new(plan.slow, plan.place.begins_live || plan.carried.is_live);
        let fidelity = plan.fidelity;
        let reader = Reader::new(hub, feed, plan.selector, plan.filter, plan.place, plan.end);
        let plain = fidelity == Fidelity::Full && snapshot.is_none() && slow.is_off();
        let more = (!plain).then(|| {
            Box::new(More {
                fidelity,
                mode: Mode::new(fidelity, &reader, plan.carried),
                snapshot,
                slow,
            })
        });
        Self { reader, more }
    }

    pub fn feed(&self) -> &Arc<Feed> {
        self.reader.feed()
    }

    /// What is settled ends here.
    pub fn cursor(&self) -> Offset {
        self.reader.cursor()
    }

    /// How it can be resumed: what was returned is settled, a gap still to be told is not.
    pub fn resume(&self) -> Resume {
        let more = self.more.as_deref();
        let in_snapshot = more.is_some_and(|more| more.snapshot.is_some());
        // Another view is of all records.
        let is_full = more.is_none_or(|more| matches!(more.mode, Mode::Full));
        Resume {
            cursor: (!in_snapshot).then(|| self.reader.resume_at()),
            end: self.reader.end(),
            carried: Carried {
                bars_since: more.and_then(|more| more.mode.open_since()),
                is_live: more.is_some_and(|more| more.slow.is_live()),
                last_per_key: self.reader.last_per_key().filter(|_| is_full),
                is_elsewhere: self.reader.has_gap(),
            },
        }
    }

    /// How much it gets now.
    pub fn fidelity(&self) -> Fidelity {
        self.more
            .as_deref()
            .map_or(Fidelity::Full, |more| more.mode.fidelity())
    }

    /// Changes how much it gets, or its slow policy, from its cursor on; `None` stays.
    pub fn change(&mut self, fidelity: Option<Fidelity>, slow: Option<SlowPolicy>) {
        let reader = &mut self.reader;
        let more = self.more.get_or_insert_with(|| {
            Box::new(More {
                fidelity: Fidelity::Full,
                mode: Mode::Full,
                snapshot: None,
                slow: Slow::new(SlowPolicy::default(), true),
            })
        });
        if let Some(policy) = slow {
            more.slow = Slow::new(policy, more.slow.is_live());
        }
        let fidelity = fidelity.unwrap_or(more.fidelity);
        if fidelity != more.mode.fidelity() {
            more.set(fidelity, reader);
        }
        more.fidelity = fidelity;
    }

    /// What comes next. Safe to cancel: the cursor moves only with what is returned.
    pub async fn next(&mut self) -> Result<Step, FollowError> {
        match &mut self.more {
            None => self.reader.next().await,
            Some(more) => Box::pin(more.next(&mut self.reader)).await,
        }
    }

    /// Waits until there may be more to come upon.
    pub async fn wait(&mut self) {
        match &mut self.more {
            None => self.reader.wait().await,
            Some(more) => Box::pin(more.wait(&mut self.reader)).await,
        }
    }

    /// What was passed without a record and not told yet, so that everything up to where it looks
    /// is settled. For whoever is about to say where it is.
    pub fn settle_passed(&mut self) -> Option<View> {
        self.reader.settle_passed()
    }
}

impl More {
    async fn next(&mut self, reader: &mut Reader) -> Result<Step, FollowError> {
        if let Some(pages) = &mut self.snapshot {
            return Ok(pages.next().map_or_else(
                || {
                    self.snapshot = None;
                    Step::SnapshotComplete(reader.resume_at())
                },
                Step::Snapshot,
            ));
        }
        // A change of epoch is told before anything of the new one.
        if !reader.has_gap()
            && let Some(step) = self.mind_slowness(reader)
        {
            return Ok(step);
        }
        let step = match &mut self.mode {
            Mode::Full => reader.next_few(self.slow.records()).await?,
            Mode::Conflated(conflated) => conflated.next(reader).await?,
            Mode::Barred(barred) => barred.next(reader).await?,
        };
        if let Step::AtTail = &step {
            self.slow.caught_up();
        }
        if let Step::Records(view) = &step {
            self.slow.reached(view.last_ingest);
        }
        Ok(step)
    }

    async fn wait(&mut self, reader: &mut Reader) {
        let calm = self.slow.calm_at();
        let moved = async {
            match &mut self.mode {
                Mode::Full => reader.wait().await,
                Mode::Conflated(conflated) => conflated.wait(reader).await,
                Mode::Barred(barred) => barred.wait(reader).await,
            }
        };
        tokio::select! {
            () = moved => {}
            () = reader::rings(calm.map(|at| Box::pin(tokio::time::sleep_until(at)))) => {}
        }
    }

    /// What the slow policy has to say, if anything.
    fn mind_slowness(&mut self, reader: &mut Reader) -> Option<Step> {
        use slow::Verdict;
        // What is computed when it is delivered never falls behind.
        if self.fidelity != Fidelity::Full {
            return None;
        }
        let relieved = self.mode.fidelity() != Fidelity::Full;
        let is_between = match &self.mode {
            Mode::Full => true,
            Mode::Conflated(conflated) => conflated.is_between(reader),
            Mode::Barred(barred) => barred.is_between(),
        };
        let behind = reader.feed().bounds().tail.saturating_sub(reader.cursor());
        match self.slow.judge(behind, relieved, is_between) {
            Verdict::Fine => None,
            Verdict::Conflate => Some(self.turn(slow::RELIEF, reader)),
            Verdict::Full => Some(self.turn(Fidelity::Full, reader)),
            Verdict::Jump => reader.jump(),
            Verdict::Disconnect => Some(Step::TooSlow),
        }
    }

    /// Changes what it gets, and says so.
    fn turn(&mut self, fidelity: Fidelity, reader: &mut Reader) -> Step {
        if let Some(view) = reader.settle_passed() {
            return Step::Records(view);
        }
        self.set(fidelity, reader);
        Step::ModeChanged(fidelity)
    }

    fn set(&mut self, fidelity: Fidelity, reader: &mut Reader) {
        // What the last n of each key left out stays left out.
        if self.mode.fidelity() != Fidelity::Full {
            reader.look_again();
        }
        self.mode = Mode::new(fidelity, reader, Carried::default());
    }
}

impl Mode {
    fn new(fidelity: Fidelity, reader: &Reader, carried: Carried) -> Self {
        match fidelity {
            Fidelity::Full => Self::Full,
            Fidelity::Conflate(interval) => Self::Conflated(Conflated::new(interval, reader)),
            Fidelity::Bars(wanted) => Self::Barred(Barred::new(wanted, reader, carried)),
        }
    }

    fn open_since(&self) -> Option<UnixNanos> {
        match self {
            Self::Full | Self::Conflated(_) => None,
            Self::Barred(barred) => barred.open_since(),
        }
    }

    fn fidelity(&self) -> Fidelity {
        match self {
            Self::Full => Fidelity::Full,
            Self::Conflated(conflated) => Fidelity::Conflate(conflated.interval()),
            Self::Barred(barred) => Fidelity::Bars(barred.wanted()),
        }
    }
}
