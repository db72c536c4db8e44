//! BARS of the real recordings over the wire: history of five stocks, against the text of their file,
//! and hours of a one-minute station, against the readings that a subscriber of every record gets.

use std::{collections::BTreeMap, path::Path};

use jiff::{civil::Date, tz::TimeZone};
use ringfeed::proto::{
    convert::decimal_text,
    v1::{
        self, Quality, fidelity::View, reading::Value, record::Payload, subscribe_response::Event,
    },
};
use rust_decimal::Decimal;
use tokio::process::Command;

use crate::harness::{Server, read_to_now, within};

const HOUR: i64 = 3_600_000_000_000;
const DAY: i64 = 24 * HOUR;

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

async fn ingest(server: &Server, feed: &str, file: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringfeed"));
    let endpoint = format!("http://{}", server.address());
    command.args(["ingest", feed, "--endpoint", &endpoint, "--file"]);
    let done = within("ingest", command.arg(fixture(file)).output())
        .await
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// All bars of a feed's history by key and start.
async fn bars(server: &Server, feed: &str, interval: i64) -> BTreeMap<(String, i64), v1::ViewBar> {
    let interval = prost_types::Duration {
        seconds: interval / 1_000_000_000,
        nanos: 0,
    };
    let view = View::Bars(v1::Bars {
        interval: Some(interval),
        include_open: false,
    });
    let selector = v1::Selector {
        feed: feed.into(),
        start: Some(v1::Start {
            from: Some(v1::start::From::Earliest(v1::Earliest {})),
        }),
        end: Some(v1::End {
            at: Some(v1::end::At::Now(v1::Now {})),
        }),
        fidelity: Some(v1::Fidelity { view: Some(view) }),
        ..v1::Selector::default()
    };
    let request = v1::SubscribeRequest {
        selectors: vec![selector],
        ..v1::SubscribeRequest::default()
    };
    let stream = server.feeds().await.subscribe(request).await;
    let mut stream = stream.unwrap().into_inner();
    let mut bars = BTreeMap::new();
    while let Some(response) = within("a response", stream.message()).await.unwrap() {
        let Some(Event::Bars(batch)) = response.event else {
            continue;
        };
        for bar in batch.bars {
            assert!(
                bar.complete && !bar.partial && bar.late_count == 0,
                "{bar:?}"
            );
            let start = match (&bar.bar, &bar.reading) {
                (Some(bar), _) => bar.start_unix_nanos.unwrap(),
                (None, reading) => reading.as_ref().unwrap().start_unix_nanos,
            };
            let twice = bars.insert((bar.key.clone(), start), bar);
            assert_eq!(twice, None);
        }
    }
    bars
}

fn number(text: &str) -> Decimal {
    Decimal::from_str_exact(text).unwrap()
}

#[tokio::test]
async fn bars_of_thirty_days_over_history_are_those_of_the_file() {
    let server = Server::start().await;
    let file = "market_us_stocks_daily.csv";
    ingest(&server, "stocks", file).await;
    let mut expected: BTreeMap<(String, i64), Vec<csv::StringRecord>> = BTreeMap::new();
    let mut rows = csv::Reader::from_path(fixture(file)).unwrap();
    for row in rows.records().map(Result::unwrap) {
        // The exchange's day begins in New York.
        let day: Date = row[1].parse().unwrap();
        let zone = TimeZone::get("America/New_York").unwrap();
        let midnight = zone.to_timestamp(day.at(0, 0, 0, 0)).unwrap().as_second();
        let start = midnight.div_euclid(30 * 86_400) * 30 * DAY;
        expected
            .entry((row[0].to_owned(), start))
            .or_default()
            .push(row);
    }
    let bars = bars(&server, "stocks", 30 * DAY).await;
    assert_eq!(
        bars.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (place, rows) in &expected {
        let bar = bars[place].bar.as_ref().unwrap();
        let of = |figure: &Option<v1::Decimal>| decimal_text(figure.as_ref().unwrap());
        let column = |at: usize| rows.iter().map(move |row| number(&row[at]));
        // Ticker, date, open, high, low, close, volume.
        let (first, last) = (&rows[0], &rows[rows.len() - 1]);
        assert_eq!(of(&bar.open), first[2], "{place:?}");
        assert_eq!(of(&bar.close), last[5], "{place:?}");
        assert_eq!(
            number(&of(&bar.high)),
            column(3).max().unwrap(),
            "{place:?}"
        );
        assert_eq!(number(&of(&bar.low)), column(4).min().unwrap(), "{place:?}");
        assert_eq!(number(&of(&bar.volume)), column(6).sum(), "{place:?}");
        assert_eq!(bar.count, Some(rows.len() as u64), "{place:?}");
    }
}

#[tokio::test]
async fn hours_of_a_station_are_those_of_its_minutes() {
    let server = Server::start().await;
    ingest(&server, "station", "sensor_surfrad_alamosa_20160101.csv").await;
    let mut feeds = server.feeds().await;
    let ledger = read_to_now(&mut feeds, "station").await;
    let mut expected: BTreeMap<(String, i64), (Vec<f64>, u64)> = BTreeMap::new();
    for record in ledger.decoded() {
        let time = record.event_time_unix_nanos.unwrap();
        let Some(Payload::Reading(reading)) = record.payload else {
            panic!("a reading");
        };
        let hour = (record.key, time.div_euclid(HOUR) * HOUR);
        let (values, bad) = expected.entry(hour).or_default();
        match (reading.quality(), reading.value) {
            (Quality::Bad, _) => *bad += 1,
            (_, Some(Value::Number(value))) => values.push(value),
            other => panic!("not in this file: {other:?}"),
        }
    }
    let bars = bars(&server, "station", HOUR).await;
    assert_eq!(bars.len(), expected.len());
    for (place, (values, bad)) in &expected {
        let bar = bars[place].reading.as_ref().unwrap();
        assert_eq!(
            (bar.count, bar.bad_count),
            (values.len() as u64, *bad),
            "{place:?}"
        );
        assert_eq!(
            bar.min,
            values.iter().copied().reduce(f64::min),
            "{place:?}"
        );
        assert_eq!(
            bar.max,
            values.iter().copied().reduce(f64::max),
            "{place:?}"
        );
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let near = |ours: f64| (ours - mean).abs() <= mean.abs() * 1e-12;
        assert!(
            values.is_empty() || bar.mean.is_some_and(near),
            "{place:?}: {mean} {bar:?}"
        );
    }
    let bad: u64 = expected.values().map(|(_, bad)| bad).sum();
    assert!(bad >= 2 * 1_440, "the file has missing values: {bad}");
}
