//! What the hot paths allocate, counted: one test a path. A count does not move with the machine.

mod samples;

use std::hint::black_box;

use allocation_counter::measure;
use ringfeed::proto::wire::{self, Limits};

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
