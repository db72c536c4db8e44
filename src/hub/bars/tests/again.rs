//! Bars that were dropped, or that a table cannot know: read from the ring again.

use super::{
    super::{History, Seen},
    bed::{INTERVAL, PLENTY, SECOND, table},
    bench::{Bench, plain, shown, trade},
};
use crate::{hub::OpenBars, model::UnixNanos, proto::v1};

#[test]
fn a_bar_that_was_dropped_is_read_again() {
    let mut bench = Bench::with(6_000, History::default());
    for n in 0..40 {
        bench.record("a", 10 * n, plain("7", "1"));
        assert!(bench.table.bytes() <= 6_000);
        bench.sent(OpenBars::LeftOut);
        bench.table.release(bench.table.position());
    }
    assert!(!bench.table.serves(Seen::before(1)));
    assert!(bench.table.serves(bench.seen));
    assert_eq!(
        bench.record("a", 5, plain("9", "1")),
        1,
        "it has to be read"
    );
    assert_eq!(
        shown(&bench.sent(OpenBars::LeftOut)),
        ["a 0: 7 9 7 9 2 8 2 1"]
    );
    bench.table.release(bench.table.position());
    assert_eq!(bench.record("a", 6, plain("9", "1")), 0, "it is here");
}

#[test]
fn a_bar_that_never_was_among_dropped_ones_begins_late() {
    let mut bench = Bench::with(6_000, History::default());
    for n in 1..40 {
        bench.record("a", 10 * n, plain("7", "1"));
        bench.sent(OpenBars::LeftOut);
        bench.table.release(bench.table.position());
    }
    assert_eq!(bench.record("a", 5, plain("9", "1")), 1);
    assert_eq!(
        shown(&bench.sent(OpenBars::LeftOut)),
        ["a 0: 9 9 9 9 1 9 1 1"]
    );
}

#[test]
fn bars_that_were_not_sent_are_not_dropped() {
    let mut bench = Bench::with(6_000, History::default());
    let too_large = (0..40).find_map(|n| {
        let record = v1::Record {
            key: "a".into(),
            event_time_unix_nanos: Some(n * INTERVAL),
            payload: Some(plain("7", "1")),
            ..v1::Record::default()
        };
        let at = bench.feed.store(record, 0);
        bench.feed.feed(&mut bench.table, at, at + 1).err()
    });
    assert_eq!(too_large.unwrap().max_bytes, 6_000);
    bench.table.release(bench.table.position());
    bench.record("a", 400, plain("7", "1"));
}

#[test]
fn what_a_table_cannot_know_is_read_from_the_ring() {
    let mut bench = Bench::new();
    bench.record("a", 1, plain("1", "1"));
    bench.record("a", 12, plain("2", "1"));
    bench.table = table(
        PLENTY,
        History {
            first: 2,
            whole_from: 20 * SECOND,
            partial_before: 30 * SECOND,
        },
    );
    bench.seen = Seen::before(2);
    assert!(!bench.table.serves(Seen::before(1)));
    // Late for the first bar; the second, the newest, is still open and did not change.
    assert_eq!(bench.record("a", 2, plain("3", "1")), 1);
    assert_eq!(shown(&bench.sent(OpenBars::Sent)), ["a 0: 1 3 1 3 2 2 2 1"]);
    assert_eq!(bench.record("a", 13, plain("4", "1")), 0);
    bench.record("a", 25, plain("4", "1"));
    let sent = bench.sent(OpenBars::Sent);
    assert_eq!(shown(&sent)[0], "a 10: 2 4 2 4 2 3 2 0");
    assert_eq!(
        sent.iter().map(|bar| bar.partial).collect::<Vec<_>>(),
        [false, true]
    );
}

#[test]
fn what_is_read_again_keeps_its_corrections_and_can_be_corrected() {
    use v1::TradeAction::{Cancel, Correct, New};
    let mut bench = Bench::new();
    bench.record("a", 1, trade("x", New, "10", "1"));
    bench.record("a", 2, trade("y", New, "20", "1"));
    bench.record("a", 12, trade("z", New, "30", "1"));
    bench.record("a", 2, trade("y", Correct, "21", "1"));
    let whole_from = 20 * SECOND;
    bench.table = table(
        PLENTY,
        History {
            first: 4,
            whole_from,
            ..History::default()
        },
    );
    bench.seen = Seen::before(4);
    // Unknown here, so it is of no effect.
    bench.record("a", 2, trade("y", Cancel, "21", "1"));
    assert_eq!(bench.sent(OpenBars::Sent), []);
    assert_eq!(bench.record("a", 3, trade("w", New, "5", "1")), 1);
    assert_eq!(
        shown(&bench.sent(OpenBars::LeftOut)),
        ["a 0: 10 10 5 5 2 7.5 2 3"]
    );
    bench.record("a", 3, trade("x", Cancel, "10", "1"));
    assert_eq!(
        shown(&bench.sent(OpenBars::LeftOut)),
        ["a 0: 5 5 5 5 1 5 1 4"]
    );
}

#[test]
fn a_backfill_of_what_a_table_cannot_know_is_read_again_once() {
    let whole_from = 1_000 * SECOND;
    let mut bench = Bench::with(
        PLENTY,
        History {
            whole_from,
            ..History::default()
        },
    );
    let refills: Vec<_> = (0..5)
        .map(|n| bench.record("a", 10 * n, plain("1", "1")))
        .collect();
    assert_eq!(refills, [1, 0, 0, 0, 0]);
    assert_eq!(bench.sent(OpenBars::LeftOut).len(), 4);
}

#[test]
fn a_bar_before_one_that_was_read_again_begins_late() {
    let mut bench = Bench::new();
    bench.record("a", 1, plain("1", "1"));
    bench.record("a", 31, plain("3", "1"));
    let whole_from = 100 * SECOND;
    bench.table = table(
        PLENTY,
        History {
            first: 2,
            whole_from,
            ..History::default()
        },
    );
    bench.seen = Seen::before(2);
    // By now the newest is complete, by the clock.
    bench.now = 60 * SECOND;
    assert_eq!(bench.record("a", 2, plain("1", "1")), 1);
    assert_eq!(bench.record("a", 21, plain("2", "1")), 0);
    assert_eq!(
        shown(&bench.sent(OpenBars::LeftOut)),
        [
            "a 30: 3 3 3 3 1 3 1 0",
            "a 0: 1 1 1 1 2 1 2 1",
            "a 20: 2 2 2 2 1 2 1 1"
        ]
    );
}

#[test]
fn an_id_that_went_to_a_bar_not_here_yet_names_nothing_here() {
    use v1::TradeAction::{Cancel, New};
    let whole_from = 20 * SECOND;
    let mut bench = Bench::with(
        PLENTY,
        History {
            whole_from,
            ..History::default()
        },
    );
    bench.record("a", 21, trade("x", New, "20", "1"));
    // In one piece: what is read again comes after it.
    let piece = [trade("x", New, "5", "1"), trade("x", Cancel, "5", "1")];
    for payload in piece {
        let record = v1::Record {
            key: "a".into(),
            event_time_unix_nanos: Some(SECOND),
            payload: Some(payload),
            ..v1::Record::default()
        };
        bench.feed.store(record, 0);
    }
    assert_eq!(bench.feed.feed(&mut bench.table, 1, 3), Ok(1));
    assert_eq!(
        shown(&bench.sent(OpenBars::Sent)),
        ["a 0: - - - - - - 0 2", "a 20: 20 20 20 20 1 20 1 0"]
    );
}

#[test]
fn an_id_goes_to_its_last_trade_wherever_that_was_read() {
    use v1::TradeAction::{Cancel, New};
    let mut bench = Bench::new();
    bench.record("a", 1, trade("x", New, "10", "1"));
    let whole_from = 20 * SECOND;
    bench.table = table(
        PLENTY,
        History {
            first: 1,
            whole_from,
            ..History::default()
        },
    );
    bench.seen = Seen::before(1);
    bench.record("a", 21, trade("x", New, "20", "1"));
    // Brings back the first trade with that id, which has lost it.
    assert_eq!(bench.record("a", 2, plain("11", "1")), 1);
    bench.record("a", 22, trade("x", Cancel, "20", "1"));
    assert_eq!(
        shown(&bench.sent(OpenBars::Sent)),
        ["a 0: 10 11 10 11 2 10.5 2 1", "a 20: - - - - - - 0 0"]
    );
    // The other way round: a later trade, of an earlier bar, has it now.
    bench.record("a", 23, trade("u", New, "30", "1"));
    bench.record("a", -5, trade("u", New, "40", "1"));
    bench.record("a", 24, trade("u", Cancel, "40", "1"));
    assert_eq!(
        shown(&bench.sent(OpenBars::Sent)),
        ["a -10: - - - - - - 0 2", "a 20: 30 30 30 30 1 30 1 0"]
    );
}

#[test]
fn a_trade_that_is_read_again_does_not_get_back_an_id_that_it_lost() {
    use v1::TradeAction::{Cancel, New};
    let mut bench = Bench::new();
    bench.record("a", 12, trade("x", New, "10", "1"));
    bench.record("a", 2, trade("x", New, "20", "1"));
    let whole_from = 20 * SECOND;
    bench.table = table(
        PLENTY,
        History {
            first: 2,
            whole_from,
            ..History::default()
        },
    );
    bench.seen = Seen::before(2);
    // Brings back the first trade, and not the bar of the second.
    assert_eq!(bench.record("a", 13, plain("11", "1")), 1);
    bench.record("a", 14, trade("x", Cancel, "20", "1"));
    assert_eq!(
        shown(&bench.sent(OpenBars::Sent)),
        ["a 10: 10 11 10 11 2 10.5 2 0"]
    );
}

#[test]
fn a_bar_whose_records_left_the_ring_is_partial() {
    let mut bench = Bench::with(
        PLENTY,
        History {
            whole_from: 20 * SECOND,
            ..History::default()
        },
    );
    let record = v1::Record {
        key: "a".into(),
        event_time_unix_nanos: Some(SECOND),
        payload: Some(plain("1", "1")),
        ..v1::Record::default()
    };
    bench.feed.store(record, 0);
    let stored = bench.feed.record(0).to_vec();
    bench.table.see(0, &stored).unwrap();
    let mut refill = bench.table.take_missing().unwrap();
    assert_eq!(refill.since(), 0);
    refill.see(0, &stored).unwrap();
    bench.table.refill(refill, UnixNanos::MAX).unwrap();
    assert!(bench.sent(OpenBars::Sent)[0].partial);
}
