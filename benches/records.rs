//! The inner steps of the way of a record, each over 1,000 of them: scan (and prost's decoding
//! beside it), chunk, key filter; and decimals. `cargo bench --bench records -- scan` runs some.

#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use ringfeed::{
    model::{Chunk, DecimalParts, Frames, NewRecord},
    proto::{
        v1,
        wire::{self, Limits},
    },
};
use rust_decimal::Decimal;

#[path = "../tests/samples/mod.rs"]
mod samples;

const RECORDS: i64 = 1_000;
const LIMITS: Limits = Limits {
    record_bytes: 60_000,
    key_bytes: 256,
    latest_event_time: i64::MAX,
};

fn thousand(sample: fn(i64) -> Vec<u8>) -> Vec<Bytes> {
    (0..RECORDS).map(|n| sample(n).into()).collect()
}

fn per_record() -> Throughput {
    Throughput::Elements(RECORDS.unsigned_abs())
}

fn scan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan");
    group.throughput(per_record());
    for (name, sample) in samples::SAMPLES {
        let records = thousand(sample);
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| {
                for record in &records {
                    drop(black_box(wire::scan(black_box(record), &LIMITS)));
                }
            });
        });
    }
    group.finish();
}

fn decode_with_prost(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode_with_prost");
    group.throughput(per_record());
    for (name, sample) in samples::SAMPLES {
        let records = thousand(sample);
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| {
                for record in &records {
                    drop(black_box(v1::Record::decode(record.clone())));
                }
            });
        });
    }
    group.finish();
}

fn chunk(criterion: &mut Criterion) {
    let new: Vec<NewRecord> = thousand(samples::quote)
        .into_iter()
        .map(|bytes| NewRecord {
            bytes,
            event_time: 0,
        })
        .collect();
    let (stored, _) = Frames::of(&new).seal(7, 7);
    let mut group = criterion.benchmark_group("chunk");
    group.throughput(per_record());
    group.bench_function("build", |b| {
        b.iter(|| Frames::of(black_box(&new)).seal(7, 7));
    });
    group.bench_function("parse", |b| b.iter(|| Chunk::parse(7, stored.body())));
    group.bench_function("filter_by_key", |b| {
        b.iter(|| {
            let records = stored.records();
            records.filter(|(_, r)| wire::key_of(r) == "AAPL").count()
        });
    });
    group.finish();
}

fn decimal(criterion: &mut Criterion) {
    let decimal = Decimal::from_i128_with_scale(6_183_763_000_000, 8);
    let parts = DecimalParts::from(decimal);
    let mut group = criterion.benchmark_group("decimal");
    group.bench_function("to_wire", |b| {
        b.iter(|| DecimalParts::from(black_box(decimal)));
    });
    group.bench_function("from_wire", |b| {
        b.iter(|| Decimal::try_from(black_box(parts)));
    });
    group.finish();
}

criterion_group!(benches, scan, decode_with_prost, chunk, decimal);
criterion_main!(benches);
