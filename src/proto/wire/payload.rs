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

/// Checks the payload of this kind.
pub(super) fn check(kind: PayloadKind, message: &[u8]) -> Result<(), Invalid> {
    match kind {
        PayloadKind::Quote => quote(message),
        PayloadKind::Trade => trade(message),
        PayloadKind::Bar => bar(message),
        PayloadKind::Reading => reading(message),
        PayloadKind::Status => status(message),
    }
}

/// The kind of the payload in field `number` of a record, and what names it.
pub(super) fn kind(number: u32) -> (PayloadKind, &'static str) {
    match number {
        3 => (PayloadKind::Quote, "quote"),
        4 => (PayloadKind::Trade, "trade"),
        5 => (PayloadKind::Bar, "bar"),
        6 => (PayloadKind::Reading, "reading"),
        _ => (PayloadKind::Status, "status"),
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
    required(&seen, 1, "trade.price")?;
    if action >= ACTION_CORRECT && trade_id.is_empty() {
        let advice = "a correction or cancellation names the trade it is about";
        return Err(refuse::missing("trade.trade_id", advice));
    }
    Ok(())
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
    let (mut has_value, mut quality) = (false, 0);
    for field in Fields::new(message, "reading") {
        let (number, value) = field?;
        match number {
            1..=6 => measured(number, value, &mut has_value)?,
            7 => quality = choice(&mut seen, number, value, "reading.quality", QUALITIES)?,
            8 => uint32(seen.varint(number, value, "reading.quality_code")?)?,
            _ => return Err(refuse::unknown("reading", number)),
        }
    }
    if has_value || quality == QUALITY_BAD {
        return Ok(());
    }
    let advice = "only a reading of quality BAD may have none";
    Err(refuse::missing("reading.value", advice))
}

/// One case of the value; a second one is refused once its wire type is seen to be right.
fn measured(number: u32, value: Value<'_>, has_value: &mut bool) -> Result<(), Invalid> {
    let mut case = Seen::default();
    let mut only = || match std::mem::replace(has_value, true) {
        true => Err(refuse::second("reading.value")),
        false => Ok(()),
    };
    match number {
        1 => {
            let bits = case.fixed64(number, value, "reading.number")?;
            only()?;
            finite(bits, "reading.number")
        }
        2 => {
            bytes(value, "reading.decimal")?;
            only()?;
            decimal(&mut case, number, value, "reading.decimal")
        }
        3 => {
            case.varint(number, value, "reading.integer")?;
            only()
        }
        4 => {
            case.varint(number, value, "reading.flag")?;
            only()
        }
        5 => {
            let bytes = bytes(value, "reading.text")?;
            only()?;
            text(bytes, "reading.text", MAX_TEXT_BYTES).map(drop)
        }
        _ => {
            let message = bytes(value, "reading.vector")?;
            only()?;
            vector(message)
        }
    }
}

fn vector(message: &[u8]) -> Result<(), Invalid> {
    let field = "reading.vector.values";
    let mut channels = 0;
    let mut counted = |more: usize| {
        channels += more;
        match channels {
            0..=MAX_CHANNELS => Ok(()),
            _ => Err(refuse::too_many(field, MAX_CHANNELS)),
        }
    };
    for entry in Fields::new(message, "reading.vector") {
        match entry? {
            (1, Value::Fixed64(bits)) => {
                counted(1)?;
                finite(bits, field)?;
            }
            (1, Value::Bytes(packed)) => {
                let (values, rest) = packed.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(refuse::malformed(field, "not a whole number of doubles"));
                }
                counted(values.len())?;
                values
                    .iter()
                    .try_for_each(|v| finite(u64::from_le_bytes(*v), field))?;
            }
            (1, Value::Varint(_) | Value::Fixed32(_)) => {
                return Err(refuse::malformed(field, "another wire type is expected"));
            }
            (number, _) => return Err(refuse::unknown("reading.vector", number)),
        }
    }
    if channels == 0 {
        return Err(refuse::missing(field, "a vector has at least one channel"));
    }
    Ok(())
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
    let message = bytes(value, field)?;
    seen.once(number, field)?;
    let mut inner = Seen::default();
    let mut parts = DecimalParts::default();
    for entry in Fields::new(message, field) {
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
    let bytes = bytes(value, field)?;
    *count += 1;
    if *count > MAX_CONDITIONS {
        return Err(refuse::too_many(field, MAX_CONDITIONS));
    }
    text(bytes, field, MAX_CONDITION_BYTES).map(drop)
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
