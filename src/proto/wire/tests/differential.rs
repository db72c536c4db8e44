//! The scan against the reference: the same verdict, field and reason, whatever the bytes.

use std::collections::HashSet;

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use prost::Message as _;

use super::{
    LIMITS, Reason,
    damage::damage,
    records::{borderline, valid},
    reference::{self, Offence},
    scan, v1,
};
use crate::model::PayloadKind;

/// What the scan learns of a record; the reference takes it from what prost decoded.
type Seen = (String, Option<i64>, PayloadKind, bool);

fn scanned(bytes: &[u8]) -> Result<Seen, Offence> {
    match scan(bytes, &LIMITS) {
        Ok(view) => Ok((
            view.key.to_owned(),
            view.event_time,
            view.kind,
            view.server_owned,
        )),
        Err(invalid) => Err((invalid.field, invalid.reason)),
    }
}

fn judged(bytes: &[u8]) -> Result<Seen, Offence> {
    let record = reference::judge(bytes, &LIMITS)?;
    let kind = match record.payload.unwrap() {
        v1::record::Payload::Quote(_) => PayloadKind::Quote,
        v1::record::Payload::Trade(_) => PayloadKind::Trade,
        v1::record::Payload::Bar(_) => PayloadKind::Bar,
        v1::record::Payload::Reading(_) => PayloadKind::Reading,
        v1::record::Payload::Status(_) => PayloadKind::Status,
    };
    let cut = reference::without_server_fields(bytes).len() < bytes.len();
    Ok((record.key, record.event_time_unix_nanos, kind, cut))
}

fn encoded() -> impl Strategy<Value = Vec<u8>> {
    valid(LIMITS.latest_event_time).prop_map(|record| record.encode_to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_valid_record_of_any_kind_passes_as_what_it_is(record in encoded()) {
        prop_assert!(judged(&record).is_ok());
        prop_assert_eq!(scanned(&record), judged(&record));
    }

    #[test]
    fn a_record_at_the_limits_gets_the_references_verdict(
        record in borderline(LIMITS.latest_event_time),
    ) {
        let bytes = record.encode_to_vec();
        prop_assert_eq!(scanned(&bytes), judged(&bytes));
    }

    #[test]
    fn arbitrary_bytes_get_the_references_verdict(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        prop_assert_eq!(scanned(&bytes), judged(&bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_damaged_record_gets_the_references_verdict(
        record in encoded(),
        damage in damage(encoded()),
    ) {
        let bytes = damage.done_to(&record);
        prop_assert_eq!(scanned(&bytes), judged(&bytes));
    }
}

/// The comparison above is worth what the damage reaches: nearly every field and reason there is.
#[test]
fn the_damage_reaches_the_rules() {
    let mut runner = TestRunner::deterministic();
    let damaged = (encoded(), damage(encoded()));
    let mut offence = || {
        let (record, damage) = damaged.new_tree(&mut runner).unwrap().current();
        judged(&damage.done_to(&record)).err()
    };
    let reached: HashSet<Offence> = (0..10_000).filter_map(|_| offence()).collect();
    let reasons: HashSet<Reason> = reached.iter().map(|(_, reason)| *reason).collect();
    assert!(reached.len() > 100, "{reached:?}");
    assert_eq!(reasons.len(), 11, "{reasons:?}");
}
