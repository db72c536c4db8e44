//! The rules of each payload.

use super::{
    fields::{Fields, Message, is_text},
    reader::{BYTES, FIXED64, VARINT},
    refuse::{self, Refused},
};
use crate::model::PayloadKind;

const QUOTE: Message = Message {
    name: "quote",
    fields: &[
        "quote.bid",
        "quote.ask",
        "quote.bid_size",
        "quote.ask_size",
        "quote.conditions",
    ],
    oneof: (0, ""),
};
const TRADE: Message = Message {
    name: "trade",
    fields: &[
        "trade.price",
        "trade.size",
        "trade.trade_id",
        "trade.side",
        "trade.conditions",
        "trade.action",
    ],
    oneof: (0, ""),
};
const BAR: Message = Message {
    name: "bar",
    fields: &[
        "bar.start_unix_nanos",
        "bar.interval_nanos",
        "bar.open",
        "bar.high",
        "bar.low",
        "bar.close",
        "bar.volume",
        "bar.vwap",
        "bar.count",
        "bar.adjusted_close",
    ],
    oneof: (0, ""),
};
const READING: Message = Message {
    name: "reading",
    fields: &[
        "reading.number",
        "reading.decimal",
        "reading.integer",
        "reading.flag",
        "reading.text",
        "reading.vector",
        "reading.quality",
        "reading.quality_code",
    ],
    oneof: (0b111_1110, "reading.value"),
};
const VECTOR: Message = Message {
    name: "reading.vector",
    fields: &["reading.vector.values"],
    oneof: (0, ""),
};
const STATUS: Message = Message {
    name: "status",
    fields: &["status.state", "status.reason"],
    oneof: (0, ""),
};

const MAX_CONDITIONS: usize = 16;
const MAX_CONDITION_BYTES: usize = 32;
const MAX_TRADE_ID_BYTES: usize = 64;
const MAX_TEXT_BYTES: usize = 4_096;
const MAX_CHANNELS: usize = 1_024;
const MAX_STATE_BYTES: usize = 64;
const MAX_STATUS_REASON_BYTES: usize = 1_024;
const TRADE_SIDES: u64 = 2;
const TRADE_ACTIONS: u64 = 3;
const ACTION_CORRECT: u64 = 2;
const QUALITIES: u64 = 3;
const QUALITY_BAD: u64 = 3;

/// The kind of the payload in field `number` of a record, which is 3 to 7.
#[inline]
pub(super) fn kind(number: u32) -> PayloadKind {
    match number {
        3 => PayloadKind::Quote,
        4 => PayloadKind::Trade,
        5 => PayloadKind::Bar,
        6 => PayloadKind::Reading,
        _ => PayloadKind::Status,
    }
}

/// Checks the payload of this kind.
#[inline]
pub(super) fn check(kind: PayloadKind, message: &[u8]) -> Result<(), Refused> {
    match kind {
        PayloadKind::Quote => quote(message),
        PayloadKind::Trade => trade(message),
        PayloadKind::Bar => bar(message),
        PayloadKind::Reading => reading(message),
        PayloadKind::Status => status(message),
    }
}

fn quote(message: &[u8]) -> Result<(), Refused> {
    let mut fields = Fields::new(message, &QUOTE);
    let mut conditions = 0;
    while let Some(field) = fields.next()? {
        match field {
            (number @ 1..=4, BYTES) => fields.decimal(number)?,
            (5, BYTES) => condition(
                fields.repeated_bytes()?,
                &mut conditions,
                "quote.conditions",
            )?,
            (number, wire) => return Err(fields.unexpected(number, wire)),
        }
    }
    if fields.has(1) || fields.has(2) {
        return Ok(());
    }
    let advice = "a quote has at least one side: set bid or ask";
    Err(refuse::missing("quote.bid", advice))
}

fn trade(message: &[u8]) -> Result<(), Refused> {
    let mut fields = Fields::new(message, &TRADE);
    let (mut conditions, mut has_id, mut action) = (0, false, 0);
    while let Some(field) = fields.next()? {
        match field {
            (number @ 1..=2, BYTES) => fields.decimal(number)?,
            (3, BYTES) => has_id = fields.text(3, MAX_TRADE_ID_BYTES)?,
            (4, VARINT) => drop(choice(fields.varint(4)?, TRADE_SIDES, "trade.side")?),
            (5, BYTES) => condition(
                fields.repeated_bytes()?,
                &mut conditions,
                "trade.conditions",
            )?,
            (6, VARINT) => action = choice(fields.varint(6)?, TRADE_ACTIONS, "trade.action")?,
            (number, wire) => return Err(fields.unexpected(number, wire)),
        }
    }
    fields.required(1)?;
    if action >= ACTION_CORRECT && !has_id {
        let advice = "a correction or cancellation names the trade it is about";
        return Err(refuse::missing("trade.trade_id", advice));
    }
    Ok(())
}

fn bar(message: &[u8]) -> Result<(), Refused> {
    let mut fields = Fields::new(message, &BAR);
    while let Some(field) = fields.next()? {
        match field {
            (1, FIXED64) => drop(fields.fixed64(1)?),
            (2, VARINT) => interval(fields.varint(2)?)?,
            (number @ (3..=8 | 10), BYTES) => fields.decimal(number)?,
            (9, VARINT) => drop(fields.varint(9)?),
            (number, wire) => return Err(fields.unexpected(number, wire)),
        }
    }
    (1..=6).try_for_each(|number| fields.required(number))
}

fn reading(message: &[u8]) -> Result<(), Refused> {
    let mut fields = Fields::new(message, &READING);
    let mut quality = 0;
    while let Some(field) = fields.next()? {
        match field {
            (1, FIXED64) => finite(fields.fixed64(1)?, "reading.number")?,
            (2, BYTES) => fields.decimal(2)?,
            (number @ 3..=4, VARINT) => drop(fields.varint(number)?),
            (5, BYTES) => drop(fields.text(5, MAX_TEXT_BYTES)?),
            (6, BYTES) => vector(fields.bytes(6)?)?,
            (7, VARINT) => quality = choice(fields.varint(7)?, QUALITIES, "reading.quality")?,
            (8, VARINT) => uint32(fields.varint(8)?)?,
            (number, wire) => return Err(fields.unexpected(number, wire)),
        }
    }
    if fields.has_oneof() || quality == QUALITY_BAD {
        return Ok(());
    }
    let advice = "only a reading of quality BAD may have none";
    Err(refuse::missing("reading.value", advice))
}

/// Doubles, packed or one by one: both are valid protobuf.
fn vector(message: &[u8]) -> Result<(), Refused> {
    let mut fields = Fields::new(message, &VECTOR);
    let path = "reading.vector.values";
    let mut channels = 0;
    while let Some(field) = fields.next()? {
        match field {
            (1, FIXED64) => {
                let bits = fields.repeated_fixed64()?;
                channels = counted(channels, 1)?;
                finite(bits, path)?;
            }
            (1, BYTES) => {
                let (values, rest) = fields.repeated_bytes()?.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(refuse::malformed(path, "not a whole number of doubles"));
                }
                channels = counted(channels, values.len())?;
                values
                    .iter()
                    .try_for_each(|v| finite(u64::from_le_bytes(*v), path))?;
            }
            (number, wire) => return Err(fields.unexpected(number, wire)),
        }
    }
    if channels == 0 {
        return Err(refuse::missing(path, "a vector has at least one channel"));
    }
    Ok(())
}

fn counted(channels: usize, more: usize) -> Result<usize, Refused> {
    match channels + more {
        channels @ 0..=MAX_CHANNELS => Ok(channels),
        _ => Err(refuse::too_many("reading.vector.values", MAX_CHANNELS)),
    }
}

fn status(message: &[u8]) -> Result<(), Refused> {
    let mut fields = Fields::new(message, &STATUS);
    let mut has_state = false;
    while let Some(field) = fields.next()? {
        match field {
            (1, BYTES) => has_state = fields.text(1, MAX_STATE_BYTES)?,
            (2, BYTES) => drop(fields.text(2, MAX_STATUS_REASON_BYTES)?),
            (number, wire) => return Err(fields.unexpected(number, wire)),
        }
    }
    if !has_state {
        let advice = "name the state, for instance \"halted\"";
        return Err(refuse::missing("status.state", advice));
    }
    Ok(())
}

/// One more condition code.
#[inline]
fn condition(code: &[u8], count: &mut usize, path: &'static str) -> Result<(), Refused> {
    *count += 1;
    if *count > MAX_CONDITIONS {
        return Err(refuse::too_many(path, MAX_CONDITIONS));
    }
    is_text(code, MAX_CONDITION_BYTES, || path)
}

#[inline]
fn choice(choice: u64, last: u64, path: &'static str) -> Result<u64, Refused> {
    if choice <= last {
        return Ok(choice);
    }
    Err(refuse::no_choice(path, choice))
}

fn interval(nanos: u64) -> Result<(), Refused> {
    if nanos.cast_signed() > 0 {
        return Ok(());
    }
    Err(refuse::out_of_range(
        "bar.interval_nanos",
        "must be above 0 nanoseconds",
    ))
}

fn uint32(value: u64) -> Result<(), Refused> {
    if u32::try_from(value).is_ok() {
        return Ok(());
    }
    Err(refuse::out_of_range(
        "reading.quality_code",
        "must be below 2^32",
    ))
}

#[inline]
fn finite(bits: u64, path: &'static str) -> Result<(), Refused> {
    let value = f64::from_bits(bits);
    if value.is_finite() {
        return Ok(());
    }
    Err(refuse::not_finite(path, value))
}
