//! Random feeds: odd times, late records, every payload, corrections, bounds.

use proptest::{collection::vec, option, prelude::*};

use super::{
    super::{History, Seen, reference::Event},
    bed::{Feed, INTERVAL, PLENTY, SECOND, Shown, Subscriber, table},
};
use crate::{
    hub::OpenBars,
    proto::v1::{self, reading::Value, record::Payload},
};

/// What happens next.
#[expect(clippy::large_enum_variant, reason = "plain before small")]
#[derive(Clone, Debug)]
enum Op {
    /// A record so much later, with an event time so far from then.
    Record {
        after: i64,
        offset: i64,
        key: u8,
        payload: Payload,
    },
    /// The wall clock is looked at so much later.
    Clock { after: i64 },
    /// Subscribers are sent what there is.
    Send,
}

fn decimal() -> impl Strategy<Value = v1::Decimal> {
    let units = prop_oneof![8 => -5..40_i64, 1 => -10_000_000..10_000_000_i64];
    (units, 0..4_u32).prop_map(|(units, scale)| v1::Decimal {
        units,
        scale,
        high: 0,
    })
}

fn quote() -> impl Strategy<Value = Payload> {
    let sides = prop_oneof![
        3 => (decimal(), decimal()).prop_map(|(bid, ask)| (Some(bid), Some(ask))),
        1 => decimal().prop_map(|bid| (Some(bid), None)),
        1 => decimal().prop_map(|ask| (None, Some(ask))),
    ];
    sides.prop_map(|(bid, ask)| {
        Payload::Quote(v1::Quote {
            bid,
            ask,
            ..v1::Quote::default()
        })
    })
}

/// With ids, of which there are few, some are corrected or taken back.
fn trade(amended: bool) -> impl Strategy<Value = Payload> {
    let size = option::weighted(0.9, (0..9_i64, 0..3_u32)).prop_map(|size| {
        size.map(|(units, scale)| v1::Decimal {
            units,
            scale,
            high: 0,
        })
    });
    let last = if amended { 3 } else { 1 };
    (decimal(), size, 0..5_u8, 0..=last).prop_map(|(price, size, id, action)| {
        let trade_id = if id == 0 && action < 2 {
            String::new()
        } else {
            format!("t{id}")
        };
        Payload::Trade(v1::Trade {
            price: Some(price),
            size,
            trade_id,
            action,
            ..v1::Trade::default()
        })
    })
}

/// Its start is set with its record's time.
fn bar() -> impl Strategy<Value = Payload> {
    let prices = (decimal(), decimal(), decimal(), decimal());
    let volume = option::weighted(
        0.8,
        (0..9_i64).prop_map(|n| v1::Decimal {
            units: n,
            scale: 1,
            high: 0,
        }),
    );
    let rest = (
        volume,
        option::of(decimal()),
        option::weighted(0.8, 0..5_u64),
        option::of(decimal()),
    );
    (prices, rest, 1..3 * INTERVAL).prop_map(|(prices, rest, interval)| {
        Payload::Bar(v1::Bar {
            start_unix_nanos: None,
            interval_nanos: Some(interval),
            open: Some(prices.0),
            high: Some(prices.1),
            low: Some(prices.2),
            close: Some(prices.3),
            volume: rest.0,
            vwap: rest.1,
            count: rest.2,
            adjusted_close: rest.3,
        })
    })
}

fn reading() -> impl Strategy<Value = Payload> {
    let double = prop_oneof![Just(0.0), Just(-0.0), -1e3..1e3_f64, Just(21.5)];
    let value = prop_oneof![
        3 => double.clone().prop_map(Value::Number),
        3 => decimal().prop_map(Value::Decimal),
        2 => (-9..9_i64).prop_map(Value::Integer),
        1 => any::<bool>().prop_map(Value::Flag),
        1 => Just(Value::Text("on".into())),
        2 => vec(double, 1..4).prop_map(|values| Value::Vector(v1::Vector { values })),
    ];
    prop_oneof![
        5 => (value, 0..4_i32).prop_map(|(value, quality)| (Some(value), quality)),
        1 => Just((None, 3)),
    ]
    .prop_map(|(value, quality)| {
        Payload::Reading(v1::Reading {
            value,
            quality,
            ..v1::Reading::default()
        })
    })
}

fn payload(amended: bool) -> impl Strategy<Value = Payload> {
    let status = Payload::Status(v1::Status {
        state: "on".into(),
        reason: String::new(),
    });
    prop_oneof![
        4 => quote(),
        8 => trade(amended),
        3 => bar(),
        6 => reading(),
        1 => Just(status),
    ]
}

/// Trades of few ids, most of them corrected or taken back.
fn op(amended: bool) -> impl Strategy<Value = Op> {
    let after =
        || prop_oneof![6 => 0..SECOND, 2 => Just(0), 2 => 0..3 * SECOND, 1 => 0..2 * INTERVAL];
    // Mostly now; some late, some long ago, before 1970 as well, and some ahead.
    let offset = prop_oneof![
        6 => -SECOND..1_i64,
        2 => Just(0),
        3 => -2 * INTERVAL..SECOND,
        1 => (-6..6_i64).prop_map(|n| n * INTERVAL),
        1 => -20 * INTERVAL..2 * INTERVAL,
    ];
    let record = (after(), offset, 0..2_u8, payload(amended));
    prop_oneof![
        12 => record.prop_map(|(after, offset, key, payload)| Op::Record { after, offset, key, payload }),
        2 => after().prop_map(|after| Op::Clock { after }),
        2 => Just(Op::Send),
    ]
}

fn record(now: i64, offset: i64, key: u8, mut payload: Payload) -> v1::Record {
    let time = now + offset;
    if let Payload::Bar(bar) = &mut payload {
        bar.start_unix_nanos = Some(time - time.rem_euclid(SECOND));
    }
    v1::Record {
        key: format!("k{key}"),
        event_time_unix_nanos: Some(time),
        payload: Some(payload),
        ..v1::Record::default()
    }
}

/// A feed that plays what happens, one step at a time.
#[derive(Debug, Default)]
struct Player {
    feed: Feed,
    now: i64,
}

impl Player {
    /// Whether subscribers are sent what there is.
    fn play(
        &mut self,
        op: &Op,
        table: &mut super::super::BarTable,
    ) -> Result<(bool, usize), super::super::TooLarge> {
        match op.clone() {
            Op::Record {
                after,
                offset,
                key,
                payload,
            } => {
                self.now += after;
                let record = record(self.now, offset, key, payload);
                let at = self.feed.store(record, self.now);
                Ok((false, self.feed.feed(table, at, at + 1)?))
            }
            Op::Clock { after } => {
                self.now += after;
                self.feed.events.push(Event::Clock(self.now));
                table.close_until(self.now);
                Ok((false, 0))
            }
            Op::Send => Ok((true, 0)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn what_subscribers_are_sent_is_what_the_reference_computes(
        ops in vec(op(true), 1..60),
    ) {
        let mut player = Player::default();
        let mut table = table(PLENTY, History::default());
        let mut quiet = Subscriber::new(OpenBars::LeftOut);
        let mut curious = Subscriber::new(OpenBars::Sent);
        for op in ops.iter().chain([&Op::Send]) {
            let (is_sent, refills) = player.play(op, &mut table).unwrap();
            prop_assert_eq!(refills, 0, "this table knows all");
            if is_sent {
                for (bar, before) in quiet.take(&mut table) {
                    prop_assert!(bar.complete);
                    // Nothing is said twice.
                    prop_assert_ne!(Some(bar), before);
                }
                curious.take(&mut table);
                quiet.shown.check(&player.feed.events, OpenBars::LeftOut);
                curious.shown.check(&player.feed.events, OpenBars::Sent);
                prop_assert_eq!(quiet.take(&mut table), vec![]);
                prop_assert_eq!(curious.take(&mut table), vec![]);
            }
        }
        let start = |bar: &v1::ViewBar| match (&bar.bar, &bar.reading) {
            (Some(bar), _) => bar.start_unix_nanos,
            (None, reading) => reading.as_ref().map(|bar| bar.start_unix_nanos),
        };
        let open = curious.shown.0.values().filter(|bar| !bar.complete).filter_map(start);
        prop_assert_eq!(table.open_since(table.position()), open.min());
    }

    #[test]
    fn who_joins_or_resumes_anywhere_misses_nothing(
        ops in vec(op(false), 2..60),
        at in any::<prop::sample::Index>(),
        behind in any::<prop::sample::Index>(),
    ) {
        let at = at.index(ops.len());
        let mut player = Player::default();
        let mut table = table(PLENTY, History::default());
        // Someone was sent everything up to there, and learns later where it goes on.
        let (mut slow, mut known, mut since) = (Seen::default(), 0, None);
        for (i, op) in ops.iter().enumerate() {
            if i == behind.index(at + 1) {
                (slow, known) = (table.position(), player.feed.events.len());
            }
            if i == at {
                since = table.open_since(slow);
            }
            player.play(op, &mut table).unwrap();
        }
        let cursor = slow.next();
        let shown = Shown::complete(&player.feed.events[..known]);
        // From the table that is there.
        let mut joined = Subscriber { seen: Seen::before(cursor), shown, open: OpenBars::LeftOut };
        let mut resumed = joined.clone();
        joined.take(&mut table);
        joined.shown.check(&player.feed.events, OpenBars::LeftOut);
        // And from a table of its own.
        let mut own = player.feed.table_at(cursor, since);
        player.feed.feed(&mut own, cursor, player.feed.next()).unwrap();
        own.close_until(player.now);
        let mut events = player.feed.events.clone();
        events.push(Event::Clock(player.now));
        resumed.take(&mut own);
        resumed.shown.check(&events, OpenBars::LeftOut);
    }

    #[test]
    fn bars_that_had_to_go_are_computed_again(
        ops in vec(op(false), 1..80),
        max_bytes in 3_000..30_000_usize,
    ) {
        let mut player = Player::default();
        let mut table = table(max_bytes, History::default());
        let mut subscriber = Subscriber::new(OpenBars::Sent);
        for op in &ops {
            match player.play(op, &mut table) {
                Ok(_) => {}
                Err(_too_large) => return Ok(()),
            }
            prop_assert!(table.bytes() <= max_bytes);
            subscriber.take(&mut table);
            table.release(table.position());
            subscriber.shown.check(&player.feed.events, OpenBars::Sent);
        }
    }
}
