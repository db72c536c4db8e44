//! The zero-copy record scan: every rule of `record.proto` checked on the wire bytes, without
//! decoding and, for a valid record, without allocating.

mod decimal;
mod fields;
mod message;
mod payload;
mod reader;
mod refuse;
mod view;

use std::{borrow::Cow, ops::Range};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::{
    fields::{Fields, Message},
    reader::{BYTES, FIXED64, Reader, VARINT},
    refuse::Refused,
};
pub use self::{
    message::{IngestMessage, Malformed, PublishMessage},
    refuse::{Invalid, Reason},
    view::{
        BarView, Channels, Observed, QuoteView, ReadingQuality, ReadingView, TradeAction,
        TradeView, ValueView,
    },
};
use crate::model::{PayloadKind, UnixNanos};

const EVENT_TIME_TAG: u8 = 2 << 3 | 1;
const TIME_ASSIGNED_TAG: u8 = 12 << 3;
const STAMP_BYTES: usize = 11;
const SERVER_OWNED: std::ops::RangeInclusive<u32> = 12..=14;
const MAX_VENUE_BYTES: usize = 64;

const RECORD: Message = Message {
    name: "record",
    fields: &[
        "key",
        "event_time_unix_nanos",
        "quote",
        "trade",
        "bar",
        "reading",
        "status",
        "",
        "source_time_unix_nanos",
        "source_sequence",
        "venue",
    ],
    oneof: (0b1111_1000, "payload"),
};

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

/// Checks a record against the rules of `record.proto`, and names the first offence: in wire
/// order, what a payload holds at the payload's place; then what is missing, by field number.
///
/// Of one field it is the first of these: not whole, unknown, of another wire type, once too
/// often, too long, of a wrong value. The fields of the server are only counted, they are cut.
pub fn scan<'a>(bytes: &'a [u8], limits: &Limits) -> Result<RecordView<'a>, Invalid> {
    record(bytes, limits).map_err(|refused| *refused)
}

fn record<'a>(bytes: &'a [u8], limits: &Limits) -> Result<RecordView<'a>, Refused> {
    if bytes.len() > limits.record_bytes {
        return Err(refuse::too_long("record", bytes.len(), limits.record_bytes));
    }
    let mut fields = Fields::new(bytes, &RECORD);
    let (mut key, mut event_time, mut kind, mut server_owned) = ("", None, None, false);
    while let Some(field) = fields.next()? {
        match field {
            (1, BYTES) => key = key_in(fields.bytes(1)?, limits)?,
            (2, FIXED64) => event_time = Some(not_ahead(fields.fixed64(2)?, limits)?),
            (number @ 3..=7, BYTES) => {
                let this = payload::kind(number);
                payload::check(this, fields.bytes(number)?)?;
                kind = Some(this);
            }
            (9, FIXED64) => drop(fields.fixed64(9)?),
            (10, VARINT) => drop(fields.varint(10)?),
            (11, BYTES) => drop(fields.text(11, MAX_VENUE_BYTES)?),
            (12..=14, wire) => {
                fields.cut(wire)?;
                server_owned = true;
            }
            (number, wire) => return Err(fields.unexpected(number, wire)),
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

#[inline]
fn key_in<'a>(bytes: &'a [u8], limits: &Limits) -> Result<&'a str, Refused> {
    if bytes.len() > limits.key_bytes {
        return Err(refuse::too_long("key", bytes.len(), limits.key_bytes));
    }
    std::str::from_utf8(bytes).map_err(|_not_utf8| refuse::not_utf8("key"))
}

#[inline]
fn not_ahead(bits: u64, limits: &Limits) -> Result<UnixNanos, Refused> {
    let (time, latest) = (bits.cast_signed(), limits.latest_event_time);
    if time > latest {
        return Err(refuse::time_ahead("event_time_unix_nanos", time, latest));
    }
    Ok(time)
}

/// The key of a record that passed; empty when these bytes are no record.
pub fn key_of(record: &[u8]) -> &str {
    key_bytes(record)
        .and_then(|key| std::str::from_utf8(key).ok())
        .unwrap_or_default()
}

fn key_bytes(record: &[u8]) -> Option<&[u8]> {
    let mut rest = Reader::new(record);
    loop {
        match rest.tag()? {
            (1, BYTES) => return rest.bytes(),
            (_, wire) => rest.skip(wire)?,
        }
    }
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
    let mut rest = Reader::new(record);
    while !rest.is_empty() {
        match rest.tag()? {
            (1, BYTES) => found.key = std::str::from_utf8(rest.bytes()?).ok()?,
            (2, FIXED64) => found.event_time = rest.fixed64()?.cast_signed(),
            (number @ 3..=7, BYTES) => {
                found.kind = payload::kind(number);
                rest.bytes()?;
            }
            (14, FIXED64) => found.ingest_time = rest.fixed64()?.cast_signed(),
            (_, wire) => rest.skip(wire)?,
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
    let mut rest = Reader::new(bytes);
    std::iter::from_fn(move || {
        loop {
            let from = bytes.len() - rest.len();
            let (number, wire) = rest.tag()?;
            rest.skip(wire)?;
            let to = bytes.len() - rest.len();
            if !SERVER_OWNED.contains(&number) {
                return Some(from..to);
            }
        }
    })
}

#[cfg(test)]
mod tests;
