//! An `IngestRequest` read in place against prost: both take it, and find the same in it, or none.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use ringfeed::proto::{v1, wire::IngestMessage};

fuzz_target!(|bytes: &[u8]| {
    let decoded = v1::IngestRequest::decode(Bytes::copy_from_slice(bytes));
    match (IngestMessage::read(bytes), decoded) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours.feed, theirs.feed);
            assert_eq!(ours.producer, theirs.producer);
            assert_eq!(ours.first_sequence, theirs.first_sequence);
            assert_eq!(ours.mode, theirs.mode);
            assert_eq!(ours.count, theirs.records.len());
            let records: Vec<&[u8]> = ours.records().collect();
            assert_eq!(records, theirs.records);
            let bytes: usize = records.iter().map(|record| record.len()).sum();
            assert_eq!(ours.record_bytes, bytes);
        }
        (Err(_), Err(_)) => {}
        (ours, theirs) => panic!("we say {ours:?}, prost {theirs:?}"),
    }
});
