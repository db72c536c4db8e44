//! Printing records: a table for people, JSON lines and CSV for programs. For the commands that
//! show records, and `ingest`, which accepts both of the latter.

mod bars;
pub mod flat;
mod paper;
mod summary;
mod table;

use std::io::{self, Write};

use self::table::Table;
pub use self::{
    bars::BarEntry,
    paper::{Colour, Cut, Paper},
    summary::{escaped, value_summary},
};
pub(in crate::cli) use self::{
    summary::value_and_unit,
    table::{age, kind, quality},
};
use crate::{
    model::UnixNanos,
    proto::{json, v1},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns for a terminal.
    Table,
    /// One JSON object a line.
    Jsonl,
    /// One flat row a record.
    Csv,
}

/// A record and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub feed: &'a str,
    pub epoch: u64,
    pub record: &'a v1::Record,
    /// What is known of the key; only the table shows it.
    pub info: Option<&'a v1::KeyInfo>,
}

/// Writes records one after the other. It does not flush by itself.
#[derive(Debug)]
pub struct Printer<W: Write> {
    out: W,
    style: Style,
}

#[derive(Debug)]
enum Style {
    Table(Table),
    Jsonl,
    /// And which header was written.
    Csv(Option<Rows>),
}

impl<W: Write> Printer<W> {
    /// `paper` is for the table alone.
    pub fn new(format: Format, paper: Paper, out: W) -> Self {
        let style = match format {
            Format::Table => Style::Table(Table::new(paper)),
            Format::Jsonl => Style::Jsonl,
            Format::Csv => Style::Csv(None),
        };
        Self { out, style }
    }

    /// Prints a record; `now` is what its age is measured against.
    pub fn record(&mut self, entry: &Entry<'_>, now: UnixNanos) -> io::Result<()> {
        match &mut self.style {
            Style::Table(table) => table.record(&mut self.out, entry, now),
            Style::Jsonl => {
                let value = json::placed_record(entry.feed, entry.epoch, entry.record);
                writeln!(self.out, "{value}")
            }
            Style::Csv(rows) => {
                begin(&mut self.out, rows, Rows::Records)?;
                write_row(
                    &mut self.out,
                    flat::row(entry.feed, entry.epoch, entry.record),
                )
            }
        }
    }

    /// Prints a bar of a view. One of prices looks like a record, which `ingest` accepts; one of
    /// readings has fields of its own.
    pub fn bar(&mut self, entry: &BarEntry<'_>, now: UnixNanos) -> io::Result<()> {
        match &mut self.style {
            Style::Table(table) => table.bar(&mut self.out, entry, now),
            Style::Jsonl => {
                let value = json::bar_to_json(entry.feed, entry.epoch, entry.bar);
                writeln!(self.out, "{value}")
            }
            Style::Csv(rows) => {
                let record = entry.record();
                let (kind, cells) = match &record {
                    Some(record) => (Rows::Records, flat::row(entry.feed, entry.epoch, record)),
                    None => (Rows::ReadingBars, bars::reading_row(entry)),
                };
                begin(&mut self.out, rows, kind)?;
                write_row(&mut self.out, cells)
            }
        }
    }

    /// A remark between records (a gap, a reconnect). Only people see it; programs get records.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        match &self.style {
            Style::Table(_) => writeln!(self.out, "-- {}", escaped(text)),
            Style::Jsonl | Style::Csv(_) => Ok(()),
        }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    pub fn into_inner(self) -> W {
        self.out
    }
}

/// Which columns a CSV has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    Records,
    ReadingBars,
}

/// Writes the header of the first row. One file has one header.
fn begin(out: &mut impl Write, written: &mut Option<Rows>, rows: Rows) -> io::Result<()> {
    match written {
        Some(written) if *written == rows => Ok(()),
        Some(_) => Err(io::Error::other(
            "bars of readings have other columns than those of prices: print --format jsonl, or choose keys of one kind",
        )),
        None => {
            *written = Some(rows);
            match rows {
                Rows::Records => write_row(out, flat::HEADER),
                Rows::ReadingBars => write_row(out, bars::READING_HEADER),
            }
        }
    }
}

fn write_row<T: AsRef<[u8]>>(
    out: &mut impl Write,
    cells: impl IntoIterator<Item = T>,
) -> io::Result<()> {
    let mut csv = csv::WriterBuilder::new().from_writer(out);
    csv.write_record(cells).map_err(io::Error::other)?;
    csv.flush()
}

#[cfg(test)]
mod tests;
