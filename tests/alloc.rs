//! What the hot paths allocate, counted: one test a path. A count does not move with the machine.

mod samples;

use std::hint::black_box;

use allocation_counter::measure;
use prost::Message as _;
use ringfeed::proto::{
    v1,
    wire::{self, IngestMessage, Kept, Limits},
};

const LIMITS: Limits = Limits {
    record_bytes: 60_000,
    key_bytes: 256,
    latest_event_time: i64::MAX,
};

/// How often this thread allocates in `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    measure(work).count_total
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Box::new(7)))), 1);
    assert_eq!(allocations(|| assert_eq!(black_box(7), 7)), 0);
}

#[test]
fn scanning_a_valid_record_allocates_nothing() {
    for (name, sample) in samples::SAMPLES {
        let record = sample(1);
        let received = [record.as_slice(), b"\x69\x07\0\0\0\0\0\0\0"].concat();
        let count = allocations(|| {
            assert!(wire::scan(&record, &LIMITS).is_ok());
            assert!(wire::scan(&received, &LIMITS).is_ok());
        });
        assert_eq!(count, 0, "{name}");
    }
}

#[test]
fn reading_back_a_record_allocates_nothing() {
    for (name, sample) in samples::SAMPLES {
        let record = sample(1);
        let count = allocations(|| {
            assert!(!wire::key_of(&record).is_empty());
            assert!(wire::stored(&record).is_some());
        });
        assert_eq!(count, 0, "{name}");
    }
}

#[test]
fn taking_a_message_apart_allocates_nothing() {
    let records = samples::SAMPLES.map(|(_, sample)| sample(1).into());
    let message = v1::IngestRequest {
        feed: "stocks".into(),
        producer: "p".into(),
        records: records.into(),
        ..v1::IngestRequest::default()
    };
    let bytes = message.encode_to_vec();
    let count = allocations(|| {
        let message = IngestMessage::read(&bytes).unwrap();
        let passed = message.records().filter(|record| {
            let view = wire::scan(record, &LIMITS).unwrap();
            let kept = Kept::of(record, &view, 0);
            let [as_sent, stamp] = kept.parts();
            as_sent == *record && stamp.is_empty()
        });
        assert_eq!(passed.count(), samples::SAMPLES.len());
    });
    assert_eq!(count, 0);
}
