//! The table: the rows on the screen and nothing of the others.

use std::rc::Rc;

use ratatui::{
    layout::Constraint,
    style::Style,
    text::{Line, Span},
    widgets::{Cell, Row as TableRow, Table},
};

use super::{
    columns::{Columns, Part},
    ink::Ink,
};
use crate::{
    cli::{
        output::{age, escaped, value_and_unit},
        watch::{
            list::{Column, List},
            row::Row,
            trend::{Trend, change_text},
        },
    },
    model::UnixNanos,
};

/// What a row says, safe for a terminal.
#[derive(Clone, Debug)]
pub(super) struct Cells {
    pub(super) key: String,
    kind: &'static str,
    pub(super) value: String,
    pub(super) unit: String,
    pub(super) change: String,
    trend: Trend,
    pub(super) state: String,
    age: String,
    mood: Mood,
    change_mood: Mood,
}

/// What a colour says again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Plain,
    Good,
    Bad,
    Warning,
    Faint,
}

impl Mood {
    fn style(self, ink: Ink) -> Style {
        match self {
            Self::Plain => ink.plain(),
            Self::Good => ink.good(),
            Self::Bad => ink.bad(),
            Self::Warning => ink.warning(),
            Self::Faint => ink.faint(),
        }
    }
}

impl Cells {
    pub(super) fn of(row: &Rc<Row>, now: UnixNanos) -> Self {
        let (value, unit) = value_and_unit(row.record(), row.info());
        let change = row.change();
        let is_stale = row.is_stale(now);
        let state = match (row.quality(), is_stale) {
            (quality, false) => quality.to_owned(),
            ("", true) => "stale".to_owned(),
            (quality, true) => format!("{quality}, stale"),
        };
        let mood = match row.quality() {
            "bad" => Mood::Bad,
            "unc" => Mood::Warning,
            _ if is_stale => Mood::Faint,
            _ => Mood::Plain,
        };
        let change_mood = match change {
            Some(change) if change > 0.0 => Mood::Good,
            Some(change) if change < 0.0 => Mood::Bad,
            Some(_) | None => Mood::Plain,
        };
        Self {
            key: escaped(row.key()).into_owned(),
            kind: row.kind(),
            value,
            unit,
            change: change.map_or_else(String::new, |change| change_text(change, row.scale())),
            trend: row.trend().clone(),
            state,
            age: age(now.max(row.taken_in()), row.taken_in()),
            mood,
            change_mood,
        }
    }

    fn text(&self, part: Part, width: usize) -> String {
        let text = match part {
            Part::Key => &self.key,
            Part::Kind => self.kind,
            Part::Value => &self.value,
            Part::Unit => &self.unit,
            Part::Change => &self.change,
            Part::Trend => return self.trend.sparkline(width),
            Part::State => &self.state,
            Part::Age => &self.age,
        };
        fit(text, width)
    }

    fn style(&self, part: Part, ink: Ink) -> Style {
        match part {
            Part::Change => self.change_mood.style(ink),
            Part::Trend => ink.trend(),
            Part::Kind | Part::Unit => ink.faint(),
            Part::Key | Part::Value | Part::State | Part::Age => self.mood.style(ink),
        }
    }
}

/// Cut to so many columns of the terminal.
pub(super) fn fit(text: &str, width: usize) -> String {
    console::truncate_str(text, width, "…").into_owned()
}

pub(super) fn table<'a>(
    rows: &[(usize, Cells)],
    columns: &Columns,
    list: &List,
    ink: Ink,
) -> Table<'a> {
    let head = columns.parts.iter().map(|(part, width)| {
        let text = fit(&head(*part, list), *width);
        aligned(*part, text, ink.head())
    });
    let head = TableRow::new(head.collect::<Vec<_>>());
    let body = rows.iter().map(|(place, cells)| {
        let line = columns.parts.iter().map(|(part, width)| {
            aligned(*part, cells.text(*part, *width), cells.style(*part, ink))
        });
        let line = TableRow::new(line.collect::<Vec<_>>());
        if *place == list.selected() {
            line.style(ink.selected())
        } else {
            line
        }
    });
    let widths = columns.parts.iter().map(|(_, width)| length(*width));
    let spacing = u16::try_from(columns.spacing).unwrap_or(1);
    Table::new(body.collect::<Vec<_>>(), widths.collect::<Vec<_>>())
        .header(head)
        .column_spacing(spacing)
}

fn length(width: usize) -> Constraint {
    Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX))
}

fn aligned(part: Part, text: String, style: Style) -> Cell<'static> {
    let line = Line::from(Span::styled(text, style));
    Cell::from(match part {
        Part::Value | Part::Change | Part::Age => line.right_aligned(),
        Part::Key | Part::Kind | Part::Unit | Part::Trend | Part::State => line,
    })
}

/// The name of a column, with an arrow where the rows are sorted by it.
fn head(part: Part, list: &List) -> String {
    let (name, column) = match part {
        Part::Key => ("KEY", Some(Column::Key)),
        Part::Kind => ("KIND", None),
        Part::Value => ("VALUE", Some(Column::Value)),
        Part::Unit => ("UNIT", None),
        Part::Change => ("CHANGE", Some(Column::Change)),
        Part::Trend => ("TREND", None),
        Part::State => ("STATE", Some(Column::Quality)),
        Part::Age => ("AGE", Some(Column::Age)),
    };
    if column != Some(list.column()) {
        return name.to_owned();
    }
    let arrow = if list.is_rising() { '↑' } else { '↓' };
    format!("{name}{arrow}")
}
