//! A record's payload in a few words, safe for a terminal.

use std::{borrow::Cow, fmt::Write as _};

use crate::proto::{
    convert::decimal_text,
    v1::{self, TradeAction, TradeSide, reading, record::Payload},
};

const SHOWN_CHANNELS: usize = 4;
const NONE: &str = "–";

/// `720.50 / 720.93`, `51.9500 × 75`, `o h l c v`, `16.1 Cel`, `– (bad)`.
pub fn value_summary(record: &v1::Record, info: Option<&v1::KeyInfo>) -> String {
    match &record.payload {
        None => NONE.to_owned(),
        Some(Payload::Quote(quote)) => {
            format!(
                "{} / {}",
                decimal(quote.bid.as_ref()),
                decimal(quote.ask.as_ref())
            )
        }
        Some(Payload::Trade(trade)) => trade_summary(trade),
        Some(Payload::Bar(bar)) => bar_summary(bar),
        Some(Payload::Reading(reading)) => reading_summary(reading, info),
        Some(Payload::Status(status)) if status.reason.is_empty() => {
            escaped(&status.state).into_owned()
        }
        Some(Payload::Status(status)) => {
            format!("{}: {}", escaped(&status.state), escaped(&status.reason))
        }
    }
}

/// `open high low close volume`.
pub(super) fn bar_summary(bar: &v1::Bar) -> String {
    let prices = [&bar.open, &bar.high, &bar.low, &bar.close].map(|p| decimal(p.as_ref()));
    let volume = bar.volume.as_ref().map(decimal_text);
    let volume = volume.map_or_else(String::new, |volume| format!(" {volume}"));
    format!("{}{volume}", prices.join(" "))
}

fn decimal(value: Option<&v1::Decimal>) -> String {
    value.map_or_else(|| NONE.to_owned(), decimal_text)
}

fn trade_summary(trade: &v1::Trade) -> String {
    let mut text = decimal(trade.price.as_ref());
    if let Some(size) = &trade.size {
        let _infallible = write!(text, " × {}", decimal_text(size));
    }
    text.push_str(match trade.side() {
        TradeSide::Unspecified => "",
        TradeSide::Buy => " buy",
        TradeSide::Sell => " sell",
    });
    text.push_str(match trade.action() {
        TradeAction::Unspecified | TradeAction::New => "",
        TradeAction::Correct => " (corrected)",
        TradeAction::Cancel => " (cancelled)",
    });
    text
}

fn reading_summary(reading: &v1::Reading, info: Option<&v1::KeyInfo>) -> String {
    let value = reading.value.as_ref().map(|value| value_text(value, info));
    let unit = info
        .and_then(|info| info.unit.as_deref())
        .unwrap_or_default();
    // UCUM's unit of a plain number.
    let unit = if unit == "1" { "" } else { unit };
    let mark = match reading.quality() {
        v1::Quality::Unspecified | v1::Quality::Good => "",
        v1::Quality::Uncertain => " (uncertain)",
        v1::Quality::Bad => " (bad)",
    };
    match value {
        None => format!("{NONE}{mark}"),
        Some(value) if unit.is_empty() => format!("{value}{mark}"),
        Some(value) => format!("{value} {}{mark}", escaped(unit)),
    }
}

fn value_text(value: &reading::Value, info: Option<&v1::KeyInfo>) -> String {
    match value {
        reading::Value::Number(number) => double(*number, info),
        reading::Value::Decimal(decimal) => decimal_text(decimal),
        reading::Value::Integer(integer) => {
            let name = info.and_then(|info| info.enum_labels.get(integer));
            name.map_or_else(|| integer.to_string(), |name| escaped(name).into_owned())
        }
        reading::Value::Flag(flag) => if *flag { "on" } else { "off" }.to_owned(),
        reading::Value::Text(text) => escaped(text).into_owned(),
        reading::Value::Vector(vector) => {
            let shown = vector
                .values
                .iter()
                .take(SHOWN_CHANNELS)
                .map(|n| double(*n, info));
            let shown: Vec<_> = shown.collect();
            let more = if vector.values.len() > SHOWN_CHANNELS {
                ", .."
            } else {
                ""
            };
            format!("[{}{more}]", shown.join(", "))
        }
    }
}

/// Decimals beyond these are noise to the eye.
const MAX_PLACES: usize = 17;

fn double(number: f64, info: Option<&v1::KeyInfo>) -> String {
    let places = info.and_then(|info| info.display_decimals);
    match places.and_then(|places| usize::try_from(places).ok()) {
        Some(places) => format!("{number:.*}", places.min(MAX_PLACES)),
        // `1e300` would be three hundred digits.
        None if number != 0.0 && !(1e-5..1e16).contains(&number.abs()) => format!("{number:e}"),
        None => number.to_string(),
    }
}

/// The text with everything visible that could drive a terminal or reorder a line.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            visible.extend(c.escape_unicode());
        } else {
            visible.push(c);
        }
    }
    Cow::Owned(visible)
}

/// Control characters, and those that are invisible or change the direction of writing.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
