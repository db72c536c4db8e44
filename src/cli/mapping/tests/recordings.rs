//! The real recordings through their mappings, value by value.

use std::{collections::HashMap, path::PathBuf};

use super::{super::*, printed};
use crate::proto::{
    convert::{decimal_text, time_text},
    v1::{Quality, reading::Value, record::Payload},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

pub(super) fn fixtures() -> PathBuf {
    PathBuf::from(ROOT).join("fixtures")
}

/// A recording that is kept here, or one that lies beside the checkout; says why it is skipped.
pub(in crate::cli::mapping) fn recording(name: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("RINGFEED_FIXTURES").map(PathBuf::from);
    let beside = PathBuf::from(ROOT).join("../shared/fixtures-source");
    let places = [Some(fixtures()), shared, Some(beside)];
    let found = places
        .into_iter()
        .flatten()
        .map(|place| place.join(name))
        .find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: {name} is neither in fixtures/ nor in $RINGFEED_FIXTURES");
    }
    found
}

fn mapping(name: &str) -> Mapping {
    let stem = name.split('.').next().unwrap();
    Mapping::load(&fixtures().join(format!("{stem}.mapping.toml"))).unwrap()
}

/// All records of a recording; none of its rows may be broken.
pub(super) fn records(name: &str) -> Option<Vec<v1::Record>> {
    let mut source = Source::open(&recording(name)?, None, Some(&mapping(name))).unwrap();
    let mut records = Vec::new();
    while source.next_row(&mut records).unwrap().is_some() {}
    assert_eq!(
        source.broken().count,
        0,
        "{:?}",
        source.broken().first.first()
    );
    assert_eq!(source.consumed_bytes(), source.total_bytes().unwrap());
    Some(records)
}

fn count<'r>(
    records: impl IntoIterator<Item = &'r v1::Record>,
    is: impl Fn(&v1::Record) -> bool,
) -> usize {
    records.into_iter().filter(|record| is(record)).count()
}

fn reading(record: &v1::Record) -> &v1::Reading {
    match &record.payload {
        Some(Payload::Reading(reading)) => reading,
        other => panic!("not a reading: {other:?}"),
    }
}

fn number(record: &v1::Record) -> Option<f64> {
    match reading(record).value {
        Some(Value::Number(number)) => Some(number),
        _ => None,
    }
}

fn is_bad(record: &v1::Record) -> bool {
    reading(record).quality == i32::from(Quality::Bad)
}

fn backward_steps(records: &[v1::Record]) -> usize {
    let times: Vec<_> = records
        .iter()
        .map(|record| record.event_time_unix_nanos)
        .collect();
    times.windows(2).filter(|pair| pair[1] < pair[0]).count()
}

#[test]
fn daily_bars_keep_every_digit() {
    let records = records("market_us_stocks_daily.csv").unwrap();
    assert_eq!(records.len(), 12_154);
    assert_eq!(
        printed(&records[0]),
        r#"{"key":"AAPL","time":"2000-03-01T05:00:00.000000000Z","bar":{"start":"2000-03-01T05:00:00.000000000Z","interval_nanos":"86400000000000","open":"118.56","high":"132.06","low":"118.5","close":"130.31","volume":"9616100","adjusted_close":"4.186662803811"}}"#
    );
    // Summer time: midnight in New York is another hour of UTC.
    let summer = records
        .iter()
        .find(|r| time_text(r.event_time_unix_nanos.unwrap()).starts_with("2000-06-21"));
    assert_eq!(
        time_text(summer.unwrap().event_time_unix_nanos.unwrap()),
        "2000-06-21T04:00:00.000000000Z"
    );
    for (key, rows) in [
        ("AAPL", 3270),
        ("IBM", 3270),
        ("MSFT", 3270),
        ("GOOG", 2148),
        ("FB", 196),
    ] {
        assert_eq!(count(&records, |record| record.key == key), rows, "{key}");
    }
    // Blocked by symbol: the dates step back at the change to IBM, MSFT and others.
    let changes = records
        .windows(2)
        .filter(|pair| pair[0].key != pair[1].key)
        .count();
    assert_eq!((changes, backward_steps(&records)), (4, 4));
}

#[test]
fn the_bars_give_back_the_file_text() {
    let records = records("market_us_stocks_daily.csv").unwrap();
    let mut csv = csv::Reader::from_path(fixtures().join("market_us_stocks_daily.csv")).unwrap();
    for (row, record) in csv.records().map(Result::unwrap).zip(&records) {
        let Some(Payload::Bar(bar)) = &record.payload else {
            panic!("not a bar")
        };
        let fields = [
            &bar.open,
            &bar.high,
            &bar.low,
            &bar.close,
            &bar.volume,
            &bar.adjusted_close,
        ];
        let texts = fields.map(|field| decimal_text(field.as_ref().unwrap()));
        assert_eq!(texts.as_slice(), row.iter().skip(2).collect::<Vec<_>>());
    }
}

#[test]
fn trades_keep_milliseconds_zeros_and_repeats() {
    let records = records("market_us_stock_ticks_trades.csv").unwrap();
    assert_eq!(records.len(), 77);
    assert_eq!(
        printed(&records[0]),
        r#"{"key":"MSFT","time":"2016-05-25T13:30:00.023000000Z","trade":{"price":"51.9500","size":"75"},"venue":"NASDAQ"}"#
    );
    let lines: Vec<_> = records.iter().map(printed).collect();
    let mut distinct = lines.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(lines.len() - distinct.len(), 8);
    assert_eq!(count(&records, |record| record.key == "AAPL"), 62);
}

#[test]
fn locked_and_crossed_quotes_are_quotes() {
    let records = records("market_us_stock_ticks_quotes.csv").unwrap();
    assert_eq!(records.len(), 56);
    assert_eq!(
        printed(&records[0]),
        r#"{"key":"GOOG","time":"2016-05-25T13:30:00.023000000Z","quote":{"bid":"720.50","ask":"720.93"}}"#
    );
    let side = |quote: &v1::Quote| {
        let units = |side: &Option<v1::Decimal>| side.as_ref().map(|decimal| decimal.units);
        units(&quote.bid).cmp(&units(&quote.ask))
    };
    let sides = |wanted| {
        count(
            &records,
            |record| matches!(&record.payload, Some(Payload::Quote(q)) if side(q) == wanted),
        )
    };
    assert_eq!(sides(std::cmp::Ordering::Equal), 10);
    assert_eq!(sides(std::cmp::Ordering::Greater), 1);
}

#[test]
fn alamosa_gives_twenty_readings_a_minute() {
    let records = records("sensor_surfrad_alamosa_20160101.csv").unwrap();
    assert_eq!(records.len(), 1440 * 20);
    assert_eq!(
        printed(&records[0]),
        r#"{"key":"alamosa.dw_solar","time":"2016-01-01T00:00:00.000000000Z","reading":{"value":-1.8,"quality_code":0}}"#
    );
    let last = printed(records.last().unwrap());
    assert!(
        last.starts_with(r#"{"key":"alamosa.pressure","time":"2016-01-01T23:59:00.000000000Z""#)
    );
    for key in ["alamosa.uvb", "alamosa.par"] {
        let missing = |record: &v1::Record| {
            record.key == key
                && is_bad(record)
                && reading(record).value.is_none()
                && reading(record).quality_code == Some(1)
        };
        assert_eq!(count(&records, missing), 1440, "{key}");
    }
    // Negative irradiance at night is good.
    let night = |r: &v1::Record| {
        r.key == "alamosa.dw_solar" && number(r).is_some_and(|n| n < 0.0) && !is_bad(r)
    };
    assert!(count(&records, night) > 600);
    assert_eq!(records[15].key, "alamosa.air_temp");
    assert_eq!(number(&records[15]), Some(-7.6));
}

#[test]
fn alamosa_quality_flags_are_kept() {
    let records = records("sensor_surfrad_alamosa_20160101.csv").unwrap();
    for record in &records {
        let expected = match reading(record).quality_code {
            Some(0) => Quality::Unspecified,
            Some(1) => Quality::Bad,
            Some(2) => Quality::Uncertain,
            other => panic!("no flag: {other:?}"),
        };
        assert_eq!(reading(record).quality, i32::from(expected));
    }
}

#[test]
fn bms_times_are_hhmm_in_standard_time() {
    let records = records("sensor_midc_bms_20181018.csv").unwrap();
    assert_eq!(records.len(), 1440 * 15);
    let time = |row: usize| time_text(records[row * 15].event_time_unix_nanos.unwrap());
    assert_eq!(time(0), "2018-10-18T07:00:00.000000000Z");
    // 59 is followed by 100.
    assert_eq!(time(59), "2018-10-18T07:59:00.000000000Z");
    assert_eq!(time(60), "2018-10-18T08:00:00.000000000Z");
    assert_eq!(time(1439), "2018-10-19T06:59:00.000000000Z");
    let steps = records
        .chunks(15)
        .map(|row| row[0].event_time_unix_nanos.unwrap());
    let steps: Vec<_> = steps.collect();
    assert!(
        steps
            .windows(2)
            .all(|pair| pair[1] - pair[0] == 60_000_000_000)
    );
}

#[test]
fn bms_thermistors_are_bad_with_and_without_a_value() {
    let records = records("sensor_midc_bms_20181018.csv").unwrap();
    for key in [
        "bms.chp1_temp",
        "bms.cm22_tracker_temp",
        "bms.cm22_platform_temp",
    ] {
        let of_key = || records.iter().filter(|record| record.key == key);
        assert_eq!(
            count(of_key(), |r| is_bad(r) && number(r).is_none()),
            1247,
            "{key}"
        );
        assert_eq!(
            count(of_key(), |r| is_bad(r)
                && number(r).is_some_and(|n| n < -190.0)),
            193,
            "{key}"
        );
    }
    assert_eq!(number(&records[15 + 4]), Some(-373.4));
    let others = records
        .iter()
        .filter(|r| !r.key.contains("chp1") && !r.key.contains("cm22"));
    assert_eq!(count(others, is_bad), 0);
}

#[test]
fn bms_values_print_as_in_the_file() {
    let records = records("sensor_midc_bms_20181018.csv").unwrap();
    let mut csv = csv::Reader::from_path(fixtures().join("sensor_midc_bms_20181018.csv")).unwrap();
    let mut residues = 0;
    for (row, of_row) in csv.records().map(Result::unwrap).zip(records.chunks(15)) {
        for (text, record) in row.iter().skip(4).zip(of_row) {
            let Some(number) = number(record) else {
                continue;
            };
            assert_eq!(format!("{number:?}"), text);
            residues += usize::from(text.len() > 15);
        }
    }
    assert!(residues > 1000, "{residues}");
    assert_eq!(number(&records[15 + 11]), Some(927.963_000_000_000_1));
}

#[test]
fn crypto_trades_keep_nanoseconds_and_eight_decimals() {
    let Some(records) = records("market_crypto_trades.csv.gz") else {
        return;
    };
    assert_eq!(records.len(), 19_881);
    assert_eq!(
        printed(&records[0]),
        r#"{"key":"BTCUSDT","time":"2024-08-08T23:54:14.087896568Z","trade":{"price":"61837.63000000","size":"0.02000000","trade_id":"3735683259","side":"sell"},"source_time":"2024-08-08T23:54:15.343000000Z","source_sequence":"3735683259"}"#
    );
    assert_eq!(
        records[0].event_time_unix_nanos,
        Some(1_723_161_254_087_896_568)
    );
    let mut last: HashMap<&str, u64> = HashMap::new();
    for record in &records {
        let id = record.source_sequence.unwrap();
        let before = last.insert(&record.key, id);
        assert!(before.is_none_or(|before| before + 1 == id));
    }
    assert_eq!(last.len(), 4);
}

#[test]
fn spot_quotes_have_no_source_time() {
    let Some(records) = records("market_crypto_quotes.csv.gz") else {
        return;
    };
    assert_eq!(records.len(), 87_065);
    assert_eq!(
        count(&records, |record| record.source_time_unix_nanos.is_none()),
        52_117
    );
    assert_eq!(
        printed(&records[0]),
        r#"{"key":"ETHUSDT","time":"2024-08-08T23:54:14.024619568Z","quote":{"bid":"2683.80000000","ask":"2683.81000000","bid_size":"3.02920000","ask_size":"31.43950000"},"source_sequence":"35346513501"}"#
    );
}

#[test]
fn nab_times_step_back_and_repeat() {
    let Some(records) = records("sensor_nab_irregular.csv.gz") else {
        return;
    };
    assert_eq!(records.len(), 45_626);
    assert_eq!(
        printed(&records[0]),
        r#"{"key":"ambient_temperature","time":"2013-07-04T00:00:00.000000000Z","reading":{"value":69.88083514}}"#
    );
    let machine: Vec<_> = records
        .iter()
        .filter(|r| r.key == "machine_temperature")
        .cloned()
        .collect();
    assert_eq!((machine.len(), backward_steps(&machine)), (22_695, 1));
    assert_eq!(
        count(&records, |record| number(record)
            == Some(100.076_407_599_999_98)),
        1
    );
}

#[test]
fn imu_times_are_relative_and_numbers_scientific() {
    let Some(records) = records("sensor_imu_100hz.csv.gz") else {
        return;
    };
    assert_eq!(records.len(), 13_514 * 3);
    assert_eq!(
        printed(&records[3]),
        r#"{"key":"imu.gyroscope","time":"2024-01-01T00:00:00.010078907Z","reading":{"value":[0.01654156,-0.3308571,0.04700107]}}"#
    );
    assert_eq!(
        printed(&records[0]).matches("00:00:00.000000000Z").count(),
        1
    );
    // Row 5: `5.35E-05`.
    assert!(
        printed(&records[16]).contains("[0.0000535,-0.02481734,0.9941354]"),
        "{}",
        printed(&records[16])
    );
}

#[test]
fn every_mapping_describes_its_keys() {
    let alamosa = mapping("sensor_surfrad_alamosa_20160101.csv");
    assert_eq!(alamosa.feed().as_str(), "sensors.alamosa");
    assert_eq!(alamosa.infos().len(), 21);
    let (scope, all) = &alamosa.infos()[0];
    assert_eq!(*scope, Scope::All(v1::AllKeys {}));
    assert_eq!(all.expected_interval.as_ref().unwrap().seconds, 60);
    assert_eq!(all.location.as_ref().unwrap().altitude_m, Some(2317.0));
    let air = alamosa
        .infos()
        .iter()
        .find(|(s, _)| *s == Scope::Key("alamosa.air_temp".into()));
    assert_eq!(air.unwrap().1.unit.as_deref(), Some("Cel"));
    let imu = mapping("sensor_imu_100hz.csv.gz");
    assert_eq!(imu.infos()[1].1.channels, ["x", "y", "z"]);
    for (name, feed) in [
        ("market_us_stocks_daily", "stocks.daily"),
        ("market_us_stock_ticks_trades", "stocks.trades"),
        ("market_us_stock_ticks_quotes", "stocks.quotes"),
        ("market_crypto_trades", "crypto.trades"),
        ("market_crypto_quotes", "crypto.quotes"),
        ("sensor_midc_bms_20181018", "sensors.bms"),
        ("sensor_nab_irregular", "sensors.nab"),
        ("sensor_imu_100hz", "sensors.imu"),
    ] {
        assert_eq!(mapping(name).feed().as_str(), feed);
    }
}
