//! One feed of one selector, message by message against the truth.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use ringfeed::{
    model::{Bounds, Cursor, Offset, SERVER_FIELDS_LEN, Span},
    proto::{
        convert::std_duration,
        v1::{self, GapReason, fidelity::View},
    },
};
use tokio::time::Instant;

use super::{
    model::{KeyKind, Life, Rank, Truth, key_kind, rank},
    select::{Begin, Ends, Pick, Place, is_full, wants},
    stretch::Stretch,
    tally::Tally,
};

pub(super) type Verdict = Result<(), String>;

/// What a selector gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gets {
    Full,
    Conflate(Duration),
    Bars,
}

/// The latest of a key and kind in what was settled, and whether a gap took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Latest {
    rank: Rank,
    in_gap: bool,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub feed: String,
    selector: v1::Selector,
    begin: Begin,
    pick: Option<Pick>,
    end: Ends,
    /// Where the next range begins.
    pub at: Option<Cursor>,
    /// As far as it ever came.
    high: Offset,
    /// A resume may begin before what was settled.
    again: bool,
    was_cut: bool,
    /// Since then, it said where it is.
    spoke: bool,
    view: Gets,
    slow: v1::SlowAction,
    /// The snapshot so far.
    snapshot: Option<Vec<Offset>>,
    /// Of all that was settled, and of all that came.
    latest: HashMap<KeyKind, Latest>,
    came: HashMap<KeyKind, Rank>,
    stretch: Stretch,
}

impl Lane {
    pub(super) fn new(selector: &v1::Selector, place: &Place, at: Instant) -> Self {
        let mut lane = Self {
            feed: place.feed.clone(),
            selector: selector.clone(),
            begin: place.begin,
            pick: place.pick.clone(),
            end: place.end,
            at: None,
            high: 0,
            again: false,
            was_cut: false,
            spoke: false,
            view: Gets::Full,
            slow: v1::SlowAction::CatchUp,
            snapshot: None,
            latest: HashMap::new(),
            came: HashMap::new(),
            stretch: Stretch::new(at),
        };
        lane.set_slow(selector.slow_policy.as_ref());
        lane.set_view(selector.fidelity.as_ref(), at);
        lane
    }

    fn set_slow(&mut self, policy: Option<&v1::SlowPolicy>) {
        self.slow = policy.map_or(v1::SlowAction::CatchUp, v1::SlowPolicy::action);
    }

    /// What becomes of it when it is too slow: of anything but FULL nothing does.
    fn slow(&self) -> v1::SlowAction {
        if is_full(self.selector.fidelity.as_ref()) {
            self.slow
        } else {
            v1::SlowAction::CatchUp
        }
    }

    /// It gets this from here on.
    pub(super) fn set_view(&mut self, fidelity: Option<&v1::Fidelity>, at: Instant) {
        self.view = match fidelity.and_then(|fidelity| fidelity.view.as_ref()) {
            None | Some(View::Full(_)) => Gets::Full,
            Some(View::Conflate(conflate)) => {
                let interval = conflate.interval.as_ref().and_then(std_duration);
                Gets::Conflate(interval.expect("an interval"))
            }
            Some(View::Bars(_)) => Gets::Bars,
        };
        if self.view != Gets::Full {
            // From here on it is of all records.
            self.pick = None;
        }
        self.stretch = Stretch::new(at);
    }

    pub(super) fn change(&mut self, change: &v1::ChangeSelector, at: Instant) {
        self.selector.fidelity = change.fidelity.or(self.selector.fidelity);
        self.selector.slow_policy = change.slow_policy.or(self.selector.slow_policy);
        self.set_slow(self.selector.slow_policy.clone().as_ref());
        self.set_view(self.selector.fidelity.clone().as_ref(), at);
    }

    /// The stream was cut, and there is another one. It begins with the view that was asked for.
    pub(super) fn reopened(&mut self, may_repeat: bool, at: Instant) {
        self.again = may_repeat && self.at.is_some();
        self.was_cut = true;
        self.spoke = false;
        if !may_repeat {
            // It may have been cut on its way to where it was.
            self.at = self.at.map(|at| Cursor {
                offset: at.offset.max(self.high),
                ..at
            });
            // A cursor says where it is, not which of the records before were the last of each key.
            self.pick = None;
        }
        self.snapshot = None;
        self.set_view(self.selector.fidelity.clone().as_ref(), at);
    }

    fn wants(&self, key: &str) -> bool {
        wants(&self.selector, key)
    }

    /// A range must begin where the last one ended; the first one where the start said.
    fn follows(&mut self, epoch: u64, from: Offset, truth: &Truth) -> Verdict {
        self.life(truth, epoch)?;
        let here = Cursor {
            epoch,
            offset: from,
        };
        let good = match (self.at, self.begin) {
            (Some(at), _) if self.again => at.epoch == epoch && from <= at.offset,
            (Some(at), _) => at == here,
            (None, Begin::At(begin)) => begin == here,
            (None, Begin::Joining) => from == 0,
            // By the time of a resume the feed had grown that far.
            (None, Begin::Elsewhere(wanted)) => self.was_cut && wanted == here,
            (None, Begin::Snapshot(_)) => false,
        };
        if !good {
            return self.fail(&format!("{here:?} follows {:?}, {:?}", self.at, self.begin));
        }
        self.again = false;
        self.spoke = true;
        Ok(())
    }

    pub(super) fn records(
        &mut self,
        batch: &v1::RecordBatch,
        truth: &Truth,
        now: Instant,
    ) -> Verdict {
        let covers = batch.covers.ok_or("no covers")?;
        let covers = Span::new(covers.from, covers.to);
        self.follows(batch.epoch, covers.from, truth)?;
        let life = self.life(truth, batch.epoch)?;
        match self.view {
            Gets::Full => self.full(life, covers, &batch.records)?,
            Gets::Conflate(interval) => {
                self.conflated(life, covers, &batch.records, interval, now)?;
            }
            Gets::Bars if batch.records.is_empty() => {}
            Gets::Bars => return self.fail("records among bars"),
        }
        self.settle(life, covers, false);
        Ok(())
    }

    /// Each wanted record of the range, byte for byte.
    fn full(&mut self, life: &Life, covers: Span, records: &[Bytes]) -> Verdict {
        let pick = self.pick.clone();
        let left_out = |offset: Offset| {
            let pick = pick.as_ref().filter(|pick| offset < pick.until);
            pick.is_some_and(|pick| !pick.offsets.contains(&offset))
        };
        let wanted = life.range(covers).iter();
        let wanted: Vec<_> = wanted
            .filter(|stored| self.wants(&stored.record.key) && !left_out(stored.offset))
            .collect();
        let same = wanted.len() == records.len()
            && wanted
                .iter()
                .zip(records)
                .all(|(stored, came)| stored.bytes == *came);
        if !same {
            let offsets: Vec<_> = wanted.iter().map(|stored| stored.offset).collect();
            let came: Vec<_> = records.iter().map(offset_of).collect();
            return self.fail(&format!("{covers:?} has {offsets:?}, and {came:?} came"));
        }
        for stored in wanted {
            let place = self
                .came
                .entry(key_kind(&stored.record))
                .or_insert((i64::MIN, 0));
            *place = (*place).max(rank(stored));
        }
        Ok(())
    }

    /// Records of the range that are wanted, and none of a key and kind more often than there are
    /// ticks.
    fn conflated(
        &mut self,
        life: &Life,
        covers: Span,
        records: &[Bytes],
        interval: Duration,
        now: Instant,
    ) -> Verdict {
        let mut stored = life.range(covers).iter();
        for came in records {
            let Some(stored) = stored.find(|stored| stored.bytes == *came) else {
                return self.fail(&format!("{} is not of {covers:?}", offset_of(came)));
            };
            if !self.wants(&stored.record.key) {
                return self.fail(&format!("{} is not wanted", stored.record.key));
            }
            let of = key_kind(&stored.record);
            let place = self.came.entry(of.clone()).or_insert((i64::MIN, 0));
            *place = (*place).max(rank(stored));
            // What is just leaving the ring may be found gone there, and still be in memory.
            if covers.from < life.bounds.head {
                continue;
            }
            if let Err(fault) = self.stretch.count(of, interval, now) {
                return self.fail(&fault);
            }
        }
        Ok(())
    }

    /// What was settled for the first time counts for what is latest.
    fn settle(&mut self, life: &Life, span: Span, in_gap: bool) {
        let fresh = Span::new(span.from.max(self.high), span.to);
        let pick = self.pick.clone();
        if self.view != Gets::Bars || in_gap {
            for stored in life.range(fresh) {
                let left_out = pick.as_ref().is_some_and(|pick| {
                    stored.offset < pick.until && !pick.offsets.contains(&stored.offset)
                });
                if !self.wants(&stored.record.key) || left_out {
                    continue;
                }
                let rank = rank(stored);
                let latest = self.latest.entry(key_kind(&stored.record));
                let latest = latest.or_insert(Latest { rank, in_gap });
                if rank > latest.rank {
                    *latest = Latest { rank, in_gap };
                }
            }
        }
        self.high = self.high.max(span.to);
        self.at = Some(Cursor {
            epoch: life.epoch,
            offset: span.to,
        });
    }

    /// A range that bars were made of.
    pub(super) fn bars(&mut self, batch: &v1::BarBatch, truth: &Truth) -> Verdict {
        if self.view != Gets::Bars {
            return self.fail("bars where none are due");
        }
        let covers = batch.covers.ok_or("no covers")?;
        if (covers.from, covers.to) == (0, 0) {
            return Ok(());
        }
        self.follows(batch.epoch, covers.from, truth)?;
        let life = self.life(truth, batch.epoch)?;
        self.settle(life, Span::new(covers.from, covers.to), false);
        Ok(())
    }

    pub(super) fn gap(
        &mut self,
        gap: &v1::Gap,
        bounds: Option<Bounds>,
        truth: &Truth,
        now: Instant,
    ) -> Verdict {
        if gap.reason() == GapReason::EpochChanged {
            return self.epoch_changed(gap, truth, now);
        }
        self.follows(gap.epoch, gap.from, truth)?;
        let life = self.life(truth, gap.epoch)?;
        let span = Span::new(gap.from, gap.to);
        // A feed that is gone takes all its records along.
        let head = bounds
            .filter(|_| !life.is_over)
            .map_or(life.bounds.tail, |b| b.head);
        let good = match gap.reason() {
            GapReason::Evicted => span.to <= head && (span.to <= life.evicted || life.is_over),
            GapReason::Trimmed => span.to <= head && (span.to <= life.trimmed || life.is_over),
            GapReason::Jumped => {
                self.slow() == v1::SlowAction::JumpToTail && span.to <= life.bounds.tail
            }
            GapReason::Lost => {
                let within = |lost: &&Span| lost.from <= span.from && span.to <= lost.to;
                life.lost.iter().any(|lost| within(&lost))
            }
            GapReason::Corrupt | GapReason::Unspecified | GapReason::EpochChanged => false,
        };
        if !good || span.is_empty() {
            let (trimmed, lost) = (life.trimmed, &life.lost);
            return self.fail(&format!(
                "{gap:?}: {bounds:?}, trimmed {trimmed}, lost {lost:?}"
            ));
        }
        let records = life.range(span).len() as u64;
        if gap.count.is_some_and(|count| count != records) && life.lost.is_empty() {
            return self.fail(&format!("{gap:?} had {records}"));
        }
        self.stretch.gaps += 1;
        self.settle(life, span, true);
        Ok(())
    }

    fn epoch_changed(&mut self, gap: &v1::Gap, truth: &Truth, now: Instant) -> Verdict {
        let left = Cursor {
            epoch: gap.epoch,
            offset: gap.from,
        };
        let to = gap.oldest.as_ref().map(|oldest| oldest.epoch);
        if self.again
            && self.at.is_some_and(|at| {
                Some(at.epoch) == to && (at.epoch != left.epoch || at.offset < left.offset)
            })
        {
            // It was told before, and is again by a stream from before. What left since is gone.
            let oldest = gap.oldest.as_ref().map_or(0, |oldest| oldest.offset);
            self.at = self.at.map(|at| Cursor {
                offset: at.offset.max(oldest),
                ..at
            });
            return Ok(());
        }
        let good = match (self.at, self.begin) {
            // The token is from before it was told that there is no such place.
            (Some(at), Begin::Elsewhere(wanted))
                if self.again && wanted == left && at.epoch == left.epoch =>
            {
                true
            }
            (Some(at), _) if self.again => (left.epoch, left.offset) <= (at.epoch, at.offset),
            (Some(at), _) => at == left,
            (None, Begin::Elsewhere(wanted)) => wanted == left,
            // The feed was created anew before it had said a word.
            (None, Begin::At(begin)) => begin.epoch == left.epoch,
            // So was one that had joined, as a token says.
            (None, Begin::Joining) => left.offset == 0,
            (None, Begin::Snapshot(_)) => false,
        };
        let oldest = gap.oldest.as_ref().ok_or("no oldest")?;
        let life = self.life(truth, oldest.epoch)?;
        let is_gone = oldest.offset <= life.bounds.head;
        let is_other = left.epoch != life.epoch || left.offset > life.bounds.tail || self.again;
        if !good || !is_gone || !(is_other || matches!(self.begin, Begin::Elsewhere(_))) {
            return self.fail(&format!("{gap:?} at {:?}, {:?}", self.at, self.begin));
        }
        self.again = false;
        self.forget();
        self.stretch.gaps += 1;
        if self.spoke && !self.selector.feed_globs.is_empty() {
            // A feed that joins in the place of another begins with what was asked for.
            self.set_view(self.selector.fidelity.clone().as_ref(), now);
        }
        self.at = Some(Cursor {
            epoch: oldest.epoch,
            offset: oldest.offset,
        });
        Ok(())
    }

    /// What was settled is of another life of the feed.
    fn forget(&mut self) {
        self.high = 0;
        self.pick = None;
        self.latest.clear();
        self.came.clear();
    }

    pub(super) fn snapshot(&mut self, batch: &v1::SnapshotBatch) -> Verdict {
        let may = matches!(self.begin, Begin::Snapshot(_)) && (self.at.is_none() || self.again);
        if !may {
            return self.fail("a snapshot where none is due");
        }
        let offsets = batch.records.iter().map(offset_of);
        self.snapshot.get_or_insert_default().extend(offsets);
        Ok(())
    }

    pub(super) fn snapshot_complete(&mut self, as_of: &v1::Cursor, truth: &Truth) -> Verdict {
        let may = matches!(self.begin, Begin::Snapshot(_)) && (self.at.is_none() || self.again);
        let mut came = self.snapshot.take().unwrap_or_default();
        came.sort_unstable();
        let life = self.life(truth, as_of.epoch)?;
        let right = life.snapshot(as_of.offset, |key| self.wants(key));
        if !may || !right.contains(&came) {
            return self.fail(&format!(
                "a snapshot of {came:?} as of {as_of:?}, not {right:?}"
            ));
        }
        self.again = false;
        if self.at.is_some_and(|at| at.epoch != as_of.epoch) {
            self.forget();
        }
        self.high = self.high.max(as_of.offset);
        self.at = Some(Cursor {
            epoch: as_of.epoch,
            offset: as_of.offset,
        });
        Ok(())
    }

    pub(super) fn mode_changed(&mut self, change: &v1::ModeChanged, now: Instant) -> Verdict {
        let place = change.at.as_ref().ok_or("no place")?;
        let here = Cursor {
            epoch: place.epoch,
            offset: place.offset,
        };
        if self.slow() != v1::SlowAction::Conflate
            || self
                .at
                .is_some_and(|at| at.epoch == here.epoch && at != here && !self.again)
        {
            return self.fail(&format!("{change:?} at {:?}", self.at));
        }
        self.set_view(change.fidelity.as_ref(), now);
        Ok(())
    }

    /// Everything before is settled, and of each key the latest came.
    pub(super) fn caught_up(
        &mut self,
        next: &v1::Cursor,
        truth: &Truth,
        tally: &mut Tally,
    ) -> Verdict {
        self.stands_at(next, truth)?;
        if self.view == Gets::Bars {
            return Ok(());
        }
        self.has_latest(tally)
    }

    pub(super) fn has_latest(&self, tally: &mut Tally) -> Verdict {
        for (of, latest) in &self.latest {
            if latest.in_gap {
                tally.count("latest in gaps", 1);
            } else if self.came.get(of) != Some(&latest.rank) {
                let came = self.came.get(of);
                return self.fail(&format!(
                    "the latest of {of:?} is {latest:?}, {came:?} came"
                ));
            } else {
                tally.count("latest checked", 1);
            }
        }
        Ok(())
    }

    /// The server says where it is.
    pub(super) fn stands_at(&mut self, place: &v1::Cursor, truth: &Truth) -> Verdict {
        self.spoke = true;
        if self.again {
            // It may be on its way to where it was, without a record so far.
            return Ok(());
        }
        let from = (place.epoch, place.offset);
        if self.at.is_none_or(|at| (at.epoch, at.offset) != from) {
            self.follows(place.epoch, place.offset, truth)?;
        }
        let life = self.life(truth, place.epoch)?;
        if place.offset > life.bounds.tail {
            return self.fail(&format!("{place:?} is beyond {:?}", life.bounds));
        }
        self.high = self.high.max(place.offset);
        self.at = Some(Cursor {
            epoch: place.epoch,
            offset: place.offset,
        });
        Ok(())
    }

    /// A session's selector ended by itself.
    pub(super) fn ended(&self, reason: &str, truth: &Truth) -> Verdict {
        let Some(at) = self.at else { return Ok(()) };
        let life = self.life(truth, at.epoch)?;
        let good = match reason {
            "" => self.end != Ends::Never && self.end.is_reached(life, at.offset),
            "FEED_DELETED" => life.is_over && at.offset == life.bounds.tail,
            _ => false,
        };
        if !good {
            return self.fail(&format!("ended {reason:?} at {at:?}, {:?}", self.end));
        }
        Ok(())
    }

    pub(super) fn begin(&self) -> Begin {
        self.begin
    }

    fn life<'t>(&self, truth: &'t Truth, epoch: u64) -> Result<&'t Life, String> {
        let life = truth.life(&self.feed, epoch);
        life.ok_or_else(|| format!("{} never had epoch {epoch}", self.feed))
    }

    fn fail(&self, what: &str) -> Verdict {
        Err(format!(
            "{} {:?}: {what}\n{:?}",
            self.feed, self.view, self.selector
        ))
    }
}

fn offset_of(record: &Bytes) -> Offset {
    let tail = &record[record.len() - SERVER_FIELDS_LEN + 1..];
    u64::from_le_bytes(tail[..8].try_into().expect("eight bytes"))
}
