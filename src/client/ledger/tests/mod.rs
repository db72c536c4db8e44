mod again;
mod balance;
mod lanes;

use bytes::Bytes;

use prost::Message as _;

use super::*;
use crate::model::{Cursor, Frames, GapReason, NewRecord, Span};

const EPOCH: u64 = 7;

fn selector(start: Option<v1::start::From>) -> v1::Selector {
    v1::Selector {
        feed: "f".to_owned(),
        start: start.map(|from| v1::Start { from: Some(from) }),
        ..v1::Selector::default()
    }
}

fn ledger(start: Option<v1::start::From>) -> Ledger {
    Ledger::new(&[selector(start)])
}

fn response(event: Event) -> v1::SubscribeResponse {
    v1::SubscribeResponse {
        event: Some(event),
        ..v1::SubscribeResponse::default()
    }
}

fn place(epoch: u64, offset: u64) -> v1::Cursor {
    v1::Cursor {
        feed: "f".to_owned(),
        epoch,
        offset,
    }
}

fn record(offset: u64) -> Bytes {
    let sent = v1::Record {
        key: "k".to_owned(),
        ..v1::Record::default()
    };
    let new = NewRecord {
        bytes: sent.encode_to_vec().into(),
        event_time: 0,
    };
    let (chunk, _) = Frames::of(&[new]).seal(offset, 1);
    chunk.body().slice(2..)
}

fn batch(epoch: u64, from: u64, to: u64, offsets: &[u64]) -> v1::SubscribeResponse {
    response(Event::Records(v1::RecordBatch {
        feed: "f".to_owned(),
        epoch,
        covers: Some(v1::OffsetRange { from, to }),
        count: u32::try_from(offsets.len()).unwrap(),
        cursor: Some(place(epoch, to)),
        records: offsets.iter().copied().map(record).collect(),
    }))
}

fn gap(epoch: u64, from: u64, to: u64, reason: v1::GapReason) -> v1::Gap {
    v1::Gap {
        feed: "f".to_owned(),
        epoch,
        from,
        to,
        count: Some(to - from),
        reason: reason.into(),
        oldest: Some(place(epoch, to)),
    }
}

fn fault(result: Result<Fresh, Broken>) -> Fault {
    result.unwrap_err().fault
}

#[test]
fn delivered_filtered_and_gaps_add_up_to_the_whole_range() {
    let mut ledger = ledger(Some(v1::start::From::Offset(10)));
    let evicted = gap(EPOCH, 10, 15, v1::GapReason::Evicted);
    ledger.observe(&response(Event::Gap(evicted))).unwrap();
    ledger
        .observe(&batch(EPOCH, 15, 20, &[15, 17, 19]))
        .unwrap();
    ledger.observe(&batch(EPOCH, 20, 120, &[])).unwrap();
    let report = ledger.lane(0, "f").unwrap().report(Some(130));
    assert_eq!((report.delivered, report.left_out), (3, 102));
    assert_eq!(report.unsettled, Some(Span::new(120, 130)));
    assert_eq!(report.gaps.len(), 1);
    assert_eq!(report.gaps[0].reason, GapReason::Evicted);
    assert_eq!(report.gaps[0].span, Span::new(10, 15));
    assert!(!report.whole);
}

#[test]
fn everything_from_the_start_is_whole() {
    let mut ledger = ledger(Some(v1::start::From::Offset(0)));
    ledger.observe(&batch(EPOCH, 0, 2, &[0, 1])).unwrap();
    assert!(ledger.lane(0, "f").unwrap().report(Some(2)).whole);
    assert!(!ledger.lane(0, "f").unwrap().report(Some(3)).whole);
}

#[test]
fn a_hole_and_an_overlap_are_faults() {
    let mut ledger = ledger(None);
    ledger.observe(&batch(EPOCH, 5, 8, &[5, 6, 7])).unwrap();
    assert_eq!(
        fault(ledger.observe(&batch(EPOCH, 9, 10, &[9]))),
        Fault::Hole {
            expected: 8,
            from: 9
        }
    );
    assert_eq!(
        fault(ledger.observe(&batch(EPOCH, 7, 9, &[7, 8]))),
        Fault::Again {
            expected: 8,
            from: 7
        }
    );
    let skipped = gap(EPOCH, 9, 12, v1::GapReason::Evicted);
    assert!(ledger.observe(&response(Event::Gap(skipped))).is_err());
    // A refused response changes nothing.
    ledger.observe(&batch(EPOCH, 8, 9, &[8])).unwrap();
    assert_eq!(ledger.lane(0, "f").unwrap().report(None).delivered, 4);
}

#[test]
fn a_start_before_the_first_range_is_a_hole() {
    let mut ledger = ledger(Some(v1::start::From::Cursor(place(EPOCH, 3))));
    let late = batch(EPOCH, 4, 5, &[4]);
    assert!(ledger.observe(&late).is_err());
    let wrong = batch(EPOCH + 1, 3, 5, &[4]);
    assert!(ledger.observe(&wrong).is_err());
}

#[test]
fn a_new_epoch_begins_where_its_gap_says() {
    let mut ledger = ledger(Some(v1::start::From::Cursor(place(EPOCH, 500))));
    let changed = v1::Gap {
        oldest: Some(place(EPOCH + 1, 20)),
        ..gap(EPOCH, 500, 500, v1::GapReason::EpochChanged)
    };
    ledger.observe(&response(Event::Gap(changed))).unwrap();
    assert!(ledger.observe(&batch(EPOCH, 20, 21, &[20])).is_err());
    ledger.observe(&batch(EPOCH + 1, 20, 21, &[20])).unwrap();
    let next = ledger.lane(0, "f").unwrap().next();
    assert_eq!(
        next,
        Some(Cursor {
            epoch: EPOCH + 1,
            offset: 21
        })
    );
}

#[test]
fn caught_up_short_of_what_came_or_beyond_it_is_a_fault() {
    let caught_up = |offset| {
        response(Event::CaughtUp(v1::CaughtUp {
            next: Some(place(EPOCH, offset)),
            resume_token: String::new(),
        }))
    };
    let mut ledger = ledger(None);
    ledger.observe(&caught_up(40)).unwrap();
    assert!(ledger.observe(&batch(EPOCH, 41, 42, &[41])).is_err());
    ledger.observe(&batch(EPOCH, 40, 42, &[41])).unwrap();
    assert!(ledger.observe(&caught_up(43)).is_err());
    ledger.observe(&caught_up(42)).unwrap();
}

#[test]
fn records_out_of_order_or_out_of_range_are_faults() {
    for offsets in [&[1, 0][..], &[0, 0], &[4]] {
        let result = ledger(None).observe(&batch(EPOCH, 0, 4, offsets));
        assert!(matches!(fault(result), Fault::Order { .. }), "{offsets:?}");
    }
}

#[test]
fn an_unknown_message_and_a_wrong_count_are_faults() {
    let unknown = v1::SubscribeResponse::default();
    assert_eq!(fault(ledger(None).observe(&unknown)), Fault::Unknown);
    let mut short = batch(EPOCH, 0, 2, &[0]);
    if let Some(Event::Records(batch)) = &mut short.event {
        batch.count = 2;
    }
    assert!(matches!(
        fault(ledger(None).observe(&short)),
        Fault::Count { .. }
    ));
    let foreign = v1::SubscribeResponse {
        selector: 1,
        ..batch(EPOCH, 0, 1, &[0])
    };
    assert_eq!(fault(ledger(None).observe(&foreign)), Fault::Selector);
}
