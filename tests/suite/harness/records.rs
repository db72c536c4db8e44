//! Records of all kinds in few words.

use bytes::Bytes;
use prost::Message as _;
use ringfeed::{
    model::SERVER_FIELDS_LEN,
    proto::{
        convert::parse_decimal,
        v1::{self, reading::Value, record::Payload},
    },
};

/// 2023-11-14, a second apart.
pub(crate) fn event_nanos(n: u64) -> i64 {
    1_700_000_000_000_000_000 + i64::try_from(n).unwrap() * 1_000_000_000
}

pub(crate) fn record(key: &str, event_time: i64, payload: Payload) -> v1::Record {
    v1::Record {
        key: key.into(),
        event_time_unix_nanos: Some(event_time),
        payload: Some(payload),
        ..v1::Record::default()
    }
}

pub(crate) fn reading(key: &str, event_time: i64, value: Value) -> v1::Record {
    let reading = v1::Reading {
        value: Some(value),
        ..v1::Reading::default()
    };
    record(key, event_time, Payload::Reading(reading))
}

/// The `n`th reading of a key; its value is `n`.
pub(crate) fn number(key: &str, n: u64) -> Bytes {
    encode(&reading(key, event_nanos(n), Value::Number(n as f64)))
}

/// What `number` was called with.
pub(crate) fn number_of(record: &v1::Record) -> u64 {
    match &record.payload {
        Some(Payload::Reading(v1::Reading {
            value: Some(Value::Number(n)),
            ..
        })) => *n as u64,
        other => panic!("no number: {other:?}"),
    }
}

pub(crate) fn text(key: &str, n: u64, text: &str) -> Bytes {
    encode(&reading(key, event_nanos(n), Value::Text(text.into())))
}

/// A large record: 8 bytes for each channel, the first of which is `n`.
pub(crate) fn vector(key: &str, n: u64, channels: usize) -> Bytes {
    let mut values = vec![0.5; channels];
    values[0] = n as f64;
    let vector = Value::Vector(v1::Vector { values });
    encode(&reading(key, event_nanos(n), vector))
}

pub(crate) fn dec(text: &str) -> Option<v1::Decimal> {
    Some(parse_decimal(text).unwrap())
}

pub(crate) fn encode(record: &v1::Record) -> Bytes {
    record.encode_to_vec().into()
}

/// A record as it was delivered.
pub(crate) fn stored(bytes: &Bytes) -> v1::Record {
    v1::Record::decode(bytes.clone()).unwrap()
}

/// A delivered record without what the server appended to it: the producer's own bytes.
pub(crate) fn own_bytes(bytes: &Bytes) -> Bytes {
    bytes.slice(..bytes.len() - SERVER_FIELDS_LEN)
}
