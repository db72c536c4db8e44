//! Bars of a view. Those of prices are printed as records with a bar, which can be ingested again;
//! those of readings have fields of their own, and no record they could become.

use serde_json::Value;

use super::summary::bar_summary;
use crate::{
    model::UnixNanos,
    proto::{
        json::{Figure, bar_record, figure_value, reading_fields, source_name, view_fields},
        v1,
    },
};

/// Columns of bars of readings.
pub(super) const READING_HEADER: [&str; 16] = [
    "feed",
    "epoch",
    "key",
    "channel",
    "start",
    "interval_nanos",
    "min",
    "max",
    "mean",
    "last",
    "count",
    "bad_count",
    "revision",
    "complete",
    "late_count",
    "partial",
];
/// Decimals of a mean beyond these are noise to the eye.
const MEAN_PLACES: usize = 4;
const NONE: &str = "–";

/// A bar and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct BarEntry<'a> {
    pub feed: &'a str,
    pub epoch: u64,
    pub bar: &'a v1::ViewBar,
}

impl BarEntry<'_> {
    /// A record that says the same, for a bar of prices.
    pub(super) fn record(&self) -> Option<v1::Record> {
        bar_record(self.bar)
    }

    pub(super) fn start(&self) -> Option<UnixNanos> {
        match (&self.bar.bar, &self.bar.reading) {
            (Some(bar), _) => bar.start_unix_nanos,
            (None, reading) => reading.as_ref().map(|reading| reading.start_unix_nanos),
        }
    }

    pub(super) fn end(&self) -> Option<UnixNanos> {
        let interval = match (&self.bar.bar, &self.bar.reading) {
            (Some(bar), _) => bar.interval_nanos,
            (None, reading) => reading.as_ref().map(|reading| reading.interval_nanos),
        };
        Some(self.start()?.saturating_add(interval.unwrap_or_default()))
    }

    /// The key, and of a vector the channel.
    pub(super) fn name(&self) -> String {
        let channel = self.bar.reading.as_ref().and_then(|bar| bar.channel);
        match channel {
            Some(channel) => format!("{}[{channel}]", self.bar.key),
            None => self.bar.key.clone(),
        }
    }

    /// What it was made of, in a word.
    pub(super) fn source(&self) -> &'static str {
        source_name(self.bar.source())
    }

    /// `open high low close volume`; of readings `min–max, mean`.
    pub(super) fn summary(&self) -> String {
        match (&self.bar.bar, &self.bar.reading) {
            (Some(bar), _) => bar_summary(bar),
            (None, Some(reading)) => reading_summary(reading),
            (None, None) => NONE.to_owned(),
        }
    }

    /// `r2` for the second revision, `prt` when some of it had left the ring.
    pub(super) fn mark(&self) -> String {
        match (self.bar.partial, self.bar.revision) {
            (true, _) => "prt".to_owned(),
            (false, 0) => String::new(),
            (false, revision) => format!("r{revision}"),
        }
    }
}

fn reading_summary(bar: &v1::ReadingBar) -> String {
    let text = |value| cell(&figure_value(bar, value));
    let (min, max) = (text(Figure::Min), text(Figure::Max));
    let bad = match bar.bad_count {
        0 => String::new(),
        bad => format!(", {bad} bad"),
    };
    match bar.mean {
        None => format!("{NONE}{bad}"),
        Some(mean) => {
            let mean = format!("{mean:.MEAN_PLACES$}");
            let mean = mean.trim_end_matches('0').trim_end_matches('.');
            format!("{min}–{max}, mean {mean}{bad}")
        }
    }
}

/// The cells of a bar of readings, in the order of `READING_HEADER`.
pub(super) fn reading_row(entry: &BarEntry<'_>) -> Vec<String> {
    let figures = entry
        .bar
        .reading
        .as_ref()
        .map(reading_fields)
        .unwrap_or_default();
    let view = view_fields(entry.bar);
    let column = |name: &str| match name {
        "feed" => entry.feed.to_owned(),
        "epoch" => entry.epoch.to_string(),
        "key" => entry.bar.key.clone(),
        name => figures
            .get(name)
            .or_else(|| view.get(name))
            .map(cell)
            .unwrap_or_default(),
    };
    READING_HEADER.into_iter().map(column).collect()
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
