//! How wide each column is, and which ones a narrow terminal does without.

use super::rows::Cells;
use crate::cli::watch::trend::POINTS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Kind,
    Value,
    Unit,
    Change,
    Trend,
    State,
    Age,
}

/// In the order in which they are shown.
const ALL: [Part; 8] = [
    Part::Key,
    Part::Kind,
    Part::Value,
    Part::Unit,
    Part::Change,
    Part::Trend,
    Part::State,
    Part::Age,
];
/// In the order in which they give way.
const YIELDING: [Part; 6] = [
    Part::Trend,
    Part::Unit,
    Part::Kind,
    Part::Change,
    Part::Age,
    Part::State,
];
/// From so many columns on there is room for what is the same in each row, and between columns.
const WIDE: usize = 100;
const AIRY: usize = 72;
const MIN_KEY: usize = 8;
const MIN_TREND: usize = 8;
const MAX_KEY: usize = 64;
const MAX_UNIT: usize = 10;

/// How wide the columns are that are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) parts: Vec<(Part, usize)>,
    pub(super) spacing: usize,
}

/// How wide cells would be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Natural {
    key: usize,
    value: usize,
    unit: usize,
    change: usize,
    state: usize,
}

/// Room for the names of the columns, with an arrow.
impl Default for Natural {
    fn default() -> Self {
        Self {
            key: MIN_KEY,
            value: 8,
            unit: 4,
            change: 8,
            state: 6,
        }
    }
}

impl Natural {
    /// Grows to what a row needs.
    pub(super) fn fit(&mut self, cells: &Cells) {
        let wider = |width: &mut usize, text: &str| {
            *width = (*width).max(console::measure_text_width(text));
        };
        wider(&mut self.key, &cells.key);
        wider(&mut self.value, &cells.value);
        wider(&mut self.unit, &cells.unit);
        wider(&mut self.change, &cells.change);
        wider(&mut self.state, &cells.state);
        self.key = self.key.min(MAX_KEY);
        self.unit = self.unit.min(MAX_UNIT);
    }

    /// The columns of a terminal that is so wide: they fill it.
    pub(super) fn columns(&self, width: usize, is_mixed: bool) -> Columns {
        let spacing = if width >= AIRY { 2 } else { 1 };
        let mut parts: Vec<_> = ALL.map(|part| (part, self.least(part))).to_vec();
        if !is_mixed && width < WIDE {
            parts.retain(|(part, _)| *part != Part::Kind);
        }
        for yielding in YIELDING {
            if needed(&parts, spacing) <= width {
                break;
            }
            parts.retain(|(part, _)| *part != yielding);
        }
        let mut left = width.saturating_sub(needed(&parts, spacing));
        let mut grow = |part: Part, most: usize| {
            let found = parts.iter_mut().find(|(other, _)| *other == part);
            if let Some((_, width)) = found {
                let more = most.saturating_sub(*width).min(left);
                *width += more;
                left -= more;
            }
        };
        grow(Part::Key, self.key);
        grow(Part::Trend, POINTS);
        grow(Part::Key, usize::MAX);
        let over = needed(&parts, spacing).saturating_sub(width);
        for (part, width) in &mut parts {
            if *part == Part::Value {
                *width = width.saturating_sub(over).max(1);
            }
        }
        Columns { parts, spacing }
    }

    fn least(&self, part: Part) -> usize {
        match part {
            Part::Key => MIN_KEY.min(self.key),
            Part::Kind => 7,
            Part::Value => self.value,
            Part::Unit => self.unit,
            Part::Change => self.change,
            Part::Trend => MIN_TREND,
            Part::State => self.state,
            Part::Age => 5,
        }
    }
}

fn needed(parts: &[(Part, usize)], spacing: usize) -> usize {
    let widths: usize = parts.iter().map(|(_, width)| width).sum();
    widths + spacing * parts.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(natural: &Natural, width: usize, is_mixed: bool) -> Vec<Part> {
        let columns = natural.columns(width, is_mixed);
        assert_eq!(
            needed(&columns.parts, columns.spacing),
            width,
            "it is filled"
        );
        columns.parts.into_iter().map(|(part, _)| part).collect()
    }

    #[test]
    fn what_says_least_gives_way_first() {
        use Part::{Age, Change, Key, Kind, State, Trend, Unit, Value};
        let natural = Natural {
            key: 30,
            value: 9,
            ..Natural::default()
        };
        let all = [Key, Kind, Value, Unit, Change, Trend, State, Age];
        assert_eq!(parts(&natural, 120, false), all);
        let usual = [Key, Value, Unit, Change, Trend, State, Age];
        assert_eq!(parts(&natural, 80, false), usual);
        assert_eq!(parts(&natural, 80, true), all);
        assert_eq!(parts(&natural, 60, false), usual);
        assert_eq!(
            parts(&natural, 50, false),
            [Key, Value, Unit, Change, State, Age]
        );
        assert_eq!(parts(&natural, 40, false), [Key, Value, Change, State, Age]);
        assert_eq!(parts(&natural, 26, true), [Key, Value, State]);
        assert_eq!(parts(&natural, 18, true), [Key, Value]);
    }

    #[test]
    fn a_long_key_gives_way_to_the_digits_of_its_value() {
        let natural = Natural {
            key: 64,
            value: 35,
            ..Natural::default()
        };
        let width = |width: usize, part: Part| {
            let columns = natural.columns(width, false);
            let mut parts = columns.parts.into_iter();
            parts
                .find(|(other, _)| *other == part)
                .map(|(_, width)| width)
        };
        assert_eq!(width(80, Part::Value), Some(35));
        assert_eq!(width(200, Part::Key), Some(97));
        assert_eq!(width(200, Part::Trend), Some(POINTS));
        assert_eq!(width(30, Part::Value), Some(21), "there is no more room");
    }
}
