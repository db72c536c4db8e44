//! What passes, what is refused and as what.

mod damage;
mod differential;
mod records;
mod reference;
mod views;

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
fn a_vector_in_pieces_counts_as_one() {
    // Doubles in two packed fields and one that is not packed.
    let vector = |packed: [usize; 2]| {
        let pieces = packed.map(|count| v1::Vector {
            values: vec![0.5; count],
        });
        let encoded = pieces.map(|piece| piece.encode_to_vec());
        let single = [&[1 << 3 | 1], 0.5_f64.to_le_bytes().as_slice()].concat();
        let vector = [encoded.concat(), single].concat();
        let reading = [vec![6 << 3 | 2], varint(vector.len()), vector].concat();
        let key = b"\x0a\x01k".to_vec();
        let record = [key, vec![6 << 3 | 2], varint(reading.len()), reading].concat();
        scan(&record, &LIMITS).map(drop)
    };
    assert_eq!(vector([1_023, 0]), Ok(()));
    assert_eq!(vector([511, 512]), Ok(()));
    let refused = vector([512, 512]).unwrap_err();
    assert_eq!(refused.reason, Reason::TooMany);
    let empty_piece = b"\x0a\x01k\x32\x04\x32\x02\x0a\x00";
    let refused = scan(empty_piece, &LIMITS).unwrap_err();
    assert_eq!(refused.field, "reading.vector.values");
    assert_eq!(refused.reason, Reason::Missing);
}

fn varint(value: usize) -> Vec<u8> {
    let mut bytes = vec![];
    prost::encoding::encode_varint(value as u64, &mut bytes);
    bytes
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

/// One test a sentence of what `scan` promises about the order of offences.
#[test]
fn the_first_offence_is_named() {
    let scanned = |parts: &[&[u8]]| {
        let invalid = scan(&parts.concat(), &LIMITS).expect_err("is refused");
        (invalid.field, invalid.reason)
    };
    let key = b"\x0a\x01k".as_slice();
    let empty_quote = b"\x1a\x00".as_slice();
    let unknown = b"\x80\x01\x01".as_slice();
    let cut_short = b"\xff".as_slice();
    let missing_bid = ("quote.bid", Reason::Missing);
    // In wire order, and a payload's at the payload's place.
    assert_eq!(scanned(&[empty_quote, unknown, key]), missing_bid);
    assert_eq!(
        scanned(&[unknown, empty_quote, key]),
        ("record", Reason::UnknownField)
    );
    assert_eq!(scanned(&[empty_quote, cut_short]), missing_bid);
    // What the record lacks comes last, by field number.
    assert_eq!(scanned(&[empty_quote]), missing_bid);
    assert_eq!(scanned(&[]), ("key", Reason::Missing));
    assert_eq!(scanned(&[key]), ("payload", Reason::Missing));
    let cancel = b"\x22\x02\x30\x03".as_slice();
    assert_eq!(scanned(&[key, cancel]), ("trade.price", Reason::Missing));
    // Of one field: its wire type, that it is there again, its length, its value.
    let long = [&[0x5a, 65], [0xff; 65].as_slice()].concat();
    let venue = b"\x5a\x01v".as_slice();
    let wrong_type = b"\x58\x01".as_slice();
    assert_eq!(scanned(&[&long]), ("venue", Reason::TooLong));
    assert_eq!(scanned(&[venue, &long]), ("venue", Reason::RepeatedField));
    assert_eq!(scanned(&[venue, wrong_type]), ("venue", Reason::Malformed));
    // A second value of a reading, be it the same case or another.
    let twice = |second: &[u8]| scanned(&[key, b"\x32\x04\x18\x02", second]);
    assert_eq!(twice(&[0x18, 2]), ("reading.value", Reason::SecondPayload));
    assert_eq!(twice(&[0x20, 1]), ("reading.value", Reason::SecondPayload));
}
