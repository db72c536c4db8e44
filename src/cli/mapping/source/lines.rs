//! Rows as they stand in a file: the fields of a CSV, or a line of JSON.

use std::io::{self, BufRead as _, Read as _};

use csv::{ByteRecord, StringRecord};

use super::{super::RowError, input::Reader};

/// Longer lines of JSON are broken rows; a record has 60,000 bytes at the most.
const MAX_LINE_BYTES: u64 = 1 << 20;

pub(super) enum Lines {
    Csv(Box<csv::Reader<Reader>>),
    Json { reader: Reader, number: u64 },
}

#[derive(Clone, Debug)]
pub(super) enum Line {
    Csv(ByteRecord),
    Json { bytes: Vec<u8>, too_long: bool },
}

impl Lines {
    pub(super) fn csv(reader: Reader, delimiter: u8) -> Self {
        // Flexible: a row of another length is one broken row, not the end of the file.
        let csv = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .from_reader(reader);
        Self::Csv(Box::new(csv))
    }

    pub(super) fn json(reader: Reader) -> Self {
        Self::Json { reader, number: 0 }
    }

    pub(super) fn empty(&self) -> Line {
        match self {
            Self::Csv(_) => Line::Csv(ByteRecord::new()),
            Self::Json { .. } => Line::Json {
                bytes: Vec::new(),
                too_long: false,
            },
        }
    }

    /// Reads the next row into `line` and returns its number, from 1; `None` at the end.
    pub(super) fn next(&mut self, line: &mut Line) -> anyhow::Result<Option<u64>> {
        match (self, line) {
            (Self::Csv(csv), Line::Csv(record)) => {
                let found = csv.read_byte_record(record)?;
                Ok(found.then(|| first_line(record, csv.position())))
            }
            (Self::Json { reader, number }, Line::Json { bytes, too_long }) => {
                while read_line(reader, bytes, too_long)? {
                    *number += 1;
                    if !bytes.trim_ascii().is_empty() {
                        return Ok(Some(*number));
                    }
                }
                Ok(None)
            }
            (lines, line) => {
                *line = lines.empty();
                lines.next(line)
            }
        }
    }
}

/// The line a row begins on. The position `csv` gives it stands before the blank lines ahead of it.
fn first_line(record: &ByteRecord, after: &csv::Position) -> u64 {
    let breaks = record
        .iter()
        .flatten()
        .filter(|byte| **byte == b'\n')
        .count() as u64;
    let from_end = after.line().saturating_sub(breaks + 1);
    record
        .position()
        .map_or(0, csv::Position::line)
        .max(from_end)
}

/// Reads one line; of one that is too long only the beginning is kept.
fn read_line(reader: &mut Reader, bytes: &mut Vec<u8>, too_long: &mut bool) -> io::Result<bool> {
    bytes.clear();
    let count = reader
        .by_ref()
        .take(MAX_LINE_BYTES)
        .read_until(b'\n', bytes)?;
    *too_long = count as u64 == MAX_LINE_BYTES && !bytes.ends_with(b"\n");
    if *too_long {
        reader.skip_until(b'\n')?;
    }
    Ok(count > 0)
}

/// Adds a part with its length, so that no two lists of parts hash alike.
pub(super) fn hash_part(hasher: &mut blake3::Hasher, part: &[u8]) {
    hasher.update(&(part.len() as u64).to_le_bytes());
    hasher.update(part);
}

impl Line {
    pub(super) fn hash_into(&self, hasher: &mut blake3::Hasher) {
        match self {
            Self::Csv(record) => {
                hash_part(hasher, &(record.len() as u64).to_le_bytes());
                record.iter().for_each(|field| hash_part(hasher, field));
            }
            Self::Json { bytes, .. } => hash_part(hasher, bytes.trim_ascii()),
        }
    }

    pub(super) fn csv(&self) -> Option<&ByteRecord> {
        match self {
            Self::Csv(record) => Some(record),
            Self::Json { .. } => None,
        }
    }

    /// The fields of a CSV row, when they are as many as the header has and UTF-8.
    pub(super) fn fields(&self, width: usize, row: u64) -> Result<StringRecord, RowError> {
        let record = self.csv().cloned().unwrap_or_default();
        if record.len() != width {
            let message = format!("has {} fields where the header has {width}", record.len());
            return Err(whole_row(row, message));
        }
        StringRecord::from_byte_record(record)
            .map_err(|error| whole_row(row, format!("is not UTF-8: {}", error.utf8_error())))
    }

    /// A line of JSON.
    pub(super) fn text(&self, row: u64) -> Result<&str, RowError> {
        match self {
            Self::Json { too_long: true, .. } => Err(whole_row(
                row,
                format!("is longer than {MAX_LINE_BYTES} bytes"),
            )),
            Self::Json { bytes, .. } => std::str::from_utf8(bytes)
                .map(|text| text.trim_start_matches('\u{feff}'))
                .map_err(|error| whole_row(row, format!("is not UTF-8: {error}"))),
            Self::Csv(_) => Ok(""),
        }
    }
}

fn whole_row(row: u64, message: String) -> RowError {
    RowError {
        row,
        column: String::new(),
        value: String::new(),
        message,
    }
}
