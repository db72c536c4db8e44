//! The table: one line a record, as wide as the terminal, a day line where the day changes, a header
//! again every screenful.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use console::{Style, measure_text_width, truncate_str};

use super::{BarEntry, Colour, Cut, Entry, Paper, escaped, summary::value_without_quality};
use crate::{
    model::UnixNanos,
    proto::{
        convert::time_text,
        v1::{self, Quality, record::Payload},
    },
};

const HEADER_EVERY: u32 = 40;
const TIME_WIDTH: usize = 12;
const KEY_WIDTH: usize = 20;
const KIND_WIDTH: usize = 7;
const VALUE_WIDTH: usize = 28;
const AGE_WIDTH: usize = 5;
const QUALITY_WIDTH: usize = 3;
/// With one column between two cells.
const LEAST_WIDTH: usize =
    TIME_WIDTH + KEY_WIDTH + KIND_WIDTH + VALUE_WIDTH + AGE_WIDTH + QUALITY_WIDTH + 5;
/// Narrower cells say nothing.
const MIN_WIDTH: usize = 8;

#[derive(Debug)]
pub(super) struct Table {
    paper: Paper,
    widths: Widths,
    lines: u32,
    day: String,
}

impl Table {
    pub(super) fn new(paper: Paper) -> Self {
        Self {
            paper,
            widths: Widths::of(paper.cut, Shape::One),
            lines: 0,
            day: String::new(),
        }
    }

    pub(super) fn record(
        &mut self,
        out: &mut impl Write,
        entry: &Entry<'_>,
        now: UnixNanos,
    ) -> io::Result<()> {
        let time = entry.record.event_time_unix_nanos;
        let cells = [
            escaped(&entry.record.key).into_owned(),
            kind(entry.record).to_owned(),
            // The mark of its quality has a column of its own.
            value_without_quality(entry.record, entry.info),
            time.map(|time| age(now, time)).unwrap_or_default(),
            quality(entry.record).to_owned(),
        ];
        let shape = match &entry.record.payload {
            Some(Payload::Bar(_)) => Shape::Several,
            None
            | Some(
                Payload::Quote(_) | Payload::Trade(_) | Payload::Reading(_) | Payload::Status(_),
            ) => Shape::One,
        };
        self.row(out, time, cells, shape, quality_style(entry.record))
    }

    /// A bar at its start; its age is that of its end.
    pub(super) fn bar(
        &mut self,
        out: &mut impl Write,
        entry: &BarEntry<'_>,
        now: UnixNanos,
    ) -> io::Result<()> {
        let end = entry.end();
        let old = if entry.bar.complete {
            end.map(|end| age(now, end)).unwrap_or_default()
        } else {
            "open".to_owned()
        };
        let cells = [
            escaped(&entry.name()).into_owned(),
            entry.source().to_owned(),
            entry.summary(),
            old,
            entry.mark(),
        ];
        let shape = match entry.bar.bar {
            Some(_) => Shape::Several,
            None => Shape::One,
        };
        self.row(out, entry.start(), cells, shape, Style::new())
    }

    fn row(
        &mut self,
        out: &mut impl Write,
        time: Option<UnixNanos>,
        [key, kind, value, age, mark]: [String; 5],
        shape: Shape,
        style: Style,
    ) -> io::Result<()> {
        if self.lines.is_multiple_of(HEADER_EVERY) {
            self.widths = Widths::of(self.paper.cut, shape);
            let heads = ["TIME (UTC)", "KEY", "KIND", "VALUE", "AGE", "Q"];
            let header = self.line(heads.map(str::to_owned));
            writeln!(out, "{}", self.styled(&header, Style::new().bold()))?;
        }
        self.lines = self.lines.wrapping_add(1);
        let (day, clock) = time.map(day_and_clock).unwrap_or_default();
        if day != self.day {
            let text = format!("-- {day}");
            writeln!(out, "{}", self.styled(&text, Style::new().dim()))?;
            self.day = day;
        }
        let text = self.line([clock, key, kind, value, age, mark]);
        writeln!(out, "{}", self.styled(&text, style))
    }

    fn styled(&self, text: &str, style: Style) -> String {
        match self.paper.colour {
            Colour::On => style.force_styling(true).apply_to(text).to_string(),
            Colour::Off => text.to_owned(),
        }
    }

    fn line(&self, [time, key, kind, value, age, quality]: [String; 6]) -> String {
        let Widths {
            key: of_key,
            value: of_value,
        } = self.widths;
        let age = format!("{age:>AGE_WIDTH$}");
        let cells = [
            self.fit(&time, TIME_WIDTH),
            self.fit(&key, of_key),
            self.fit(&kind, KIND_WIDTH),
            self.fit(&self.whole_words(&value, of_value), of_value),
            self.fit(&age, AGE_WIDTH),
            quality,
        ];
        cells.join(" ").trim_end().to_owned()
    }

    /// What is left of a value that is too long: of several numbers none in part.
    fn whole_words<'a>(&self, text: &'a str, width: usize) -> Cow<'a, str> {
        let is_short = measure_text_width(text) <= width;
        if is_short || self.paper.cut == Cut::Never {
            return text.into();
        }
        let head = truncate_str(text, width.saturating_sub(1), "");
        match head.rsplit_once(' ') {
            Some((words, _)) => format!("{words} …").into(),
            None => text.into(),
        }
    }

    /// Filled up to `width` columns of the terminal; cut to them where there is one.
    fn fit(&self, text: &str, width: usize) -> String {
        let cut = match self.paper.cut {
            Cut::To(_) => truncate_str(text, width, "…"),
            Cut::Never => text.into(),
        };
        let fill = width.saturating_sub(measure_text_width(&cut));
        format!("{cut}{}", " ".repeat(fill))
    }
}

/// What stands in a row's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    One,
    /// Open, high, low, close: of symbols, whose names are short.
    Several,
}

/// Of the columns that are as wide as there is room.
#[derive(Clone, Copy, Debug)]
struct Widths {
    key: usize,
    value: usize,
}

impl Widths {
    fn of(cut: Cut, shape: Shape) -> Self {
        let moved = match shape {
            Shape::One => 0,
            Shape::Several => 6,
        };
        let (key, value) = (KEY_WIDTH - moved, VALUE_WIDTH + moved);
        let width = match cut {
            Cut::To(width) => width,
            Cut::Never => LEAST_WIDTH,
        };
        let more = width.saturating_sub(LEAST_WIDTH);
        let less = LEAST_WIDTH.saturating_sub(width);
        let from_value = less.min(value - MIN_WIDTH);
        let from_key = (less - from_value).min(key - MIN_WIDTH);
        Self {
            key: key + more / 2 - from_key,
            value: value + more - more / 2 - from_value,
        }
    }
}

fn day_and_clock(time: UnixNanos) -> (String, String) {
    let text = time_text(time);
    let (day, clock) = text.split_once('T').unwrap_or_default();
    (day.to_owned(), clock.chars().take(TIME_WIDTH).collect())
}

/// The payload's kind in a word.
pub(in crate::cli) fn kind(record: &v1::Record) -> &'static str {
    match &record.payload {
        None => "",
        Some(Payload::Quote(_)) => "quote",
        Some(Payload::Trade(_)) => "trade",
        Some(Payload::Bar(_)) => "bar",
        Some(Payload::Reading(_)) => "reading",
        Some(Payload::Status(_)) => "status",
    }
}

fn reading_quality(record: &v1::Record) -> Quality {
    match &record.payload {
        Some(Payload::Reading(reading)) => reading.quality(),
        None
        | Some(Payload::Quote(_) | Payload::Trade(_) | Payload::Bar(_) | Payload::Status(_)) => {
            Quality::Unspecified
        }
    }
}

/// `bad`, `unc`, or nothing.
pub(in crate::cli) fn quality(record: &v1::Record) -> &'static str {
    match reading_quality(record) {
        Quality::Unspecified | Quality::Good => "",
        Quality::Uncertain => "unc",
        Quality::Bad => "bad",
    }
}

fn quality_style(record: &v1::Record) -> Style {
    match reading_quality(record) {
        Quality::Unspecified | Quality::Good => Style::new(),
        Quality::Uncertain => Style::new().yellow(),
        Quality::Bad => Style::new().red(),
    }
}

/// `15ms`, `3s`, `7m`, `5h`, `12d`, `10y`; with a minus for a time ahead of ours.
pub(in crate::cli) fn age(now: UnixNanos, time: UnixNanos) -> String {
    const UNITS: [(&str, i128); 6] = [
        ("y", 31_557_600_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let millis = (i128::from(now) - i128::from(time)) / 1_000_000;
    let unit = UNITS.into_iter().find(|(_, size)| millis.abs() >= *size);
    unit.map_or_else(
        || "now".to_owned(),
        |(name, size)| format!("{}{name}", millis / size),
    )
}
