//! The demo's recordings: real market and sensor data that come with the program.

use std::{io::Cursor, sync::Arc};

use anyhow::Context as _;

use crate::{
    cli::mapping::{InputFormat, Mapping, Scope, Source},
    model::UnixNanos,
    proto::v1,
};

/// One recording, mapped to records in the order of their times.
#[derive(Clone, Debug)]
pub(super) struct Tape {
    pub feed: String,
    pub records: Vec<v1::Record>,
    pub infos: Vec<(Scope, v1::KeyInfo)>,
}

macro_rules! recording {
    ($name:literal) => {
        (
            include_str!(concat!("../../../fixtures/", $name, ".csv")),
            include_str!(concat!("../../../fixtures/", $name, ".mapping.toml")),
        )
    };
}

const RECORDINGS: [(&str, &str); 5] = [
    recording!("market_us_stocks_daily"),
    recording!("market_us_stock_ticks_trades"),
    recording!("market_us_stock_ticks_quotes"),
    recording!("sensor_surfrad_alamosa_20160101"),
    recording!("sensor_midc_bms_20181018"),
];

/// Reads all recordings.
pub(super) fn load() -> anyhow::Result<Vec<Tape>> {
    RECORDINGS
        .into_iter()
        .map(|(csv, mapping)| read(csv, mapping))
        .collect()
}

fn read(csv: &'static str, mapping: &str) -> anyhow::Result<Tape> {
    let mapping = Mapping::parse(mapping)?;
    let reader = Cursor::new(csv.as_bytes());
    let mut source = Source::from_reader(reader, Some(InputFormat::Csv), Some(&mapping))?;
    let mut records = Vec::new();
    while source.next_row(&mut records)?.is_some() {}
    // Some files go symbol by symbol; a market does not.
    records.sort_by_key(|record| record.event_time_unix_nanos);
    Ok(Tape {
        feed: mapping.feed().to_string(),
        records,
        infos: mapping.infos().to_vec(),
    })
}

/// Puts a record at `now`; its recorded time becomes the source's.
pub(super) fn shifted(record: &v1::Record, now: UnixNanos) -> v1::Record {
    v1::Record {
        source_time_unix_nanos: record
            .source_time_unix_nanos
            .or(record.event_time_unix_nanos),
        event_time_unix_nanos: Some(now),
        ..record.clone()
    }
}

/// The readings that fill the small ring, over and over.
pub(super) fn readings(tapes: &[Arc<Tape>]) -> anyhow::Result<Arc<Tape>> {
    let found = tapes.iter().find(|tape| tape.feed == "sensors.bms");
    found
        .map(Arc::clone)
        .context("the demo has no sensor recording")
}
