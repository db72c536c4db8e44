//! A typical record of every kind, for the benchmarks and the counts of allocations.

use prost::Message as _;
use ringfeed::proto::v1::{self, reading::Value, record::Payload};

/// A name and the record number `n` of that sort, encoded.
pub(crate) type Sample = (&'static str, fn(i64) -> Vec<u8>);

pub(crate) const SAMPLES: [Sample; 8] = [
    ("quote", quote),
    ("trade", trade),
    ("bar", bar),
    ("reading", reading),
    ("reading_decimal", reading_decimal),
    ("reading_text", reading_text),
    ("reading_vector", reading_vector),
    ("status", status),
];

/// As a crypto exchange sends it: 88 bytes.
pub(crate) fn quote(n: i64) -> Vec<u8> {
    let quote = v1::Quote {
        bid: decimal(6_183_763_000_000 + n, 8),
        ask: decimal(6_183_764_000_000 + n, 8),
        bid_size: decimal(378_826_000, 8),
        ask_size: decimal(154_698_000, 8),
        conditions: vec![],
    };
    let record = v1::Record {
        source_time_unix_nanos: Some(1_723_161_254_087_000_000 + n),
        source_sequence: Some(5_104_377_211 + n.unsigned_abs()),
        venue: "binance".into(),
        ..record("BTCUSDT", n, Payload::Quote(quote))
    };
    record.encode_to_vec()
}

fn trade(n: i64) -> Vec<u8> {
    let trade = v1::Trade {
        price: decimal(519_500 + n, 4),
        size: decimal(75, 0),
        trade_id: format!("{}", 62_879_146 + n),
        side: v1::TradeSide::Buy.into(),
        conditions: vec!["@".into(), "F".into()],
        action: v1::TradeAction::New.into(),
    };
    record("MSFT", n, Payload::Trade(trade)).encode_to_vec()
}

fn bar(n: i64) -> Vec<u8> {
    let bar = v1::Bar {
        start_unix_nanos: Some(1_464_183_000_000_000_000 + n),
        interval_nanos: Some(60_000_000_000),
        open: decimal(11_856 + n, 2),
        high: decimal(13_206 + n, 2),
        low: decimal(11_850, 2),
        close: decimal(13_031, 2),
        volume: decimal(9_616_100, 0),
        vwap: decimal(12_477_104, 5),
        count: Some(31_441),
        adjusted_close: decimal(4_186_662_803_811, 12),
    };
    record("AAPL", n, Payload::Bar(bar)).encode_to_vec()
}

fn reading(n: i64) -> Vec<u8> {
    read(n, Value::Number(21.5))
}

fn reading_decimal(n: i64) -> Vec<u8> {
    let decimal = decimal(927_935 + n, 3);
    read(n, Value::Decimal(decimal.unwrap_or_default()))
}

fn reading_text(n: i64) -> Vec<u8> {
    read(n, Value::Text("Störung: Lüfter 2 steht".into()))
}

fn reading_vector(n: i64) -> Vec<u8> {
    let values = vec![0.25, -9.81, 0.031, 1.5, 2.5, -0.75, 48.1, -3.2, 21.0];
    read(n, Value::Vector(v1::Vector { values }))
}

fn read(n: i64, value: Value) -> Vec<u8> {
    let reading = v1::Reading {
        value: Some(value),
        quality: v1::Quality::Good.into(),
        quality_code: None,
    };
    record("plant1.temp", n, Payload::Reading(reading)).encode_to_vec()
}

fn status(n: i64) -> Vec<u8> {
    let status = v1::Status {
        state: "halted".into(),
        reason: "news pending".into(),
    };
    record("AAPL", n, Payload::Status(status)).encode_to_vec()
}

fn record(key: &str, n: i64, payload: Payload) -> v1::Record {
    v1::Record {
        key: key.into(),
        event_time_unix_nanos: Some(1_723_161_254_087_891_268 + n),
        payload: Some(payload),
        ..v1::Record::default()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every use is an optional field")]
fn decimal(units: i64, scale: u32) -> Option<v1::Decimal> {
    Some(v1::Decimal {
        units,
        scale,
        high: 0,
    })
}
