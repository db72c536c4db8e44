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
    let mark = match reading.quality() {
        v1::Quality::Unspecified | v1::Quality::Good => "",
        v1::Quality::Uncertain => " (uncertain)",
        v1::Quality::Bad => " (bad)",
    };
    let (value, unit) = reading_and_unit(reading, info);
    format!("{}{mark}", with_unit(value, &unit))
}

/// As `value_summary`, without the quality of a reading.
pub(super) fn value_without_quality(record: &v1::Record, info: Option<&v1::KeyInfo>) -> String {
    match &record.payload {
        Some(Payload::Reading(reading)) => {
            let (value, unit) = reading_and_unit(reading, info);
            with_unit(value, &unit)
        }
        None
        | Some(Payload::Quote(_) | Payload::Trade(_) | Payload::Bar(_) | Payload::Status(_)) => {
            value_summary(record, info)
        }
    }
}

/// What a table of keys shows: bid and ask, the price, the close, the reading, the state; and its
/// unit or currency. All digits as they were sent, but for doubles whose description says how many.
pub(in crate::cli) fn value_and_unit(
    record: &v1::Record,
    info: Option<&v1::KeyInfo>,
) -> (String, String) {
    let currency = || {
        let currency = info.and_then(|info| info.currency.as_deref());
        escaped(currency.unwrap_or_default()).into_owned()
    };
    match &record.payload {
        Some(Payload::Reading(reading)) => reading_and_unit(reading, info),
        Some(Payload::Trade(trade)) => {
            let cancelled = match trade.action() {
                TradeAction::Cancel => " (cancelled)",
                TradeAction::Unspecified | TradeAction::New | TradeAction::Correct => "",
            };
            let price = decimal(trade.price.as_ref());
            (format!("{price}{cancelled}"), currency())
        }
        Some(Payload::Bar(bar)) => (decimal(bar.close.as_ref()), currency()),
        Some(Payload::Quote(_)) => (value_summary(record, info), currency()),
        None | Some(Payload::Status(_)) => (value_summary(record, info), String::new()),
    }
}

fn reading_and_unit(reading: &v1::Reading, info: Option<&v1::KeyInfo>) -> (String, String) {
    let Some(value) = &reading.value else {
        return (NONE.to_owned(), String::new());
    };
    let unit = info.and_then(|info| info.unit.as_deref());
    // UCUM's unit of a plain number.
    let unit = unit.filter(|unit| *unit != "1").unwrap_or_default();
    (value_text(value, info), escaped(unit).into_owned())
}

fn with_unit(value: String, unit: &str) -> String {
    match unit {
        "" => value,
        unit => format!("{value} {unit}"),
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

/// Marks above one letter beyond which further ones run into the lines around it.
const MAX_MARKS: usize = 4;

/// The text with everything visible that could drive a terminal, reorder a line, or be of another
/// width than is counted on.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let mut visible = String::with_capacity(text.len());
    let (mut before, mut marks) = ('\0', 0);
    for c in text.chars() {
        marks = match width(c) {
            0 => marks + 1,
            _ => 0,
        };
        if is_unsafe(c) || marks > MAX_MARKS || is_fused(before, c) {
            visible.extend(c.escape_unicode());
            before = '}';
        } else {
            visible.push(c);
            before = c;
        }
    }
    Cow::Owned(visible)
}

/// Control characters, and those that are invisible or change the direction of writing.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{ffa0}'
        )
}

/// Whether two characters together are of another width than each by itself (an emoji and its skin
/// tone, say): terminals do not agree on those.
fn is_fused(before: char, c: char) -> bool {
    if c.is_ascii() || before == '\0' {
        return false;
    }
    let mut bytes = [0; 8];
    let first = before.encode_utf8(&mut bytes).len();
    let both = first + c.len_utf8();
    if let Some(rest) = bytes.get_mut(first..) {
        c.encode_utf8(rest);
    }
    let pair = bytes.get(..both).unwrap_or_default();
    let pair = std::str::from_utf8(pair).unwrap_or_default();
    console::measure_text_width(pair) != width(before) + width(c)
}

fn width(c: char) -> usize {
    console::measure_text_width(c.encode_utf8(&mut [0; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_as_wide_as_counted() {
        assert_eq!(escaped("Température 湿度"), "Température 湿度");
        assert_eq!(escaped("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\u{a}");
        for (text, shown) in [
            ("x\u{202e}y", "x\\u{202e}y"),
            ("x\u{61c}y", "x\\u{61c}y"),
            ("x\u{ad}y", "x\\u{ad}y"),
            // A sign made an emoji, a skin tone, a ligature.
            ("☁\u{fe0f}", "☁\\u{fe0f}"),
            ("👍\u{1f3fd}", "👍\\u{1f3fd}"),
            ("\u{644}\u{627}", "\u{644}\\u{627}"),
        ] {
            assert_eq!(escaped(text), shown);
        }
        let heap = format!("e{}", "\u{301}".repeat(50));
        let shown = escaped(&heap);
        assert!(shown.starts_with("e\u{301}\u{301}\u{301}\u{301}\\u{301}"));
        let each: usize = shown.chars().map(width).sum();
        assert_eq!(console::measure_text_width(&shown), each);
    }
}
