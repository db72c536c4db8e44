//! Lanes come and go: by selector id, by feed, after a snapshot.

use super::*;

fn globs(start: Option<v1::start::From>) -> v1::Selector {
    v1::Selector {
        feed: String::new(),
        feed_globs: vec!["*".to_owned()],
        ..selector(start)
    }
}

fn snapshot_start() -> Option<v1::start::From> {
    Some(v1::start::From::Snapshot(v1::SnapshotStart {}))
}

fn snapshot(as_of: u64, offsets: &[u64]) -> v1::SubscribeResponse {
    response(Event::Snapshot(v1::SnapshotBatch {
        feed: "f".to_owned(),
        as_of: Some(place(EPOCH, as_of)),
        records: offsets.iter().copied().map(record).collect(),
    }))
}

fn complete(as_of: u64) -> v1::SubscribeResponse {
    response(Event::SnapshotComplete(v1::SnapshotComplete {
        as_of: Some(place(EPOCH, as_of)),
    }))
}

fn of(feed: &str, mut response: v1::SubscribeResponse) -> v1::SubscribeResponse {
    if let Some(Event::Records(batch)) = &mut response.event {
        batch.feed = feed.to_owned();
    }
    response
}

#[test]
fn a_glob_has_a_lane_for_each_feed_and_feeds_may_join_later() {
    let mut ledger = Ledger::new(&[globs(None)]);
    ledger.observe(&batch(EPOCH, 5, 8, &[5])).unwrap();
    ledger.observe(&of("g", batch(3, 0, 2, &[0, 1]))).unwrap();
    ledger.observe(&batch(EPOCH, 8, 9, &[8])).unwrap();
    assert!(ledger.observe(&of("g", batch(3, 3, 4, &[3]))).is_err());
    let lanes: Vec<_> = ledger.lanes().map(|(id, lane)| (id, lane.feed())).collect();
    assert_eq!(lanes, [(0, "f"), (0, "g")]);
    assert_eq!(ledger.lane(0, "g").unwrap().report(None).delivered, 2);
    let nobody = of("", batch(EPOCH, 0, 1, &[]));
    assert_eq!(fault(ledger.observe(&nobody)), Fault::Lacks("its feed"));
    // It has no feed yet, so it has no place either.
    let waits = response(Event::Heartbeat(v1::Heartbeat::default()));
    ledger.observe(&waits).unwrap();
    assert_eq!(ledger.lanes().count(), 2);
}

#[test]
fn a_selector_that_names_its_feed_answers_for_no_other() {
    let mut ledger = ledger(None);
    let other = ledger.observe(&of("g", batch(EPOCH, 0, 1, &[0])));
    assert_eq!(fault(other), Fault::Feed("g".to_owned()));
}

#[test]
fn selectors_of_a_session_are_added_replaced_and_removed() {
    let by_nine = |response| v1::SubscribeResponse {
        selector: 9,
        ..response
    };
    let mut ledger = Ledger::default();
    let first = by_nine(batch(EPOCH, 0, 2, &[0, 1]));
    assert_eq!(fault(ledger.observe(&first)), Fault::Selector);
    ledger.add(9, &selector(None));
    ledger.observe(&first).unwrap();
    ledger.add(9, &selector(Some(v1::start::From::Offset(40))));
    let rest = by_nine(batch(EPOCH, 2, 3, &[2]));
    assert!(ledger.observe(&rest).is_err(), "it begins anew at 40");
    let anew = by_nine(batch(EPOCH, 40, 41, &[40]));
    ledger.observe(&anew).unwrap();
    assert_eq!(ledger.lane(9, "f").unwrap().report(None).delivered, 1);
    ledger.remove(9);
    let late = by_nine(batch(EPOCH, 41, 42, &[41]));
    assert_eq!(fault(ledger.observe(&late)), Fault::Selector);
}

#[test]
fn after_a_snapshot_the_lane_begins_at_its_place() {
    let mut ledger = ledger(snapshot_start());
    let early = batch(EPOCH, 0, 5, &[0]);
    assert_eq!(fault(ledger.observe(&early)), Fault::Early);
    ledger.observe(&snapshot(50, &[3, 49, 7])).unwrap();
    let beyond = ledger.observe(&snapshot(50, &[50]));
    assert!(matches!(fault(beyond), Fault::Order { offset: 50, .. }));
    let moved = ledger.observe(&snapshot(51, &[50]));
    assert!(matches!(fault(moved), Fault::AsOf { .. }));
    let elsewhere = ledger.observe(&complete(51));
    assert!(matches!(fault(elsewhere), Fault::AsOf { .. }));
    assert_eq!(ledger.lane(0, "f").unwrap().next(), None);
    ledger.observe(&complete(50)).unwrap();
    assert!(ledger.observe(&batch(EPOCH, 51, 52, &[51])).is_err());
    ledger.observe(&batch(EPOCH, 50, 52, &[51])).unwrap();
    assert_eq!(fault(ledger.observe(&complete(52))), Fault::Snapshot);
    assert_eq!(fault(ledger.observe(&snapshot(52, &[1]))), Fault::Snapshot);
    let report = ledger.lane(0, "f").unwrap().report(Some(52));
    assert_eq!((report.delivered, report.left_out), (1, 1));
    assert!(report.whole);
}

#[test]
fn a_snapshot_that_was_cut_begins_anew_as_of_another_place() {
    let mut ledger = ledger(snapshot_start());
    ledger.observe(&snapshot(50, &[3])).unwrap();
    ledger.reopened(Reopened::Behind);
    ledger.observe(&snapshot(60, &[55])).unwrap();
    ledger.observe(&complete(60)).unwrap();
    ledger.reopened(Reopened::Behind);
    assert_eq!(fault(ledger.observe(&snapshot(70, &[3]))), Fault::Snapshot);
    ledger.observe(&batch(EPOCH, 60, 61, &[60])).unwrap();
}

#[test]
fn a_feed_of_a_glob_comes_with_a_snapshot_or_joins_later_without() {
    let mut ledger = Ledger::new(&[globs(snapshot_start())]);
    ledger.observe(&snapshot(50, &[3])).unwrap();
    let early = batch(EPOCH, 50, 51, &[50]);
    assert_eq!(fault(ledger.observe(&early)), Fault::Early);
    ledger.observe(&complete(50)).unwrap();
    ledger.observe(&early).unwrap();
    ledger.observe(&of("g", batch(EPOCH, 0, 1, &[0]))).unwrap();
}

#[test]
fn bars_settle_their_range_in_their_last_message() {
    let mut ledger = ledger(Some(v1::start::From::Offset(10)));
    for (from, to) in [(10, 10), (0, 0), (10, 30)] {
        ledger.observe(&bars(from, to)).unwrap();
    }
    let next = ledger.lane(0, "f").unwrap().next().unwrap();
    assert_eq!(next.offset, 30);
    for (from, to) in [(10, 10), (10, 30), (31, 31), (31, 40)] {
        assert!(ledger.observe(&bars(from, to)).is_err(), "{from}..{to}");
    }
    let report = ledger.lane(0, "f").unwrap().report(None);
    assert_eq!((report.delivered, report.left_out), (0, 20));
}

pub(super) fn bars(from: u64, to: u64) -> v1::SubscribeResponse {
    response(Event::Bars(v1::BarBatch {
        feed: "f".to_owned(),
        epoch: EPOCH,
        covers: Some(v1::OffsetRange { from, to }),
        bars: Vec::new(),
    }))
}

#[test]
fn a_changed_mode_is_noted_and_what_it_conflates_is_left_out() {
    let mut ledger = ledger(Some(v1::start::From::Offset(0)));
    let interval = prost_types::Duration {
        seconds: 1,
        nanos: 0,
    };
    let conflate = v1::Conflate {
        interval: Some(interval),
    };
    let fidelity = v1::Fidelity {
        view: Some(v1::fidelity::View::Conflate(conflate)),
    };
    let change = v1::ModeChanged {
        fidelity: Some(fidelity),
        at: Some(place(EPOCH, 0)),
    };
    assert_eq!(ledger.lane(0, "f").unwrap().fidelity(), None);
    ledger
        .observe(&response(Event::ModeChanged(change)))
        .unwrap();
    assert_eq!(ledger.lane(0, "f").unwrap().fidelity(), Some(&fidelity));
    ledger.observe(&batch(EPOCH, 0, 100, &[40, 99])).unwrap();
    let jumped = gap(EPOCH, 100, 300, v1::GapReason::Jumped);
    ledger.observe(&response(Event::Gap(jumped))).unwrap();
    let report = ledger.lane(0, "f").unwrap().report(None);
    assert_eq!((report.delivered, report.left_out), (2, 98));
    let loss = Loss {
        reason: GapReason::Jumped,
        gaps: 1,
        offsets: 200,
    };
    assert_eq!(report.losses, [loss]);
}

#[test]
fn an_acknowledged_place_is_not_where_the_stream_stands() {
    let mut ledger = ledger(None);
    let heartbeat = |offset, acknowledged| {
        response(Event::Heartbeat(v1::Heartbeat {
            cursor: Some(place(EPOCH, offset)),
            acknowledged,
            ..v1::Heartbeat::default()
        }))
    };
    ledger.observe(&heartbeat(3, true)).unwrap();
    assert_eq!(ledger.lane(0, "f").unwrap().next(), None);
    ledger.observe(&heartbeat(40, false)).unwrap();
    assert!(ledger.observe(&batch(EPOCH, 41, 42, &[41])).is_err());
    ledger.observe(&batch(EPOCH, 40, 42, &[41])).unwrap();
}
