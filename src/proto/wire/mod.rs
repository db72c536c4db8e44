//! The zero-copy record scan: every rule of `record.proto` checked on the wire bytes, without
//! decoding and, for a valid record, without allocating.

mod fields;
mod message;
mod payload;
mod refuse;

use std::{borrow::Cow, ops::Range};

use bytes::Buf;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::fields::{Fields, Seen, Value};
pub use self::{
    message::{IngestMessage, Malformed},
    refuse::{Invalid, Reason},
};
use crate::model::{PayloadKind, UnixNanos};

const EVENT_TIME_TAG: u8 = 2 << 3 | 1;
const TIME_ASSIGNED_TAG: u8 = 12 << 3;
const STAMP_BYTES: usize = 11;
const SERVER_OWNED: std::ops::RangeInclusive<u32> = 12..=14;
const MAX_VENUE_BYTES: usize = 64;

/// What bounds a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a record as sent.
    pub record_bytes: usize,
    /// Bytes of a key.
    pub key_bytes: usize,
    /// The latest event time allowed.
    pub latest_event_time: UnixNanos,
}

/// What the scan learns of a valid record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    pub key: &'a str,
    pub event_time: Option<UnixNanos>,
    pub kind: PayloadKind,
    /// Fields are in it that the server owns and cuts.
    pub server_owned: bool,
}

/// What the server keeps of a record that passed: its bytes without the fields the server owns,
/// and the time it stamps where there is none.
#[derive(Debug)]
pub struct Kept<'a> {
    bytes: Cow<'a, [u8]>,
    stamp: Option<[u8; STAMP_BYTES]>,
    pub event_time: UnixNanos,
}

impl<'a> Kept<'a> {
    /// Of the record `bytes`, which the scan found to be `view`.
    pub fn of(bytes: &'a [u8], view: &RecordView<'_>, now: UnixNanos) -> Self {
        Self {
            bytes: match view.server_owned {
                false => Cow::Borrowed(bytes),
                true => Cow::Owned(without_server_owned(bytes)),
            },
            stamp: view.event_time.is_none().then(|| stamp(now)),
            event_time: view.event_time.unwrap_or(now),
        }
    }

    /// The parts to be written one behind the other.
    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.bytes, self.stamp.as_ref().map_or(&[], |stamp| stamp)]
    }
}

/// Content hash of a record as sent, bound to its place in the producer's numbering.
pub fn content_hash(bytes: &[u8], sequence: u64) -> u64 {
    xxh3_64_with_seed(bytes, sequence)
}

/// Checks a record against the rules of `record.proto`.
pub fn scan<'a>(bytes: &'a [u8], limits: &Limits) -> Result<RecordView<'a>, Invalid> {
    if bytes.len() > limits.record_bytes {
        return Err(refuse::too_long("record", bytes.len(), limits.record_bytes));
    }
    let mut seen = Seen::default();
    let mut view = RecordView {
        key: "",
        event_time: None,
        kind: PayloadKind::Status,
        server_owned: false,
    };
    let mut payload = None;
    for field in Fields::new(bytes, "record") {
        let (number, value) = field?;
        match number {
            number if SERVER_OWNED.contains(&number) => view.server_owned = true,
            1 => view.key = seen.text(number, value, "key", limits.key_bytes)?,
            2 => view.event_time = Some(event_time(&mut seen, value, limits)?),
            3..=7 if payload.is_some() => return Err(refuse::second("payload")),
            3..=7 => payload = Some((number, value)),
            9 => drop(seen.fixed64(number, value, "source_time_unix_nanos")?),
            10 => drop(seen.varint(number, value, "source_sequence")?),
            11 => drop(seen.text(number, value, "venue", MAX_VENUE_BYTES)?),
            _ => return Err(refuse::unknown("record", number)),
        }
    }
    if view.key.is_empty() {
        return Err(refuse::missing(
            "key",
            "give every record the symbol or sensor it is about",
        ));
    }
    let Some((number, value)) = payload else {
        return Err(refuse::missing(
            "payload",
            "set quote, trade, bar, reading or status",
        ));
    };
    view.kind = payload::check(number, value)?;
    Ok(view)
}

/// The key of a record that passed; empty when these bytes are no record.
pub fn key_of(record: &[u8]) -> &str {
    let key = Fields::new(record, "record")
        .flatten()
        .find_map(|(number, value)| match value {
            Value::Bytes(bytes) if number == 1 => Some(bytes),
            Value::Bytes(_) | Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => None,
        });
    key.and_then(|key| std::str::from_utf8(key).ok())
        .unwrap_or_default()
}

/// The times and kind of a stored record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    pub key: &'a str,
    pub kind: PayloadKind,
    pub event_time: UnixNanos,
    pub ingest_time: UnixNanos,
}

/// Reads back what the server needs of a record it stored; `None` when these bytes are none.
pub fn stored(record: &[u8]) -> Option<Stored<'_>> {
    let mut found = Stored {
        key: "",
        kind: PayloadKind::Status,
        event_time: 0,
        ingest_time: 0,
    };
    for field in Fields::new(record, "record") {
        match field.ok()? {
            (1, Value::Bytes(key)) => found.key = std::str::from_utf8(key).ok()?,
            (2, Value::Fixed64(time)) => found.event_time = time.cast_signed(),
            (14, Value::Fixed64(time)) => found.ingest_time = time.cast_signed(),
            (number @ 3..=7, Value::Bytes(_)) => {
                found.kind = PayloadKind::from_number(u8::try_from(number).ok()?)?;
            }
            _ => {}
        }
    }
    Some(found)
}

/// When a stored record came in: the server appended it as the last eight bytes.
pub fn ingest_time(record: &[u8]) -> UnixNanos {
    record
        .last_chunk::<8>()
        .map_or(0, |bytes| i64::from_le_bytes(*bytes))
}

fn event_time(seen: &mut Seen, value: Value<'_>, limits: &Limits) -> Result<UnixNanos, Invalid> {
    let field = "event_time_unix_nanos";
    let time = seen.fixed64(2, value, field)?.cast_signed();
    if time > limits.latest_event_time {
        return Err(refuse::time_ahead(field, time, limits.latest_event_time));
    }
    Ok(time)
}

/// `event_time_unix_nanos` and `time_assigned`, as fields.
fn stamp(now: UnixNanos) -> [u8; STAMP_BYTES] {
    let [a, b, c, d, e, f, g, h] = now.to_le_bytes();
    [EVENT_TIME_TAG, a, b, c, d, e, f, g, h, TIME_ASSIGNED_TAG, 1]
}

fn without_server_owned(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    kept(bytes).for_each(|range| out.extend_from_slice(bytes.get(range).unwrap_or_default()));
    out
}

/// Where the fields lie that the server does not own.
fn kept(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut fields = Fields::new(bytes, "record");
    std::iter::from_fn(move || {
        loop {
            let from = bytes.len() - fields.rest().remaining();
            let (number, _) = fields.next()?.ok()?;
            let to = bytes.len() - fields.rest().remaining();
            if !SERVER_OWNED.contains(&number) {
                return Some(from..to);
            }
        }
    })
}

#[cfg(test)]
mod tests;
