//! Bars of a view to JSON. Those of prices look like records, which `ingest` reads; those of readings
//! have fields of their own.

use serde_json::{Map, Number, Value};

use super::{
    super::{
        convert::{decimal_text, time_text},
        v1::{self, BarSource, record::Payload},
    },
    placed_record,
};

/// A figure of a bar of readings.
#[derive(Clone, Copy, Debug)]
pub enum Figure {
    Min,
    Max,
    Last,
}

/// Of prices `{"key", "time", "bar": {..}, "view": {..}}`, of readings `"reading_bar"` in its place.
pub fn bar_to_json(feed: &str, epoch: u64, bar: &v1::ViewBar) -> Value {
    let mut value = match bar_record(bar) {
        Some(record) => placed_record(feed, epoch, &record),
        None => reading_object(feed, epoch, bar),
    };
    if let Some(object) = value.as_object_mut() {
        object.insert("view".to_owned(), view_fields(bar).into());
    }
    value
}

/// A record that says the same, for a bar of prices: it happened at the bar's start, as bars in files
/// do.
pub fn bar_record(view: &v1::ViewBar) -> Option<v1::Record> {
    let bar = view.bar.as_ref()?;
    Some(v1::Record {
        key: view.key.clone(),
        event_time_unix_nanos: bar.start_unix_nanos,
        payload: Some(Payload::Bar(*bar)),
        ..v1::Record::default()
    })
}

/// What a bar was made of, in a word.
pub fn source_name(source: BarSource) -> &'static str {
    match source {
        BarSource::Unspecified => "",
        BarSource::Trade => "trade",
        BarSource::Bar => "bar",
        BarSource::QuoteMid => "mid",
        BarSource::QuoteBid => "bid",
        BarSource::QuoteAsk => "ask",
        BarSource::Reading => "reading",
    }
}

/// The figure as an exact decimal in a text where there is one, else as a number.
pub fn figure_value(bar: &v1::ReadingBar, figure: Figure) -> Value {
    let exact = bar.exact.as_ref();
    let (exact, double) = match figure {
        Figure::Min => (exact.and_then(|exact| exact.min.as_ref()), bar.min),
        Figure::Max => (exact.and_then(|exact| exact.max.as_ref()), bar.max),
        Figure::Last => (exact.and_then(|exact| exact.last.as_ref()), bar.last),
    };
    exact.map_or_else(|| number(double), |exact| decimal_text(exact).into())
}

/// The fields of `reading_bar`.
pub fn reading_fields(bar: &v1::ReadingBar) -> Map<String, Value> {
    let sum = bar.exact.as_ref().and_then(|exact| exact.sum.as_ref());
    let fields = [
        ("start", time_text(bar.start_unix_nanos).into()),
        ("interval_nanos", bar.interval_nanos.to_string().into()),
        ("channel", bar.channel.map_or(Value::Null, Value::from)),
        ("min", figure_value(bar, Figure::Min)),
        ("max", figure_value(bar, Figure::Max)),
        ("mean", number(bar.mean)),
        ("last", figure_value(bar, Figure::Last)),
        (
            "sum",
            sum.map_or(Value::Null, |sum| decimal_text(sum).into()),
        ),
        ("count", bar.count.to_string().into()),
        ("bad_count", bar.bad_count.to_string().into()),
    ];
    let present = fields.into_iter().filter(|(_, value)| !value.is_null());
    owned(present)
}

/// The fields of `view`: how the bar came about.
pub fn view_fields(bar: &v1::ViewBar) -> Map<String, Value> {
    let fields: [(&str, Value); 5] = [
        ("source", source_name(bar.source()).into()),
        ("revision", bar.revision.into()),
        ("complete", bar.complete.into()),
        ("late_count", bar.late_count.to_string().into()),
        ("partial", bar.partial.into()),
    ];
    owned(fields)
}

fn reading_object(feed: &str, epoch: u64, bar: &v1::ViewBar) -> Value {
    let mut object = Map::new();
    object.insert("key".to_owned(), bar.key.as_str().into());
    if let Some(bar) = &bar.reading {
        object.insert("reading_bar".to_owned(), reading_fields(bar).into());
    }
    object.insert("feed".to_owned(), feed.into());
    object.insert("epoch".to_owned(), epoch.to_string().into());
    object.into()
}

fn number(double: Option<f64>) -> Value {
    double
        .and_then(Number::from_f64)
        .map_or(Value::Null, Value::Number)
}

fn owned<'n>(fields: impl IntoIterator<Item = (&'n str, Value)>) -> Map<String, Value> {
    let fields = fields.into_iter();
    fields
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
