//! What subscriptions and sessions hand out: the responses that passed the ledger, without what
//! was held before.

use std::time::Duration;

use bytes::Bytes;

use super::ledger::{Fresh, GapEntry, cursor, reason, record_offset};
use crate::{
    model::{Cursor, GapReason, Offset, Span},
    proto::v1::{self, subscribe_response::Event as Wire},
};

/// What a subscription hands out. `selector` is its index in the request, in a session its id.
#[derive(Clone, Debug)]
pub enum Event {
    /// Records in offset order, encoded. Empty when only `covers` moved on.
    Records {
        selector: u32,
        feed: String,
        epoch: u64,
        covers: Span,
        records: Vec<Bytes>,
    },
    /// Records that will not come.
    Gap {
        selector: u32,
        feed: String,
        gap: GapEntry,
    },
    /// The selector has seen everything before `next`.
    CaughtUp {
        selector: u32,
        feed: String,
        next: Cursor,
    },
    Heartbeat {
        selector: u32,
        heartbeat: v1::Heartbeat,
    },
    KeyInfo(v1::KeyInfoUpdate),
    /// Each bar replaces what an earlier one said of it. After a reconnect some come again.
    Bars {
        selector: u32,
        batch: v1::BarBatch,
    },
    /// After a reconnect a snapshot that was not complete begins anew.
    Snapshot {
        selector: u32,
        batch: v1::SnapshotBatch,
    },
    SnapshotComplete {
        selector: u32,
        feed: String,
        as_of: Cursor,
    },
    ModeChanged {
        selector: u32,
        change: v1::ModeChanged,
    },
    /// The caller may not see all that the selector asks for. Comes again after a reconnect.
    Narrowed {
        selector: u32,
        narrowed: v1::Narrowed,
    },
    /// A selector of a session ended by itself: at its end, or for a reason.
    SelectorEnded {
        selector: u32,
        reason: String,
        message: String,
    },
    /// The stream broke; the next call of `next` waits and goes on where this one stopped.
    Disconnected {
        reason: String,
        delay: Duration,
    },
}

/// The event of a response; `None` when all of it was held before, and for what speaks of the
/// stream.
pub(super) fn event(selector: u32, wire: Wire, fresh: Fresh) -> Option<Event> {
    match wire {
        Wire::Records(batch) => records(selector, batch, fresh),
        Wire::Gap(gap) => missed(selector, gap, fresh),
        Wire::CaughtUp(caught_up) => {
            let next = caught_up.next.unwrap_or_default();
            Some(Event::CaughtUp {
                selector,
                next: cursor(&next),
                feed: next.feed,
            })
        }
        Wire::Heartbeat(heartbeat) => Some(Event::Heartbeat {
            selector,
            heartbeat,
        }),
        Wire::KeyInfo(update) => Some(Event::KeyInfo(update)),
        Wire::Bars(batch) => Some(Event::Bars { selector, batch }),
        Wire::Snapshot(batch) => Some(Event::Snapshot { selector, batch }),
        Wire::SnapshotComplete(done) => {
            let as_of = done.as_of.unwrap_or_default();
            Some(Event::SnapshotComplete {
                selector,
                as_of: cursor(&as_of),
                feed: as_of.feed,
            })
        }
        Wire::ModeChanged(change) => Some(Event::ModeChanged { selector, change }),
        Wire::Narrowed(narrowed) => Some(Event::Narrowed { selector, narrowed }),
        Wire::Reconnect(_) => None,
    }
}

/// The token a response carries, if any.
pub(super) fn token(wire: &Wire) -> Option<&str> {
    let token = match wire {
        Wire::CaughtUp(caught_up) => &caught_up.resume_token,
        Wire::Heartbeat(heartbeat) => &heartbeat.resume_token,
        Wire::Reconnect(reconnect) => &reconnect.resume_token,
        Wire::Records(_)
        | Wire::Bars(_)
        | Wire::Snapshot(_)
        | Wire::SnapshotComplete(_)
        | Wire::Gap(_)
        | Wire::ModeChanged(_)
        | Wire::Narrowed(_)
        | Wire::KeyInfo(_) => return None,
    };
    Some(token.as_str()).filter(|token| !token.is_empty())
}

/// Whether the response shows that the stream works; a heartbeat alone moves nothing.
pub(super) fn is_progress(wire: &Wire) -> bool {
    match wire {
        Wire::Records(_)
        | Wire::Bars(_)
        | Wire::Snapshot(_)
        | Wire::SnapshotComplete(_)
        | Wire::Gap(_)
        | Wire::CaughtUp(_) => true,
        Wire::Heartbeat(_)
        | Wire::ModeChanged(_)
        | Wire::KeyInfo(_)
        | Wire::Narrowed(_)
        | Wire::Reconnect(_) => false,
    }
}

fn records(selector: u32, batch: v1::RecordBatch, fresh: Fresh) -> Option<Event> {
    let v1::RecordBatch {
        covers,
        feed,
        epoch,
        mut records,
        ..
    } = batch;
    let covers = covers.unwrap_or_default();
    let covers = rest(Span::new(covers.from, covers.to), fresh)?;
    if let Fresh::From(from) = fresh {
        records.retain(|record| record_offset(record).is_some_and(|offset| offset >= from));
    }
    Some(Event::Records {
        selector,
        feed,
        epoch,
        covers,
        records,
    })
}

fn missed(selector: u32, gap: v1::Gap, fresh: Fresh) -> Option<Event> {
    let told = Span::new(gap.from, gap.to);
    let span = rest(told, fresh)?;
    // Of a part the count is known when there is a record at each offset.
    let dense = gap.count == Some(told.len());
    let count = if span == told {
        gap.count
    } else {
        dense.then_some(span.len())
    };
    Some(Event::Gap {
        selector,
        gap: GapEntry {
            epoch: gap.epoch,
            span,
            count,
            reason: reason(gap.reason()).unwrap_or(GapReason::Lost),
            oldest: gap.oldest.as_ref().map(cursor),
        },
        feed: gap.feed,
    })
}

fn rest(span: Span, fresh: Fresh) -> Option<Span> {
    let from: Offset = match fresh {
        Fresh::All => span.from,
        Fresh::From(from) => from,
        Fresh::Nothing => return None,
    };
    Some(Span::new(from, span.to))
}
