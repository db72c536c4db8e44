//! What the sample tells about a column.

use std::collections::BTreeSet;

use csv::StringRecord;

/// Texts that files use for "no value"; a true reading of -9999.9 is not to be expected.
const MARKERS: [&str; 19] = [
    "", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "-", "-99999", "-9999",
    "-9999.0", "-9999.9", "-7999", "-7999.0", "-6999.0", "-999.9", "-999",
];
/// More different texts than these are not counted.
const MAX_DISTINCT: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing but missing values.
    Empty,
    Flag,
    Integer,
    Number,
    Text,
}

#[derive(Debug)]
pub(super) struct Column<'s> {
    pub(super) name: &'s str,
    /// The name in lower case, words joined by `_`, without its unit.
    pub(super) slug: String,
    pub(super) kind: Kind,
    pub(super) values: Vec<&'s str>,
    pub(super) distinct: BTreeSet<&'s str>,
    pub(super) markers: BTreeSet<&'static str>,
}

impl<'s> Column<'s> {
    pub(super) fn new(index: usize, name: &'s str, rows: &'s [StringRecord]) -> Self {
        let (mut values, mut markers) = (Vec::new(), BTreeSet::new());
        for cell in rows.iter().filter_map(|row| row.get(index)).map(str::trim) {
            match MARKERS.into_iter().find(|marker| *marker == cell) {
                Some(marker) => drop(markers.insert(marker)),
                None => values.push(cell),
            }
        }
        let distinct = values.iter().copied().take(MAX_DISTINCT * 100).collect();
        Self {
            name,
            slug: slug(name),
            kind: kind(&values),
            values,
            distinct,
            markers,
        }
    }

    /// The row index that data frames leave in their exports.
    pub(super) fn is_index(&self) -> bool {
        self.slug.is_empty() || self.slug.starts_with("unnamed") || self.slug == "index"
    }

    pub(super) fn is_numeric(&self) -> bool {
        matches!(self.kind, Kind::Integer | Kind::Number)
    }

    /// Every value passes.
    pub(super) fn all(&self, test: impl Fn(&str) -> bool) -> bool {
        !self.values.is_empty() && self.values.iter().all(|value| test(value))
    }

    pub(super) fn named(&self, names: &[&str]) -> bool {
        names.contains(&self.slug.as_str())
    }

    /// A quality code by its name.
    pub(super) fn is_quality(&self) -> bool {
        let slug = &self.slug;
        slug.starts_with("qc_")
            || ["_qc", "_flag", "_quality"]
                .iter()
                .any(|end| slug.ends_with(end))
            || matches!(slug.as_str(), "qc" | "flag" | "quality")
    }
}

fn kind(values: &[&str]) -> Kind {
    let all = |test: fn(&str) -> bool| values.iter().all(|value| test(value));
    if values.is_empty() {
        Kind::Empty
    } else if all(|value| value.parse::<i64>().is_ok()) {
        Kind::Integer
    } else if all(|value| value.parse::<f64>().is_ok_and(f64::is_finite)) {
        Kind::Number
    } else if all(|value| matches!(value, "true" | "false" | "True" | "False")) {
        Kind::Flag
    } else {
        Kind::Text
    }
}

/// `Air Temperature [deg C]` → `air_temperature`.
pub(super) fn slug(name: &str) -> String {
    let bare = name.split('[').next().unwrap_or(name).trim();
    let bare = match bare.rsplit_once('(') {
        Some((bare, unit)) if super::unit::ucum(unit.trim_end_matches(')')).is_some() => bare,
        _ => bare,
    };
    let words = bare
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("_")
}
