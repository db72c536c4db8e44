//! Records as CSV: one flat union of columns for all payloads, written by `subscribe --format csv`
//! and recognised by `ingest`, so that a copy equals the original. Cells are those of the JSON
//! form; lists are JSON arrays in a cell.

use csv::StringRecord;
use serde_json::{Map, Value};

use crate::{
    cli::mapping::RowError,
    proto::{json, v1},
};

/// The header; stable, new columns go to the end.
pub const HEADER: [&str; 36] = [
    "feed",
    "epoch",
    "offset",
    "event_time",
    "ingest_time",
    "key",
    "kind",
    "source_time",
    "source_sequence",
    "venue",
    "bid",
    "ask",
    "bid_size",
    "ask_size",
    "price",
    "size",
    "trade_id",
    "side",
    "action",
    "conditions",
    "start",
    "interval_nanos",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "vwap",
    "count",
    "adjusted_close",
    "value_kind",
    "value",
    "quality",
    "quality_code",
    "state",
    "reason",
];

const KINDS: [&str; 5] = ["quote", "trade", "bar", "reading", "status"];
/// Columns of the record itself and their names in JSON; the rest belong to the payload.
const FRAME: [(&str, &str); 7] = [
    ("offset", "offset"),
    ("event_time", "time"),
    ("ingest_time", "ingest_time"),
    ("key", "key"),
    ("source_time", "source_time"),
    ("source_sequence", "source_sequence"),
    ("venue", "venue"),
];

/// Whether a file has the header of this form.
pub fn is_header(header: &StringRecord) -> bool {
    header.iter().eq(HEADER)
}

/// The cells of a record, in the order of `HEADER`.
pub fn row(feed: &str, epoch: u64, record: &v1::Record) -> Vec<String> {
    let value = json::to_json(record);
    let kind = KINDS
        .into_iter()
        .find(|kind| value.get(kind).is_some())
        .unwrap_or_default();
    let payload = value.get(kind).unwrap_or(&Value::Null);
    let cell = |column: &str| match column {
        "feed" => feed.to_owned(),
        "epoch" => epoch.to_string(),
        "kind" => kind.to_owned(),
        "value_kind" if kind == "reading" => value_kind(record).to_owned(),
        "value" if kind == "reading" => ["value", "decimal", "integer"]
            .into_iter()
            .find_map(|name| payload.get(name))
            .map(cell_text)
            .unwrap_or_default(),
        column => match FRAME.into_iter().find(|(name, _)| *name == column) {
            Some((_, name)) => value.get(name).map(cell_text).unwrap_or_default(),
            None => payload.get(column).map(cell_text).unwrap_or_default(),
        },
    };
    HEADER.into_iter().map(cell).collect()
}

fn cell_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn value_kind(record: &v1::Record) -> &'static str {
    use v1::reading::Value as Measured;
    let Some(v1::record::Payload::Reading(reading)) = &record.payload else {
        return "";
    };
    match &reading.value {
        None => "",
        Some(Measured::Number(_)) => "double",
        Some(Measured::Decimal(_)) => "decimal",
        Some(Measured::Integer(_)) => "integer",
        Some(Measured::Flag(_)) => "flag",
        Some(Measured::Text(_)) => "text",
        Some(Measured::Vector(_)) => "vector",
    }
}

/// The record of a row; `row` is its line in the file, for the error.
pub fn record(row: u64, cells: &StringRecord) -> Result<v1::Record, RowError> {
    let cell = |column: &str| {
        let index = HEADER.into_iter().position(|name| name == column);
        index.and_then(|index| cells.get(index)).unwrap_or_default()
    };
    let fault = |column: &str, message: String| RowError {
        row,
        column: column.to_owned(),
        value: cell(column).to_owned(),
        message,
    };
    let kind = cell("kind");
    if !KINDS.contains(&kind) {
        return Err(fault("kind", format!("is none of {}", KINDS.join(", "))));
    }
    let payload = payload(&cell).map_err(|(column, message)| fault(column, message))?;
    let mut object = Map::new();
    for (column, name) in FRAME {
        insert(&mut object, name, cell(column).into());
    }
    object.insert(kind.to_owned(), Value::Object(payload));
    json::from_json(&Value::Object(object)).map_err(|error| {
        let field = error.field.rsplit('.').next().unwrap_or_default();
        let column = HEADER.into_iter().find(|name| *name == field);
        let column = column.unwrap_or(if field == "time" {
            "event_time"
        } else {
            "value"
        });
        fault(column, error.message)
    })
}

/// What of the payload is filled in. A cell that belongs to another kind is an unknown field.
fn payload<'c>(
    cell: &impl Fn(&str) -> &'c str,
) -> Result<Map<String, Value>, (&'static str, String)> {
    let mut object = Map::new();
    let outside = |name: &str| {
        matches!(name, "feed" | "epoch" | "kind" | "value" | "value_kind")
            || FRAME.iter().any(|(column, _)| *column == name)
    };
    for column in HEADER.into_iter().filter(|column| !outside(column)) {
        let value = match column {
            "conditions" if !cell(column).is_empty() => list(column, cell(column))?,
            _ => cell(column).into(),
        };
        insert(&mut object, column, value);
    }
    let text = cell("value");
    match cell("value_kind") {
        "" if text.is_empty() => {}
        "text" => drop(object.insert("value".to_owned(), text.into())),
        "double" => insert(&mut object, "number", text.into()),
        "flag" => insert(&mut object, "value", flag(text)?),
        "vector" => insert(&mut object, "value", list("value", text)?),
        kind @ ("decimal" | "integer") => insert(&mut object, kind, text.into()),
        _ => return Err(("value_kind", "is no kind of value".to_owned())),
    }
    Ok(object)
}

fn insert(object: &mut Map<String, Value>, name: &str, value: Value) {
    if value.as_str() != Some("") {
        object.insert(name.to_owned(), value);
    }
}

fn list(column: &'static str, text: &str) -> Result<Value, (&'static str, String)> {
    serde_json::from_str(text).map_err(|error| (column, format!("is no JSON array: {error}")))
}

fn flag(text: &str) -> Result<Value, (&'static str, String)> {
    let flag = text.parse::<bool>();
    flag.map(Value::Bool)
        .map_err(|error| ("value", error.to_string()))
}
