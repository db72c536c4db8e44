//! Bars of the real recordings, against figures computed from the text of the files.

use std::{collections::BTreeMap, time::Duration};

use jiff::{civil::Date, tz::TimeZone};
use prost::Message as _;
use rust_decimal::Decimal;

use super::recordings::{fixtures, records};
use crate::{
    hub::{BarTable, History, OpenBars, Seen},
    proto::{convert::decimal_text, v1},
};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// All bars of a recording, as somebody gets them who reads it from its beginning.
fn bars(recording: &str, interval: i64) -> Vec<v1::ViewBar> {
    let interval = Duration::from_nanos(interval.unsigned_abs());
    let mut table = BarTable::new(interval, 64 << 20, History::default());
    for (offset, mut record) in (0..).zip(records(recording).unwrap()) {
        record.offset = offset;
        record.ingest_time_unix_nanos = 1_800_000_000 * SECOND;
        table.see(offset, &record.encode_to_vec()).unwrap();
    }
    table.close_until(1_800_000_002 * SECOND);
    assert_eq!(table.open_since(table.position()), None);
    let mut bars: Vec<_> = table
        .changed_since(Seen::default(), OpenBars::Sent)
        .collect();
    for bar in &bars {
        let is_plain = bar.complete && !bar.partial && bar.late_count == 0 && bar.revision == 0;
        assert!(is_plain, "{bar:?}");
    }
    bars.sort_by_key(|bar| (bar.key.clone(), start(bar)));
    bars
}

fn start(view: &v1::ViewBar) -> i64 {
    match (&view.bar, &view.reading) {
        (Some(bar), None) => bar.start_unix_nanos.unwrap(),
        (None, Some(bar)) => bar.start_unix_nanos,
        _ => panic!("{view:?}"),
    }
}

fn rows(recording: &str) -> Vec<BTreeMap<String, String>> {
    let mut csv = csv::Reader::from_path(fixtures().join(recording)).unwrap();
    csv.deserialize().map(Result::unwrap).collect()
}

fn number(text: &str) -> Decimal {
    Decimal::from_str_exact(text).unwrap()
}

#[test]
fn bars_of_thirty_days_of_five_stocks_are_those_of_the_file() {
    let recording = "market_us_stocks_daily.csv";
    let mut expected: BTreeMap<(String, i64), Vec<BTreeMap<String, String>>> = BTreeMap::new();
    for row in rows(recording) {
        // The exchange's day begins in New York; bars of 30 days do so by the Unix epoch.
        let day: Date = row["Date"].parse().unwrap();
        let zone = TimeZone::get("America/New_York").unwrap();
        let midnight = zone.to_timestamp(day.at(0, 0, 0, 0)).unwrap();
        let seconds = midnight.as_second();
        let start = seconds.div_euclid(30 * 86_400) * 30 * DAY;
        expected
            .entry((row["Ticker"].clone(), start))
            .or_default()
            .push(row);
    }
    assert_eq!(expected.values().map(Vec::len).sum::<usize>(), 12_154);

    let bars = bars(recording, 30 * DAY);
    assert_eq!(bars.len(), expected.len());
    for (view, ((ticker, start), rows)) in bars.iter().zip(&expected) {
        assert_eq!((&view.key, view.source()), (ticker, v1::BarSource::Bar));
        let bar = view.bar.as_ref().unwrap();
        assert_eq!(bar.start_unix_nanos, Some(*start));
        let column = |name: &str| {
            rows.iter()
                .map(|row| number(&row[name]))
                .collect::<Vec<_>>()
        };
        let high = column("High")
            .into_iter()
            .max_by_key(|p| (*p, p.scale()))
            .unwrap();
        let low = column("Low")
            .into_iter()
            .min_by_key(|p| (*p, 28 - p.scale()))
            .unwrap();
        let volume: Decimal = column("Volume").into_iter().sum();
        let (first, last) = (rows.first().unwrap(), rows.last().unwrap());
        let figures = [
            &bar.open,
            &bar.high,
            &bar.low,
            &bar.close,
            &bar.volume,
            &bar.adjusted_close,
        ];
        let expected = [
            first["Open"].clone(),
            high.to_string(),
            low.to_string(),
            last["Close"].clone(),
            volume.to_string(),
            last["Adj Close"].clone(),
        ];
        let figures = figures.map(|figure| decimal_text(figure.as_ref().unwrap()));
        assert_eq!(figures, expected, "{ticker} {start}");
        assert_eq!((bar.count, &bar.vwap), (Some(rows.len() as u64), &None));
    }
}

/// Column, key, and the column of its quality flag.
fn columns(recording: &str) -> Vec<(String, String, Option<String>)> {
    let name = recording.replace(".csv", ".mapping.toml");
    let mapping = std::fs::read_to_string(fixtures().join(name)).unwrap();
    let mapping: toml::Table = mapping.parse().unwrap();
    let prefix = mapping["key"]["prefix"].as_str().unwrap();
    let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
    let wide = mapping["wide"].as_array().unwrap().iter();
    wide.map(|wide| {
        let key = format!("{prefix}{}", text(&wide["key"]));
        (text(&wide["column"]), key, wide.get("quality").map(text))
    })
    .collect()
}

/// Compares each key's hours with those of the file: `hour` says when a row was, `is_missing`
/// which values are none, by column and quality flag.
fn assert_hours(
    recording: &str,
    hour: impl Fn(&BTreeMap<String, String>) -> i64,
    is_missing: impl Fn(&str, Decimal, Option<&str>) -> bool,
) -> usize {
    let (rows, mut missing) = (rows(recording), 0);
    let mut expected: BTreeMap<(String, i64), (Vec<Decimal>, u64)> = BTreeMap::new();
    for row in &rows {
        for (column, key, quality) in columns(recording) {
            let entry = expected.entry((key, hour(row))).or_default();
            let value = number(&row[&column]);
            let flag = quality.map(|quality| row[&quality].clone());
            if is_missing(&column, value, flag.as_deref()) {
                entry.1 += 1;
                missing += 1;
            } else {
                entry.0.push(value);
            }
        }
    }
    let bars = bars(recording, HOUR);
    assert_eq!(bars.len(), expected.len());
    for (view, ((key, start), (values, bad))) in bars.iter().zip(&expected) {
        assert_eq!((&view.key, view.source()), (key, v1::BarSource::Reading));
        let bar = view.reading.as_ref().unwrap();
        assert_eq!((bar.start_unix_nanos, bar.interval_nanos), (*start, HOUR));
        assert_eq!(
            (bar.count, bar.bad_count),
            (values.len() as u64, *bad),
            "{key} {start}"
        );
        let double = |value: Decimal| value.to_string().parse::<f64>().unwrap();
        let sides = (values.iter().min(), values.iter().max());
        let sides = (sides.0.map(|v| double(*v)), sides.1.map(|v| double(*v)));
        assert_eq!((bar.min, bar.max), sides, "{key} {start}");
        assert_eq!(
            bar.last,
            values.last().map(|value| double(*value)),
            "{key} {start}"
        );
        let mean = (!values.is_empty())
            .then(|| double(values.iter().sum::<Decimal>() / Decimal::from(values.len())));
        match (bar.mean, mean) {
            // As near as one rounding of a double.
            (Some(ours), Some(theirs)) => {
                let near = theirs.abs() * 4.0 * f64::EPSILON;
                assert!(
                    (ours - theirs).abs() <= near,
                    "{key} {start}: {ours} {theirs}"
                );
            }
            (ours, theirs) => assert_eq!(ours, theirs, "{key} {start}"),
        }
    }
    missing
}

#[test]
fn hours_of_a_radiation_station_leave_missing_values_out() {
    let midnight = 1_451_606_400 * SECOND;
    let missing = assert_hours(
        "sensor_surfrad_alamosa_20160101.csv",
        |row| midnight + row["hour"].parse::<i64>().unwrap() * HOUR,
        |_, value, flag| flag == Some("1") || value == number("-9999.9"),
    );
    assert!(missing >= 2 * 1_440, "{missing}");
}

#[test]
fn hours_of_a_weather_station_leave_broken_thermistors_out() {
    // Midnight of local standard time, seven hours behind.
    let midnight = 1_539_846_000 * SECOND;
    let missing = assert_hours(
        "sensor_midc_bms_20181018.csv",
        |row| midnight + row["MST"].parse::<i64>().unwrap() / 100 * HOUR,
        |column, value, _| {
            let is_thermistor = column.starts_with("Temp C");
            value == number("-7999.0") || (is_thermistor && value < number("-100"))
        },
    );
    assert_eq!(missing, 3 * 1_440);
}
