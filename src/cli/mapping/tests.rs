//! The real recordings through their mappings, value by value, and what mappings must refuse.

use std::{collections::HashMap, path::PathBuf};

use csv::StringRecord;

use super::*;
use crate::proto::{
    convert::{decimal_text, time_text},
    json::to_json,
    v1::{Quality, reading::Value, record::Payload},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn fixtures() -> PathBuf {
    PathBuf::from(ROOT).join("fixtures")
}

/// A recording that is kept here, or one that lies beside the checkout; says why it is skipped.
pub(super) fn recording(name: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("RINGFEED_FIXTURES").map(PathBuf::from);
    let beside = PathBuf::from(ROOT).join("../shared/fixtures-source");
    let places = [Some(fixtures()), shared, Some(beside)];
    let found = places
        .into_iter()
        .flatten()
        .map(|place| place.join(name))
        .find(|path| path.exists());
    if found.is_none() {
        println!("skipped: {name} is neither in fixtures/ nor in $RINGFEED_FIXTURES");
    }
    found
}

fn mapping(name: &str) -> Mapping {
    let stem = name.split('.').next().unwrap();
    Mapping::load(&fixtures().join(format!("{stem}.mapping.toml"))).unwrap()
}

/// All records of a recording; none of its rows may be broken.
fn records(name: &str) -> Option<Vec<v1::Record>> {
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

fn printed(record: &v1::Record) -> String {
    to_json(record).to_string()
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

const SENSOR: &str = "feed = \"f\"\nkey = \"id\"\n[time]\ncolumn = \"t\"\nformat = \"rfc3339\"\n[reading]\ncolumn = \"v\"\n";

fn bound(toml: &str, header: &[&str]) -> anyhow::Result<Bound> {
    Mapping::parse(toml)?.bind(&StringRecord::from(header.to_vec()))
}

fn one(toml: &str, header: &[&str], row: &[&str]) -> Result<String, String> {
    let bound = bound(toml, header).map_err(|error| format!("{error:#}"))?;
    let mut records = Vec::new();
    bound
        .records(17, &StringRecord::from(row.to_vec()), &mut records)
        .map_err(|error| error.to_string())?;
    Ok(records.iter().map(printed).collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_broken_row_names_row_column_and_value() {
    let header = ["id", "t", "v"];
    let broken = |row: &[&str]| one(SENSOR, &header, row).unwrap_err();
    assert_eq!(
        broken(&["a", "2020-01-01T00:00:00Z", "12,5"]),
        "row 17, column \"v\": \"12,5\" is not a finite number; if it stands for no value, name it in `missing`"
    );
    assert!(
        broken(&["a", "yesterday\u{1b}[2J", "1"])
            .starts_with("row 17, column \"t\": \"yesterday\\u{1b}[2J\" is not a time")
    );
    assert_eq!(
        broken(&["", "2020-01-01T00:00:00Z", "1"]),
        "row 17, column \"id\": is missing, and the record needs it"
    );
    assert_eq!(
        broken(&["a", "", "1"]),
        "row 17, column \"t\": is missing, and the record needs it"
    );
    assert!(broken(&["a", "2020-01-01T00:00:00Z", "NaN"]).contains("is not a finite number"));
    assert!(
        one(SENSOR, &header, &["a", "2020-01-01T00:00:00Z", ""])
            .unwrap()
            .contains("\"bad\"")
    );
}

#[test]
fn a_broken_cell_gives_none_of_its_row() {
    let toml = "feed = \"f\"\n[[wide]]\ncolumn = \"a\"\nkey = \"a\"\n[[wide]]\ncolumn = \"b\"\nkey = \"b\"\n";
    let bound = bound(toml, &["a", "b"]).unwrap();
    let mut records = Vec::new();
    bound
        .records(2, &StringRecord::from(vec!["1", "2"]), &mut records)
        .unwrap();
    let error = bound
        .records(3, &StringRecord::from(vec!["1", "x"]), &mut records)
        .unwrap_err();
    assert_eq!((error.row, &*error.column, &*error.value), (3, "b", "x"));
    assert_eq!(records.len(), 2);
}

#[test]
fn every_column_needs_a_home() {
    let refused = |header: &[&str]| format!("{:#}", bound(SENSOR, header).unwrap_err());
    assert_eq!(
        refused(&["id", "t", "v", "unit", "x"]),
        "no place in the mapping for \"unit\", \"x\": map it, or name it in `left_out`"
    );
    assert_eq!(
        refused(&["id", "time", "v"]),
        "the mapping uses column \"t\", which the header does not have; its columns are: id, time, v"
    );
    assert!(refused(&["id", "t", "v", "v"]).contains("\"v\" twice"));
    let all = format!("left_out = [\"*\"]\n{SENSOR}");
    assert!(bound(&all, &["id", "t", "v", "unit"]).is_ok());
}

#[test]
fn a_mapping_that_makes_no_sense_is_refused() {
    let refused = |toml: &str| format!("{:#}", Mapping::parse(toml).unwrap_err());
    assert!(refused(&format!("colour = 1\n{SENSOR}")).contains("unknown field `colour`"));
    assert!(refused("feed = \"f\"\nkey = \"k\"\n").contains("has one of [quote], [trade]"));
    assert!(
        refused("feed = \"F\"\nkey = \"k\"\n[reading]\ncolumn = \"v\"\n")
            .contains("a feed name is")
    );
    assert!(refused("feed = \"f\"\n[reading]\ncolumn = \"v\"\n").contains("needs a key"));
    assert!(refused("feed = \"f\"\nkey = { colunm = \"v\" }\n").contains("unknown field `colunm`"));
    let zone = SENSOR
        .replace("rfc3339", "%F")
        .replace("[reading]", "zone = \"Mars\"\n[reading]");
    let error = format!("{:#}", bound(&zone, &["id", "t", "v"]).unwrap_err());
    assert!(
        error.starts_with("there is no time zone \"Mars\""),
        "{error}"
    );
    let format = SENSOR.replace("rfc3339", "iso");
    let error = format!("{:#}", bound(&format, &["id", "t", "v"]).unwrap_err());
    assert!(error.starts_with("\"iso\" is not a time format"), "{error}");
}

fn timed(time: &str, header: &[&str], row: &[&str]) -> String {
    let toml =
        format!("feed = \"f\"\nkey.constant = \"k\"\n[time]\n{time}\n[reading]\ncolumn = \"v\"\n");
    let header = [header, &["v"]].concat();
    let printed = one(&toml, &header, &[row, &["1"]].concat());
    printed.map_or_else(
        |error| error,
        |line| line.split('"').nth(7).unwrap().to_owned(),
    )
}

#[test]
fn times_in_one_column_are_exact() {
    for (spec, text, time) in [
        (
            "format = \"unix_seconds\"",
            "1464183000.023000001",
            "2016-05-25T13:30:00.023000001Z",
        ),
        (
            "format = \"unix_seconds\"",
            "-0.5",
            "1969-12-31T23:59:59.500000000Z",
        ),
        (
            "format = \"unix_millis\"",
            "1464183000023",
            "2016-05-25T13:30:00.023000000Z",
        ),
        (
            "format = \"unix_micros\"",
            "1464183000023001",
            "2016-05-25T13:30:00.023001000Z",
        ),
        (
            "format = \"unix_nanos\"",
            "-9223372036854775808",
            "1677-09-21T00:12:43.145224192Z",
        ),
        (
            "format = \"seconds\"\nsince = \"2020-01-01T00:00:00Z\"",
            "0.30000000000000004",
            "2020-01-01T00:00:00.300000000Z",
        ),
        (
            "format = \"%Y-%m-%d\"",
            "1962-01-02",
            "1962-01-02T00:00:00.000000000Z",
        ),
        (
            "format = \"%Y-%m-%d\"\nzone = \"+05:30\"",
            "2020-01-02",
            "2020-01-01T18:30:00.000000000Z",
        ),
        (
            "format = \"%d.%m.%Y %H:%M:%S%.f %:z\"",
            "02.01.2020 00:00:00.000000001 +01:00",
            "2020-01-01T23:00:00.000000001Z",
        ),
        // The hour that a clock change repeats is the earlier one; the one it skips moves on.
        (
            "format = \"%F %T\"\nzone = \"America/New_York\"",
            "2020-11-01 01:30:00",
            "2020-11-01T05:30:00.000000000Z",
        ),
        (
            "format = \"%F %T\"\nzone = \"America/New_York\"",
            "2020-03-08 02:30:00",
            "2020-03-08T07:30:00.000000000Z",
        ),
    ] {
        assert_eq!(
            timed(&format!("column = \"t\"\n{spec}"), &["t"], &[text]),
            time,
            "{spec} {text}"
        );
    }
}

#[test]
fn times_in_several_columns_are_exact() {
    let ymd =
        "year = \"y\"\nmonth = \"m\"\nday = \"d\"\nhour = \"h\"\nminute = \"n\"\nsecond = \"s\"";
    let header = ["y", "m", "d", "h", "n", "s"];
    assert_eq!(
        timed(
            ymd,
            &header,
            &["2016", "2", "29", "23", "59", "59.123456789"]
        ),
        "2016-02-29T23:59:59.123456789Z"
    );
    assert!(timed(ymd, &header, &["2015", "2", "29", "0", "0", "0"]).contains("makes no such day"));
    assert!(
        timed(ymd, &header, &["2015", "2", "28", "24", "0", "0"]).contains("no such time of day")
    );
    let hhmm = "year = \"y\"\nday_of_year = \"d\"\nhhmm = \"t\"";
    let read = |row: &[&str]| timed(hhmm, &["y", "d", "t"], row);
    assert_eq!(
        read(&["2016", "366", "2359"]),
        "2016-12-31T23:59:00.000000000Z"
    );
    assert!(read(&["2015", "366", "0"]).contains("makes no such day"));
    for wrong in ["60", "2400", "12:30", "-1", "65535"] {
        assert!(
            read(&["2016", "1", wrong]).starts_with("row 17, column \"t\""),
            "{wrong}"
        );
    }
}

#[test]
fn quality_missing_and_kinds_can_differ_by_column() {
    let toml = "feed = \"f\"\nkey = { column = \"site\", suffix = \".\" }\nmissing = [\"NA\"]\n\
        [quality]\ngood = [\"G\"]\nbad = [\"B\"]\nother = \"uncertain\"\n\
        [[wide]]\ncolumn = \"a\"\nkey = \"a\"\nkind = \"decimal\"\nquality = \"q\"\nimpossible_above = 50\nimpossible_code = 9\n\
        [[wide]]\ncolumn = \"b\"\nkey = \"b\"\nkind = \"integer\"\nmissing = [\"-1\"]\nwhen_missing = \"leave-out\"\nunit = \"1\"\n\
        [[wide]]\ncolumn = \"c\"\nkey = \"c\"\nkind = \"flag\"\n[[wide]]\ncolumn = \"d\"\nkey = \"d\"\nkind = \"text\"\n";
    let header = ["site", "a", "q", "b", "c", "d"];
    let read = |row: &[&str]| one(toml, &header, row).unwrap();
    assert_eq!(
        read(&["s", "50.10", "7", "-1", "on", "open"]),
        "{\"key\":\"s.a\",\"reading\":{\"decimal\":\"50.10\",\"quality\":\"bad\",\"quality_code\":9}}\n\
         {\"key\":\"s.c\",\"reading\":{\"value\":true}}\n{\"key\":\"s.d\",\"reading\":{\"value\":\"open\"}}"
    );
    assert_eq!(
        read(&["s", "NA", "G", "9007199254740993", "NA", "NA"]),
        "{\"key\":\"s.a\",\"reading\":{\"quality\":\"bad\"}}\n\
         {\"key\":\"s.b\",\"reading\":{\"integer\":\"9007199254740993\"}}\n\
         {\"key\":\"s.c\",\"reading\":{\"quality\":\"bad\"}}\n{\"key\":\"s.d\",\"reading\":{\"quality\":\"bad\"}}"
    );
    let scope = Mapping::parse(toml).unwrap().infos()[1].0.clone();
    assert_eq!(scope, Scope::Glob("*.b".into()));
}

#[test]
fn trades_take_sides_actions_and_conditions() {
    let toml = "feed = \"f\"\nkey.constant = \"k\"\n[trade]\nprice = \"p\"\nsize = { column = \"s\", missing = [\"-\"] }\n\
        side = \"side\"\naction = { column = \"x\", values = { c = \"correct\" } }\n\
        conditions = { column = \"cond\", separator = \" \" }\n";
    let header = ["p", "s", "side", "x", "cond"];
    assert_eq!(
        one(toml, &header, &["-0.10", "-", "buy", "c", "@ T"]).unwrap(),
        r#"{"key":"k","trade":{"price":"-0.10","side":"buy","conditions":["@","T"],"action":"correct"}}"#
    );
    assert!(
        one(toml, &header, &["1", "1", "b", "", ""])
            .unwrap_err()
            .starts_with("row 17, column \"side\": \"b\"")
    );
    let wrong = toml.replace("correct", "amend");
    assert!(
        bound(&wrong, &header)
            .unwrap_err()
            .to_string()
            .contains("not one of new, correct, cancel")
    );
}
