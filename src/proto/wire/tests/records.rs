//! Records of every kind, within the limits of the rules or one beyond them, for property tests.

use proptest::{collection::vec, option, prelude::*};

use super::v1::{self, reading::Value, record::Payload};

/// How far beyond the limits a record may go: 0 or 1 in whatever the limit counts.
type Over = u8;

/// Texts within `bytes`; some as long as they may be.
fn text(over: Over, bytes: usize) -> BoxedStrategy<String> {
    let longest = bytes..=bytes + usize::from(over);
    prop_oneof![
        4 => "[A-Z0-9.]{1,12}".prop_map(move |text| cut(&text, bytes)),
        2 => "\\PC{1,20}".prop_map(move |text| cut(&text, bytes)),
        1 => longest.prop_map(|len| "x".repeat(len)),
    ]
    .boxed()
}

fn cut(text: &str, bytes: usize) -> String {
    text.chars()
        .scan(0, |len, c| {
            *len += c.len_utf8();
            (*len <= bytes).then_some(c)
        })
        .collect()
}

fn or_empty(text: impl Strategy<Value = String> + 'static) -> BoxedStrategy<String> {
    prop_oneof![Just(String::new()), text].boxed()
}

fn decimal(over: Over) -> impl Strategy<Value = v1::Decimal> + Clone {
    let limit = (1_i128 << 96) - 1 + i128::from(over);
    let mantissa = prop_oneof![
        Just(0),
        -100_000_000..100_000_000_i128,
        -limit..=limit,
        Just(limit),
        Just(-limit)
    ];
    (mantissa, 0..=28 + u32::from(over)).prop_map(|(mantissa, scale)| {
        #[expect(clippy::cast_possible_truncation, reason = "the low 64 bits")]
        let units = mantissa as i64;
        let high = ((mantissa - i128::from(units)) >> 64) as i64;
        v1::Decimal { units, scale, high }
    })
}

fn double(over: Over) -> impl Strategy<Value = f64> {
    let any_bits = any::<u64>().prop_map(f64::from_bits);
    any_bits.prop_filter("finite", move |x| over > 0 || x.is_finite())
}

fn conditions(over: Over) -> impl Strategy<Value = Vec<String>> {
    let most = 16..=16 + usize::from(over);
    prop_oneof![
        Just(vec![]),
        vec(or_empty(text(over, 32)), 0..3),
        most.prop_map(|count| vec!["@".to_owned(); count])
    ]
}

/// What a payload requires; beyond the limits it may be absent.
fn required<T: std::fmt::Debug + Clone + 'static>(
    over: Over,
    value: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Option<T>> {
    match over {
        0 => value.prop_map(Some).boxed(),
        _ => option::weighted(0.9, value).boxed(),
    }
}

fn quote(over: Over) -> impl Strategy<Value = Payload> {
    let some = move || option::of(decimal(over));
    let sides = prop_oneof![
        (required(over, decimal(over)), some()),
        (some(), required(over, decimal(over))),
    ];
    (sides, some(), some(), conditions(over)).prop_map(
        |((bid, ask), bid_size, ask_size, conditions)| {
            Payload::Quote(v1::Quote {
                bid,
                ask,
                bid_size,
                ask_size,
                conditions,
            })
        },
    )
}

fn trade(over: Over) -> impl Strategy<Value = Payload> {
    let last = 3 + i32::from(over);
    let named =
        or_empty(text(over, 64)).prop_filter("a name", move |id| over > 0 || !id.is_empty());
    let id = prop_oneof![(or_empty(text(over, 64)), 0..=1), (named, 2..=last)];
    let size = option::of(decimal(over));
    let side = 0..=2 + i32::from(over);
    (
        required(over, decimal(over)),
        size,
        id,
        side,
        conditions(over),
    )
        .prop_map(|(price, size, (trade_id, action), side, conditions)| {
            Payload::Trade(v1::Trade {
                price,
                size,
                trade_id,
                side,
                conditions,
                action,
            })
        })
}

fn bar(over: Over) -> impl Strategy<Value = Payload> {
    let some = move || option::of(decimal(over));
    let must = move || required(over, decimal(over));
    let shortest = 1 - i64::from(over);
    let interval = prop_oneof![Just(shortest), shortest..=i64::MAX];
    let times = (required(over, any::<i64>()), required(over, interval));
    let prices = (must(), must(), must(), must());
    let rest = (some(), some(), some(), any::<Option<u64>>());
    (times, prices, rest).prop_map(|(times, prices, rest)| {
        let (start_unix_nanos, interval_nanos) = times;
        let (open, high, low, close) = prices;
        let (volume, vwap, adjusted_close, count) = rest;
        Payload::Bar(v1::Bar {
            start_unix_nanos,
            interval_nanos,
            open,
            high,
            low,
            close,
            volume,
            vwap,
            count,
            adjusted_close,
        })
    })
}

fn measured(over: Over) -> impl Strategy<Value = Value> {
    let fewest = 1 - usize::from(over);
    let most = 1_024..=1_024 + usize::from(over);
    let channels = prop_oneof![
        4 => vec(double(over), fewest..6),
        1 => most.prop_map(|count| vec![0.5; count]),
    ];
    prop_oneof![
        double(over).prop_map(Value::Number),
        decimal(over).prop_map(Value::Decimal),
        any::<i64>().prop_map(Value::Integer),
        any::<bool>().prop_map(Value::Flag),
        or_empty(text(over, 4_096)).prop_map(Value::Text),
        channels.prop_map(|values| Value::Vector(v1::Vector { values })),
    ]
}

fn reading(over: Over) -> impl Strategy<Value = Payload> {
    let bad = i32::from(v1::Quality::Bad);
    let value = prop_oneof![
        4 => (required(over, measured(over)), 0..=bad + i32::from(over)),
        1 => (Just(None), Just(bad)),
    ];
    (value, any::<Option<u32>>()).prop_map(|((value, quality), quality_code)| {
        Payload::Reading(v1::Reading {
            value,
            quality,
            quality_code,
        })
    })
}

fn status(over: Over) -> impl Strategy<Value = Payload> {
    (text(over, 64), or_empty(text(over, 1_024)))
        .prop_map(|(state, reason)| Payload::Status(v1::Status { state, reason }))
}

/// A record that breaks no rule, some as a server sends them: with its own fields.
pub(super) fn valid(latest: i64) -> impl Strategy<Value = v1::Record> {
    record(0, latest)
}

/// A record that may go one beyond any limit, and lack what it must have.
pub(super) fn borderline(latest: i64) -> impl Strategy<Value = v1::Record> {
    record(1, latest)
}

fn record(over: Over, latest: i64) -> impl Strategy<Value = v1::Record> {
    let payload = prop_oneof![
        quote(over),
        trade(over),
        bar(over),
        reading(over),
        status(over)
    ];
    let event_time = prop_oneof![i64::MIN..=latest, latest..=latest + i64::from(over),];
    let times = (
        option::of(event_time),
        any::<Option<i64>>(),
        any::<Option<u64>>(),
    );
    let server = prop_oneof![
        3 => Just((false, 0, 0)),
        1 => any::<(bool, u64, i64)>(),
    ];
    let texts = (text(over, 256), or_empty(text(over, 64)));
    (texts, times, required(over, payload), server).prop_map(
        |((key, venue), times, payload, server)| v1::Record {
            key,
            event_time_unix_nanos: times.0,
            payload,
            source_time_unix_nanos: times.1,
            source_sequence: times.2,
            venue,
            time_assigned: server.0,
            offset: server.1,
            ingest_time_unix_nanos: server.2,
        },
    )
}
