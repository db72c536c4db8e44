//! A stream that went on from an older token: what comes again is passed over, and what does not
//! follow is a fault all the same.

use super::*;

/// A lane that holds everything before 20, on a stream that may tell some of it again.
fn reopened() -> Ledger {
    let mut ledger = ledger(Some(v1::start::From::Offset(0)));
    ledger.observe(&batch(EPOCH, 0, 20, &[1, 19])).unwrap();
    ledger.reopened(Reopened::AtOrBefore);
    ledger
}

#[test]
fn ranges_that_come_again_are_not_counted_twice() {
    let mut ledger = reopened();
    let told = [
        (batch(EPOCH, 5, 10, &[5, 9]), Fresh::Nothing),
        (batch(EPOCH, 10, 10, &[]), Fresh::Nothing),
        (batch(EPOCH, 10, 25, &[19, 20, 24]), Fresh::From(20)),
        (batch(EPOCH, 25, 26, &[25]), Fresh::All),
    ];
    for (response, fresh) in told {
        assert_eq!(ledger.observe(&response), Ok(fresh));
    }
    let report = ledger.lane(0, "f").unwrap().report(Some(26));
    assert_eq!((report.delivered, report.left_out), (5, 21));
    assert!(report.whole);
    // It has caught up with itself: from here on nothing may come again.
    assert!(ledger.observe(&batch(EPOCH, 25, 26, &[25])).is_err());
}

#[test]
fn what_does_not_follow_is_a_fault_also_among_repeats() {
    assert!(reopened().observe(&batch(EPOCH, 21, 22, &[21])).is_err());
    assert!(reopened().observe(&batch(EPOCH + 1, 5, 6, &[5])).is_err());
    let mut ledger = reopened();
    ledger.observe(&batch(EPOCH, 5, 10, &[5])).unwrap();
    for (from, to) in [(11, 30), (9, 30), (20, 30)] {
        let refused = ledger.observe(&batch(EPOCH, from, to, &[]));
        assert!(refused.is_err(), "{from}..{to}");
    }
    let behind = response(Event::CaughtUp(v1::CaughtUp {
        next: Some(place(EPOCH, 10)),
        resume_token: String::new(),
    }));
    assert!(matches!(
        fault(ledger.observe(&behind)),
        Fault::Again { .. }
    ));
}

#[test]
fn of_a_gap_only_what_was_not_held_is_missing() {
    let mut ledger = reopened();
    let held = gap(EPOCH, 5, 12, v1::GapReason::Evicted);
    let fresh = ledger.observe(&response(Event::Gap(held)));
    assert_eq!(fresh, Ok(Fresh::Nothing));
    assert!(ledger.lane(0, "f").unwrap().report(None).whole);
    let across = gap(EPOCH, 12, 50, v1::GapReason::Evicted);
    let fresh = ledger.observe(&response(Event::Gap(across)));
    assert_eq!(fresh, Ok(Fresh::From(20)));
    let report = ledger.lane(0, "f").unwrap().report(None);
    assert_eq!(report.losses[0].offsets, 30);
}

#[test]
fn a_new_epoch_that_was_told_already_is_told_once() {
    let mut ledger = ledger(Some(v1::start::From::Cursor(place(EPOCH, 500))));
    let changed = response(Event::Gap(v1::Gap {
        oldest: Some(place(EPOCH + 1, 20)),
        ..gap(EPOCH, 500, 500, v1::GapReason::EpochChanged)
    }));
    ledger.observe(&changed).unwrap();
    assert!(ledger.observe(&changed).is_err(), "twice on one stream");
    ledger.observe(&batch(EPOCH + 1, 20, 30, &[])).unwrap();
    ledger.reopened(Reopened::AtOrBefore);
    assert_eq!(ledger.observe(&changed), Ok(Fresh::Nothing));
    let again = ledger.observe(&batch(EPOCH + 1, 20, 31, &[30]));
    assert_eq!(again, Ok(Fresh::From(30)));
    let report = ledger.lane(0, "f").unwrap().report(None);
    assert_eq!((report.gaps.len(), report.delivered), (1, 1));
}

/// A start above the tail is a place of another life as well.
#[test]
fn a_place_above_the_tail_that_was_told_already_is_told_once() {
    let mut ledger = ledger(Some(v1::start::From::Offset(206)));
    let changed = response(Event::Gap(v1::Gap {
        oldest: Some(place(EPOCH, 0)),
        ..gap(EPOCH, 206, 206, v1::GapReason::EpochChanged)
    }));
    ledger.observe(&changed).unwrap();
    ledger.observe(&batch(EPOCH, 0, 197, &[196])).unwrap();
    ledger.reopened(Reopened::AtOrBefore);
    assert_eq!(ledger.observe(&changed), Ok(Fresh::Nothing));
    let again = ledger.observe(&batch(EPOCH, 0, 198, &[196, 197]));
    assert_eq!(again, Ok(Fresh::From(197)));
}

#[test]
fn a_second_snapshot_leaves_out_what_came_since_the_first_one() {
    let start = v1::start::From::Snapshot(v1::SnapshotStart {});
    let mut ledger = ledger(Some(start));
    let complete = |as_of| {
        response(Event::SnapshotComplete(v1::SnapshotComplete {
            as_of: Some(place(EPOCH, as_of)),
        }))
    };
    ledger.observe(&complete(50)).unwrap();
    ledger.observe(&batch(EPOCH, 50, 52, &[50, 51])).unwrap();
    ledger.reopened(Reopened::AtOrBefore);
    assert!(ledger.observe(&complete(51)).is_err(), "it went back");
    ledger.observe(&complete(60)).unwrap();
    ledger.observe(&batch(EPOCH, 60, 61, &[60])).unwrap();
    let report = ledger.lane(0, "f").unwrap().report(Some(61));
    assert_eq!((report.delivered, report.left_out), (3, 8));
}

#[test]
fn what_left_a_new_epoch_before_it_is_told_again_is_missing() {
    let mut ledger = ledger(Some(v1::start::From::Cursor(place(EPOCH, 500))));
    let changed = |oldest| {
        response(Event::Gap(v1::Gap {
            oldest: Some(place(EPOCH + 1, oldest)),
            ..gap(EPOCH, 500, 500, v1::GapReason::EpochChanged)
        }))
    };
    ledger.observe(&changed(20)).unwrap();
    ledger.observe(&batch(EPOCH + 1, 20, 30, &[])).unwrap();
    ledger.reopened(Reopened::AtOrBefore);
    assert_eq!(ledger.observe(&changed(45)), Ok(Fresh::All));
    assert!(ledger.observe(&batch(EPOCH + 1, 30, 46, &[])).is_err());
    let again = ledger.observe(&batch(EPOCH + 1, 45, 46, &[45]));
    assert_eq!(again, Ok(Fresh::All));
    let report = ledger.lane(0, "f").unwrap().report(None);
    assert_eq!((report.losses[0].gaps, report.losses[0].offsets), (2, 15));
    assert_eq!(report.gaps[1].span, Span::new(30, 45));
}

#[test]
fn a_second_snapshot_of_another_life_says_that_the_first_one_is_missing() {
    let start = v1::start::From::Snapshot(v1::SnapshotStart {});
    let mut ledger = ledger(Some(start));
    let complete = |epoch, as_of| {
        response(Event::SnapshotComplete(v1::SnapshotComplete {
            as_of: Some(place(epoch, as_of)),
        }))
    };
    ledger.observe(&complete(EPOCH, 50)).unwrap();
    ledger.reopened(Reopened::AtOrBefore);
    assert!(ledger.observe(&complete(EPOCH - 1, 60)).is_err());
    ledger.observe(&complete(EPOCH + 1, 3)).unwrap();
    let again = ledger.observe(&batch(EPOCH + 1, 3, 4, &[3]));
    assert_eq!(again, Ok(Fresh::All));
    let report = ledger.lane(0, "f").unwrap().report(None);
    assert_eq!(report.losses[0].reason, GapReason::EpochChanged);
    assert!(!report.whole);
}
