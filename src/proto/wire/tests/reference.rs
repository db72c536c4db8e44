//! A second opinion on records: the rules of `record.proto` as tables, walked slowly, with prost
//! to decode. It shares no code with the scan; the tests and the fuzz target compare the two.

use rust_decimal::Decimal;

use super::{Limits, Reason, v1};

/// The field and the reason of a refusal.
pub(super) type Offence = (&'static str, Reason);

/// A field as it lies on the wire.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) wire: u8,
    /// The value of a varint.
    varint: u64,
    /// The value's bytes, without a length.
    pub(super) body: Vec<u8>,
    /// Bytes of the tag.
    pub(super) tag_len: usize,
    /// All of the field, tag included.
    pub(super) whole: Vec<u8>,
}

/// The fields of a message, up to what is no field.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) fields: Vec<Field>,
    pub(super) garbage: Vec<u8>,
}

impl Fields {
    pub(super) fn of(message: &[u8]) -> Self {
        let mut found = Self::default();
        let mut rest = message;
        while !rest.is_empty() {
            let Some(field) = first_field(rest) else {
                found.garbage = rest.to_vec();
                break;
            };
            rest = &rest[field.whole.len()..];
            found.fields.push(field);
        }
        found
    }
}

fn first_field(bytes: &[u8]) -> Option<Field> {
    let (tag, tag_len) = first_varint(bytes)?;
    let (number, wire) = (tag / 8, u8::try_from(tag % 8).ok()?);
    if tag > u64::from(u32::MAX) || number == 0 {
        return None;
    }
    let after = &bytes[tag_len..];
    let (varint, head, len) = match wire {
        0 => {
            let (value, len) = first_varint(after)?;
            (value, 0, len)
        }
        1 => (0, 0, 8),
        2 => {
            let (len, head) = first_varint(after)?;
            (0, head, usize::try_from(len).ok()?)
        }
        5 => (0, 0, 4),
        _ => return None,
    };
    let body = after[head..].get(..len)?.to_vec();
    let whole = bytes[..tag_len + head + len].to_vec();
    Some(Field {
        number,
        wire,
        varint,
        body,
        tag_len,
        whole,
    })
}

/// A varint and its length: at most ten bytes and 64 bits.
fn first_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let last = bytes.iter().take(10).position(|byte| *byte < 128)?;
    let digits = bytes[..=last].iter().rev();
    let value = digits.fold(0_u128, |value, byte| value * 128 + u128::from(byte % 128));
    Some((u64::try_from(value).ok()?, last + 1))
}

/// What a field may hold.
enum Kind {
    /// Whatever it is: the server cuts it.
    Cut,
    Key,
    Text(usize),
    EventTime,
    Fixed64,
    Double,
    Varint,
    Interval,
    Uint32,
    /// An enum up to this number.
    Choice(u64),
    Decimal,
    Message(&'static Shape),
    /// At most so many doubles in all, packed or not.
    Doubles(usize),
}

impl Kind {
    fn fits(&self, field: &Field) -> bool {
        match self {
            Self::Cut => true,
            Self::Key | Self::Text(_) | Self::Decimal | Self::Message(_) => field.wire == 2,
            Self::EventTime | Self::Fixed64 | Self::Double => field.wire == 1,
            Self::Varint | Self::Interval | Self::Uint32 | Self::Choice(_) => field.wire == 0,
            Self::Doubles(_) => match field.wire {
                1 => true,
                2 => field.body.len().is_multiple_of(8),
                _ => false,
            },
        }
    }
}

/// How often a field may occur.
enum Times {
    Once,
    /// Once, and alone among those of the same name.
    Case(&'static str),
    AtMost(usize),
    Any,
}

struct Rule {
    number: u64,
    path: &'static str,
    kind: Kind,
    times: Times,
}

const fn once(number: u64, path: &'static str, kind: Kind) -> Rule {
    let times = Times::Once;
    Rule {
        number,
        path,
        kind,
        times,
    }
}

const fn case(number: u64, path: &'static str, of: &'static str, kind: Kind) -> Rule {
    let times = Times::Case(of);
    Rule {
        times,
        ..once(number, path, kind)
    }
}

const fn any(number: u64, path: &'static str, kind: Kind) -> Rule {
    let times = Times::Any;
    Rule {
        times,
        ..once(number, path, kind)
    }
}

const fn conditions(path: &'static str) -> Rule {
    let times = Times::AtMost(16);
    Rule {
        times,
        ..once(5, path, Kind::Text(32))
    }
}

struct Shape {
    path: &'static str,
    rules: &'static [Rule],
    /// What is required and not there, of a message that breaks no other rule.
    lacks: fn(&[u8]) -> Option<&'static str>,
}

static RECORD: Shape = Shape {
    path: "record",
    rules: &[
        once(1, "key", Kind::Key),
        once(2, "event_time_unix_nanos", Kind::EventTime),
        case(3, "quote", "payload", Kind::Message(&QUOTE)),
        case(4, "trade", "payload", Kind::Message(&TRADE)),
        case(5, "bar", "payload", Kind::Message(&BAR)),
        case(6, "reading", "payload", Kind::Message(&READING)),
        case(7, "status", "payload", Kind::Message(&STATUS)),
        once(9, "source_time_unix_nanos", Kind::Fixed64),
        once(10, "source_sequence", Kind::Varint),
        once(11, "venue", Kind::Text(64)),
        any(12, "time_assigned", Kind::Cut),
        any(13, "offset", Kind::Cut),
        any(14, "ingest_time_unix_nanos", Kind::Cut),
    ],
    lacks: |bytes| {
        let record: v1::Record = decoded(&without_server_fields(bytes));
        first_of(&[
            (record.key.is_empty(), "key"),
            (record.payload.is_none(), "payload"),
        ])
    },
};

static QUOTE: Shape = Shape {
    path: "quote",
    rules: &[
        once(1, "quote.bid", Kind::Decimal),
        once(2, "quote.ask", Kind::Decimal),
        once(3, "quote.bid_size", Kind::Decimal),
        once(4, "quote.ask_size", Kind::Decimal),
        conditions("quote.conditions"),
    ],
    lacks: |bytes| {
        let quote: v1::Quote = decoded(bytes);
        first_of(&[(quote.bid.is_none() && quote.ask.is_none(), "quote.bid")])
    },
};

static TRADE: Shape = Shape {
    path: "trade",
    rules: &[
        once(1, "trade.price", Kind::Decimal),
        once(2, "trade.size", Kind::Decimal),
        once(3, "trade.trade_id", Kind::Text(64)),
        once(4, "trade.side", Kind::Choice(v1::TradeSide::Sell as u64)),
        conditions("trade.conditions"),
        once(
            6,
            "trade.action",
            Kind::Choice(v1::TradeAction::Cancel as u64),
        ),
    ],
    lacks: |bytes| {
        let trade: v1::Trade = decoded(bytes);
        let named = match trade.action() {
            v1::TradeAction::Unspecified | v1::TradeAction::New => true,
            v1::TradeAction::Correct | v1::TradeAction::Cancel => !trade.trade_id.is_empty(),
        };
        first_of(&[
            (trade.price.is_none(), "trade.price"),
            (!named, "trade.trade_id"),
        ])
    },
};

static BAR: Shape = Shape {
    path: "bar",
    rules: &[
        once(1, "bar.start_unix_nanos", Kind::Fixed64),
        once(2, "bar.interval_nanos", Kind::Interval),
        once(3, "bar.open", Kind::Decimal),
        once(4, "bar.high", Kind::Decimal),
        once(5, "bar.low", Kind::Decimal),
        once(6, "bar.close", Kind::Decimal),
        once(7, "bar.volume", Kind::Decimal),
        once(8, "bar.vwap", Kind::Decimal),
        once(9, "bar.count", Kind::Varint),
        once(10, "bar.adjusted_close", Kind::Decimal),
    ],
    lacks: |bytes| {
        let bar: v1::Bar = decoded(bytes);
        first_of(&[
            (bar.start_unix_nanos.is_none(), "bar.start_unix_nanos"),
            (bar.interval_nanos.is_none(), "bar.interval_nanos"),
            (bar.open.is_none(), "bar.open"),
            (bar.high.is_none(), "bar.high"),
            (bar.low.is_none(), "bar.low"),
            (bar.close.is_none(), "bar.close"),
        ])
    },
};

static READING: Shape = Shape {
    path: "reading",
    rules: &[
        case(1, "reading.number", "reading.value", Kind::Double),
        case(2, "reading.decimal", "reading.value", Kind::Decimal),
        case(3, "reading.integer", "reading.value", Kind::Varint),
        case(4, "reading.flag", "reading.value", Kind::Varint),
        case(5, "reading.text", "reading.value", Kind::Text(4_096)),
        case(6, "reading.vector", "reading.value", Kind::Message(&VECTOR)),
        once(7, "reading.quality", Kind::Choice(v1::Quality::Bad as u64)),
        once(8, "reading.quality_code", Kind::Uint32),
    ],
    lacks: |bytes| {
        let reading: v1::Reading = decoded(bytes);
        let bad = reading.quality() == v1::Quality::Bad;
        first_of(&[(reading.value.is_none() && !bad, "reading.value")])
    },
};

static VECTOR: Shape = Shape {
    path: "reading.vector",
    rules: &[any(1, "reading.vector.values", Kind::Doubles(1_024))],
    lacks: |bytes| {
        let vector: v1::Vector = decoded(bytes);
        first_of(&[(vector.values.is_empty(), "reading.vector.values")])
    },
};

static STATUS: Shape = Shape {
    path: "status",
    rules: &[
        once(1, "status.state", Kind::Text(64)),
        once(2, "status.reason", Kind::Text(1_024)),
    ],
    lacks: |bytes| {
        let status: v1::Status = decoded(bytes);
        first_of(&[(status.state.is_empty(), "status.state")])
    },
};

/// Its offences bear the name of the field that holds the decimal.
static DECIMAL: Shape = Shape {
    path: "",
    rules: &[
        once(1, "", Kind::Varint),
        once(2, "", Kind::Varint),
        once(3, "", Kind::Varint),
    ],
    lacks: |_| None,
};

/// The record as prost decodes it, without what the server cuts, or its first offence.
pub(super) fn judge(bytes: &[u8], limits: &Limits) -> Result<v1::Record, Offence> {
    if bytes.len() > limits.record_bytes {
        return Err(("record", Reason::TooLong));
    }
    message(&RECORD, bytes, limits)?;
    Ok(decoded(&without_server_fields(bytes)))
}

/// The record as the server keeps it.
pub(super) fn without_server_fields(bytes: &[u8]) -> Vec<u8> {
    let fields = Fields::of(bytes).fields.into_iter();
    fields
        .filter(|field| !(12..=14).contains(&field.number))
        .flat_map(|field| field.whole)
        .collect()
}

fn message(shape: &Shape, bytes: &[u8], limits: &Limits) -> Result<(), Offence> {
    let Fields { fields, garbage } = Fields::of(bytes);
    let mut before: Vec<&Rule> = vec![];
    let mut doubles = 0;
    for field in &fields {
        let rule = shape.rules.iter().find(|rule| rule.number == field.number);
        let rule = rule.ok_or((shape.path, Reason::UnknownField))?;
        if !rule.kind.fits(field) {
            return Err((rule.path, Reason::Malformed));
        }
        occurs(rule, &before)?;
        before.push(rule);
        if let Kind::Doubles(limit) = rule.kind {
            doubles += field.body.len() / 8;
            if doubles > limit {
                return Err((rule.path, Reason::TooMany));
            }
        }
        value(rule, field, limits)?;
    }
    if !garbage.is_empty() {
        return Err((shape.path, Reason::Malformed));
    }
    (shape.lacks)(bytes).map_or(Ok(()), |path| Err((path, Reason::Missing)))
}

fn occurs(rule: &Rule, before: &[&Rule]) -> Result<(), Offence> {
    let same = |other: &&&Rule| match (&rule.times, &other.times) {
        (Times::Case(name), Times::Case(other)) => name == other,
        _ => rule.number == other.number,
    };
    let earlier = before.iter().filter(same).count();
    match rule.times {
        Times::Once if earlier > 0 => Err((rule.path, Reason::RepeatedField)),
        Times::Case(name) if earlier > 0 => Err((name, Reason::SecondPayload)),
        Times::AtMost(limit) if earlier >= limit => Err((rule.path, Reason::TooMany)),
        Times::Once | Times::Case(_) | Times::AtMost(_) | Times::Any => Ok(()),
    }
}

fn value(rule: &Rule, field: &Field, limits: &Limits) -> Result<(), Offence> {
    let fails = |broken: bool, reason| match broken {
        true => Err((rule.path, reason)),
        false => Ok(()),
    };
    let doubles = || field.body.chunks(8).map(double);
    match rule.kind {
        Kind::Cut | Kind::Fixed64 | Kind::Varint => Ok(()),
        Kind::Key => text(rule.path, &field.body, limits.key_bytes),
        Kind::Text(limit) => text(rule.path, &field.body, limit),
        Kind::EventTime => {
            let time = i64::from_le_bytes(field.body.as_slice().try_into().unwrap());
            fails(time > limits.latest_event_time, Reason::TimeAhead)
        }
        Kind::Double | Kind::Doubles(_) => fails(!doubles().all(f64::is_finite), Reason::NotFinite),
        Kind::Interval => {
            let nanos = i128::from(field.varint);
            let positive = 1..=i128::from(i64::MAX);
            fails(!positive.contains(&nanos), Reason::OutOfRange)
        }
        Kind::Uint32 => fails(field.varint > u64::from(u32::MAX), Reason::OutOfRange),
        Kind::Choice(last) => fails(field.varint > last, Reason::OutOfRange),
        Kind::Decimal => {
            message(&DECIMAL, &field.body, limits).map_err(|(_, reason)| (rule.path, reason))?;
            fails(!is_decimal(&field.body), Reason::OutOfRange)
        }
        Kind::Message(shape) => message(shape, &field.body, limits),
    }
}

fn text(path: &'static str, bytes: &[u8], limit: usize) -> Result<(), Offence> {
    if bytes.len() > limit {
        return Err((path, Reason::TooLong));
    }
    match String::from_utf8(bytes.to_vec()) {
        Ok(_) => Ok(()),
        Err(_) => Err((path, Reason::NotUtf8)),
    }
}

/// Whether `rust_decimal` can hold it. A scale beyond 32 bits must not count as its low half.
fn is_decimal(bytes: &[u8]) -> bool {
    let mut scales = Fields::of(bytes)
        .fields
        .into_iter()
        .filter(|f| f.number == 2);
    let scale = scales.next().map_or(0, |field| field.varint);
    let decimal: v1::Decimal = decoded(bytes);
    let mantissa = i128::from(decimal.high)
        .checked_mul(1 << 64)
        .and_then(|high| high.checked_add(i128::from(decimal.units)));
    scale == u64::from(decimal.scale)
        && mantissa.is_some_and(|m| Decimal::try_from_i128_with_scale(m, decimal.scale).is_ok())
}

fn double(bytes: &[u8]) -> f64 {
    f64::from_le_bytes(bytes.try_into().unwrap())
}

fn decoded<M: prost::Message + Default>(bytes: &[u8]) -> M {
    M::decode(bytes).expect("prost decodes what breaks no rule")
}

fn first_of(faults: &[(bool, &'static str)]) -> Option<&'static str> {
    faults
        .iter()
        .find(|(broken, _)| *broken)
        .map(|(_, path)| *path)
}
