//! The records a bench sends: made up in the sizes of real ones, or rows of a recording.

use std::path::Path;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;

use crate::{
    cli::mapping::{Mapping, Source, mapping_beside},
    proto::v1::{self, record::Payload},
};

/// What made-up records carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PayloadArg {
    Quote,
    Reading,
    Trade,
    Bar,
}

/// Records of `keys` keys in turn, `count` of them, with values that move.
pub(super) fn made_up(payload: PayloadArg, keys: usize, count: usize) -> Vec<v1::Record> {
    let record = |n: usize| v1::Record {
        key: format!("KEY{:06}", n % keys.max(1)),
        payload: Some(values(payload, n as i64)),
        source_time_unix_nanos: Some(1_723_161_254_087_891_268),
        source_sequence: Some(2_000_000 + n as u64),
        venue: "XNAS".to_owned(),
        ..Default::default()
    };
    (0..count).map(record).collect()
}

fn values(payload: PayloadArg, n: i64) -> Payload {
    let decimal = |units: i64| {
        let (scale, high) = (2, 0);
        Some(v1::Decimal { units, scale, high })
    };
    match payload {
        PayloadArg::Quote => Payload::Quote(v1::Quote {
            bid: decimal(61_837_630_000 + n % 997),
            ask: decimal(61_837_640_000 + n % 997),
            bid_size: decimal(378_826_000 + n % 89),
            ask_size: decimal(154_698_000 + n % 83),
            conditions: vec!["R".to_owned()],
        }),
        PayloadArg::Trade => Payload::Trade(v1::Trade {
            price: decimal(6_183_763 + n % 997),
            size: decimal(100 + n % 89),
            trade_id: format!("{n:012}"),
            side: v1::TradeSide::Buy.into(),
            ..Default::default()
        }),
        PayloadArg::Reading => Payload::Reading(v1::Reading {
            value: Some(v1::reading::Value::Number(20.0 + (n % 997) as f64 / 100.0)),
            ..Default::default()
        }),
        PayloadArg::Bar => Payload::Bar(v1::Bar {
            start_unix_nanos: Some(1_723_161_240_000_000_000 + n * 60_000_000_000),
            interval_nanos: Some(60_000_000_000),
            open: decimal(6_183_763),
            high: decimal(6_193_763 + n % 997),
            low: decimal(6_173_763 - n % 997),
            close: decimal(6_183_764),
            volume: decimal(37_882_600 + n % 89),
            ..Default::default()
        }),
    }
}

/// All records of a file, with the mapping beside it if it has one.
pub(super) fn recorded(path: &Path) -> anyhow::Result<Vec<v1::Record>> {
    let beside = mapping_beside(path);
    let mapping = beside.map(|beside| Mapping::load(&beside)).transpose()?;
    let mut source = Source::open(path, None, mapping.as_ref())
        .with_context(|| format!("the fixture {}", path.display()))?;
    let mut records = Vec::new();
    let mut row = Vec::new();
    while source.next_row(&mut row)?.is_some() {
        records.append(&mut row);
    }
    ensure!(!records.is_empty(), "{} has no records", path.display());
    Ok(records)
}
