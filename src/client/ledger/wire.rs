//! Reading what the ledger needs of a response.

use prost::Message as _;

use super::fault::Fault;
use crate::{
    model::{Cursor, GapReason, INGEST_TIME_TAG, OFFSET_TAG, Offset, SERVER_FIELDS_LEN, Span},
    proto::v1::{self, subscribe_response::Event},
};

/// The feed a response speaks of; empty when it does not say.
pub(super) fn feed(event: &Event) -> &str {
    let place = match event {
        Event::Records(batch) => return &batch.feed,
        Event::Bars(batch) => return &batch.feed,
        Event::Snapshot(batch) => return &batch.feed,
        Event::Gap(gap) => return &gap.feed,
        Event::KeyInfo(update) => return &update.feed,
        Event::Narrowed(narrowed) => return &narrowed.feed,
        Event::Reconnect(_) => None,
        Event::CaughtUp(caught_up) => caught_up.next.as_ref(),
        Event::Heartbeat(heartbeat) => heartbeat.cursor.as_ref(),
        Event::ModeChanged(change) => change.at.as_ref(),
        Event::SnapshotComplete(done) => done.as_of.as_ref(),
    };
    place.map_or("", |place| place.feed.as_str())
}

pub(super) fn covers(range: Option<v1::OffsetRange>) -> Result<Span, Fault> {
    let range = range.ok_or(Fault::Lacks("covers"))?;
    Ok(Span::new(range.from, range.to))
}

pub(in crate::client) fn cursor(wire: &v1::Cursor) -> Cursor {
    Cursor {
        epoch: wire.epoch,
        offset: wire.offset,
    }
}

pub(in crate::client) fn reason(wire: v1::GapReason) -> Option<GapReason> {
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
