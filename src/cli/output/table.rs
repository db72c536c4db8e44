//! The table: one line a record, 80 columns, a day line where the day changes, a header again
//! every screenful.

use std::io::{self, Write};

use console::{Style, measure_text_width, truncate_str};

use super::{BarEntry, Entry, escaped, value_summary};
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    On,
    Off,
}

#[derive(Debug)]
pub(super) struct Table {
    colour: Colour,
    lines: u32,
    day: String,
}

impl Table {
    pub(super) fn new(colour: Colour) -> Self {
        Self {
            colour,
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
            value(entry),
            time.map(|time| age(now, time)).unwrap_or_default(),
            quality(entry.record).to_owned(),
        ];
        self.row(out, time, cells, quality_style(entry.record))
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
        self.row(out, entry.start(), cells, Style::new())
    }

    fn row(
        &mut self,
        out: &mut impl Write,
        time: Option<UnixNanos>,
        [key, kind, value, age, mark]: [String; 5],
        style: Style,
    ) -> io::Result<()> {
        if self.lines.is_multiple_of(HEADER_EVERY) {
            let header =
                line(["TIME (UTC)", "KEY", "KIND", "VALUE", "AGE", "Q"].map(str::to_owned));
            writeln!(out, "{}", self.styled(&header, Style::new().bold()))?;
        }
        self.lines = self.lines.wrapping_add(1);
        let (day, clock) = time.map(day_and_clock).unwrap_or_default();
        if day != self.day {
            let text = format!("-- {day}");
            writeln!(out, "{}", self.styled(&text, Style::new().dim()))?;
            self.day = day;
        }
        let text = line([clock, key, kind, value, age, mark]);
        writeln!(out, "{}", self.styled(&text, style))
    }

    fn styled(&self, text: &str, style: Style) -> String {
        match self.colour {
            Colour::On => style.force_styling(true).apply_to(text).to_string(),
            Colour::Off => text.to_owned(),
        }
    }
}

fn line([time, key, kind, value, age, quality]: [String; 6]) -> String {
    let age = format!("{age:>AGE_WIDTH$}");
    let cells = [
        fit(&time, TIME_WIDTH),
        fit(&key, KEY_WIDTH),
        fit(&kind, KIND_WIDTH),
        fit(&value, VALUE_WIDTH),
        fit(&age, AGE_WIDTH),
        quality,
    ];
    cells.join(" ").trim_end().to_owned()
}

/// Cut or filled up to exactly `width` columns of the terminal.
fn fit(text: &str, width: usize) -> String {
    let cut = truncate_str(text, width, "…");
    let fill = width.saturating_sub(measure_text_width(&cut));
    format!("{cut}{}", " ".repeat(fill))
}

/// The mark of its quality has a column of its own.
fn value(entry: &Entry<'_>) -> String {
    let summary = value_summary(entry.record, entry.info);
    let bare = summary
        .strip_suffix(" (bad)")
        .or_else(|| summary.strip_suffix(" (uncertain)"));
    match (bare, &entry.record.payload) {
        (Some(bare), Some(Payload::Reading(_))) if !quality(entry.record).is_empty() => {
            bare.to_owned()
        }
        _ => summary,
    }
}

fn day_and_clock(time: UnixNanos) -> (String, String) {
    let text = time_text(time);
    let (day, clock) = text.split_once('T').unwrap_or_default();
    (day.to_owned(), clock.chars().take(TIME_WIDTH).collect())
}

fn kind(record: &v1::Record) -> &'static str {
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

fn quality(record: &v1::Record) -> &'static str {
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
fn age(now: UnixNanos, time: UnixNanos) -> String {
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
