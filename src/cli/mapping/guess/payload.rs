//! What the columns that are neither key nor time hold: bars, quotes, trades or readings.

use super::{
    Guess,
    column::{Column, Kind},
    quoted,
    unit::{in_header, ucum},
};

/// A field of a payload and the names its column may have.
type Field = (&'static str, &'static [&'static str]);

const BAR: [Field; 8] = [
    ("open", &["open", "o", "open_price"]),
    ("high", &["high", "h", "high_price"]),
    ("low", &["low", "l", "low_price"]),
    ("close", &["close", "c", "close_price"]),
    ("volume", &["volume", "vol", "v", "base_volume"]),
    (
        "adjusted_close",
        &["adj_close", "adjusted_close", "adjclose"],
    ),
    ("vwap", &["vwap"]),
    (
        "count",
        &["count", "trades", "trade_count", "number_of_trades"],
    ),
];
const QUOTE: [Field; 4] = [
    (
        "bid",
        &["bid", "bid_price", "best_bid", "bidprice", "bid_px"],
    ),
    (
        "ask",
        &[
            "ask",
            "ask_price",
            "best_ask",
            "askprice",
            "ask_px",
            "offer",
        ],
    ),
    (
        "bid_size",
        &[
            "bid_size",
            "bid_qty",
            "bidsize",
            "bid_quantity",
            "bid_sz",
            "bid_amount",
        ],
    ),
    (
        "ask_size",
        &[
            "ask_size",
            "ask_qty",
            "asksize",
            "ask_quantity",
            "ask_sz",
            "ask_amount",
        ],
    ),
];
const TRADE: [Field; 3] = [
    (
        "price",
        &["price", "px", "last", "last_price", "trade_price"],
    ),
    (
        "size",
        &[
            "size",
            "quantity",
            "qty",
            "amount",
            "volume",
            "shares",
            "last_size",
        ],
    ),
    ("trade_id", &["trade_id", "tradeid", "exec_id", "id"]),
];
const VENUES: [&str; 5] = ["venue", "exchange", "marketcenter", "market_center", "mic"];
const SEQUENCES: [&str; 5] = ["update_id", "sequence", "seq", "sequence_number", "agg_id"];

/// The tables of the payload, which take their columns out of the guess.
pub(super) fn tables(guess: &mut Guess<'_>) -> String {
    let has = |guess: &Guess<'_>, fields: &[Field]| {
        fields.iter().all(|(_, names)| guess.find(names).is_some())
    };
    if has(guess, &BAR[..4]) {
        return bar(guess);
    }
    if QUOTE
        .iter()
        .take(2)
        .any(|(_, names)| guess.find(names).is_some())
    {
        return market(guess, "quote", &QUOTE);
    }
    if has(guess, &TRADE[..2]) {
        return market(guess, "trade", &TRADE) + &side(guess);
    }
    readings(guess)
}

/// The top-level lines for the source's own number and the venue.
pub(super) fn source_lines(guess: &mut Guess<'_>) -> String {
    let mut text = String::new();
    let is_count = |column: &&Column<'_>| column.all(|value| value.parse::<u64>().is_ok());
    let sequence = guess
        .free()
        .filter(is_count)
        .find(|column| column.named(&SEQUENCES));
    if let Some(name) = sequence.map(|column| column.name) {
        guess.take(name);
        text += &format!("source_sequence = {}\n", quoted(name));
    }
    if let Some(name) = guess.find(&VENUES) {
        guess.take(name);
        text += &format!("venue = {}\n", quoted(name));
    }
    text
}

fn bar(guess: &mut Guess<'_>) -> String {
    let interval = if guess.daily { "1d" } else { "1m" };
    let note = if guess.daily {
        ""
    } else {
        " # put the true length here"
    };
    market(guess, "bar", &BAR) + &format!("interval = \"{interval}\"{note}\n")
}

fn market(guess: &mut Guess<'_>, table: &str, fields: &[Field]) -> String {
    let mut text = format!("\n[{table}]\n");
    for (field, names) in fields {
        if let Some(name) = guess.find(names) {
            guess.take(name);
            text += &format!("{field} = {}\n", quoted(name));
        }
    }
    text
}

/// Which column says who crossed the spread, where one does.
fn side(guess: &mut Guess<'_>) -> String {
    if let Some(name) = guess.find(&["buyer_is_maker", "is_buyer_maker"]) {
        let texts = guess.take(name);
        let values = texts.iter().map(|text| {
            let side = if text.eq_ignore_ascii_case("true") {
                "sell"
            } else {
                "buy"
            };
            format!("{} = \"{side}\"", quoted(text))
        });
        let values = values.collect::<Vec<_>>().join(", ");
        return format!(
            "side = {{ column = {}, values = {{ {values} }} }}\n",
            quoted(name)
        );
    }
    let known = |text: &str| matches!(text.to_lowercase().as_str(), "buy" | "sell" | "b" | "s");
    let column = guess
        .free()
        .find(|column| column.slug == "side" && column.all(known));
    let Some(name) = column.map(|column| column.name) else {
        return String::new();
    };
    let values = guess.take(name).into_iter().map(|text| {
        let side = if text.to_lowercase().starts_with('b') {
            "buy"
        } else {
            "sell"
        };
        format!("{} = \"{side}\"", quoted(text))
    });
    let values = values.collect::<Vec<_>>().join(", ");
    format!(
        "side = {{ column = {}, values = {{ {values} }} }}\n",
        quoted(name)
    )
}

/// One reading a row where there is one column of values, else one for each.
fn readings(guess: &mut Guess<'_>) -> String {
    let indices = guess.free().filter(|column| column.is_index());
    for name in indices.map(|column| column.name).collect::<Vec<_>>() {
        guess.leave_out(name, "a row index, by its name");
    }
    let columns: Vec<_> = guess
        .free()
        .map(|column| (column.name, column.is_quality()))
        .collect();
    let values = columns.iter().filter(|(_, is_quality)| !is_quality).count();
    let single = values == 1 && guess.has_key;
    guess.several = !single;
    let mut text = String::new();
    for (index, (name, is_quality)) in columns.iter().enumerate() {
        if *is_quality {
            continue;
        }
        let next = columns.get(index + 1).filter(|(_, is_quality)| *is_quality);
        text += &reading(guess, name, next.map(|(name, _)| *name), single);
    }
    for name in guess.free().map(|column| column.name).collect::<Vec<_>>() {
        guess.leave_out(name, "a quality code of no column before it");
    }
    text
}

fn reading(guess: &mut Guess<'_>, name: &str, quality: Option<&str>, single: bool) -> String {
    let Some(column) = guess.free().find(|column| column.name == name) else {
        return String::new();
    };
    let kind = column.kind;
    let slug = column.slug.clone();
    let mut text = match single {
        true => format!("\n[reading]\ncolumn = {}\n", quoted(name)),
        false => {
            let key = guess.unique_key(&slug);
            format!(
                "\n[[wide]]\ncolumn = {}\nkey = {}\n",
                quoted(name),
                quoted(&key)
            )
        }
    };
    match kind {
        Kind::Text => text += "kind = \"text\"\n",
        Kind::Flag => text += "kind = \"flag\"\n",
        Kind::Empty | Kind::Integer | Kind::Number => {}
    }
    if let Some(quality) = quality {
        let codes = guess.take(quality);
        guess.codes.extend(codes.into_iter().map(str::to_owned));
        text += &format!("quality = {}\n", quoted(quality));
    }
    guess.take(name);
    text + &unit_line(name)
}

fn unit_line(name: &str) -> String {
    let Some(written) = in_header(name) else {
        return String::new();
    };
    match ucum(written) {
        Some(unit) => format!("unit = {}\n", quoted(unit)),
        None if name.trim().ends_with(']') => {
            format!(
                "# unit = \"..\" # the header says {}; write it in UCUM\n",
                quoted(written)
            )
        }
        None => String::new(),
    }
}
