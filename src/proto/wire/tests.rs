use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::proto::v1::{self, record::Payload};

const LIMITS: Limits = Limits {
    record_bytes: 60_000,
    key_bytes: 256,
    latest_event_time: 1_000_000,
};

fn record(payload: Payload) -> v1::Record {
    v1::Record {
        key: "AAPL".into(),
        event_time_unix_nanos: Some(5),
        payload: Some(payload),
        ..Default::default()
    }
}

fn number(value: f64) -> Payload {
    Payload::Reading(v1::Reading {
        value: Some(v1::reading::Value::Number(value)),
        ..Default::default()
    })
}

#[expect(clippy::unnecessary_wraps, reason = "every use is an optional field")]
fn price(units: i64) -> Option<v1::Decimal> {
    Some(v1::Decimal {
        units,
        scale: 2,
        high: 0,
    })
}

fn refusal(record: &v1::Record) -> (&'static str, Reason) {
    let invalid = scan(&record.encode_to_vec(), &LIMITS).expect_err("is refused");
    assert!(!invalid.message.is_empty());
    (invalid.field, invalid.reason)
}

fn bar() -> v1::Bar {
    v1::Bar {
        start_unix_nanos: Some(0),
        interval_nanos: Some(1),
        open: price(1),
        high: price(1),
        low: price(1),
        close: price(1),
        ..Default::default()
    }
}

#[test]
fn odd_but_real_records_pass() {
    let one_sided = v1::Quote {
        bid: price(0),
        ..Default::default()
    };
    let crossed = v1::Quote {
        bid: price(10),
        ask: price(9),
        ..Default::default()
    };
    let locked = v1::Quote {
        bid: price(10),
        ask: price(10),
        ..Default::default()
    };
    let negative = v1::Trade {
        price: price(-3_763),
        ..Default::default()
    };
    let missing = v1::Reading {
        quality: v1::Quality::Bad.into(),
        ..Default::default()
    };
    let payloads = [
        Payload::Quote(one_sided),
        Payload::Quote(crossed),
        Payload::Quote(locked),
        Payload::Trade(negative),
        Payload::Reading(missing),
        Payload::Bar(bar()),
        number(-0.0),
        Payload::Status(v1::Status {
            state: "halted".into(),
            ..Default::default()
        }),
    ];
    for payload in payloads {
        let mut record = record(payload);
        record.event_time_unix_nanos = Some(-252_460_800_000_000_000); // 1962
        let bytes = record.encode_to_vec();
        let view = scan(&bytes, &LIMITS).unwrap();
        assert_eq!(view.key, "AAPL");
        assert_eq!(view.event_time, record.event_time_unix_nanos);
        assert!(!view.server_owned);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table, one entry a rule")]
fn every_rule_names_its_field() {
    let with = |payload| refusal(&record(payload));
    let long_key = v1::Record {
        key: "k".repeat(257),
        ..record(number(1.0))
    };
    assert_eq!(refusal(&long_key), ("key", Reason::TooLong));
    let no_key = v1::Record {
        key: String::new(),
        ..record(number(1.0))
    };
    assert_eq!(refusal(&no_key), ("key", Reason::Missing));
    let no_payload = v1::Record {
        payload: None,
        ..record(number(1.0))
    };
    assert_eq!(refusal(&no_payload), ("payload", Reason::Missing));
    let ahead = v1::Record {
        event_time_unix_nanos: Some(1_000_001),
        ..record(number(1.0))
    };
    assert_eq!(
        refusal(&ahead),
        ("event_time_unix_nanos", Reason::TimeAhead)
    );
    let large = v1::Record {
        key: "k".repeat(60_001),
        ..record(number(1.0))
    };
    assert_eq!(refusal(&large), ("record", Reason::TooLong));
    let long_venue = v1::Record {
        venue: "v".repeat(65),
        ..record(number(1.0))
    };
    assert_eq!(refusal(&long_venue), ("venue", Reason::TooLong));

    assert_eq!(
        with(number(f64::NAN)),
        ("reading.number", Reason::NotFinite)
    );
    assert_eq!(
        with(number(f64::INFINITY)),
        ("reading.number", Reason::NotFinite)
    );
    assert_eq!(
        with(Payload::Reading(v1::Reading::default())),
        ("reading.value", Reason::Missing)
    );
    assert_eq!(
        with(Payload::Quote(v1::Quote::default())),
        ("quote.bid", Reason::Missing)
    );
    assert_eq!(
        with(Payload::Trade(v1::Trade::default())),
        ("trade.price", Reason::Missing)
    );
    assert_eq!(
        with(Payload::Status(v1::Status::default())),
        ("status.state", Reason::Missing)
    );
    let wide = Some(v1::Decimal {
        units: 1,
        scale: 29,
        high: 0,
    });
    let trade = v1::Trade {
        price: wide,
        ..Default::default()
    };
    assert_eq!(
        with(Payload::Trade(trade)),
        ("trade.price", Reason::OutOfRange)
    );
    let correction = v1::Trade {
        price: price(1),
        action: 2,
        ..Default::default()
    };
    assert_eq!(
        with(Payload::Trade(correction)),
        ("trade.trade_id", Reason::Missing)
    );
    let side = v1::Trade {
        price: price(1),
        side: 9,
        ..Default::default()
    };
    assert_eq!(
        with(Payload::Trade(side)),
        ("trade.side", Reason::OutOfRange)
    );
    let no_low = v1::Bar { low: None, ..bar() };
    assert_eq!(with(Payload::Bar(no_low)), ("bar.low", Reason::Missing));
    let no_time = v1::Bar {
        interval_nanos: Some(0),
        ..bar()
    };
    assert_eq!(
        with(Payload::Bar(no_time)),
        ("bar.interval_nanos", Reason::OutOfRange)
    );
    let many = v1::Quote {
        bid: price(1),
        conditions: vec![String::new(); 17],
        ..Default::default()
    };
    assert_eq!(
        with(Payload::Quote(many)),
        ("quote.conditions", Reason::TooMany)
    );
    let vector = |values| {
        let value = Some(v1::reading::Value::Vector(v1::Vector { values }));
        Payload::Reading(v1::Reading {
            value,
            ..Default::default()
        })
    };
    assert_eq!(
        with(vector(vec![])),
        ("reading.vector.values", Reason::Missing)
    );
    assert_eq!(
        with(vector(vec![1.0, f64::NAN])),
        ("reading.vector.values", Reason::NotFinite)
    );
}

#[test]
fn what_prost_would_swallow_is_refused() {
    let good = record(number(1.0)).encode_to_vec();
    let with = |extra: &[u8]| {
        let bytes = [good.as_slice(), extra].concat();
        scan(&bytes, &LIMITS)
            .map(drop)
            .expect_err("is refused")
            .reason
    };
    assert_eq!(with(&[0x0a, 1, b'B']), Reason::RepeatedField);
    assert_eq!(with(&[8 << 3, 1]), Reason::UnknownField);
    assert_eq!(with(&[0xf8, 0x01, 1]), Reason::UnknownField);
    assert_eq!(with(&[3 << 3 | 2, 0]), Reason::SecondPayload);
    assert_eq!(with(&[11 << 3 | 2, 1, 0xff]), Reason::NotUtf8);
    assert_eq!(with(&[9 << 3, 1]), Reason::Malformed);
    assert_eq!(with(&[0xff]), Reason::Malformed);
    let two_values = [6 << 3 | 2, 4, 3 << 3, 2, 4 << 3, 1];
    let bytes = [&[0x0a, 1, b'k'], two_values.as_slice()].concat();
    assert_eq!(
        scan(&bytes, &LIMITS).unwrap_err().reason,
        Reason::SecondPayload
    );
}

/// What is stored of a record, at time 9, and its event time.
fn kept(record: &v1::Record) -> (Vec<u8>, UnixNanos) {
    let bytes = record.encode_to_vec();
    let view = scan(&bytes, &LIMITS).unwrap();
    let kept = Kept::of(&bytes, &view, 9);
    (kept.parts().concat(), kept.event_time)
}

#[test]
fn a_received_record_can_be_sent_again() {
    let mut sent = record(number(1.0));
    let plain = kept(&sent).0;
    sent.offset = 77;
    sent.ingest_time_unix_nanos = 78;
    sent.time_assigned = true;
    assert_eq!(plain, kept(&sent).0);
}

#[test]
fn a_record_without_a_time_gets_the_servers() {
    let sent = v1::Record {
        event_time_unix_nanos: None,
        ..record(number(1.0))
    };
    let (bytes, event_time) = kept(&sent);
    assert_eq!(event_time, 9);
    let stored = v1::Record::decode(bytes.as_slice()).unwrap();
    assert_eq!(stored.event_time_unix_nanos, Some(9));
    assert!(stored.time_assigned);
    assert_eq!(stored.payload, sent.payload);
}

proptest! {
    /// The scan never panics, and what it passes prost decodes to the same.
    #[test]
    fn the_scan_agrees_with_prost(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(view) = scan(&bytes, &LIMITS) {
            let record = v1::Record::decode(bytes.as_slice()).unwrap();
            prop_assert_eq!(view.key, record.key);
            prop_assert_eq!(view.event_time, record.event_time_unix_nanos);
        }
    }

    #[test]
    fn damage_never_panics_and_never_invents_a_key(
        at in 0..60_usize, to in any::<u8>(), cut in 0..60_usize,
    ) {
        let mut bytes = record(Payload::Bar(bar())).encode_to_vec();
        bytes.truncate(bytes.len().saturating_sub(cut % 8));
        if let Some(byte) = bytes.get_mut(at) {
            *byte = to;
        }
        if let Ok(view) = scan(&bytes, &LIMITS) {
            let record = v1::Record::decode(bytes.as_slice()).unwrap();
            prop_assert_eq!(view.key, record.key);
        }
    }
}
