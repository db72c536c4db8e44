//! Finds the mapping's columns in a header, and the header's columns that nobody mapped.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use csv::StringRecord;

use super::{
    row::{Cell, Fault},
    spec::{CellSpec, TextSpec},
};

#[derive(Debug)]
pub(super) struct Binder<'h> {
    header: &'h [String],
    used: Vec<bool>,
    missing: Arc<[String]>,
}

impl<'h> Binder<'h> {
    pub(super) fn new(header: &'h [String], missing: &[String]) -> Self {
        Self {
            header,
            used: vec![false; header.len()],
            missing: missing.into(),
        }
    }

    /// The column with the mapping's missing markers.
    pub(super) fn cell(&mut self, name: &str) -> anyhow::Result<Cell> {
        Ok(Cell {
            index: self.index(name)?,
            missing: Arc::clone(&self.missing),
        })
    }

    /// The column with its own missing markers, where it has some.
    pub(super) fn cell_with(
        &mut self,
        name: &str,
        missing: Option<&Vec<String>>,
    ) -> anyhow::Result<Cell> {
        let missing =
            missing.map_or_else(|| Arc::clone(&self.missing), |own| own.as_slice().into());
        Ok(Cell {
            index: self.index(name)?,
            missing,
        })
    }

    pub(super) fn column(&mut self, spec: &CellSpec) -> anyhow::Result<Cell> {
        self.cell_with(&spec.column, spec.missing.as_ref())
    }

    pub(super) fn optional(&mut self, spec: Option<&CellSpec>) -> anyhow::Result<Option<Cell>> {
        spec.map(|spec| self.column(spec)).transpose()
    }

    fn index(&mut self, name: &str) -> anyhow::Result<usize> {
        let mut found = self
            .header
            .iter()
            .enumerate()
            .filter(|(_, column)| *column == name);
        let (index, _) = found.next().with_context(|| {
            format!(
                "the mapping uses column {name:?}, which the header does not have; its columns are: {}",
                self.header.join(", ")
            )
        })?;
        ensure!(
            found.next().is_none(),
            "the header has column {name:?} twice: name the columns by `[file] columns = [..]`"
        );
        if let Some(used) = self.used.get_mut(index) {
            *used = true;
        }
        Ok(index)
    }

    /// Every column must have a home or be left out by name.
    pub(super) fn close(self, left_out: &[String]) -> anyhow::Result<()> {
        let named = |column: &&String| left_out.iter().any(|left| left == "*" || left == *column);
        let homeless: Vec<_> = self
            .header
            .iter()
            .zip(&self.used)
            .filter(|(column, used)| !**used && !named(column))
            .map(|(column, _)| format!("{column:?}"))
            .collect();
        if homeless.is_empty() {
            return Ok(());
        }
        bail!(
            "no place in the mapping for {}: map it, or name it in `left_out`",
            homeless.join(", ")
        )
    }
}

/// A text from a column or a constant, with what stands around it.
#[derive(Clone, Debug)]
pub(super) enum TextPlan {
    Constant(String),
    Column {
        cell: Cell,
        prefix: String,
        suffix: String,
    },
}

impl TextPlan {
    pub(super) fn bind(spec: &TextSpec, binder: &mut Binder<'_>) -> anyhow::Result<Self> {
        let TextSpec {
            column,
            constant,
            prefix,
            suffix,
        } = spec;
        match (column, constant) {
            (Some(_), Some(_)) => bail!("a text is either a `column` or a `constant`, not both"),
            (Some(column), None) => Ok(Self::Column {
                cell: binder.cell(column)?,
                prefix: prefix.clone(),
                suffix: suffix.clone(),
            }),
            (None, constant) => {
                let middle = constant.as_deref().unwrap_or_default();
                Ok(Self::Constant(format!("{prefix}{middle}{suffix}")))
            }
        }
    }

    /// The text; `None` when its cell is missing.
    pub(super) fn read(&self, row: &StringRecord) -> Option<String> {
        match self {
            Self::Constant(text) => Some(text.clone()),
            Self::Column {
                cell,
                prefix,
                suffix,
            } => cell.text(row).map(|text| format!("{prefix}{text}{suffix}")),
        }
    }

    pub(super) fn required(&self, row: &StringRecord) -> Result<String, Fault> {
        match self {
            Self::Constant(text) => Ok(text.clone()),
            Self::Column { cell, .. } => {
                cell.required(row)?;
                Ok(self.read(row).unwrap_or_default())
            }
        }
    }
}

/// A column whose texts mean the values of an enum.
#[derive(Clone, Debug)]
pub(super) struct CodePlan {
    cell: Cell,
    codes: BTreeMap<String, i32>,
}

impl CodePlan {
    /// `values` of the spec maps texts to `names`; without it the texts are the names.
    pub(super) fn bind(
        spec: &CellSpec,
        names: &[(&str, i32)],
        binder: &mut Binder<'_>,
    ) -> anyhow::Result<Self> {
        let number = |name: &str| {
            let known = names.iter().find(|(known, _)| *known == name);
            known.map(|(_, number)| *number).with_context(|| {
                let list: Vec<_> = names.iter().map(|(name, _)| *name).collect();
                format!(
                    "column {:?}: {name:?} is not one of {}",
                    spec.column,
                    list.join(", ")
                )
            })
        };
        let own = spec
            .values
            .iter()
            .map(|(text, name)| Ok((text.clone(), number(name)?)));
        let mut codes: BTreeMap<_, _> = own.collect::<anyhow::Result<_>>()?;
        if codes.is_empty() {
            codes = names
                .iter()
                .map(|(name, number)| ((*name).to_owned(), *number))
                .collect();
        }
        Ok(Self {
            cell: binder.column(spec)?,
            codes,
        })
    }

    /// The number of the value; 0 (unspecified) when the cell is missing.
    pub(super) fn read(&self, row: &StringRecord) -> Result<i32, Fault> {
        let Some(text) = self.cell.text(row) else {
            return Ok(0);
        };
        let known = self.codes.get(text).copied();
        known.ok_or_else(|| {
            self.cell
                .fault("is a code that `values` of the mapping does not name")
        })
    }
}
