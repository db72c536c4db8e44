//! The inner steps of the way of a record: scan, frame, read back, decimal. `cargo bench`.

#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use ringfeed::{
    model::{Chunk, DecimalParts, Frames, NewRecord},
    proto::{
        v1::{self, record::Payload},
        wire::{self, Limits},
    },
};
use rust_decimal::Decimal;

const RECORDS: usize = 1_000;
const LIMITS: Limits = Limits {
    record_bytes: 60_000,
    key_bytes: 256,
    latest_event_time: i64::MAX,
};

fn quote(n: i64) -> Bytes {
    let decimal = |units| {
        Some(v1::Decimal {
            units,
            scale: 2,
            high: 0,
        })
    };
    let quote = v1::Quote {
        bid: decimal(6_183_763 + n),
        ask: decimal(6_183_764 + n),
        bid_size: decimal(378_826),
        ask_size: decimal(154_698),
        conditions: vec![],
    };
    let record = v1::Record {
        key: "BTCUSDT".into(),
        event_time_unix_nanos: Some(1_723_161_254_087_891_268 + n),
        payload: Some(Payload::Quote(quote)),
        ..Default::default()
    };
    record.encode_to_vec().into()
}

fn records(criterion: &mut Criterion) {
    let sent: Vec<Bytes> = (0..).take(RECORDS).map(quote).collect();
    let new: Vec<NewRecord> = sent
        .iter()
        .map(|b| NewRecord {
            bytes: b.clone(),
            event_time: 0,
        })
        .collect();
    let (stored, _) = Frames::of(&new).seal(0, 0);
    let mut group = criterion.benchmark_group("records");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("scan", |b| {
        b.iter(|| {
            sent.iter()
                .for_each(|record| drop(black_box(wire::scan(record, &LIMITS))));
        });
    });
    group.bench_function("decode_with_prost", |b| {
        b.iter(|| {
            sent.iter()
                .for_each(|r| drop(black_box(v1::Record::decode(r.clone()))));
        });
    });
    group.bench_function("frame", |b| {
        b.iter(|| black_box(Frames::of(&new).seal(7, 7)))
    });
    group.bench_function("parse_stored", |b| {
        b.iter(|| black_box(Chunk::parse(0, stored.body())));
    });
    group.bench_function("filter_by_key", |b| {
        b.iter(|| {
            stored
                .records()
                .filter(|(_, r)| wire::key_of(r) == "AAPL")
                .count()
        });
    });
    group.finish();
}

fn decimals(criterion: &mut Criterion) {
    let decimal: Decimal = Decimal::from_i128_with_scale(6_183_763_000_000, 8);
    criterion.bench_function("decimal_to_wire_and_back", |b| {
        b.iter(|| Decimal::try_from(DecimalParts::from(black_box(decimal))));
    });
}

criterion_group!(benches, records, decimals);
criterion_main!(benches);
