//! One feed of one selector: which offset comes next, and what became of all before it.

use super::{
    fault::{Fault, Offsets},
    report::{Account, GapEntry, Report},
    wire::{covers, cursor, reason, record_offset},
};
use crate::{
    model::{Cursor, GapReason, Offset, Span},
    proto::v1::{self, subscribe_response::Event},
};

/// What of a response was not held before. Only a stream that went on from an older token tells
/// anything twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    All,
    /// What lies at or above this offset.
    From(Offset),
    Nothing,
}

/// How a new stream stands to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reopened {
    /// It goes on exactly behind what was observed.
    Behind,
    /// It goes on at or before that: what comes again is passed over.
    AtOrBefore,
}

/// Whether a snapshot comes before the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Snapshot {
    Never,
    /// It must; as of here, once that was told.
    Due(Option<Cursor>),
    /// A feed that joins a glob's selector later has none.
    Maybe,
}

/// The account of one feed of one selector.
#[derive(Clone, Debug)]
pub struct Lane {
    feed: String,
    /// The next offset, once it is known.
    next: Option<Cursor>,
    /// It came up by a glob, and may go and come back with another epoch.
    joined: bool,
    /// Where a stream stands that tells again what we hold; the inner one once it told.
    again: Option<Option<Offset>>,
    snapshot: Snapshot,
    /// The last n of each key are still to come; what lies between them is left out.
    picks: bool,
    fidelity: Option<v1::Fidelity>,
    account: Account,
}

impl Lane {
    /// The lane of a selector that names its feed.
    pub(super) fn of(selector: &v1::Selector) -> Self {
        let snapshot = if starts_with_snapshot(selector) {
            Snapshot::Due(None)
        } else {
            Snapshot::Never
        };
        Self {
            next: start(selector),
            joined: false,
            snapshot,
            ..Self::joined(&selector.feed, selector)
        }
    }

    /// The lane of a feed that a selector's globs matched.
    pub(super) fn joined(feed: &str, selector: &v1::Selector) -> Self {
        let snapshot = if starts_with_snapshot(selector) {
            Snapshot::Maybe
        } else {
            Snapshot::Never
        };
        Self {
            feed: feed.to_owned(),
            next: None,
            joined: true,
            again: None,
            snapshot,
            picks: starts_with_last_per_key(selector),
            fidelity: selector.fidelity,
            account: Account::default(),
        }
    }

    pub fn feed(&self) -> &str {
        &self.feed
    }

    /// The next offset that is expected; `None` before the server told where the selector stands.
    pub fn next(&self) -> Option<Cursor> {
        self.next
    }

    /// Whether it still gets the last n of each key in place of every record: a cursor does not say
    /// so, a resume token does.
    pub fn is_picking(&self) -> bool {
        self.picks
    }

    /// What it gets at present; `None`: every record.
    pub fn fidelity(&self) -> Option<&v1::Fidelity> {
        self.fidelity.as_ref()
    }

    /// What is held before `until`, or of all that was settled so far.
    pub fn report(&self, until: Option<Offset>) -> Report {
        let next = self.next.map_or(0, |cursor| cursor.offset);
        self.account.report(next, until)
    }

    pub(super) fn reopened(&mut self, how: Reopened) {
        self.again = None;
        if let Snapshot::Due(_) = self.snapshot {
            self.snapshot = Snapshot::Due(None);
        }
        match (how, self.next) {
            (_, None) => {}
            (Reopened::Behind, Some(_)) => self.snapshot = Snapshot::Never,
            (Reopened::AtOrBefore, Some(_)) => self.again = Some(None),
        }
    }

    /// After an error the lane stands as before it.
    pub(super) fn observe(&mut self, event: &Event) -> Result<Fresh, Fault> {
        match event {
            Event::Records(batch) => self.records(batch),
            Event::Bars(batch) => self.bars(batch),
            Event::Gap(gap) => self.gap(gap),
            Event::Snapshot(batch) => self.snapshot(batch),
            Event::SnapshotComplete(done) => {
                self.complete(done.as_of.as_ref().ok_or(Fault::Lacks("as_of"))?)
            }
            Event::CaughtUp(caught_up) => {
                let fresh = self.stands_at(caught_up.next.as_ref().ok_or(Fault::Lacks("next"))?)?;
                self.picks = false;
                Ok(fresh)
            }
            // Tells where a selector stands that has seen nothing yet; no more than that.
            Event::Heartbeat(heartbeat) => {
                let unplaced = self.next.is_none() && self.snapshot == Snapshot::Never;
                match heartbeat.cursor.as_ref() {
                    Some(cursor) if unplaced && !heartbeat.acknowledged => self.stands_at(cursor),
                    Some(_) | None => Ok(Fresh::All),
                }
            }
            Event::ModeChanged(change) => {
                self.fidelity = change.fidelity;
                Ok(Fresh::All)
            }
            Event::KeyInfo(_) | Event::Narrowed(_) | Event::Reconnect(_) => Ok(Fresh::All),
        }
    }

    fn records(&mut self, batch: &v1::RecordBatch) -> Result<Fresh, Fault> {
        let within = covers(batch.covers)?;
        let found = batch.records.len();
        if u32::try_from(found) != Ok(batch.count) {
            return Err(Fault::Count {
                count: batch.count,
                found,
                within: Offsets(within),
            });
        }
        let (fresh, held) = self.held(batch.epoch, within)?;
        let mut rising = within;
        let mut delivered = 0;
        for record in &batch.records {
            let offset = record_offset(record).ok_or(Fault::Record)?;
            if !rising.contains(offset) {
                let within = Offsets(within);
                return Err(Fault::Order { offset, within });
            }
            rising.from = offset + 1;
            delivered += u64::from(offset >= held);
        }
        let settled = within.to.saturating_sub(held);
        self.account.settle(settled, delivered);
        self.pass(batch.epoch, within);
        Ok(fresh)
    }

    /// Bars replace what an earlier message said of them, so they are never passed over. One with an
    /// empty range is followed by the one that settles.
    fn bars(&mut self, batch: &v1::BarBatch) -> Result<Fresh, Fault> {
        let span = covers(batch.covers)?;
        if span != Span::new(0, 0) {
            let (_, held) = self.held(batch.epoch, span)?;
            self.account.settle(span.to.saturating_sub(held), 0);
            self.pass(batch.epoch, span);
        } else if self.is_early() {
            return Err(Fault::Early);
        }
        Ok(Fresh::All)
    }

    fn gap(&mut self, gap: &v1::Gap) -> Result<Fresh, Fault> {
        let reason = reason(gap.reason()).ok_or(Fault::Unknown)?;
        let span = Span::new(gap.from, gap.to);
        let oldest = gap.oldest.as_ref().map(cursor);
        let entry = GapEntry {
            epoch: gap.epoch,
            span,
            count: gap.count,
            reason,
            oldest,
        };
        if reason == GapReason::EpochChanged {
            return self.epoch_changed(entry, oldest.ok_or(Fault::Lacks("oldest"))?);
        }
        let (fresh, held) = self.held(gap.epoch, span)?;
        if fresh != Fresh::Nothing {
            let offsets = span.to.saturating_sub(held);
            self.account.miss(entry, offsets);
        }
        self.pass(gap.epoch, span);
        Ok(fresh)
    }

    /// The old epoch's end may be unknown: only where it was left and where it goes on counts. Told
    /// again, it goes on at what is oldest by now: what left since and was not held is missing.
    fn epoch_changed(&mut self, gap: GapEntry, oldest: Cursor) -> Result<Fresh, Fault> {
        if self.is_early() {
            return Err(Fault::Early);
        }
        if let (Some(next), Some(_)) = (self.next, self.again)
            && next.epoch == oldest.epoch
            && (next.epoch != gap.epoch || next.offset < gap.span.from)
        {
            let left = Span::new(next.offset, oldest.offset);
            let fresh = if oldest.offset > next.offset {
                let epoch = oldest.epoch;
                let gap = GapEntry {
                    epoch,
                    span: left,
                    ..gap
                };
                self.account.miss(gap, left.len());
                Fresh::All
            } else {
                Fresh::Nothing
            };
            self.pass(oldest.epoch, Span::new(oldest.offset, oldest.offset));
            return Ok(fresh);
        }
        if let (Some(next), None) = (self.next, self.again) {
            same_epoch(next.epoch, gap.epoch)?;
            follows(next.offset, gap.span.from)?;
        }
        self.account.miss(gap, 0);
        self.again = None;
        self.snapshot = Snapshot::Never;
        self.picks = false;
        self.next = Some(oldest);
        Ok(Fresh::All)
    }

    fn snapshot(&mut self, batch: &v1::SnapshotBatch) -> Result<Fresh, Fault> {
        let as_of = cursor(batch.as_of.as_ref().ok_or(Fault::Lacks("as_of"))?);
        self.may_be_as_of(as_of)?;
        for record in &batch.records {
            let offset = record_offset(record).ok_or(Fault::Record)?;
            if offset >= as_of.offset {
                let within = Offsets(Span::new(0, as_of.offset));
                return Err(Fault::Order { offset, within });
            }
        }
        self.snapshot = Snapshot::Due(Some(as_of));
        Ok(Fresh::All)
    }

    /// The lane goes on exactly at `as_of`. A second snapshot, of a stream that went on from a token
    /// older than the first one, stands for the records since: they are left out. If the feed was
    /// created anew since, what was not seen of its former life is missing.
    fn complete(&mut self, as_of: &v1::Cursor) -> Result<Fresh, Fault> {
        let as_of = cursor(as_of);
        self.may_be_as_of(as_of)?;
        if let Some(next) = self.next.filter(|next| next.epoch < as_of.epoch) {
            let gap = GapEntry {
                epoch: next.epoch,
                span: Span::new(next.offset, next.offset),
                count: None,
                reason: GapReason::EpochChanged,
                oldest: Some(as_of),
            };
            self.account.miss(gap, 0);
        } else if let Some(next) = self.next {
            same_epoch(next.epoch, as_of.epoch)?;
            if as_of.offset < next.offset {
                return Err(again(next.offset, as_of.offset));
            }
            self.account.settle(as_of.offset - next.offset, 0);
        }
        self.again = None;
        self.snapshot = Snapshot::Never;
        self.next = Some(as_of);
        Ok(Fresh::All)
    }

    fn may_be_as_of(&self, found: Cursor) -> Result<(), Fault> {
        match self.snapshot {
            Snapshot::Due(Some(told)) if told != found => Err(Fault::AsOf {
                expected: told.offset,
                found: found.offset,
            }),
            Snapshot::Never if self.again.is_none() => Err(Fault::Snapshot),
            Snapshot::Due(_) | Snapshot::Maybe | Snapshot::Never => Ok(()),
        }
    }

    /// The server says that everything before `place` is settled.
    fn stands_at(&mut self, place: &v1::Cursor) -> Result<Fresh, Fault> {
        let place = cursor(place);
        let here = Span::new(place.offset, place.offset);
        let (_, held) = self.held(place.epoch, here)?;
        if place.offset < held {
            return Err(again(held, place.offset));
        }
        self.pass(place.epoch, here);
        Ok(Fresh::All)
    }

    fn is_early(&self) -> bool {
        matches!(self.snapshot, Snapshot::Due(_))
    }

    /// What of `span`, which must begin where the last one ended, is new, and below which offset
    /// everything is held already.
    fn held(&self, epoch: u64, span: Span) -> Result<(Fresh, Offset), Fault> {
        if span.to < span.from {
            return Err(Fault::Range(Offsets(span)));
        }
        if self.is_early() {
            return Err(Fault::Early);
        }
        let Some(next) = self
            .next
            .filter(|next| !(self.joined && epoch > next.epoch))
        else {
            return Ok((Fresh::All, span.from));
        };
        same_epoch(next.epoch, epoch)?;
        match self.again {
            None => follows(next.offset, span.from)?,
            Some(Some(at)) => follows(at, span.from)?,
            Some(None) if span.from > next.offset => return Err(hole(next.offset, span.from)),
            Some(None) => {}
        }
        let held = span.from.max(next.offset);
        let fresh = if span.from >= next.offset {
            Fresh::All
        } else if span.to > next.offset {
            Fresh::From(next.offset)
        } else {
            Fresh::Nothing
        };
        Ok((fresh, held))
    }

    /// Moves on over `span`, which `held` found in its place.
    fn pass(&mut self, epoch: u64, span: Span) {
        self.snapshot = Snapshot::Never;
        let offset = span.to;
        match (self.next, self.again) {
            (Some(next), Some(_)) if epoch == next.epoch && offset < next.offset => {
                self.again = Some(Some(offset));
            }
            _ => {
                self.again = None;
                self.next = Some(Cursor { epoch, offset });
            }
        }
    }
}

fn starts_with_snapshot(selector: &v1::Selector) -> bool {
    let from = selector
        .start
        .as_ref()
        .and_then(|start| start.from.as_ref());
    matches!(from, Some(v1::start::From::Snapshot(_)))
}

fn starts_with_last_per_key(selector: &v1::Selector) -> bool {
    let from = selector
        .start
        .as_ref()
        .and_then(|start| start.from.as_ref());
    matches!(from, Some(v1::start::From::LastPerKey(_)))
}

/// Where a selector must begin, as far as its start says so.
fn start(selector: &v1::Selector) -> Option<Cursor> {
    match selector.start.as_ref()?.from.as_ref()? {
        v1::start::From::Offset(offset) => Some(Cursor {
            epoch: 0,
            offset: *offset,
        }),
        v1::start::From::Cursor(place) => Some(cursor(place)),
        v1::start::From::Time(_)
        | v1::start::From::Earliest(_)
        | v1::start::From::New(_)
        | v1::start::From::LastPerKey(_)
        | v1::start::From::Snapshot(_)
        | v1::start::From::NamedCursor(_) => None,
    }
}

/// Epoch 0 is the present one, whichever that is.
fn same_epoch(expected: u64, found: u64) -> Result<(), Fault> {
    if expected == 0 || expected == found {
        Ok(())
    } else {
        Err(Fault::Epoch { expected, found })
    }
}

fn follows(expected: Offset, from: Offset) -> Result<(), Fault> {
    match from.cmp(&expected) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(hole(expected, from)),
        std::cmp::Ordering::Less => Err(again(expected, from)),
    }
}

fn hole(expected: Offset, from: Offset) -> Fault {
    Fault::Hole { expected, from }
}

fn again(expected: Offset, from: Offset) -> Fault {
    Fault::Again { expected, from }
}
