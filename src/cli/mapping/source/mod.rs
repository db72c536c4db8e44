//! Files of records: a path or stdin, plain or gzip, CSV or JSON lines, one row after the other.

mod input;
mod lines;

use std::{
    io::{BufRead as _, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use csv::StringRecord;

use self::{
    input::Input,
    lines::{Line, Lines},
};
use super::{Bound, Mapping, RowError};
use crate::{
    cli::output::flat,
    proto::{json, v1},
};

const KEPT_ERRORS: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputFormat {
    Csv,
    Jsonl,
}

/// Rows that gave no records.
#[derive(Clone, Debug, Default)]
pub struct Broken {
    pub count: u64,
    /// The first of them, at most 100.
    pub first: Vec<RowError>,
}

/// A file that is being read. Blocks; give it a thread of its own.
pub struct Source {
    input: Input,
    lines: Lines,
    parser: Parser,
    /// The first row is read at once, for the producer's identity.
    peeked: Option<(u64, Line)>,
    line: Line,
    identity: blake3::Hasher,
    broken: Broken,
}

enum Parser {
    Mapped { bound: Box<Bound>, width: usize },
    Flat { width: usize },
    Json,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

/// `prices.mapping.toml` beside `prices.csv` or `prices.csv.gz`, where there is one.
pub fn mapping_beside(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".gz").unwrap_or(name);
    let stem = stem.rsplit_once('.').map_or(stem, |(stem, _)| stem);
    let beside = path.with_file_name(format!("{stem}.mapping.toml"));
    beside.is_file().then_some(beside)
}

impl Source {
    /// Opens `path`, or stdin for `-`. Without `format`, the name's ending or else the first byte
    /// tells it. A CSV needs a mapping unless `subscribe --format csv` wrote it.
    pub fn open(
        path: &Path,
        format: Option<InputFormat>,
        mapping: Option<&Mapping>,
    ) -> anyhow::Result<Self> {
        let input = Input::open(path)?;
        let format = format.or_else(|| format_of_name(path));
        Self::new(input, format, mapping).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Reads from anything; what `open` does once it has the file.
    pub fn from_reader(
        reader: impl Read + Send + 'static,
        format: Option<InputFormat>,
        mapping: Option<&Mapping>,
    ) -> anyhow::Result<Self> {
        Self::new(Input::new(Box::new(reader), None)?, format, mapping)
    }

    fn new(
        mut input: Input,
        format: Option<InputFormat>,
        mapping: Option<&Mapping>,
    ) -> anyhow::Result<Self> {
        let format = match format {
            Some(format) => format,
            None if input.first_byte() == Some(b'{') => InputFormat::Jsonl,
            None => InputFormat::Csv,
        };
        let mut identity = blake3::Hasher::new();
        let (mut lines, parser) = match format {
            InputFormat::Jsonl => (Lines::json(input.take_reader()), Parser::Json),
            InputFormat::Csv => open_csv(input.take_reader(), mapping, &mut identity)?,
        };
        let mut line = lines.empty();
        let peeked = lines.next(&mut line)?.map(|row| (row, line.clone()));
        if let Some((_, line)) = &peeked {
            line.hash_into(&mut identity);
        }
        Ok(Self {
            input,
            lines,
            parser,
            peeked,
            line,
            identity,
            broken: Broken::default(),
        })
    }

    /// Appends the records of the next good row and returns its line number, from 1; `None` at
    /// the end. Broken rows are counted and skipped.
    pub fn next_row(&mut self, records: &mut Vec<v1::Record>) -> anyhow::Result<Option<u64>> {
        loop {
            let row = match self.peeked.take() {
                Some((row, line)) => {
                    self.line = line;
                    Some(row)
                }
                None => self.lines.next(&mut self.line)?,
            };
            let Some(row) = row else {
                return Ok(None);
            };
            match self.parser.records(row, &self.line, records) {
                Ok(()) => return Ok(Some(row)),
                Err(error) => self.broken.add(error),
            }
        }
    }

    /// Bytes of the file read so far, before decompression.
    pub fn consumed_bytes(&self) -> u64 {
        self.input.consumed()
    }

    /// Size of the file, where it has one.
    pub fn total_bytes(&self) -> Option<u64> {
        self.input.total()
    }

    pub fn broken(&self) -> &Broken {
        &self.broken
    }

    /// The default producer of this file for a feed: `file-` and 16 hex digits over the feed, the
    /// mapping, the header and the first row.
    ///
    /// Not over the whole content: a file that grew is the same producer, which sends what is new
    /// and has the rest dropped as known. The server compares the content of what it is sent again,
    /// so another file that happens to begin alike is refused, not lost.
    pub fn producer(&self, feed: &str) -> String {
        let mut identity = self.identity.clone();
        lines::hash_part(&mut identity, feed.as_bytes());
        let hex = identity.finalize().to_hex();
        format!("file-{}", hex.get(..16).unwrap_or_default())
    }
}

impl Broken {
    fn add(&mut self, error: RowError) {
        self.count += 1;
        if self.first.len() < KEPT_ERRORS {
            self.first.push(error);
        }
    }
}

fn format_of_name(path: &Path) -> Option<InputFormat> {
    let name = path.to_str()?;
    let name = name.strip_suffix(".gz").unwrap_or(name);
    let (_, ending) = name.rsplit_once('.')?;
    match ending {
        "csv" | "tsv" => Some(InputFormat::Csv),
        "jsonl" | "ndjson" | "json" => Some(InputFormat::Jsonl),
        _ => None,
    }
}

fn open_csv(
    reader: input::Reader,
    mapping: Option<&Mapping>,
    identity: &mut blake3::Hasher,
) -> anyhow::Result<(Lines, Parser)> {
    let delimiter = mapping.map_or(Ok(b','), Mapping::delimiter)?;
    let mut lines = Lines::csv(reader, delimiter);
    let named = mapping.and_then(|mapping| mapping.spec.file.columns.as_ref());
    let header = match named {
        Some(columns) => columns.iter().collect(),
        None => read_header(&mut lines)?,
    };
    lines::hash_part(
        identity,
        mapping.map(Mapping::text).unwrap_or_default().as_bytes(),
    );
    Line::Csv(header.as_byte_record().clone()).hash_into(identity);
    let width = header.len();
    let parser = match mapping {
        Some(mapping) => Parser::Mapped {
            bound: Box::new(mapping.bind(&header)?),
            width,
        },
        None if flat::is_header(&header) => Parser::Flat { width },
        None => bail!(
            "a CSV file needs a mapping: `ringfeed ingest --guess FILE` proposes one for --mapping"
        ),
    };
    Ok((lines, parser))
}

/// The delimiter, the header and the first rows of a CSV, as far as they are whole.
pub(super) fn sample(
    path: &Path,
    limit: usize,
) -> anyhow::Result<(u8, StringRecord, Vec<StringRecord>)> {
    let mut reader = Input::open(path)?.take_reader();
    let delimiter = delimiter_of(reader.fill_buf()?);
    let mut lines = Lines::csv(reader, delimiter);
    let header = read_header(&mut lines)?;
    let (mut line, mut rows) = (lines.empty(), Vec::new());
    while rows.len() < limit
        && let Some(row) = lines.next(&mut line)?
    {
        rows.extend(line.fields(header.len(), row).ok());
    }
    Ok((delimiter, header, rows))
}

/// Of the usual ones, that which the first line has most of.
fn delimiter_of(start: &[u8]) -> u8 {
    let first_line = start
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let count = |delimiter: &u8| first_line.iter().filter(|byte| *byte == delimiter).count();
    // The last of equals wins, which is the comma.
    [b'|', b'\t', b';', b',']
        .into_iter()
        .max_by_key(count)
        .unwrap_or(b',')
}

fn read_header(lines: &mut Lines) -> anyhow::Result<StringRecord> {
    let mut line = lines.empty();
    let found = lines.next(&mut line)?;
    let header = line
        .csv()
        .filter(|_| found.is_some())
        .context("the file is empty")?;
    StringRecord::from_byte_record(header.clone())
        .map_err(|error| anyhow::anyhow!("the header line is not UTF-8: {error}"))
}

impl Parser {
    fn records(
        &self,
        row: u64,
        line: &Line,
        records: &mut Vec<v1::Record>,
    ) -> Result<(), RowError> {
        match self {
            Self::Mapped { bound, width } => {
                bound.records(row, &line.fields(*width, row)?, records)
            }
            Self::Flat { width } => {
                records.push(flat::record(row, &line.fields(*width, row)?)?);
                Ok(())
            }
            Self::Json => {
                records.push(json_record(row, line.text(row)?)?);
                Ok(())
            }
        }
    }
}

fn json_record(row: u64, text: &str) -> Result<v1::Record, RowError> {
    json::parse_line(text).map_err(|error| RowError {
        row,
        column: error.field,
        value: String::new(),
        message: error.message,
    })
}

#[cfg(test)]
mod tests;
