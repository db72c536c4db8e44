//! The zero-copy record scan: every rule of `record.proto` checked on the wire bytes, without
//! decoding and, for a valid record, without allocating.

mod fields;
mod payload;
mod refuse;

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::fields::{Fields, Seen, Value};
pub use self::refuse::{Invalid, Reason};
use crate::model::{NewRecord, PayloadKind, UnixNanos};

const EVENT_TIME_TAG: u8 = 2 << 3 | 1;
const TIME_ASSIGNED_TAG: u8 = 12 << 3;
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

/// A record that passed, ready to be appended.
#[derive(Clone, Debug)]
pub struct Checked {
    pub record: NewRecord,
    /// The key's bytes, valid UTF-8, a slice of the record's.
    pub key: Bytes,
    pub kind: PayloadKind,
}

/// Checks a record and completes it: server-owned fields cut, event time present.
pub fn check(bytes: Bytes, limits: &Limits, now: UnixNanos) -> Result<Checked, Invalid> {
    let view = scan(&bytes, limits)?;
    let (kind, event_time) = (view.kind, view.event_time);
    let key = bytes.slice_ref(view.key.as_bytes());
    let bytes = match (view.server_owned, event_time) {
        (false, Some(_)) => bytes,
        (server_owned, event_time) => complete(&bytes, server_owned, event_time, now),
    };
    let record = NewRecord {
        bytes,
        event_time: event_time.unwrap_or(now),
    };
    Ok(Checked { record, key, kind })
}

/// Content hash of a record as sent, bound to its place in the producer's numbering.
pub fn content_hash(bytes: &[u8], sequence: u64) -> u64 {
    xxh3_64_with_seed(bytes, sequence)
}

/// Checks a record against the rules of `record.proto`, and names the first offence: in wire
/// order, what a payload holds at the payload's place; then what is missing, by field number.
///
/// Of one field it is the first of these: not whole, unknown, of another wire type, once too
/// often, too long, of a wrong value. The fields of the server are only counted, they are cut.
pub fn scan<'a>(bytes: &'a [u8], limits: &Limits) -> Result<RecordView<'a>, Invalid> {
    if bytes.len() > limits.record_bytes {
        return Err(refuse::too_long("record", bytes.len(), limits.record_bytes));
    }
    let mut seen = Seen::default();
    let (mut key, mut event_time, mut kind, mut server_owned) = ("", None, None, false);
    for field in Fields::new(bytes, "record") {
        let (number, value) = field?;
        match number {
            number if SERVER_OWNED.contains(&number) => server_owned = true,
            1 => key = seen.text(number, value, "key", limits.key_bytes)?,
            2 => event_time = Some(event_time_in(&mut seen, value, limits)?),
            3..=7 => {
                let (this, name) = payload::kind(number);
                let message = fields::bytes(value, name)?;
                if kind.replace(this).is_some() {
                    return Err(refuse::second("payload"));
                }
                payload::check(this, message)?;
            }
            9 => drop(seen.fixed64(number, value, "source_time_unix_nanos")?),
            10 => drop(seen.varint(number, value, "source_sequence")?),
            11 => drop(seen.text(number, value, "venue", MAX_VENUE_BYTES)?),
            _ => return Err(refuse::unknown("record", number)),
        }
    }
    if key.is_empty() {
        let advice = "give every record the symbol or sensor it is about";
        return Err(refuse::missing("key", advice));
    }
    let Some(kind) = kind else {
        let advice = "set quote, trade, bar, reading or status";
        return Err(refuse::missing("payload", advice));
    };
    Ok(RecordView {
        key,
        event_time,
        kind,
        server_owned,
    })
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

fn event_time_in(seen: &mut Seen, value: Value<'_>, limits: &Limits) -> Result<UnixNanos, Invalid> {
    let field = "event_time_unix_nanos";
    let time = seen.fixed64(2, value, field)?.cast_signed();
    if time > limits.latest_event_time {
        return Err(refuse::time_ahead(field, time, limits.latest_event_time));
    }
    Ok(time)
}

fn complete(
    bytes: &Bytes,
    server_owned: bool,
    event_time: Option<UnixNanos>,
    now: UnixNanos,
) -> Bytes {
    let mut out = BytesMut::with_capacity(bytes.len() + 16);
    if server_owned {
        kept(bytes).for_each(|range| out.extend_from_slice(bytes.get(range).unwrap_or_default()));
    } else {
        out.extend_from_slice(bytes);
    }
    if event_time.is_none() {
        out.put_u8(EVENT_TIME_TAG);
        out.put_i64_le(now);
        out.put_u8(TIME_ASSIGNED_TAG);
        out.put_u8(1);
    }
    out.freeze()
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
