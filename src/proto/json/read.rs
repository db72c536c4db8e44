//! JSON to record.

use std::{borrow::Cow, str::FromStr};

use serde_json::Value;

use super::{
    super::{
        convert::{parse_decimal, parse_time},
        v1::{self, reading, record::Payload},
    },
    write::{action_name, quality_name, side_name},
};

/// What `subscribe` prints beyond what a producer may set: read, and dropped.
const SERVER_FIELDS: [&str; 6] = [
    "offset",
    "ingest_time",
    "time_assigned",
    "feed",
    "epoch",
    "view",
];
/// Beyond it a double does not hold every integer.
const MAX_EXACT_INTEGER: u64 = 1 << 53;

/// Why a JSON text is no record: the field at fault and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if field.is_empty() { String::new() } else { format!("`{field}` ") })]
pub struct InvalidJson {
    /// Path of the field, `quote.bid` for instance; empty when it is about the whole.
    pub field: String,
    pub message: String,
}

type Result<T> = std::result::Result<T, InvalidJson>;

fn invalid(field: impl Into<String>, message: impl ToString) -> InvalidJson {
    InvalidJson {
        field: field.into(),
        message: message.to_string(),
    }
}

/// Reads one line of JSON. Of a name that occurs twice, the last counts.
pub fn parse_line(line: &str) -> Result<v1::Record> {
    let value: Value =
        serde_json::from_str(line).map_err(|error| invalid("", format!("not JSON: {error}")))?;
    from_json(&value)
}

/// Reads a record; it takes the shorthand `"value": 21.5` in place of a reading as well, where a
/// number is always a double (a sensor that reads 21 and then 21.5 does not change its kind).
pub fn from_json(value: &Value) -> Result<v1::Record> {
    let mut fields = Fields::open("", value)?;
    for name in SERVER_FIELDS {
        fields.take(name);
    }
    let record = v1::Record {
        key: fields
            .text("key")?
            .ok_or_else(|| invalid("key", "is missing"))?,
        event_time_unix_nanos: fields.time("time")?,
        source_time_unix_nanos: fields.time("source_time")?,
        source_sequence: fields.integer("source_sequence")?,
        venue: fields.text("venue")?.unwrap_or_default(),
        payload: Some(payload(&mut fields)?),
        ..v1::Record::default()
    };
    fields.close()?;
    Ok(record)
}

fn payload(fields: &mut Fields<'_>) -> Result<Payload> {
    let mut found = Vec::new();
    if let Some(mut inner) = fields.object("quote")? {
        found.push(Payload::Quote(quote(&mut inner)?));
        inner.close()?;
    }
    if let Some(mut inner) = fields.object("trade")? {
        found.push(Payload::Trade(trade(&mut inner)?));
        inner.close()?;
    }
    if let Some(mut inner) = fields.object("bar")? {
        found.push(Payload::Bar(bar(&mut inner)?));
        inner.close()?;
    }
    if let Some(mut inner) = fields.object("status")? {
        found.push(Payload::Status(status(&mut inner)?));
        inner.close()?;
    }
    found.extend(any_reading(fields)?.map(Payload::Reading));
    let several = found.len() > 1;
    found.pop().filter(|_| !several).ok_or_else(|| {
        invalid(
            "",
            "exactly one of quote, trade, bar, reading, status or value is needed",
        )
    })
}

/// `"reading": {..}`, with `quality` inside or beside it, or the shorthand.
fn any_reading(fields: &mut Fields<'_>) -> Result<Option<v1::Reading>> {
    if let Some(mut inner) = fields.object("reading")? {
        let mut found = reading(&mut inner)?;
        inner.close()?;
        if let Some(quality) = fields.code("quality", quality_code)? {
            found.quality = quality;
        }
        return Ok(Some(found));
    }
    let shorthand = ["value", "quality", "quality_code"]
        .iter()
        .any(|name| fields.has(name));
    if shorthand {
        reading(fields).map(Some)
    } else {
        Ok(None)
    }
}

fn quote(fields: &mut Fields<'_>) -> Result<v1::Quote> {
    Ok(v1::Quote {
        bid: fields.decimal("bid")?,
        ask: fields.decimal("ask")?,
        bid_size: fields.decimal("bid_size")?,
        ask_size: fields.decimal("ask_size")?,
        conditions: fields.words("conditions")?,
    })
}

fn trade(fields: &mut Fields<'_>) -> Result<v1::Trade> {
    Ok(v1::Trade {
        price: fields.decimal("price")?,
        size: fields.decimal("size")?,
        trade_id: fields.text("trade_id")?.unwrap_or_default(),
        side: fields.code("side", side_code)?.unwrap_or_default(),
        conditions: fields.words("conditions")?,
        action: fields.code("action", action_code)?.unwrap_or_default(),
    })
}

fn bar(fields: &mut Fields<'_>) -> Result<v1::Bar> {
    Ok(v1::Bar {
        start_unix_nanos: fields.time("start")?,
        interval_nanos: fields.integer("interval_nanos")?,
        open: fields.decimal("open")?,
        high: fields.decimal("high")?,
        low: fields.decimal("low")?,
        close: fields.decimal("close")?,
        volume: fields.decimal("volume")?,
        vwap: fields.decimal("vwap")?,
        count: fields.integer("count")?,
        adjusted_close: fields.decimal("adjusted_close")?,
    })
}

fn status(fields: &mut Fields<'_>) -> Result<v1::Status> {
    Ok(v1::Status {
        state: fields.text("state")?.unwrap_or_default(),
        reason: fields.text("reason")?.unwrap_or_default(),
    })
}

fn reading(fields: &mut Fields<'_>) -> Result<v1::Reading> {
    let mut values = Vec::new();
    if let Some((path, value)) = fields.take("value") {
        values.push(plain_value(&path, value)?);
    }
    if let Some((path, value)) = fields.take("number") {
        values.push(reading::Value::Number(any_double(&path, value)?));
    }
    if let Some(decimal) = fields.decimal("decimal")? {
        values.push(reading::Value::Decimal(decimal));
    }
    if let Some(integer) = fields.integer("integer")? {
        values.push(reading::Value::Integer(integer));
    }
    if values.len() > 1 {
        return Err(invalid(&*fields.path, "has more than one value"));
    }
    Ok(v1::Reading {
        value: values.pop(),
        quality: fields.code("quality", quality_code)?.unwrap_or_default(),
        quality_code: fields.integer("quality_code")?,
    })
}

/// number → double, true/false → flag, text → text, array → vector.
fn plain_value(path: &str, value: &Value) -> Result<reading::Value> {
    match value {
        Value::Number(_) => Ok(reading::Value::Number(double(path, value)?)),
        Value::Bool(flag) => Ok(reading::Value::Flag(*flag)),
        Value::String(text) => Ok(reading::Value::Text(text.clone())),
        Value::Array(items) => {
            let values = items.iter().map(|item| any_double(path, item));
            Ok(reading::Value::Vector(v1::Vector {
                values: values.collect::<Result<_>>()?,
            }))
        }
        Value::Null | Value::Object(_) => Err(invalid(
            path,
            "must be a number, true, false, a text or an array of numbers",
        )),
    }
}

/// A number, or the text of one, such as the `"NaN"` that JSON has no number for.
fn any_double(path: &str, value: &Value) -> Result<f64> {
    match value {
        Value::String(text) => text
            .parse()
            .map_err(|_error| invalid(path, "is not a number")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            double(path, value)
        }
    }
}

fn double(path: &str, value: &Value) -> Result<f64> {
    let Value::Number(number) = value else {
        return Err(invalid(path, "is not a number"));
    };
    let whole = number
        .as_i64()
        .map(i64::unsigned_abs)
        .or_else(|| number.as_u64());
    if whole.is_some_and(|whole| whole > MAX_EXACT_INTEGER) {
        let advice = "is an integer beyond 2^53, which a double would round; write \"reading\": {\"integer\": \"..\"}";
        return Err(invalid(path, advice));
    }
    number
        .as_f64()
        .ok_or_else(|| invalid(path, "is too large for a double"))
}

fn side_code(name: &str) -> Option<i32> {
    use v1::TradeSide::{Buy, Sell};
    [Buy, Sell]
        .into_iter()
        .find(|side| side_name(*side) == name)
        .map(i32::from)
}

fn action_code(name: &str) -> Option<i32> {
    use v1::TradeAction::{Cancel, Correct, New};
    [New, Correct, Cancel]
        .into_iter()
        .find(|action| action_name(*action) == name)
        .map(i32::from)
}

fn quality_code(name: &str) -> Option<i32> {
    use v1::Quality::{Bad, Good, Uncertain};
    [Good, Uncertain, Bad]
        .into_iter()
        .find(|q| quality_name(*q) == name)
        .map(i32::from)
}

/// What of an object nobody has taken yet. `null` counts as absent.
struct Fields<'a> {
    path: String,
    left: Vec<(&'a str, &'a Value)>,
}

impl<'a> Fields<'a> {
    fn open(path: &str, value: &'a Value) -> Result<Self> {
        let object = value
            .as_object()
            .ok_or_else(|| invalid(path, "is not an object"))?;
        let left = object.iter().filter(|(_, value)| !value.is_null());
        Ok(Self {
            path: path.to_owned(),
            left: left.map(|(name, value)| (name.as_str(), value)).collect(),
        })
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn has(&self, name: &str) -> bool {
        self.left.iter().any(|(left, _)| *left == name)
    }

    fn take(&mut self, name: &str) -> Option<(String, &'a Value)> {
        let index = self.left.iter().position(|(left, _)| *left == name)?;
        let (_, value) = self.left.swap_remove(index);
        Some((self.path_of(name), value))
    }

    /// Takes and reads a field; `read` says why it cannot.
    fn read<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&'a Value) -> std::result::Result<T, String>,
    ) -> Result<Option<T>> {
        let Some((path, value)) = self.take(name) else {
            return Ok(None);
        };
        read(value)
            .map(Some)
            .map_err(|message| invalid(path, message))
    }

    fn object(&mut self, name: &str) -> Result<Option<Fields<'a>>> {
        self.take(name)
            .map(|(path, value)| Fields::open(&path, value))
            .transpose()
    }

    fn text(&mut self, name: &str) -> Result<Option<String>> {
        self.read(name, |value| {
            value
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| "is not a text".to_owned())
        })
    }

    fn words(&mut self, name: &str) -> Result<Vec<String>> {
        let words = self.read(name, |value| {
            let words = value.as_array().and_then(|items| {
                items
                    .iter()
                    .map(|item| item.as_str().map(str::to_owned))
                    .collect()
            });
            words.ok_or_else(|| "is not an array of texts".to_owned())
        })?;
        Ok(words.unwrap_or_default())
    }

    fn time(&mut self, name: &str) -> Result<Option<i64>> {
        self.read(name, |value| {
            parse_time(&scalar(value)?).map_err(|error| error.to_string())
        })
    }

    fn decimal(&mut self, name: &str) -> Result<Option<v1::Decimal>> {
        self.read(name, |value| {
            parse_decimal(&scalar(value)?).map_err(|error| error.to_string())
        })
    }

    fn integer<T: FromStr>(&mut self, name: &str) -> Result<Option<T>> {
        self.read(name, |value| {
            let message = |_| "is not an integer, or too large for this field".to_owned();
            scalar(value)?.parse().map_err(message)
        })
    }

    fn code(&mut self, name: &str, code: fn(&str) -> Option<i32>) -> Result<Option<i32>> {
        self.read(name, |value| {
            value
                .as_str()
                .and_then(code)
                .ok_or_else(|| format!("has no such value as {value}"))
        })
    }

    fn close(self) -> Result<()> {
        let Some((name, _)) = self.left.first() else {
            return Ok(());
        };
        let message = match *name {
            "unit" | "currency" => {
                "belongs to the key's description, not to each record: `ringfeed keys FEED set KEY`"
            }
            _ => "is not a field of a record",
        };
        Err(invalid(self.path_of(name), message))
    }
}

/// The text of a string or a number, digit for digit.
fn scalar(value: &Value) -> std::result::Result<Cow<'_, str>, String> {
    match value {
        Value::String(text) => Ok(Cow::Borrowed(text)),
        Value::Number(number) => Ok(Cow::Owned(number.to_string())),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            Err("is neither a text nor a number".to_owned())
        }
    }
}
