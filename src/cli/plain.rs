//! Numbers, times and small tables as people read them: as wide as the terminal, no colours, safe
//! for it.

use std::{
    io::{self, Write},
    time::Duration,
};

pub(super) use super::output::Cut;
use super::output::escaped;
use crate::{model::UnixNanos, proto::convert};

/// `12,154`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `256 MiB`, `1.5 GiB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    let Some((unit, size)) = UNITS.into_iter().find(|(_, size)| bytes >= *size) else {
        return format!("{bytes} B");
    };
    let tenths = u128::from(bytes) * 10 / u128::from(size);
    match (tenths / 10, tenths % 10) {
        (whole, tenth) if whole < 10 && tenth > 0 => format!("{whole}.{tenth} {unit}"),
        (whole, _) => format!("{whole} {unit}"),
    }
}

/// The two greatest units: `2 h 10 m`, `7 d`, `3.2 s`, `40 ms`.
pub(super) fn duration(duration: Duration) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let seconds = duration.as_secs();
    if seconds < 1 {
        return format!("{} ms", duration.as_millis());
    }
    if seconds < 10 {
        return format!("{:.1} s", duration.as_secs_f64());
    }
    let greatest = UNITS.iter().position(|(_, size)| seconds >= *size);
    let mut units = UNITS.iter().skip(greatest.unwrap_or(3)).copied();
    let Some((unit, size)) = units.next() else {
        return String::new();
    };
    let whole = format!("{} {unit}", count(seconds / size));
    match units
        .next()
        .map(|(unit, next)| (unit, seconds % size / next))
    {
        Some((unit, rest)) if rest > 0 => format!("{whole} {rest} {unit}"),
        _ => whole,
    }
}

/// `3 m ago`; `-` when it never was.
pub(super) fn ago(time: Option<UnixNanos>, now: UnixNanos) -> String {
    let Some(time) = time else {
        return "-".to_owned();
    };
    match u64::try_from(now.saturating_sub(time)) {
        Ok(nanos) => {
            let age = Duration::from_nanos(nanos);
            let units = duration(age);
            // One unit is enough for an age.
            let mut words = units.split(' ');
            let first: Vec<_> = words.by_ref().take(2).collect();
            format!("{} ago", first.join(" "))
        }
        Err(_) => convert::time_text(time),
    }
}

/// `120/s`, `0.5/s`, `-`.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        // What came long ago is not quite forgotten.
        rate if rate < 0.005 || !rate.is_finite() => "-".to_owned(),
        rate if rate < 10.0 => format!("{rate:.2}/s"),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "finite and above 10; saturates"
        )]
        rate => format!("{}/s", count(rate.round() as u64)),
    }
}

/// Which side of its column a cell stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows under a header, as wide as their cells need; the first column gives way, or the widest of those
/// that are named, where a line would be longer than the terminal.
#[derive(Debug)]
pub(super) struct Columns {
    heads: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
    /// Which columns give way.
    yielding: Vec<usize>,
}

const MIN_YIELDING: usize = 8;

impl Columns {
    pub(super) fn new(heads: &[(&'static str, Align)]) -> Self {
        Self {
            heads: heads.to_vec(),
            rows: Vec::new(),
            yielding: vec![0],
        }
    }

    /// Lets these columns give way, by their places from 0.
    pub(super) fn yielding(mut self, columns: &[usize]) -> Self {
        self.yielding = columns.to_vec();
        self
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter();
        self.rows
            .push(cells.map(|cell| escaped(&cell).into_owned()).collect());
    }

    /// Writes the table; `cut` shortens long cells, which only a terminal wants.
    pub(super) fn write(mut self, out: &mut impl Write, cut: Cut) -> io::Result<()> {
        let mut widths = self.widths();
        if let Cut::To(width) = cut {
            self.shrink(&mut widths, width);
        }
        let heads: Vec<_> = self
            .heads
            .iter()
            .map(|(head, _)| (*head).to_owned())
            .collect();
        for row in std::iter::once(&heads).chain(&self.rows) {
            writeln!(out, "{}", self.line(row, &widths).trim_end())?;
        }
        Ok(())
    }

    fn shrink(&mut self, widths: &mut [usize], width: usize) {
        let between = 2 * widths.len().saturating_sub(1);
        let mut over = (widths.iter().sum::<usize>() + between).saturating_sub(width);
        while over > 0 {
            let columns = widths.iter_mut().enumerate();
            let yielding = columns.filter(|(column, _)| self.yielding.contains(column));
            let widest = yielding.map(|(_, width)| width).max();
            match widest.filter(|widest| **widest > MIN_YIELDING) {
                Some(widest) => *widest -= 1,
                None => break,
            }
            over -= 1;
        }
        for row in &mut self.rows {
            let cells = row.iter_mut().zip(&*widths);
            cells.for_each(|(cell, width)| shorten(cell, *width));
        }
    }

    fn widths(&self) -> Vec<usize> {
        let width = |(i, (head, _)): (usize, &(&str, Align))| {
            let cells = self.rows.iter().filter_map(|row| row.get(i));
            let widest = cells.map(|cell| console::measure_text_width(cell)).max();
            widest.unwrap_or(0).max(head.len())
        };
        self.heads.iter().enumerate().map(width).collect()
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let cells = row.iter().zip(widths).zip(&self.heads);
        let padded = cells.map(|((cell, width), (_, align))| {
            let blanks = " ".repeat(width.saturating_sub(console::measure_text_width(cell)));
            match align {
                Align::Left => format!("{cell}{blanks}"),
                Align::Right => format!("{blanks}{cell}"),
            }
        });
        padded.collect::<Vec<_>>().join("  ")
    }
}

fn shorten(cell: &mut String, width: usize) {
    if console::measure_text_width(cell) > width {
        *cell = console::truncate_str(cell, width, "…").into_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(12_154), "12,154");
        assert_eq!(count(1_000_000), "1,000,000");
    }

    #[test]
    fn sizes_and_durations_are_rounded_down() {
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(1_610_612_736), "1.5 GiB");
        assert_eq!(bytes(256 << 20), "256 MiB");
        assert_eq!(duration(Duration::from_secs(7_800)), "2 h 10 m");
        assert_eq!(duration(Duration::from_secs(604_800)), "7 d");
        assert_eq!(duration(Duration::from_millis(40)), "40 ms");
        assert_eq!(ago(Some(0), 7_800_000_000_000), "2 h ago");
        assert_eq!(
            [0.004, 0.005, 9.876, 1_234.5].map(rate),
            ["-", "0.01/s", "9.88/s", "1,235/s"]
        );
    }

    #[test]
    fn the_widest_of_several_columns_gives_way_first() {
        let heads = [("A", Align::Left), ("B", Align::Left), ("C", Align::Left)];
        let mut table = Columns::new(&heads).yielding(&[0, 1]);
        table.row(["a".repeat(20), "b".repeat(60), "c".repeat(30)]);
        let mut out = Vec::new();
        table.write(&mut out, Cut::To(80)).unwrap();
        let text = String::from_utf8(out).unwrap();
        let row = text.lines().nth(1).unwrap();
        let widths: Vec<_> = row.split("  ").map(|cell| cell.chars().count()).collect();
        assert_eq!(widths, [20, 26, 30]);
    }

    #[test]
    fn a_table_fits_eighty_columns_and_drives_no_terminal() {
        let mut table = Columns::new(&[("KEY", Align::Left), ("NEXT", Align::Right)]);
        table.row(["k".repeat(200), "1".to_owned()]);
        table.row(["a\u{1b}[2J".to_owned(), "20".to_owned()]);
        let mut out = Vec::new();
        table.write(&mut out, Cut::To(80)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'));
    }
}
