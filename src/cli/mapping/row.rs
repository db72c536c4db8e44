//! One row of a CSV while it is read: cells, and what is wrong with one of them.

use std::{fmt, sync::Arc};

use csv::StringRecord;

const SHOWN_CHARS: usize = 60;

/// Why a row gave no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    /// Line of the file, from 1, the header included.
    pub row: u64,
    /// Header name of the column, or a JSON field; empty when it is about the whole row.
    pub column: String,
    pub value: String,
    pub message: String,
}

impl std::error::Error for RowError {}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {}", self.row)?;
        if !self.column.is_empty() {
            write!(f, ", column {:?}", self.column)?;
        }
        if self.value.is_empty() {
            return write!(f, ": {}", self.message);
        }
        // `{:?}` so that a value cannot drive the terminal.
        let shown: String = self.value.chars().take(SHOWN_CHARS).collect();
        let cut = if shown.len() < self.value.len() {
            ".."
        } else {
            ""
        };
        write!(f, ": {shown:?}{cut} {}", self.message)
    }
}

/// What is wrong with a cell, before the row number and the column's name are known.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) column: usize,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn at(column: usize, message: impl ToString) -> Self {
        Self {
            column,
            message: message.to_string(),
        }
    }
}

/// A column that was found in the header, and the texts that mean "nothing" there.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) index: usize,
    pub(super) missing: Arc<[String]>,
}

impl Cell {
    /// The cell's text without the blanks around it; `None` when it is missing.
    pub(super) fn text<'r>(&self, row: &'r StringRecord) -> Option<&'r str> {
        let text = row.get(self.index).unwrap_or_default().trim();
        (!self.missing.iter().any(|marker| marker == text)).then_some(text)
    }

    /// The text of a cell that nothing works without.
    pub(super) fn required<'r>(&self, row: &'r StringRecord) -> Result<&'r str, Fault> {
        self.text(row)
            .ok_or_else(|| self.fault("is missing, and the record needs it"))
    }

    pub(super) fn fault(&self, message: impl ToString) -> Fault {
        Fault::at(self.index, message)
    }
}
