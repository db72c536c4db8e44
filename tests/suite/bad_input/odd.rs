//! Odd but real data: taken, and given back as it was sent, byte for byte.

use bytes::Bytes;
use ringfeed::proto::v1::{self, Quality, reading::Value, record::Payload};

use crate::harness::{
    Server, dec, encode, event_nanos, exact, own_bytes, plain, read_to_now, reading, record,
    stored, upload,
};

fn quote(bid: Option<&str>, ask: Option<&str>) -> v1::Record {
    let quote = v1::Quote {
        bid: bid.and_then(dec),
        ask: ask.and_then(dec),
        bid_size: dec("0"),
        ..v1::Quote::default()
    };
    record("q", event_nanos(0), Payload::Quote(quote))
}

fn trade(price: &str, time: i64) -> v1::Record {
    let trade = v1::Trade {
        price: dec(price),
        size: dec("0.00"),
        ..v1::Trade::default()
    };
    record("t", time, Payload::Trade(trade))
}

fn bad(value: Option<Value>) -> v1::Record {
    let reading = v1::Reading {
        value,
        quality: Quality::Bad.into(),
        quality_code: Some(u32::MAX),
    };
    record("s", event_nanos(0), Payload::Reading(reading))
}

fn odd() -> Vec<v1::Record> {
    let largest = "79228162514264337593543950335";
    let in_1962 = -240_000_000_000_000_001;
    let bar = v1::Bar {
        start_unix_nanos: Some(i64::MIN),
        interval_nanos: Some(i64::MAX),
        open: dec("5"),
        high: dec("-1"),
        low: dec("9"),
        close: dec("0.10000000"),
        ..v1::Bar::default()
    };
    let tomorrow = ringfeed::model::now() + 23 * 3_600 * 1_000_000_000;
    let mut records = vec![
        quote(Some("1.50"), None),
        quote(None, Some("1.50")),
        quote(Some("2"), Some("2.000")),
        quote(Some("2.01"), Some("1.99")),
        quote(Some("-37.63"), Some("0")),
        quote(Some("0.0000000000000000000000000000"), Some(largest)),
        quote(Some("-79228162514264337593543950335"), None),
        trade("0", event_nanos(0)),
        trade("-0.00", event_nanos(0)),
        trade("0.10000000", i64::MIN),
        trade("1", in_1962),
        trade("1", event_nanos(500)),
        trade("1", event_nanos(400)),
        trade("1", event_nanos(400)),
        trade("1", event_nanos(400)),
        trade("1", tomorrow),
        record("b", 0, Payload::Bar(bar)),
        bad(None),
        bad(Some(Value::Number(-9_999.9))),
        reading("s", 0, Value::Number(-0.0)),
        reading("s", 0, Value::Number(f64::MIN_POSITIVE / 2.0)),
        reading("s", 0, Value::Number(f64::MAX)),
        reading("s", 0, Value::Integer(i64::MIN)),
        reading("s", 0, Value::Flag(false)),
        reading("s", 0, Value::Text(String::new())),
        reading("s", 0, Value::Text("\0<b>\u{202e}\u{1f600}".into())),
        reading("\u{1f600} \0/..", 0, Value::Decimal(dec("1e-28").unwrap())),
        reading(&"k".repeat(256), 0, Value::Decimal(v1::Decimal::default())),
    ];
    records.push(v1::Record {
        source_time_unix_nanos: Some(i64::MAX),
        source_sequence: Some(u64::MAX),
        venue: "v".repeat(64),
        ..trade("100.10", 1)
    });
    records
}

#[tokio::test]
async fn odd_but_real_records_come_back_as_they_were_sent() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let odd = odd();
    let sent: Vec<Bytes> = odd.iter().map(encode).collect();
    let answer = upload(&mut feeds, vec![plain("odd", sent.clone())])
        .await
        .unwrap();
    assert_eq!(exact(&answer), (sent.len() as u64, 0, 0), "{answer:?}");
    let live = read_to_now(&mut feeds, "odd").await;
    let server = server.kill9().await.start().await;
    let after = read_to_now(&mut server.feeds().await, "odd").await;
    assert_eq!(live.records, after.records);
    for ((offset, bytes), (record, sent)) in after.records.iter().zip(odd.iter().zip(&sent)) {
        assert_eq!(own_bytes(bytes), *sent);
        let got = stored(bytes);
        assert_eq!(got.offset, *offset);
        let own = v1::Record {
            offset: 0,
            ingest_time_unix_nanos: 0,
            ..got
        };
        assert_eq!(own, *record);
    }
    let times = after.decoded();
    let times: Vec<i64> = times.iter().map(|r| r.ingest_time_unix_nanos).collect();
    assert!(times.is_sorted(), "what came in later has no earlier time");
}
