//! Accounts for every offset of a subscription: do I hold everything, and if not, what is missing
//! and why? Takes responses as they come and refuses the first one that does not add up.

use std::fmt;

use prost::Message as _;

use crate::{
    model::{Cursor, GapReason, INGEST_TIME_TAG, OFFSET_TAG, Offset, SERVER_FIELDS_LEN, Span},
    proto::v1::{self, subscribe_response::Event},
};

/// Gaps that are listed one by one; further ones are only summed up.
const KEPT_GAPS: usize = 1_000;

/// What a server sent does not add up: going on would hide a loss.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("feed {feed:?}, selector {selector}: {fault}")]
pub struct Broken {
    pub selector: u32,
    pub feed: String,
    pub fault: Fault,
}

/// What is wrong with a response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("offsets {expected}..{from} were skipped without a gap")]
    Hole { expected: Offset, from: Offset },
    #[error("offset {from} came again, {expected} was expected")]
    Again { expected: Offset, from: Offset },
    #[error("the epoch went from {expected} to {found} without a gap")]
    Epoch { expected: u64, found: u64 },
    #[error("the range {0} ends before it begins")]
    Range(Offsets),
    #[error("a record at offset {offset} lies outside {within} or out of order")]
    Order { offset: Offset, within: Offsets },
    #[error("{found} records where {count} were announced for {within}")]
    Count {
        count: u32,
        found: usize,
        within: Offsets,
    },
    #[error("a record cannot be decoded")]
    Record,
    #[error("a response lacks {0}")]
    Lacks(&'static str),
    #[error("this client does not know the message: a newer server? update the client")]
    Unknown,
    #[error("there is no such selector in the request")]
    Selector,
    #[error("it answers for feed {0:?}")]
    Feed(String),
}

/// A span, printed as `from..to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets(pub Span);

impl fmt::Display for Offsets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.0.from, self.0.to)
    }
}

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

/// The account of one selector.
#[derive(Clone, Debug)]
pub struct Lane {
    feed: String,
    /// The next offset, once it is known.
    next: Option<Cursor>,
    delivered: u64,
    covered: u64,
    gaps: Vec<GapEntry>,
    unlisted_gaps: u64,
}

/// What a selector holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Nothing is missing: no gaps, and everything before the asked offset is settled.
    pub whole: bool,
    /// Records that came.
    pub delivered: u64,
    /// Offsets that were settled without a record: filtered or conflated.
    pub left_out: u64,
    /// What did not come and why: the first 1,000.
    pub gaps: Vec<GapEntry>,
    /// Gaps beyond those.
    pub unlisted_gaps: u64,
    /// What is not settled yet before the asked offset.
    pub unsettled: Option<Span>,
}

/// The accounts of a subscription, by selector index.
#[derive(Clone, Debug)]
pub struct Ledger {
    lanes: Vec<Lane>,
}

impl Ledger {
    /// An account for each selector. Selectors with feed globs are not supported: one selector
    /// then stands for several feeds.
    pub fn new(selectors: &[v1::Selector]) -> Self {
        Self {
            lanes: selectors.iter().map(Lane::new).collect(),
        }
    }

    pub fn lane(&self, selector: u32) -> Option<&Lane> {
        self.lanes.get(usize::try_from(selector).ok()?)
    }

    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// Enters a response. After an error the account stands as before it.
    pub fn observe(&mut self, response: &v1::SubscribeResponse) -> Result<(), Broken> {
        let selector = response.selector;
        let lane = usize::try_from(selector)
            .ok()
            .and_then(|at| self.lanes.get_mut(at));
        let Some(lane) = lane else {
            // `reconnect` speaks for the whole stream.
            return match response.event {
                Some(Event::Reconnect(_)) => Ok(()),
                _ => Err(broken(selector, "", Fault::Selector)),
            };
        };
        lane.observe(response.event.as_ref())
            .map_err(|fault| broken(selector, &lane.feed, fault))
    }
}

fn broken(selector: u32, feed: &str, fault: Fault) -> Broken {
    Broken {
        selector,
        feed: feed.to_owned(),
        fault,
    }
}

impl Lane {
    fn new(selector: &v1::Selector) -> Self {
        Self {
            feed: selector.feed.clone(),
            next: start(selector),
            delivered: 0,
            covered: 0,
            gaps: Vec::new(),
            unlisted_gaps: 0,
        }
    }

    pub fn feed(&self) -> &str {
        &self.feed
    }

    /// The next offset that is expected; `None` before the server told where the selector stands.
    pub fn next(&self) -> Option<Cursor> {
        self.next
    }

    /// What is held before `until`, or of all that was settled so far.
    pub fn report(&self, until: Option<Offset>) -> Report {
        let next = self.next.map_or(0, |cursor| cursor.offset);
        let unsettled = until
            .map(|until| Span::new(next, until))
            .filter(|span| !span.is_empty());
        Report {
            whole: unsettled.is_none() && self.gaps.is_empty(),
            delivered: self.delivered,
            left_out: self.covered - self.delivered,
            gaps: self.gaps.clone(),
            unlisted_gaps: self.unlisted_gaps,
            unsettled,
        }
    }

    fn observe(&mut self, event: Option<&Event>) -> Result<(), Fault> {
        match event.ok_or(Fault::Unknown)? {
            Event::Records(batch) => self.records(batch),
            Event::Bars(bars) => {
                self.named(&bars.feed)?;
                self.settle(bars.epoch, covers(bars.covers)?)
            }
            Event::Gap(gap) => self.gap(gap),
            Event::CaughtUp(caught_up) => {
                self.stands_at(caught_up.next.as_ref().ok_or(Fault::Lacks("next"))?)
            }
            Event::SnapshotComplete(done) => {
                self.stands_at(done.as_of.as_ref().ok_or(Fault::Lacks("as_of"))?)
            }
            // Tells where a selector stands that has seen nothing yet; no more than that.
            Event::Heartbeat(heartbeat) => {
                match heartbeat.cursor.as_ref().filter(|_| self.next.is_none()) {
                    Some(cursor) => self.stands_at(cursor),
                    None => Ok(()),
                }
            }
            Event::Snapshot(_)
            | Event::ModeChanged(_)
            | Event::KeyInfo(_)
            | Event::Reconnect(_) => Ok(()),
        }
    }

    fn named(&self, feed: &str) -> Result<(), Fault> {
        if feed == self.feed {
            Ok(())
        } else {
            Err(Fault::Feed(feed.to_owned()))
        }
    }

    fn records(&mut self, batch: &v1::RecordBatch) -> Result<(), Fault> {
        self.named(&batch.feed)?;
        let within = covers(batch.covers)?;
        let found = batch.records.len();
        if u32::try_from(found) != Ok(batch.count) {
            return Err(Fault::Count {
                count: batch.count,
                found,
                within: Offsets(within),
            });
        }
        let mut rising = within;
        for record in &batch.records {
            let offset = record_offset(record).ok_or(Fault::Record)?;
            if !rising.contains(offset) {
                let within = Offsets(within);
                return Err(Fault::Order { offset, within });
            }
            rising.from = offset + 1;
        }
        self.settle(batch.epoch, within)?;
        self.delivered += found as u64;
        Ok(())
    }

    fn gap(&mut self, gap: &v1::Gap) -> Result<(), Fault> {
        self.named(&gap.feed)?;
        let span = Span::new(gap.from, gap.to);
        let reason = reason(gap.reason()).ok_or(Fault::Unknown)?;
        let oldest = gap.oldest.as_ref().map(cursor);
        if reason == GapReason::EpochChanged {
            // The old epoch's end may be unknown: only where it goes on counts.
            self.next = Some(oldest.ok_or(Fault::Lacks("oldest"))?);
        } else {
            let covered = self.covered;
            self.settle(gap.epoch, span)?;
            self.covered = covered;
        }
        if self.gaps.len() < KEPT_GAPS {
            self.gaps.push(GapEntry {
                epoch: gap.epoch,
                span,
                count: gap.count,
                reason,
                oldest,
            });
        } else {
            self.unlisted_gaps += 1;
        }
        Ok(())
    }

    /// Moves on over `span`, which must begin where the last one ended.
    fn settle(&mut self, epoch: u64, span: Span) -> Result<(), Fault> {
        if span.to < span.from {
            return Err(Fault::Range(Offsets(span)));
        }
        if let Some(next) = self.next {
            same_epoch(next.epoch, epoch)?;
            follows(next.offset, span.from)?;
        }
        self.next = Some(Cursor {
            epoch,
            offset: span.to,
        });
        self.covered += span.len();
        Ok(())
    }

    /// The server says that everything before `place` is settled.
    fn stands_at(&mut self, place: &v1::Cursor) -> Result<(), Fault> {
        let place = cursor(place);
        if let Some(next) = self.next {
            same_epoch(next.epoch, place.epoch)?;
            follows(next.offset, place.offset)?;
        }
        self.next = Some(place);
        Ok(())
    }
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
        std::cmp::Ordering::Greater => Err(Fault::Hole { expected, from }),
        std::cmp::Ordering::Less => Err(Fault::Again { expected, from }),
    }
}

fn covers(range: Option<v1::OffsetRange>) -> Result<Span, Fault> {
    let range = range.ok_or(Fault::Lacks("covers"))?;
    Ok(Span::new(range.from, range.to))
}

pub(super) fn cursor(wire: &v1::Cursor) -> Cursor {
    Cursor {
        epoch: wire.epoch,
        offset: wire.offset,
    }
}

pub(super) fn reason(wire: v1::GapReason) -> Option<GapReason> {
    match wire {
        v1::GapReason::Unspecified => None,
        v1::GapReason::Evicted => Some(GapReason::Evicted),
        v1::GapReason::Trimmed => Some(GapReason::Trimmed),
        v1::GapReason::Jumped => Some(GapReason::Jumped),
        v1::GapReason::Lost => Some(GapReason::Lost),
        v1::GapReason::Corrupt => Some(GapReason::Corrupt),
        v1::GapReason::EpochChanged => Some(GapReason::EpochChanged),
    }
}

/// The offset of a received record, without decoding it where the server's fields stand at its end.
pub fn record_offset(record: &[u8]) -> Option<Offset> {
    let tail = record.last_chunk::<SERVER_FIELDS_LEN>();
    if let Some([OFFSET_TAG, rest @ ..]) = tail
        && rest.get(8) == Some(&INGEST_TIME_TAG)
        && let Some(offset) = rest.first_chunk::<8>()
    {
        return Some(u64::from_le_bytes(*offset));
    }
    v1::Record::decode(record).ok().map(|record| record.offset)
}

#[cfg(test)]
mod tests;
