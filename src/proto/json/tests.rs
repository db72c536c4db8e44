//! Round trips, exactness and the error messages of records as JSON.

use proptest::{collection::vec, option, prelude::*};
use serde_json::Value;

use super::{super::v1, *};
use v1::{reading::Value as Measured, record::Payload};

fn decimal() -> impl Strategy<Value = v1::Decimal> {
    let limit = 1_i128 << 96;
    let mantissa = prop_oneof![-1_000_000..1_000_000_i128, -(limit - 1)..limit];
    (mantissa, 0..=28_u32).prop_map(|(mantissa, scale)| {
        rust_decimal::Decimal::from_i128_with_scale(mantissa, scale).into()
    })
}

fn double() -> impl Strategy<Value = f64> {
    let special = [
        -0.0,
        0.0,
        f64::MIN_POSITIVE,
        5e-324,
        f64::MAX,
        f64::MIN,
        1.0,
        0.1,
        1e21,
    ];
    prop_oneof![
        any::<f64>().prop_filter("finite", |x| x.is_finite()),
        prop::sample::select(special.to_vec()),
        (-1e9..1e9),
    ]
}

fn words() -> impl Strategy<Value = Vec<String>> {
    vec(any::<String>(), 0..3)
}

fn quote() -> impl Strategy<Value = Payload> {
    let side = || option::of(decimal());
    (side(), side(), side(), side(), words()).prop_map(
        |(bid, ask, bid_size, ask_size, conditions)| {
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

fn trade() -> impl Strategy<Value = Payload> {
    let number = || option::of(decimal());
    (number(), number(), any::<String>(), 0..3, words(), 0..4).prop_map(
        |(price, size, trade_id, side, conditions, action)| {
            Payload::Trade(v1::Trade {
                price,
                size,
                trade_id,
                side,
                conditions,
                action,
            })
        },
    )
}

fn bar() -> impl Strategy<Value = Payload> {
    let number = || option::of(decimal());
    let prices = (
        number(),
        number(),
        number(),
        number(),
        number(),
        number(),
        number(),
    );
    let rest = (
        any::<Option<i64>>(),
        any::<Option<i64>>(),
        any::<Option<u64>>(),
    );
    (prices, rest).prop_map(
        |((open, high, low, close, volume, vwap, adjusted_close), rest)| {
            let (start_unix_nanos, interval_nanos, count) = rest;
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
        },
    )
}

fn measured() -> impl Strategy<Value = Measured> {
    prop_oneof![
        double().prop_map(Measured::Number),
        decimal().prop_map(Measured::Decimal),
        any::<i64>().prop_map(Measured::Integer),
        any::<bool>().prop_map(Measured::Flag),
        any::<String>().prop_map(Measured::Text),
        vec(double(), 0..5).prop_map(|values| Measured::Vector(v1::Vector { values })),
    ]
}

fn payload() -> impl Strategy<Value = Payload> {
    let reading = (option::of(measured()), 0..4, any::<Option<u32>>());
    prop_oneof![
        quote(),
        trade(),
        bar(),
        reading.prop_map(|(value, quality, quality_code)| {
            Payload::Reading(v1::Reading {
                value,
                quality,
                quality_code,
            })
        }),
        any::<(String, String)>()
            .prop_map(|(state, reason)| Payload::Status(v1::Status { state, reason })),
    ]
}

fn record() -> impl Strategy<Value = v1::Record> {
    let times = any::<(Option<i64>, Option<i64>, Option<u64>)>();
    (any::<String>(), times, any::<String>(), payload()).prop_map(|(key, times, venue, payload)| {
        let (event_time_unix_nanos, source_time_unix_nanos, source_sequence) = times;
        v1::Record {
            key,
            event_time_unix_nanos,
            source_time_unix_nanos,
            source_sequence,
            venue,
            payload: Some(payload),
            ..v1::Record::default()
        }
    })
}

proptest! {
    #[test]
    fn a_record_comes_back_from_json_as_it_was(record in record()) {
        let line = to_json(&record).to_string();
        let back = parse_line(&line).unwrap();
        // Encoded bytes: -0.0 and 0.0 are equal as doubles, and not the same.
        prop_assert_eq!(prost::Message::encode_to_vec(&back), prost::Message::encode_to_vec(&record));
        prop_assert_eq!(to_json(&back).to_string(), line);
    }
}

fn printed(line: &str) -> String {
    parse_line(line).map_or_else(
        |error| error.to_string(),
        |record| to_json(&record).to_string(),
    )
}

#[test]
fn a_received_record_can_be_sent_again() {
    let record = v1::Record {
        key: "AAPL".into(),
        event_time_unix_nanos: Some(1_464_183_000_023_000_000),
        payload: Some(Payload::Quote(v1::Quote {
            bid: Some(v1::Decimal {
                units: 9899,
                scale: 2,
                high: 0,
            }),
            ask: Some(v1::Decimal {
                units: 9901,
                scale: 2,
                high: 0,
            }),
            ..v1::Quote::default()
        })),
        time_assigned: true,
        offset: 1 << 60,
        ingest_time_unix_nanos: 1_464_183_000_024_000_001,
        ..v1::Record::default()
    };
    let line = to_json(&record).to_string();
    assert_eq!(
        line,
        r#"{"key":"AAPL","time":"2016-05-25T13:30:00.023000000Z","quote":{"bid":"98.99","ask":"99.01"},"time_assigned":true,"offset":"1152921504606846976","ingest_time":"2016-05-25T13:30:00.024000001Z"}"#
    );
    let sent = v1::Record {
        time_assigned: false,
        offset: 0,
        ingest_time_unix_nanos: 0,
        ..record
    };
    let with_feed = line.replacen('{', r#"{"feed":"stocks","epoch":"7","#, 1);
    assert_eq!(parse_line(&with_feed), Ok(sent));
}

#[test]
fn numbers_into_decimals_keep_their_text() {
    assert_eq!(
        printed(r#"{"key":"a","trade":{"price":21.50,"size":1e3}}"#),
        r#"{"key":"a","trade":{"price":"21.50","size":"1000"}}"#
    );
    assert_eq!(
        printed(r#"{"key":"a","trade":{"price":79228162514264337593543950335}}"#),
        r#"{"key":"a","trade":{"price":"79228162514264337593543950335"}}"#
    );
}

#[test]
fn the_shorthand_is_a_reading() {
    for (short, long) in [
        ("21.5", r#"{"value":21.5}"#),
        ("21", r#"{"value":21.0}"#),
        ("-0.0", r#"{"value":-0.0}"#),
        ("1E3", r#"{"value":1000.0}"#),
        ("true", r#"{"value":true}"#),
        (r#""21.50""#, r#"{"value":"21.50"}"#),
        ("[1,2.5]", r#"{"value":[1.0,2.5]}"#),
    ] {
        assert_eq!(
            printed(&format!(r#"{{"key":"k","value":{short}}}"#)),
            format!(r#"{{"key":"k","reading":{long}}}"#)
        );
    }
    assert_eq!(
        printed(r#"{"key":"k","quality":"bad","value":null}"#),
        r#"{"key":"k","reading":{"quality":"bad"}}"#
    );
    assert_eq!(
        printed(r#"{"key":"k","reading":{"decimal":"21.50"},"quality":"uncertain"}"#),
        r#"{"key":"k","reading":{"decimal":"21.50","quality":"uncertain"}}"#
    );
}

#[test]
fn integers_and_times_are_texts_or_numbers() {
    for time in [
        "-252374399999999999",
        r#""-252374399999999999""#,
        r#""1962-01-02T00:00:00.000000001Z""#,
    ] {
        let record = parse_line(&format!(r#"{{"key":"k","time":{time},"value":1}}"#)).unwrap();
        assert_eq!(record.event_time_unix_nanos, Some(-252_374_399_999_999_999));
    }
    let record = parse_line(r#"{"key":"k","source_sequence":18446744073709551615,"value":1}"#);
    assert_eq!(record.unwrap().source_sequence, Some(u64::MAX));
}

#[test]
fn errors_name_the_field_and_what_to_do() {
    for (line, message) in [
        (
            r#"{"key":"k","valu":1,"value":2}"#,
            "`valu` is not a field of a record",
        ),
        (
            r#"{"key":"k","quote":{"bidd":1}}"#,
            "`quote.bidd` is not a field of a record",
        ),
        (
            r#"{"key":"k","quote":{"bid":"x"}}"#,
            "`quote.bid` is not a decimal number",
        ),
        (
            r#"{"key":"k","trade":{"side":"up"}}"#,
            "`trade.side` has no such value as \"up\"",
        ),
        (r#"{"value":1}"#, "`key` is missing"),
        (r#"{"key":7,"value":1}"#, "`key` is not a text"),
        (
            r#"{"key":"k"}"#,
            "exactly one of quote, trade, bar, reading, status or value is needed",
        ),
        (
            r#"{"key":"k","value":1,"quote":{"bid":1}}"#,
            "exactly one of quote, trade, bar, reading, status or value is needed",
        ),
        (
            r#"{"key":"k","reading":{"value":1,"decimal":"1"}}"#,
            "`reading` has more than one value",
        ),
        (
            r#"{"key":"k","source_sequence":1.5,"value":1}"#,
            "`source_sequence` is not an integer, or too large for this field",
        ),
        ("[]", "is not an object"),
    ] {
        assert_eq!(printed(line), message);
    }
    assert!(
        printed(r#"{"key":"k","value":1,"unit":"Cel"}"#).contains("ringfeed keys FEED set KEY")
    );
    assert!(printed(r#"{"key":"k","value":9007199254740993}"#).contains("beyond 2^53"));
    assert!(
        printed(r#"{"key":"k","time":"2016-05-25","value":1}"#).starts_with("`time` is not a time")
    );
    assert!(printed(r#"{"key":"k"#).starts_with("not JSON"));
}

#[test]
fn what_json_has_no_number_for_still_prints() {
    let value = Some(Measured::Vector(v1::Vector {
        values: vec![f64::NAN, 1.0],
    }));
    let reading = v1::Reading {
        value,
        ..v1::Reading::default()
    };
    let record = v1::Record {
        key: "k".into(),
        payload: Some(Payload::Reading(reading)),
        ..v1::Record::default()
    };
    assert_eq!(
        to_json(&record)["reading"]["value"],
        Value::from(vec![Value::from("NaN"), Value::from(1.0)])
    );
}
