//! One case for each thing that is said of bars.

use proptest::{collection::vec, prelude::*};

use super::{
    super::{BarTable, History, Seen},
    bed::{Feed, INTERVAL, PLENTY, SECOND, table},
};
use crate::{
    hub::OpenBars,
    model::UnixNanos,
    proto::v1::{self, BarSource, record::Payload},
};

fn decimal(text: &str) -> v1::Decimal {
    crate::proto::convert::parse_decimal(text).unwrap()
}

fn text(decimal: Option<&v1::Decimal>) -> String {
    decimal.map_or_else(|| "-".into(), crate::proto::convert::decimal_text)
}

fn trade(id: &str, action: v1::TradeAction, price: &str, size: &str) -> Payload {
    Payload::Trade(v1::Trade {
        price: Some(decimal(price)),
        size: Some(decimal(size)),
        trade_id: id.into(),
        action: action.into(),
        ..v1::Trade::default()
    })
}

fn plain(price: &str, size: &str) -> Payload {
    trade("", v1::TradeAction::New, price, size)
}

fn reading(value: Option<v1::reading::Value>, quality: v1::Quality) -> Payload {
    Payload::Reading(v1::Reading {
        value,
        quality: quality.into(),
        ..v1::Reading::default()
    })
}

/// A table, the feed it sees, and the time that passes.
struct Bench {
    feed: Feed,
    table: BarTable,
    seen: Seen,
    now: UnixNanos,
}

impl Bench {
    fn new() -> Self {
        Self::with(PLENTY, History::default())
    }

    fn with(max_bytes: usize, history: History) -> Self {
        Self {
            feed: Feed::default(),
            table: table(max_bytes, history),
            seen: Seen::default(),
            now: 0,
        }
    }

    /// A record of `key` of second `time`, taken in now.
    fn record(&mut self, key: &str, time: i64, payload: Payload) -> usize {
        let record = v1::Record {
            key: key.into(),
            event_time_unix_nanos: Some(time * SECOND),
            payload: Some(payload),
            ..v1::Record::default()
        };
        let at = self.feed.store(record, self.now);
        self.feed.feed(&mut self.table, at, at + 1).unwrap()
    }

    fn sent(&mut self, open: OpenBars) -> Vec<v1::ViewBar> {
        let bars = self.table.changed_since(self.seen, open).collect();
        self.seen = self.table.position();
        bars
    }
}

/// `key start: open high low close volume average count late`.
fn shown(bars: &[v1::ViewBar]) -> Vec<String> {
    let show = |view: &v1::ViewBar| {
        let bar = view.bar.as_ref().unwrap();
        let prices = [
            &bar.open,
            &bar.high,
            &bar.low,
            &bar.close,
            &bar.volume,
            &bar.vwap,
        ];
        let prices = prices.map(|price| text(price.as_ref())).join(" ");
        let start = bar.start_unix_nanos.unwrap() / SECOND;
        let (count, late) = (bar.count.unwrap(), view.late_count);
        format!("{} {start}: {prices} {count} {late}", view.key)
    };
    bars.iter().map(show).collect()
}

#[test]
fn the_last_bar_of_a_quiet_key_is_completed_by_the_clock_once() {
    let mut bench = Bench::new();
    bench.now = 3 * SECOND;
    bench.record("b", 3, plain("1", "1"));
    bench.record("a", 3, plain("2", "1"));
    assert_eq!(bench.table.next_due(), Some(INTERVAL + SECOND));
    bench.table.close_until(INTERVAL + SECOND - 1);
    assert_eq!(bench.sent(OpenBars::LeftOut), []);
    assert_eq!(bench.table.open_since(bench.seen), Some(0));
    bench.table.close_until(INTERVAL + SECOND);
    assert_eq!(
        shown(&bench.sent(OpenBars::LeftOut)),
        ["a 0: 2 2 2 2 1 2 1 0", "b 0: 1 1 1 1 1 1 1 0"]
    );
    assert_eq!(bench.sent(OpenBars::Sent), []);
    assert_eq!(bench.table.open_since(bench.seen), None);
    assert_eq!(bench.table.open_since(Seen::before(0)), Some(0));
    assert_eq!(bench.table.next_due(), None);
    bench.now = 13 * SECOND;
    bench.record("a", 9, plain("5", "1"));
    assert_eq!(
        shown(&bench.sent(OpenBars::LeftOut)),
        ["a 0: 2 5 2 5 2 3.5 2 1"]
    );
}

#[test]
fn a_spool_of_old_records_waits_a_second_after_its_last() {
    let mut bench = Bench::new();
    bench.now = 1_000 * SECOND;
    bench.record("a", 3, plain("1", "1"));
    bench.now += SECOND - 1;
    bench.record("a", 4, plain("2", "1"));
    bench.table.close_until(bench.now + SECOND - 1);
    assert_eq!(bench.sent(OpenBars::LeftOut), []);
    // Another key's record carries the clock on.
    bench.now += SECOND;
    bench.record("b", 4, plain("2", "1"));
    assert_eq!(
        shown(&bench.sent(OpenBars::LeftOut)),
        ["a 0: 1 2 1 2 2 1.5 2 0"]
    );
}

#[test]
fn a_first_record_of_a_bar_before_the_newest_is_late() {
    let mut bench = Bench::new();
    bench.record("a", 25, plain("1", "1"));
    bench.record("a", -15, plain("2", "1"));
    let sent = bench.sent(OpenBars::Sent);
    assert_eq!(
        shown(&sent),
        ["a -20: 2 2 2 2 1 2 1 1", "a 20: 1 1 1 1 1 1 1 0"]
    );
    assert_eq!((sent[0].complete, sent[0].revision), (true, 1));
    assert_eq!((sent[1].complete, sent[1].revision), (false, 0));
}

#[test]
fn open_and_close_go_by_time_and_every_price_keeps_its_scale() {
    let mut bench = Bench::new();
    for (time, price) in [
        (5, "3.10"),
        (2, "3.1000"),
        (8, "2.50"),
        (8, "2.5"),
        (4, "3.100"),
    ] {
        bench.record("a", time, plain(price, "0.5"));
    }
    let sent = shown(&bench.sent(OpenBars::Sent));
    assert_eq!(sent, ["a 0: 3.1000 3.1000 2.50 2.5 2.5 2.86 5 0"]);
}

#[test]
fn corrections_and_cancels_are_taken_into_account() {
    use v1::TradeAction::{Cancel, Correct, New};
    let mut bench = Bench::new();
    bench.record("a", 1, trade("x", New, "10", "1"));
    bench.record("a", 2, plain("11", "1"));
    bench.record("a", 3, trade("y", New, "99", "7"));
    // Its own time is of no matter, nor that the source repeats it.
    bench.record("a", 55, trade("y", Correct, "12", "2"));
    bench.record("a", 55, trade("nobody", Cancel, "12", "2"));
    bench.record("b", 55, trade("y", Cancel, "12", "2"));
    let sent = shown(&bench.sent(OpenBars::Sent));
    assert_eq!(sent, ["a 0: 10 12 10 12 4 11.25 3 0"]);
    bench.record("a", 4, trade("x", Cancel, "10", "1"));
    bench.record("a", 4, trade("x", Correct, "10", "1"));
    let sent = shown(&bench.sent(OpenBars::Sent));
    assert_eq!(
        sent,
        ["a 0: 11 12 11 12 3 11.666666666666666666666666667 2 0"]
    );
    // Of a complete bar it is late.
    bench.record("a", 11, plain("20", "1"));
    bench.record("a", 4, trade("y", Cancel, "12", "2"));
    let sent = shown(&bench.sent(OpenBars::LeftOut));
    assert_eq!(sent, ["a 0: 11 11 11 11 1 11 1 1"]);
}

#[test]
fn an_id_names_the_last_trade_that_had_it() {
    use v1::TradeAction::{Cancel, New};
    let mut bench = Bench::new();
    bench.record("a", 1, trade("x", New, "10", "1"));
    bench.record("a", 12, trade("x", New, "20", "1"));
    bench.record("a", 13, trade("x", Cancel, "20", "1"));
    bench.record("a", 13, trade("x", Cancel, "20", "1"));
    assert_eq!(
        shown(&bench.sent(OpenBars::Sent)),
        ["a 0: 10 10 10 10 1 10 1 0", "a 10: - - - - - - 0 0"]
    );
}

#[test]
fn quotes_make_a_bar_of_each_side_and_of_the_middle() {
    let quote = |bid: Option<&str>, ask: Option<&str>| {
        Payload::Quote(v1::Quote {
            bid: bid.map(decimal),
            ask: ask.map(decimal),
            ..v1::Quote::default()
        })
    };
    let mut bench = Bench::new();
    bench.record("q", 1, quote(Some("10.00"), Some("10.05")));
    bench.record("q", 2, quote(None, Some("10.10")));
    bench.record("q", 3, quote(Some("10.20"), Some("10.10")));
    let sent = bench.sent(OpenBars::Sent);
    let sources: Vec<_> = sent.iter().map(v1::ViewBar::source).collect();
    assert_eq!(
        sources,
        [
            BarSource::QuoteMid,
            BarSource::QuoteBid,
            BarSource::QuoteAsk
        ]
    );
    assert_eq!(
        shown(&sent),
        [
            "q 0: 10.025 10.15 10.025 10.15 - - 2 0",
            "q 0: 10.00 10.20 10.00 10.20 - - 2 0",
            "q 0: 10.05 10.10 10.05 10.10 - - 3 0",
        ]
    );
}

#[test]
fn shorter_bars_add_up() {
    let bar = |start: i64, prices: [&str; 4], volume: &str, count| {
        Payload::Bar(v1::Bar {
            start_unix_nanos: Some(start * SECOND),
            interval_nanos: Some(5 * SECOND),
            open: Some(decimal(prices[0])),
            high: Some(decimal(prices[1])),
            low: Some(decimal(prices[2])),
            close: Some(decimal(prices[3])),
            volume: Some(decimal(volume)),
            count,
            ..v1::Bar::default()
        })
    };
    let mut bench = Bench::new();
    // Told when they end: it is their start that counts.
    bench.record("a", 10, bar(5, ["2", "9", "1", "3"], "100", Some(4)));
    bench.record("a", 5, bar(0, ["5", "6", "4", "2"], "50", Some(3)));
    bench.record("a", 15, bar(10, ["7", "7", "7", "7"], "1", Some(3)));
    bench.record("a", 20, bar(15, ["8", "8", "8", "8"], "1", None));
    assert_eq!(
        shown(&bench.sent(OpenBars::Sent)),
        ["a 0: 5 9 1 3 150 - 7 0", "a 10: 7 8 7 8 2 - 2 0"]
    );
}

#[test]
fn readings_count_what_has_a_value_and_bad_ones_apart() {
    use v1::{
        Quality::{Bad, Good, Uncertain},
        reading::Value,
    };
    let mut bench = Bench::new();
    bench.record("t", 1, reading(Some(Value::Decimal(decimal("1.50"))), Good));
    bench.record("t", 2, reading(Some(Value::Integer(4)), Uncertain));
    bench.record("t", 3, reading(Some(Value::Number(99.0)), Bad));
    bench.record("t", 3, reading(None, Bad));
    bench.record("t", 4, reading(Some(Value::Text("off".into())), Good));
    let sent = bench.sent(OpenBars::Sent);
    let bar = sent[0].reading.as_ref().unwrap();
    assert_eq!(
        (bar.min, bar.max, bar.mean, bar.last),
        (Some(1.5), Some(4.0), Some(2.75), Some(4.0))
    );
    assert_eq!((bar.count, bar.bad_count, bar.channel), (2, 2, None));
    let exact = bar.exact.as_ref().unwrap();
    let exact = [&exact.min, &exact.max, &exact.sum, &exact.last].map(|d| text(d.as_ref()));
    assert_eq!(exact, ["1.50", "4", "5.50", "4"]);
    bench.record("t", 5, reading(Some(Value::Flag(true)), Good));
    let sent = bench.sent(OpenBars::Sent);
    assert_eq!(sent[0].reading.as_ref().unwrap().exact, None);
    let vector = Value::Vector(v1::Vector {
        values: vec![1.0, 2.0, f64::NAN],
    });
    bench.record("v", 5, reading(Some(vector), Good));
    let sent = bench.sent(OpenBars::Sent);
    let channels: Vec<_> = sent
        .iter()
        .map(|bar| bar.reading.as_ref().unwrap().channel)
        .collect();
    assert_eq!(channels, [Some(0), Some(1)]);
}

#[test]
fn a_volume_of_too_many_digits_is_absent() {
    let mut bench = Bench::new();
    bench.record("a", 1, plain("1", "79228162514264337593543950335"));
    bench.record("a", 2, plain("1", "0.1"));
    assert_eq!(
        shown(&bench.sent(OpenBars::Sent))[0],
        "a 0: 1 1 1 1 - 1 2 0"
    );
}

#[test]
fn the_ends_of_time_are_times() {
    let mut bench = Bench::new();
    for time in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX, i64::MAX - 1] {
        let record = v1::Record {
            key: "a".into(),
            event_time_unix_nanos: Some(time),
            payload: Some(plain("1", "1")),
            ..v1::Record::default()
        };
        for ingest in [i64::MIN, i64::MAX] {
            let at = bench.feed.store(record.clone(), ingest);
            bench.feed.feed(&mut bench.table, at, at + 1).unwrap();
        }
    }
    let counts = bench
        .sent(OpenBars::Sent)
        .into_iter()
        .map(|view| view.bar.unwrap().count);
    assert_eq!(counts.map(Option::unwrap).sum::<u64>(), 12);
}

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

proptest! {
    #[test]
    fn bytes_that_are_no_record_do_no_harm(bytes in vec(vec(any::<u8>(), 0..60), 1..5)) {
        let mut table = table(PLENTY, History::default());
        for (offset, bytes) in (0..).zip(&bytes) {
            table.see(offset, bytes).unwrap();
        }
    }
}
