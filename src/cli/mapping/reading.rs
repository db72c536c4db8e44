//! Cells to readings: kinds of value, quality codes, missing and impossible values.

use anyhow::ensure;
use csv::StringRecord;

use super::{
    binder::Binder,
    row::{Cell, Fault},
    spec::{QualityName, QualitySpec, ReadingSpec, ValueKind, VectorSpec, WhenMissing},
};
use crate::proto::{
    convert::parse_decimal,
    v1::{self, reading::Value},
};

/// What every reading of a mapping shares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'m> {
    pub(super) when_missing: WhenMissing,
    pub(super) quality: &'m QualitySpec,
}

/// One column that becomes a reading.
#[derive(Clone, Debug)]
pub(super) struct ScalarPlan {
    cell: Cell,
    kind: ValueKind,
    quality: QualityPlan,
    when_missing: WhenMissing,
    possible: std::ops::RangeInclusive<f64>,
    impossible_code: Option<u32>,
}

impl ScalarPlan {
    pub(super) fn bind(
        spec: &ReadingSpec,
        rules: Rules<'_>,
        binder: &mut Binder<'_>,
    ) -> anyhow::Result<Self> {
        let limits = spec.impossible_below.or(spec.impossible_above);
        ensure!(
            limits.is_none() || !matches!(spec.kind, ValueKind::Text | ValueKind::Flag),
            "column {:?}: impossible_below and impossible_above need a number",
            spec.column
        );
        Ok(Self {
            cell: binder.cell_with(&spec.column, spec.missing.as_ref())?,
            kind: spec.kind,
            quality: QualityPlan::bind(spec.quality.as_deref(), rules.quality, binder)?,
            when_missing: spec.when_missing.unwrap_or(rules.when_missing),
            possible: spec.impossible_below.unwrap_or(f64::NEG_INFINITY)
                ..=spec.impossible_above.unwrap_or(f64::INFINITY),
            impossible_code: spec.impossible_code,
        })
    }

    /// The reading; `None` when it is missing and left out.
    pub(super) fn read(&self, row: &StringRecord) -> Result<Option<v1::Reading>, Fault> {
        let mut reading = self.quality.read(row)?;
        let Some(text) = self.cell.text(row) else {
            return Ok(missing(self.when_missing, reading));
        };
        let value = value(self.kind, text).map_err(|message| self.cell.fault(message))?;
        if as_double(&value).is_some_and(|number| !self.possible.contains(&number)) {
            reading.quality = v1::Quality::Bad.into();
            reading.quality_code = self.impossible_code.or(reading.quality_code);
        }
        reading.value = Some(value);
        Ok(Some(reading))
    }
}

/// Several columns that become one reading.
#[derive(Clone, Debug)]
pub(super) struct VectorPlan {
    cells: Vec<Cell>,
    quality: QualityPlan,
    when_missing: WhenMissing,
}

impl VectorPlan {
    pub(super) fn bind(
        spec: &VectorSpec,
        rules: Rules<'_>,
        binder: &mut Binder<'_>,
    ) -> anyhow::Result<Self> {
        ensure!(!spec.columns.is_empty(), "a vector needs `columns`");
        let channels = spec.channels.as_ref().map_or(spec.columns.len(), Vec::len);
        ensure!(
            channels == spec.columns.len(),
            "a vector has {} columns and {channels} channel names",
            spec.columns.len()
        );
        let cells = spec
            .columns
            .iter()
            .map(|name| binder.cell_with(name, spec.missing.as_ref()));
        Ok(Self {
            cells: cells.collect::<anyhow::Result<_>>()?,
            quality: QualityPlan::bind(spec.quality.as_deref(), rules.quality, binder)?,
            when_missing: spec.when_missing.unwrap_or(rules.when_missing),
        })
    }

    /// The reading; `None` when a cell is missing and the mapping leaves such readings out.
    pub(super) fn read(&self, row: &StringRecord) -> Result<Option<v1::Reading>, Fault> {
        let mut reading = self.quality.read(row)?;
        let mut values = Vec::with_capacity(self.cells.len());
        for cell in &self.cells {
            let Some(text) = cell.text(row) else {
                return Ok(missing(self.when_missing, reading));
            };
            values.push(double(text).map_err(|message| cell.fault(message))?);
        }
        reading.value = Some(Value::Vector(v1::Vector { values }));
        Ok(Some(reading))
    }
}

fn missing(when: WhenMissing, reading: v1::Reading) -> Option<v1::Reading> {
    let bad = v1::Reading {
        value: None,
        quality: v1::Quality::Bad.into(),
        ..reading
    };
    (when == WhenMissing::Bad).then_some(bad)
}

/// A column of quality codes and what they mean.
#[derive(Clone, Debug)]
struct QualityPlan {
    cell: Option<Cell>,
    codes: Vec<(String, v1::Quality)>,
    other: Option<v1::Quality>,
}

impl QualityPlan {
    fn bind(
        column: Option<&str>,
        spec: &QualitySpec,
        binder: &mut Binder<'_>,
    ) -> anyhow::Result<Self> {
        use v1::Quality::{Bad, Good, Uncertain};
        let table = [
            (&spec.good, Good),
            (&spec.uncertain, Uncertain),
            (&spec.bad, Bad),
        ];
        let codes = table
            .into_iter()
            .flat_map(|(codes, quality)| codes.iter().map(move |code| (code.text(), quality)));
        Ok(Self {
            cell: column.map(|name| binder.cell(name)).transpose()?,
            codes: codes.collect(),
            other: spec.other.map(wire_quality),
        })
    }

    /// A reading without a value yet. GOOD is not written: it is the default on the wire.
    fn read(&self, row: &StringRecord) -> Result<v1::Reading, Fault> {
        let Some((cell, text)) = self.cell.as_ref().and_then(|c| Some((c, c.text(row)?))) else {
            return Ok(v1::Reading::default());
        };
        let known = self
            .codes
            .iter()
            .find(|(code, _)| code == text)
            .map(|(_, quality)| *quality);
        let quality = known.or(self.other).ok_or_else(|| {
            cell.fault("is a quality code that `[quality]` of the mapping does not name")
        })?;
        let quality = if quality == v1::Quality::Good {
            v1::Quality::Unspecified
        } else {
            quality
        };
        Ok(v1::Reading {
            value: None,
            quality: quality.into(),
            quality_code: text.parse().ok(),
        })
    }
}

fn wire_quality(name: QualityName) -> v1::Quality {
    match name {
        QualityName::Good => v1::Quality::Good,
        QualityName::Uncertain => v1::Quality::Uncertain,
        QualityName::Bad => v1::Quality::Bad,
    }
}

fn value(kind: ValueKind, text: &str) -> Result<Value, String> {
    match kind {
        ValueKind::Double => double(text).map(Value::Number),
        ValueKind::Decimal => parse_decimal(text)
            .map(Value::Decimal)
            .map_err(|e| e.to_string()),
        ValueKind::Integer => text
            .parse()
            .map(Value::Integer)
            .map_err(|_error| "is not a 64-bit integer".to_owned()),
        ValueKind::Text => Ok(Value::Text(text.to_owned())),
        ValueKind::Flag => flag(text).map(Value::Flag),
    }
}

fn double(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| {
        "is not a finite number; if it stands for no value, name it in `missing`".to_owned()
    })
}

fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("is none of true, false, 1, 0, yes, no, on, off".to_owned()),
    }
}

fn as_double(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => Some(*number),
        Value::Decimal(decimal) => crate::proto::convert::decimal_text(decimal).parse().ok(),
        // Rounding does not matter to a plausibility limit.
        Value::Integer(integer) => integer.to_string().parse().ok(),
        Value::Flag(_) | Value::Text(_) | Value::Vector(_) => None,
    }
}
