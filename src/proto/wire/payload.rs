//! The rules of each payload.

use super::{
    fields::{Fields, Seen, Value, bytes, text},
    refuse::{self, Invalid},
};
use crate::model::{DecimalParts, PayloadKind};

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

/// Checks the payload in field `number` of a record.
pub(super) fn check(number: u32, value: Value<'_>) -> Result<PayloadKind, Invalid> {
    match number {
        3 => quote(bytes(value, "quote")?).map(|()| PayloadKind::Quote),
        4 => trade(bytes(value, "trade")?).map(|()| PayloadKind::Trade),
        5 => bar(bytes(value, "bar")?).map(|()| PayloadKind::Bar),
        6 => reading(bytes(value, "reading")?).map(|()| PayloadKind::Reading),
        _ => status(bytes(value, "status")?).map(|()| PayloadKind::Status),
    }
}

fn quote(message: &[u8]) -> Result<(), Invalid> {
    let mut seen = Seen::default();
    let mut conditions = 0;
    for field in Fields::new(message, "quote") {
        let (number, value) = field?;
        match number {
            1 => decimal(&mut seen, number, value, "quote.bid")?,
            2 => decimal(&mut seen, number, value, "quote.ask")?,
            3 => decimal(&mut seen, number, value, "quote.bid_size")?,
            4 => decimal(&mut seen, number, value, "quote.ask_size")?,
            5 => condition(&mut conditions, value, "quote.conditions")?,
            _ => return Err(refuse::unknown("quote", number)),
        }
    }
    if seen.has(1) || seen.has(2) {
        return Ok(());
    }
    Err(refuse::missing(
        "quote.bid",
        "a quote has at least one side: set bid or ask",
    ))
}

fn trade(message: &[u8]) -> Result<(), Invalid> {
    let mut seen = Seen::default();
    let (mut conditions, mut trade_id, mut action) = (0, "", 0);
    for field in Fields::new(message, "trade") {
        let (number, value) = field?;
        match number {
            1 => decimal(&mut seen, number, value, "trade.price")?,
            2 => decimal(&mut seen, number, value, "trade.size")?,
            3 => trade_id = seen.text(number, value, "trade.trade_id", MAX_TRADE_ID_BYTES)?,
            4 => drop(choice(&mut seen, number, value, "trade.side", TRADE_SIDES)?),
            5 => condition(&mut conditions, value, "trade.conditions")?,
            6 => action = choice(&mut seen, number, value, "trade.action", TRADE_ACTIONS)?,
            _ => return Err(refuse::unknown("trade", number)),
        }
    }
    if action >= ACTION_CORRECT && trade_id.is_empty() {
        let advice = "a correction or cancellation names the trade it is about";
        return Err(refuse::missing("trade.trade_id", advice));
    }
    required(&seen, 1, "trade.price")
}

fn bar(message: &[u8]) -> Result<(), Invalid> {
    let mut seen = Seen::default();
    for field in Fields::new(message, "bar") {
        let (number, value) = field?;
        match number {
            1 => drop(seen.fixed64(number, value, "bar.start_unix_nanos")?),
            2 => interval(seen.varint(number, value, "bar.interval_nanos")?)?,
            3 => decimal(&mut seen, number, value, "bar.open")?,
            4 => decimal(&mut seen, number, value, "bar.high")?,
            5 => decimal(&mut seen, number, value, "bar.low")?,
            6 => decimal(&mut seen, number, value, "bar.close")?,
            7 => decimal(&mut seen, number, value, "bar.volume")?,
            8 => decimal(&mut seen, number, value, "bar.vwap")?,
            9 => drop(seen.varint(number, value, "bar.count")?),
            10 => decimal(&mut seen, number, value, "bar.adjusted_close")?,
            _ => return Err(refuse::unknown("bar", number)),
        }
    }
    required(&seen, 1, "bar.start_unix_nanos")?;
    required(&seen, 2, "bar.interval_nanos")?;
    required(&seen, 3, "bar.open")?;
    required(&seen, 4, "bar.high")?;
    required(&seen, 5, "bar.low")?;
    required(&seen, 6, "bar.close")
}

fn reading(message: &[u8]) -> Result<(), Invalid> {
    let mut seen = Seen::default();
    let (mut values, mut quality) = (0, 0);
    for field in Fields::new(message, "reading") {
        let (number, value) = field?;
        if (1..=6).contains(&number) {
            values += 1;
        }
        match number {
            1 => finite(
                seen.fixed64(number, value, "reading.number")?,
                "reading.number",
            )?,
            2 => decimal(&mut seen, number, value, "reading.decimal")?,
            3 => drop(seen.varint(number, value, "reading.integer")?),
            4 => drop(seen.varint(number, value, "reading.flag")?),
            5 => drop(seen.text(number, value, "reading.text", MAX_TEXT_BYTES)?),
            6 => {
                seen.once(number, "reading.vector")?;
                vector(bytes(value, "reading.vector")?)?;
            }
            7 => quality = choice(&mut seen, number, value, "reading.quality", QUALITIES)?,
            8 => uint32(seen.varint(number, value, "reading.quality_code")?)?,
            _ => return Err(refuse::unknown("reading", number)),
        }
    }
    match values {
        0 if quality == QUALITY_BAD => Ok(()),
        0 => Err(refuse::missing(
            "reading.value",
            "only a reading of quality BAD may have none",
        )),
        1 => Ok(()),
        _ => Err(refuse::second("reading.value")),
    }
}

fn vector(message: &[u8]) -> Result<(), Invalid> {
    let field = "reading.vector.values";
    let mut channels = 0;
    for entry in Fields::new(message, "reading.vector") {
        match entry? {
            (1, Value::Fixed64(bits)) => {
                finite(bits, field)?;
                channels += 1;
            }
            (1, Value::Bytes(packed)) => {
                let (values, rest) = packed.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(refuse::malformed(field, "not a whole number of doubles"));
                }
                values
                    .iter()
                    .try_for_each(|v| finite(u64::from_le_bytes(*v), field))?;
                channels += values.len();
            }
            (1, Value::Varint(_) | Value::Fixed32(_)) => {
                return Err(refuse::malformed(field, "another wire type is expected"));
            }
            (number, _) => return Err(refuse::unknown("reading.vector", number)),
        }
    }
    match channels {
        0 => Err(refuse::missing(field, "a vector has at least one channel")),
        1..=MAX_CHANNELS => Ok(()),
        _ => Err(refuse::too_many(field, MAX_CHANNELS)),
    }
}

fn status(message: &[u8]) -> Result<(), Invalid> {
    let mut seen = Seen::default();
    let mut state = "";
    for field in Fields::new(message, "status") {
        let (number, value) = field?;
        match number {
            1 => state = seen.text(number, value, "status.state", MAX_STATE_BYTES)?,
            2 => drop(seen.text(number, value, "status.reason", MAX_STATUS_REASON_BYTES)?),
            _ => return Err(refuse::unknown("status", number)),
        }
    }
    if state.is_empty() {
        return Err(refuse::missing(
            "status.state",
            "name the state, for instance \"halted\"",
        ));
    }
    Ok(())
}

fn decimal(
    seen: &mut Seen,
    number: u32,
    value: Value<'_>,
    field: &'static str,
) -> Result<(), Invalid> {
    seen.once(number, field)?;
    let mut inner = Seen::default();
    let mut parts = DecimalParts::default();
    for entry in Fields::new(bytes(value, field)?, field) {
        let (number, value) = entry?;
        match number {
            1 => parts.units = zigzag(inner.varint(number, value, field)?),
            2 => {
                parts.scale =
                    u32::try_from(inner.varint(number, value, field)?).unwrap_or(u32::MAX);
            }
            3 => parts.high = zigzag(inner.varint(number, value, field)?),
            _ => return Err(refuse::unknown(field, number)),
        }
    }
    if parts.in_range() {
        return Ok(());
    }
    let message = "a decimal has a scale of at most 28 and an unscaled value below 2^96";
    Err(refuse::out_of_range(field, message))
}

fn condition(count: &mut usize, value: Value<'_>, field: &'static str) -> Result<(), Invalid> {
    *count += 1;
    if *count > MAX_CONDITIONS {
        return Err(refuse::too_many(field, MAX_CONDITIONS));
    }
    text(value, field, MAX_CONDITION_BYTES).map(drop)
}

fn choice(
    seen: &mut Seen,
    number: u32,
    value: Value<'_>,
    field: &'static str,
    last: u64,
) -> Result<u64, Invalid> {
    let choice = seen.varint(number, value, field)?;
    if choice <= last {
        return Ok(choice);
    }
    Err(refuse::out_of_range(
        field,
        &format!("{choice} is not a value of this enum"),
    ))
}

fn interval(nanos: u64) -> Result<(), Invalid> {
    if nanos.cast_signed() > 0 {
        return Ok(());
    }
    Err(refuse::out_of_range(
        "bar.interval_nanos",
        "must be above 0 nanoseconds",
    ))
}

fn uint32(value: u64) -> Result<(), Invalid> {
    if u32::try_from(value).is_ok() {
        return Ok(());
    }
    Err(refuse::out_of_range(
        "reading.quality_code",
        "must be below 2^32",
    ))
}

fn finite(bits: u64, field: &'static str) -> Result<(), Invalid> {
    let value = f64::from_bits(bits);
    if value.is_finite() {
        return Ok(());
    }
    Err(refuse::not_finite(field, value))
}

fn required(seen: &Seen, number: u32, field: &'static str) -> Result<(), Invalid> {
    if seen.has(number) {
        return Ok(());
    }
    Err(refuse::missing(field, "it is required"))
}

fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}
