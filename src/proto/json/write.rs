//! Record to JSON. The order of the fields is fixed, so equal records give equal bytes.

use serde_json::{Map, Number, Value};

use super::super::{
    convert::{decimal_text, time_text},
    v1::{self, reading, record::Payload},
};

/// The record as one flat object: key, time, the payload under its kind's name, the source's
/// fields, and what the server added where it did.
pub fn to_json(record: &v1::Record) -> Value {
    let mut object = Object::default();
    object.text("key", &record.key);
    object.time("time", record.event_time_unix_nanos);
    if let Some(payload) = &record.payload {
        let (kind, fields) = payload_object(payload);
        object.set(kind, fields.into());
    }
    object.time("source_time", record.source_time_unix_nanos);
    object.integer("source_sequence", record.source_sequence);
    object.word("venue", &record.venue);
    if record.time_assigned {
        object.set("time_assigned", Value::Bool(true));
    }
    // The server sets both; an offset alone cannot tell "the first" from "none".
    if record.ingest_time_unix_nanos != 0 {
        object.integer("offset", Some(record.offset));
        object.time("ingest_time", Some(record.ingest_time_unix_nanos));
    }
    object.into()
}

/// The record with its feed and epoch, which `ingest` drops.
pub fn placed_record(feed: &str, epoch: u64, record: &v1::Record) -> Value {
    let mut value = to_json(record);
    if let Some(object) = value.as_object_mut() {
        object.insert("feed".to_owned(), feed.into());
        object.insert("epoch".to_owned(), epoch.to_string().into());
    }
    value
}

fn payload_object(payload: &Payload) -> (&'static str, Object) {
    match payload {
        Payload::Quote(quote) => ("quote", quote_object(quote)),
        Payload::Trade(trade) => ("trade", trade_object(trade)),
        Payload::Bar(bar) => ("bar", bar_object(bar)),
        Payload::Reading(reading) => ("reading", reading_object(reading)),
        Payload::Status(status) => ("status", status_object(status)),
    }
}

fn quote_object(quote: &v1::Quote) -> Object {
    let mut object = Object::default();
    object.decimal("bid", quote.bid.as_ref());
    object.decimal("ask", quote.ask.as_ref());
    object.decimal("bid_size", quote.bid_size.as_ref());
    object.decimal("ask_size", quote.ask_size.as_ref());
    object.words("conditions", &quote.conditions);
    object
}

fn trade_object(trade: &v1::Trade) -> Object {
    let mut object = Object::default();
    object.decimal("price", trade.price.as_ref());
    object.decimal("size", trade.size.as_ref());
    object.word("trade_id", &trade.trade_id);
    object.code(
        "side",
        trade.side,
        v1::TradeSide::try_from(trade.side).map(side_name),
    );
    object.words("conditions", &trade.conditions);
    object.code(
        "action",
        trade.action,
        v1::TradeAction::try_from(trade.action).map(action_name),
    );
    object
}

fn bar_object(bar: &v1::Bar) -> Object {
    let mut object = Object::default();
    object.time("start", bar.start_unix_nanos);
    object.integer("interval_nanos", bar.interval_nanos);
    object.decimal("open", bar.open.as_ref());
    object.decimal("high", bar.high.as_ref());
    object.decimal("low", bar.low.as_ref());
    object.decimal("close", bar.close.as_ref());
    object.decimal("volume", bar.volume.as_ref());
    object.decimal("vwap", bar.vwap.as_ref());
    object.integer("count", bar.count);
    object.decimal("adjusted_close", bar.adjusted_close.as_ref());
    object
}

fn reading_object(reading: &v1::Reading) -> Object {
    let mut object = Object::default();
    match &reading.value {
        None => {}
        Some(reading::Value::Number(number)) => object.set("value", number_value(*number)),
        Some(reading::Value::Decimal(decimal)) => object.decimal("decimal", Some(decimal)),
        Some(reading::Value::Integer(integer)) => object.integer("integer", Some(*integer)),
        Some(reading::Value::Flag(flag)) => object.set("value", Value::Bool(*flag)),
        Some(reading::Value::Text(text)) => object.text("value", text),
        Some(reading::Value::Vector(vector)) => object.set(
            "value",
            Value::Array(vector.values.iter().copied().map(number_value).collect()),
        ),
    }
    object.code(
        "quality",
        reading.quality,
        v1::Quality::try_from(reading.quality).map(quality_name),
    );
    if let Some(code) = reading.quality_code {
        object.set("quality_code", code.into());
    }
    object
}

fn status_object(status: &v1::Status) -> Object {
    let mut object = Object::default();
    object.text("state", &status.state);
    object.word("reason", &status.reason);
    object
}

/// JSON has no NaN and no infinities; the server refuses them, and here they show as text.
fn number_value(number: f64) -> Value {
    Number::from_f64(number).map_or_else(|| Value::String(number.to_string()), Value::Number)
}

pub(super) fn side_name(side: v1::TradeSide) -> &'static str {
    match side {
        v1::TradeSide::Unspecified => "",
        v1::TradeSide::Buy => "buy",
        v1::TradeSide::Sell => "sell",
    }
}

pub(super) fn action_name(action: v1::TradeAction) -> &'static str {
    match action {
        v1::TradeAction::Unspecified => "",
        v1::TradeAction::New => "new",
        v1::TradeAction::Correct => "correct",
        v1::TradeAction::Cancel => "cancel",
    }
}

pub(super) fn quality_name(quality: v1::Quality) -> &'static str {
    match quality {
        v1::Quality::Unspecified => "",
        v1::Quality::Good => "good",
        v1::Quality::Uncertain => "uncertain",
        v1::Quality::Bad => "bad",
    }
}

/// A JSON object in the making; what is absent or empty is not written.
#[derive(Default)]
struct Object(Map<String, Value>);

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object.0)
    }
}

impl Object {
    fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    fn text(&mut self, name: &str, text: &str) {
        self.set(name, text.into());
    }

    fn word(&mut self, name: &str, word: &str) {
        if !word.is_empty() {
            self.text(name, word);
        }
    }

    fn words(&mut self, name: &str, words: &[String]) {
        if !words.is_empty() {
            self.set(name, words.into());
        }
    }

    fn time(&mut self, name: &str, nanos: Option<i64>) {
        if let Some(nanos) = nanos {
            self.set(name, time_text(nanos).into());
        }
    }

    fn integer(&mut self, name: &str, integer: Option<impl ToString>) {
        if let Some(integer) = integer {
            self.set(name, integer.to_string().into());
        }
    }

    fn decimal(&mut self, name: &str, decimal: Option<&v1::Decimal>) {
        if let Some(decimal) = decimal {
            self.set(name, decimal_text(decimal).into());
        }
    }

    /// An enum value by its name; one this build does not know by its number.
    fn code<E>(&mut self, name: &str, number: i32, known: Result<&'static str, E>) {
        match known {
            Ok(word) => self.word(name, word),
            Err(_) => self.set(name, number.into()),
        }
    }
}
