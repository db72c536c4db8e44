//! Bars of a view. Those of prices are printed as records with a bar, which can be ingested again;
//! those of readings have fields of their own, and no record they could become.

use serde_json::{Map, Number, Value};

use super::{Entry, json_object as record_object, summary::bar_summary};
use crate::{
    model::UnixNanos,
    proto::{
        convert::{decimal_text, time_text},
        v1::{self, BarSource, record::Payload},
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
    /// A record that says the same, for a bar of prices: it happened at the bar's start, as bars
    /// in files do.
    pub(super) fn record(&self) -> Option<v1::Record> {
        let bar = self.bar.bar.as_ref()?;
        Some(v1::Record {
            key: self.bar.key.clone(),
            event_time_unix_nanos: bar.start_unix_nanos,
            payload: Some(Payload::Bar(*bar)),
            ..v1::Record::default()
        })
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
        match self.bar.source() {
            BarSource::Unspecified => "",
            BarSource::Trade => "trade",
            BarSource::Bar => "bar",
            BarSource::QuoteMid => "mid",
            BarSource::QuoteBid => "bid",
            BarSource::QuoteAsk => "ask",
            BarSource::Reading => "reading",
        }
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
    let text = |value| cell(&value_or_exact(bar, value));
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

#[derive(Clone, Copy)]
enum Figure {
    Min,
    Max,
    Last,
}

/// The figure as an exact decimal in a text where there is one, else as a number.
fn value_or_exact(bar: &v1::ReadingBar, figure: Figure) -> Value {
    let exact = bar.exact.as_ref();
    let (exact, double) = match figure {
        Figure::Min => (exact.and_then(|exact| exact.min.as_ref()), bar.min),
        Figure::Max => (exact.and_then(|exact| exact.max.as_ref()), bar.max),
        Figure::Last => (exact.and_then(|exact| exact.last.as_ref()), bar.last),
    };
    exact.map_or_else(|| number(double), |exact| decimal_text(exact).into())
}

fn number(double: Option<f64>) -> Value {
    double
        .and_then(Number::from_f64)
        .map_or(Value::Null, Value::Number)
}

/// Of prices `{"key", "time", "bar": {..}, "view": {..}}`, of readings `"reading_bar"` in its place.
pub(super) fn json_object(entry: &BarEntry<'_>) -> Value {
    let mut value = match entry.record() {
        Some(record) => record_object(&Entry {
            feed: entry.feed,
            epoch: entry.epoch,
            record: &record,
            info: None,
        }),
        None => reading_object(entry),
    };
    if let Some(object) = value.as_object_mut() {
        object.insert("view".to_owned(), view_object(entry));
    }
    value
}

fn reading_object(entry: &BarEntry<'_>) -> Value {
    let mut object = Map::new();
    object.insert("key".to_owned(), entry.bar.key.as_str().into());
    if let Some(bar) = &entry.bar.reading {
        object.insert("reading_bar".to_owned(), figures(bar).into());
    }
    object.insert("feed".to_owned(), entry.feed.into());
    object.insert("epoch".to_owned(), entry.epoch.to_string().into());
    object.into()
}

fn figures(bar: &v1::ReadingBar) -> Map<String, Value> {
    let sum = bar.exact.as_ref().and_then(|exact| exact.sum.as_ref());
    let fields = [
        ("start", time_text(bar.start_unix_nanos).into()),
        ("interval_nanos", bar.interval_nanos.to_string().into()),
        ("channel", bar.channel.map_or(Value::Null, Value::from)),
        ("min", value_or_exact(bar, Figure::Min)),
        ("max", value_or_exact(bar, Figure::Max)),
        ("mean", number(bar.mean)),
        ("last", value_or_exact(bar, Figure::Last)),
        (
            "sum",
            sum.map_or(Value::Null, |sum| decimal_text(sum).into()),
        ),
        ("count", bar.count.to_string().into()),
        ("bad_count", bar.bad_count.to_string().into()),
    ];
    let present = fields.into_iter().filter(|(_, value)| !value.is_null());
    present
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn view_object(entry: &BarEntry<'_>) -> Value {
    let bar = entry.bar;
    let fields: [(&str, Value); 5] = [
        ("source", entry.source().into()),
        ("revision", bar.revision.into()),
        ("complete", bar.complete.into()),
        ("late_count", bar.late_count.to_string().into()),
        ("partial", bar.partial.into()),
    ];
    let fields = fields.into_iter();
    let object: Map<_, _> = fields
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    object.into()
}

/// The cells of a bar of readings, in the order of `READING_HEADER`.
pub(super) fn reading_row(entry: &BarEntry<'_>) -> Vec<String> {
    let figures = entry.bar.reading.as_ref().map(figures).unwrap_or_default();
    let view = view_object(entry);
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
