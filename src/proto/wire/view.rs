//! What a stored record says, read in place. For views: they want the prices or values of every
//! record, and would spend their time on copies. What breaks a rule reads as `None`.

use rust_decimal::Decimal;

use super::{
    payload,
    reader::{BYTES, FIXED64, Reader, VARINT},
};
use crate::model::{DecimalParts, PayloadKind, UnixNanos};

const MAX_SCALE: u32 = 28;
const ACTION_CORRECT: u64 = 2;
const ACTION_CANCEL: u64 = 3;
const QUALITY_BAD: u64 = 3;

/// A stored record, its payload not yet read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed<'a> {
    pub key: &'a str,
    pub event_time: UnixNanos,
    pub ingest_time: UnixNanos,
    pub kind: PayloadKind,
    /// To be read by the view of its kind.
    pub payload: &'a [u8],
}

impl<'a> Observed<'a> {
    /// Of a record as it is stored and delivered.
    pub fn read(record: &'a [u8]) -> Option<Self> {
        let (mut key, mut event_time, mut ingest_time) = (None, 0, 0);
        let mut found = None;
        let mut rest = Reader::new(record);
        while !rest.is_empty() {
            match rest.tag()? {
                (1, BYTES) => key = Some(rest.bytes()?),
                (2, FIXED64) => event_time = rest.fixed64()?.cast_signed(),
                (number @ 3..=7, BYTES) => found = Some((payload::kind(number), rest.bytes()?)),
                (14, FIXED64) => ingest_time = rest.fixed64()?.cast_signed(),
                (_, wire) => rest.skip(wire)?,
            }
        }
        let (kind, payload) = found?;
        Some(Self {
            key: std::str::from_utf8(key?).ok()?,
            event_time,
            ingest_time,
            kind,
            payload,
        })
    }
}

/// Both prices of a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuoteView {
    pub bid: Option<Decimal>,
    pub ask: Option<Decimal>,
}

impl QuoteView {
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (mut bid, mut ask) = (None, None);
        let mut rest = Reader::new(payload);
        while !rest.is_empty() {
            match rest.tag()? {
                (1, BYTES) => bid = Some(decimal(rest.bytes()?)?),
                (2, BYTES) => ask = Some(decimal(rest.bytes()?)?),
                (_, wire) => rest.skip(wire)?,
            }
        }
        Some(Self { bid, ask })
    }
}

/// What a trade record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradeAction {
    New,
    Correct,
    Cancel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TradeView<'a> {
    pub price: Decimal,
    pub size: Option<Decimal>,
    /// Empty where there is none.
    pub trade_id: &'a str,
    pub action: TradeAction,
}

impl<'a> TradeView<'a> {
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        let (mut price, mut size, mut id, mut action) = (None, None, "", TradeAction::New);
        let mut rest = Reader::new(payload);
        while !rest.is_empty() {
            match rest.tag()? {
                (1, BYTES) => price = Some(decimal(rest.bytes()?)?),
                (2, BYTES) => size = Some(decimal(rest.bytes()?)?),
                (3, BYTES) => id = std::str::from_utf8(rest.bytes()?).ok()?,
                (6, VARINT) => action = trade_action(rest.varint()?),
                (_, wire) => rest.skip(wire)?,
            }
        }
        Some(Self {
            price: price?,
            size,
            trade_id: id,
            action,
        })
    }
}

fn trade_action(number: u64) -> TradeAction {
    match number {
        ACTION_CORRECT => TradeAction::Correct,
        ACTION_CANCEL => TradeAction::Cancel,
        _ => TradeAction::New,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarView {
    pub start: UnixNanos,
    pub open: Decimal,
    pub high: Decimal,
    pub low: Decimal,
    pub close: Decimal,
    pub volume: Option<Decimal>,
    pub vwap: Option<Decimal>,
    pub count: Option<u64>,
    pub adjusted_close: Option<Decimal>,
}

impl BarView {
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (mut start, mut count) = (None, None);
        let (mut open, mut high, mut low, mut close) = (None, None, None, None);
        let (mut volume, mut vwap, mut adjusted_close) = (None, None, None);
        let mut rest = Reader::new(payload);
        while !rest.is_empty() {
            match rest.tag()? {
                (1, FIXED64) => start = Some(rest.fixed64()?.cast_signed()),
                (3, BYTES) => open = Some(decimal(rest.bytes()?)?),
                (4, BYTES) => high = Some(decimal(rest.bytes()?)?),
                (5, BYTES) => low = Some(decimal(rest.bytes()?)?),
                (6, BYTES) => close = Some(decimal(rest.bytes()?)?),
                (7, BYTES) => volume = Some(decimal(rest.bytes()?)?),
                (8, BYTES) => vwap = Some(decimal(rest.bytes()?)?),
                (9, VARINT) => count = Some(rest.varint()?),
                (10, BYTES) => adjusted_close = Some(decimal(rest.bytes()?)?),
                (_, wire) => rest.skip(wire)?,
            }
        }
        Some(Self {
            start: start?,
            open: open?,
            high: high?,
            low: low?,
            close: close?,
            volume,
            vwap,
            count,
            adjusted_close,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadingView<'a> {
    pub value: Option<ValueView<'a>>,
    pub quality: ReadingQuality,
}

/// Whether a reading's value can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadingQuality {
    /// GOOD or UNCERTAIN.
    Usable,
    Bad,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueView<'a> {
    Number(f64),
    Decimal(Decimal),
    Integer(i64),
    Flag(bool),
    Text,
    Vector(Channels<'a>),
}

impl<'a> ReadingView<'a> {
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        let (mut value, mut quality) = (None, ReadingQuality::Usable);
        let mut rest = Reader::new(payload);
        while !rest.is_empty() {
            match rest.tag()? {
                (1, FIXED64) => value = Some(ValueView::Number(f64::from_bits(rest.fixed64()?))),
                (2, BYTES) => value = Some(ValueView::Decimal(decimal(rest.bytes()?)?)),
                (3, VARINT) => value = Some(ValueView::Integer(zigzag(rest.varint()?))),
                (4, VARINT) => value = Some(ValueView::Flag(rest.varint()? != 0)),
                (5, BYTES) => {
                    rest.bytes()?;
                    value = Some(ValueView::Text);
                }
                (6, BYTES) => value = Some(ValueView::Vector(Channels(rest.bytes()?))),
                (7, VARINT) if rest.varint()? == QUALITY_BAD => quality = ReadingQuality::Bad,
                (7, VARINT) => {}
                (_, wire) => rest.skip(wire)?,
            }
        }
        Some(Self { value, quality })
    }
}

/// The numbers of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels<'a>(&'a [u8]);

impl<'a> Channels<'a> {
    /// One number a channel, from channel 0; packed or one by one, both are valid protobuf.
    pub fn values(self) -> impl Iterator<Item = f64> + use<'a> {
        let mut rest = Reader::new(self.0);
        let mut packed: &[[u8; 8]] = &[];
        std::iter::from_fn(move || {
            loop {
                if let Some((value, behind)) = packed.split_first() {
                    packed = behind;
                    return Some(f64::from_le_bytes(*value));
                }
                match rest.tag()? {
                    (1, FIXED64) => return rest.fixed64().map(f64::from_bits),
                    (1, BYTES) => packed = rest.bytes()?.as_chunks::<8>().0,
                    (_, wire) => rest.skip(wire)?,
                }
            }
        })
    }
}

#[inline]
fn decimal(bytes: &[u8]) -> Option<Decimal> {
    let mut parts = DecimalParts::default();
    let mut rest = Reader::new(bytes);
    while !rest.is_empty() {
        match rest.tag()? {
            (1, VARINT) => parts.units = zigzag(rest.varint()?),
            (2, VARINT) => parts.scale = u32::try_from(rest.varint()?).ok()?,
            (3, VARINT) => parts.high = zigzag(rest.varint()?),
            (_, wire) => rest.skip(wire)?,
        }
    }
    if parts.high == 0 && parts.scale <= MAX_SCALE {
        return Some(Decimal::new(parts.units, parts.scale));
    }
    parts.try_into().ok()
}

fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}
