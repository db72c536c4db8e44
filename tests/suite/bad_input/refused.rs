//! Records that are refused: which field, and why.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use ringfeed::proto::v1::{self, Quality, reading::Value, record::Payload};
use tonic::Code;

use crate::harness::{
    Server, Setup, dec, encode, event_nanos, exact, number, numbered, own_bytes, plain,
    read_to_now, reading, reason, record, text, upload, vector, violated_field,
};

fn quote(change: impl FnOnce(&mut v1::Quote)) -> Bytes {
    let mut quote = v1::Quote {
        bid: dec("1.5"),
        ..v1::Quote::default()
    };
    change(&mut quote);
    encode(&record("k", event_nanos(0), Payload::Quote(quote)))
}

fn trade(change: impl FnOnce(&mut v1::Trade)) -> Bytes {
    let mut trade = v1::Trade {
        price: dec("1.5"),
        ..v1::Trade::default()
    };
    change(&mut trade);
    encode(&record("k", event_nanos(0), Payload::Trade(trade)))
}

fn bar(change: impl FnOnce(&mut v1::Bar)) -> Bytes {
    let mut bar = v1::Bar {
        start_unix_nanos: Some(0),
        interval_nanos: Some(1),
        open: dec("1"),
        high: dec("1"),
        low: dec("1"),
        close: dec("1"),
        ..v1::Bar::default()
    };
    change(&mut bar);
    encode(&record("k", event_nanos(0), Payload::Bar(bar)))
}

fn status(state: String, reason: String) -> Bytes {
    let status = v1::Status { state, reason };
    encode(&record("k", event_nanos(0), Payload::Status(status)))
}

fn of(value: Value) -> Bytes {
    encode(&reading("k", event_nanos(0), value))
}

fn joined(parts: &[&[u8]]) -> Bytes {
    parts.concat().into()
}

/// A good record whose payload field is replaced by raw bytes.
fn raw_payload(number: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(b"\x0a\x01k\x11");
    out.put_i64_le(event_nanos(0));
    out.put_u8(number << 3 | 2);
    out.put_u8(u8::try_from(payload.len()).unwrap());
    out.put_slice(payload);
    out.freeze()
}

fn out_of_range() -> Option<v1::Decimal> {
    Some(v1::Decimal {
        units: 1,
        scale: 29,
        high: 0,
    })
}

/// What is sent, the field it is refused for, the reason.
fn table() -> Vec<(Bytes, &'static str, &'static str)> {
    let good = number("k", 1);
    let ahead = ringfeed::model::now() + 25 * 3_600 * 1_000_000_000;
    let no_value = |quality: Quality| {
        let reading = v1::Reading {
            quality: quality.into(),
            ..v1::Reading::default()
        };
        encode(&record("k", 0, Payload::Reading(reading)))
    };
    let twice = joined(&[&good, &quote(|_| {})[12..]]);
    let venue = v1::Record {
        venue: "v".repeat(65),
        ..reading("k", 0, Value::Flag(true))
    };
    vec![
        (number("", 0), "key", "MISSING"),
        (number(&"k".repeat(257), 0), "key", "TOO_LONG"),
        (
            joined(&[b"\x0a\x02\xff\xfe", &good[3..]]),
            "key",
            "NOT_UTF8",
        ),
        (joined(&[&good, b"\x0a\x01k"]), "key", "REPEATED_FIELD"),
        (encode(&venue), "venue", "TOO_LONG"),
        (
            encode(&reading("k", ahead, Value::Flag(true))),
            "event_time_unix_nanos",
            "TIME_AHEAD",
        ),
        (vector("k", 0, 8_000), "record", "TOO_LONG"),
        (
            encode(&v1::Record {
                payload: None,
                ..venue_free()
            }),
            "payload",
            "MISSING",
        ),
        (twice, "payload", "SECOND_PAYLOAD"),
        (joined(&[&good, b"\x80\x01\x01"]), "record", "UNKNOWN_FIELD"),
        (joined(&[&good, b"\x42\x00"]), "record", "UNKNOWN_FIELD"),
        (good.slice(..good.len() - 3), "record", "MALFORMED"),
        (Bytes::from_static(b"\xff\xff\xff"), "record", "MALFORMED"),
        (joined(&[&good, b"\x50"]), "record", "MALFORMED"),
        (joined(&[b"\x08\x01", &good[3..]]), "key", "MALFORMED"),
        (Bytes::new(), "key", "MISSING"),
        (of(Value::Number(f64::NAN)), "reading.number", "NOT_FINITE"),
        (
            of(Value::Number(f64::INFINITY)),
            "reading.number",
            "NOT_FINITE",
        ),
        (
            of(Value::Number(f64::NEG_INFINITY)),
            "reading.number",
            "NOT_FINITE",
        ),
        (
            of(Value::Vector(v1::Vector {
                values: vec![1.0, f64::NAN],
            })),
            "reading.vector.values",
            "NOT_FINITE",
        ),
        (
            of(Value::Vector(v1::Vector { values: vec![] })),
            "reading.vector.values",
            "MISSING",
        ),
        (vector("k", 0, 1_025), "reading.vector.values", "TOO_MANY"),
        (text("k", 0, &"x".repeat(4_097)), "reading.text", "TOO_LONG"),
        (no_value(Quality::Good), "reading.value", "MISSING"),
        (no_value(Quality::Uncertain), "reading.value", "MISSING"),
        (
            raw_payload(6, b"\x38\x09"),
            "reading.quality",
            "OUT_OF_RANGE",
        ),
        (
            raw_payload(6, b"\x18\x02\x20\x01"),
            "reading.value",
            "SECOND_PAYLOAD",
        ),
        (
            raw_payload(6, b"\x18\x02\x78\x01"),
            "reading",
            "UNKNOWN_FIELD",
        ),
        (
            of(Value::Decimal(out_of_range().unwrap())),
            "reading.decimal",
            "OUT_OF_RANGE",
        ),
        (quote(|q| q.bid = None), "quote.bid", "MISSING"),
        (
            quote(|q| q.bid = out_of_range()),
            "quote.bid",
            "OUT_OF_RANGE",
        ),
        (
            quote(|q| {
                q.ask = Some(v1::Decimal {
                    units: 0,
                    scale: 0,
                    high: 1 << 33,
                });
            }),
            "quote.ask",
            "OUT_OF_RANGE",
        ),
        (
            quote(|q| {
                q.ask_size = Some(v1::Decimal {
                    units: 0,
                    scale: 99,
                    high: 0,
                });
            }),
            "quote.ask_size",
            "OUT_OF_RANGE",
        ),
        (
            quote(|q| q.conditions = vec!["@".into(); 17]),
            "quote.conditions",
            "TOO_MANY",
        ),
        (
            quote(|q| q.conditions = vec!["@".repeat(33)]),
            "quote.conditions",
            "TOO_LONG",
        ),
        (trade(|t| t.price = None), "trade.price", "MISSING"),
        (trade(|t| t.side = 7), "trade.side", "OUT_OF_RANGE"),
        (trade(|t| t.action = 2), "trade.trade_id", "MISSING"),
        (trade(|t| t.action = 3), "trade.trade_id", "MISSING"),
        (bar(|b| b.close = None), "bar.close", "MISSING"),
        (
            bar(|b| b.interval_nanos = Some(0)),
            "bar.interval_nanos",
            "OUT_OF_RANGE",
        ),
        (
            bar(|b| b.interval_nanos = Some(-5)),
            "bar.interval_nanos",
            "OUT_OF_RANGE",
        ),
        (
            bar(|b| b.start_unix_nanos = None),
            "bar.start_unix_nanos",
            "MISSING",
        ),
        (
            status(String::new(), "why".into()),
            "status.state",
            "MISSING",
        ),
        (
            status("s".repeat(65), String::new()),
            "status.state",
            "TOO_LONG",
        ),
        (
            status("s".into(), "w".repeat(1_025)),
            "status.reason",
            "TOO_LONG",
        ),
    ]
}

fn venue_free() -> v1::Record {
    reading("k", 0, Value::Flag(true))
}

#[tokio::test]
async fn a_bad_record_is_refused_by_name_and_its_neighbours_are_stored() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let mut sent = vec![];
    for (n, (bad, field, why)) in (0..).zip(table()) {
        let neighbours = [number("good", 2 * n), number("good", 2 * n + 1)];
        let [before, after] = neighbours.clone();
        let first = 3 * n + 1;
        let message = numbered("f", "p", first, vec![before, bad, after]);
        let answer = upload(&mut feeds, vec![message]).await.unwrap();
        assert_eq!(
            exact(&answer),
            (2, 0, 1),
            "row {n}: {field} {why}: {answer:?}"
        );
        let refusal = &answer.refusals[0];
        assert_eq!((&*refusal.field, &*refusal.reason), (field, why), "row {n}");
        assert_eq!((refusal.index, refusal.sequence), (1, first + 1));
        assert!(!refusal.message.is_empty());
        sent.extend(neighbours);
    }
    let ledger = read_to_now(&mut feeds, "f").await;
    let kept: Vec<Bytes> = ledger.records.iter().map(|(_, r)| own_bytes(r)).collect();
    assert_eq!(kept, sent);
}

#[tokio::test]
async fn an_atomic_message_with_a_bad_record_stores_nothing_and_moves_no_mark() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    upload(
        &mut feeds,
        vec![numbered("f", "p", 1, vec![number("k", 0)])],
    )
    .await
    .unwrap();
    for (row, (bad, field, why)) in table().into_iter().enumerate() {
        let mut message = numbered("f", "p", 2, vec![number("k", 1), bad, number("k", 2)]);
        message.mode = v1::IngestMode::Atomic.into();
        let refused = upload(&mut feeds, vec![message]).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "row {row}");
        assert_eq!(reason(&refused), why, "row {row}");
        assert_eq!(violated_field(&refused), format!("records[1].{field}"));
    }
    assert_eq!(read_to_now(&mut feeds, "f").await.records.len(), 1);
    let mut good = numbered("f", "p", 2, vec![number("k", 1), number("k", 2)]);
    good.mode = v1::IngestMode::Atomic.into();
    let stored = upload(&mut feeds, vec![good]).await.unwrap();
    assert_eq!(exact(&stored), (2, 0, 0));
}

#[tokio::test]
async fn refusals_are_indexed_over_the_whole_upload_and_told_up_to_a_hundred() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let bad = number("", 0);
    let message = plain("f", vec![number("k", 0), bad.clone(), bad]);
    let answer = upload(&mut feeds, vec![message; 60]).await.unwrap();
    assert_eq!(exact(&answer), (60, 0, 120));
    let told: Vec<u64> = answer.refusals.iter().map(|r| r.index).collect();
    let expected: Vec<u64> = (0..180).filter(|i| i % 3 != 0).take(100).collect();
    assert_eq!(told, expected);
    assert!(answer.refusals.iter().all(|r| r.sequence == 0));
}

#[tokio::test]
async fn a_key_beyond_the_limit_is_refused_and_known_ones_go_on() {
    let server = Setup::new().with("limits__keys_per_feed", 3).start().await;
    let mut feeds = server.feeds().await;
    let records: Vec<Bytes> = ["a", "b", "c", "d", "a", "e"]
        .iter()
        .zip(0..)
        .map(|(key, n)| number(key, n))
        .collect();
    let answer = upload(&mut feeds, vec![plain("f", records.clone())])
        .await
        .unwrap();
    assert_eq!(exact(&answer), (4, 0, 2));
    for refusal in &answer.refusals {
        assert_eq!((&*refusal.field, &*refusal.reason), ("key", "KEY_LIMIT"));
    }
    // The limit holds over a restart, and deleting a key makes room.
    let server = server.kill9().await.start().await;
    let mut feeds = server.feeds().await;
    let answer = upload(&mut feeds, vec![plain("f", records)]).await.unwrap();
    assert_eq!(exact(&answer), (4, 0, 2));
    let asked = v1::DeleteKeysRequest {
        feed: "f".into(),
        keys: vec!["b".into(), "unheard-of".into()],
    };
    let deleted = server.catalog().await.delete_keys(asked).await.unwrap();
    assert_eq!(deleted.get_ref().deleted, 1);
    let answer = upload(&mut feeds, vec![plain("f", vec![number("d", 1)])]).await;
    assert_eq!(exact(&answer.unwrap()), (1, 0, 0));
}

#[tokio::test]
async fn keys_beyond_the_limit_leave_numbers_and_atomic_batches_whole() {
    let server = Setup::new().with("limits__keys_per_feed", 2).start().await;
    let mut feeds = server.feeds().await;
    let records = |keys: &[&str]| -> Vec<Bytes> {
        let numbers = keys.iter().zip(0..);
        numbers.map(|(key, n)| number(key, n)).collect()
    };
    // Refused for their keys or as they are, behind a repeat: each has its own number and index.
    let all = records(&["a", "c", "", "b", "c", "d"]);
    let first = numbered("f", "p", 1, all[..1].to_vec());
    let answer = upload(&mut feeds, vec![first]).await.unwrap();
    assert_eq!(exact(&answer), (1, 0, 0));
    let answer = upload(&mut feeds, vec![numbered("f", "p", 1, all)]).await;
    let answer = answer.unwrap();
    let told = answer.refusals.iter();
    let told: Vec<_> = told.map(|r| (r.index, r.sequence, &*r.reason)).collect();
    let expected = [(2, 3, "MISSING"), (3, 4, "KEY_LIMIT"), (5, 6, "KEY_LIMIT")];
    assert_eq!(told, expected);
    assert_eq!(exact(&answer), (2, 1, 3));
    assert_eq!(answer.feeds[0].durable_sequence, Some(6));
    let stored = read_to_now(&mut feeds, "f").await.decoded();
    let keys: Vec<_> = stored.iter().map(|record| &*record.key).collect();
    assert_eq!(keys, ["a", "c", "c"]);

    let atomic = |keys| v1::IngestRequest {
        mode: v1::IngestMode::Atomic.into(),
        ..plain("g", records(keys))
    };
    let refused = upload(&mut feeds, vec![atomic(&["a", "b", "c"])]).await;
    let status = refused.unwrap_err();
    assert_eq!(violated_field(&status), "records[2].key");
    let stored = upload(&mut feeds, vec![atomic(&["a", "b", "a"])]).await;
    assert_eq!(exact(&stored.unwrap()), (3, 0, 0));
    assert_eq!(read_to_now(&mut feeds, "g").await.records.len(), 3);
}

#[tokio::test]
async fn server_owned_fields_are_cut_so_that_a_received_record_can_be_sent_on() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let mut forged = reading("k", event_nanos(3), Value::Text("x".into()));
    let clean = encode(&forged);
    forged.offset = 1 << 50;
    forged.ingest_time_unix_nanos = 5;
    forged.time_assigned = true;
    upload(&mut feeds, vec![plain("f", vec![encode(&forged)])])
        .await
        .unwrap();
    let first = read_to_now(&mut feeds, "f").await;
    assert_eq!(own_bytes(&first.records[0].1), clean);
    let received: Vec<Bytes> = first
        .records
        .iter()
        .map(|(_, bytes)| bytes.clone())
        .collect();
    upload(&mut feeds, vec![plain("copy", received)])
        .await
        .unwrap();
    let copy = read_to_now(&mut feeds, "copy").await;
    assert_eq!(own_bytes(&copy.records[0].1), clean);

    // Without an event time the server stamps its own, and says so.
    let timeless = v1::Record {
        event_time_unix_nanos: None,
        ..reading("k", 0, Value::Flag(true))
    };
    let around = ringfeed::model::now();
    upload(
        &mut feeds,
        vec![plain("t", vec![timeless.encode_to_vec().into()])],
    )
    .await
    .unwrap();
    let stamped = read_to_now(&mut feeds, "t").await.decoded().remove(0);
    assert!(stamped.time_assigned);
    let stamp = stamped.event_time_unix_nanos.unwrap();
    assert!((around..=ringfeed::model::now()).contains(&stamp));
}
