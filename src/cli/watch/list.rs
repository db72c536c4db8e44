//! In which order rows are shown, and which of them are on the screen.

use std::{cmp::Ordering, time::Duration};

use tokio::time::Instant;

use super::{Tick, board::Board, filter::Filter, row::Row};

/// Rows keep their places at least this long, so that they can be read.
const SORT_EVERY: Duration = Duration::from_millis(500);

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Key,
    Value,
    Change,
    Quality,
    Age,
}

/// Whether the order that is usual for a column is turned round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Usual,
    Reversed,
}

/// Where to scroll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
}

impl Column {
    const ALL: [Self; 5] = [
        Self::Key,
        Self::Value,
        Self::Change,
        Self::Quality,
        Self::Age,
    ];

    pub(super) fn next(self) -> Self {
        let mut after = Self::ALL.into_iter().skip_while(|column| *column != self);
        after.nth(1).unwrap_or(Self::Key)
    }

    pub(super) fn previous(self) -> Self {
        let before = Self::ALL.into_iter().take_while(|column| *column != self);
        before.last().unwrap_or(Self::Age)
    }

    /// Names from a to z, the greatest and the worst first, what came last first.
    fn usual_is_rising(self) -> bool {
        match self {
            Self::Key | Self::Age => true,
            Self::Value | Self::Change | Self::Quality => false,
        }
    }
}

#[derive(Debug)]
pub(super) struct List {
    filter: Filter,
    column: Column,
    order: Order,
    /// Indexes of the board's rows, as they are shown.
    shown: Vec<usize>,
    /// How many of the board's rows were looked at.
    seen: usize,
    version: u64,
    generation: u64,
    sorted: Option<Instant>,
    selected: usize,
    top: usize,
    /// Rows on the screen.
    page: usize,
}

impl Default for List {
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            column: Column::Key,
            order: Order::Usual,
            shown: vec![],
            seen: 0,
            version: 0,
            generation: 0,
            sorted: None,
            selected: 0,
            top: 0,
            page: 1,
        }
    }
}

impl List {
    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    pub(super) fn set_filter(&mut self, filter: Filter) {
        self.filter = filter;
        self.begin();
        (self.selected, self.top) = (0, 0);
    }

    pub(super) fn column(&self) -> Column {
        self.column
    }

    pub(super) fn sort_by(&mut self, column: Column) {
        self.column = column;
        self.order = Order::Usual;
        self.sorted = None;
    }

    pub(super) fn reverse(&mut self) {
        self.order = match self.order {
            Order::Usual => Order::Reversed,
            Order::Reversed => Order::Usual,
        };
        self.sorted = None;
    }

    /// Whether the least stands on top.
    pub(super) fn is_rising(&self) -> bool {
        self.column.usual_is_rising() == (self.order == Order::Usual)
    }

    /// Another board is shown from now on.
    pub(super) fn begin(&mut self) {
        self.shown.clear();
        self.seen = 0;
        self.sorted = None;
    }

    /// How many rows match the filter.
    pub(super) fn len(&self) -> usize {
        self.shown.len()
    }

    /// Which of them is selected.
    pub(super) fn selected(&self) -> usize {
        self.selected
    }

    /// The rows on the screen, by their place in the whole list and in the board.
    pub(super) fn visible(&self) -> impl Iterator<Item = (usize, usize)> {
        let rows = self.shown.iter().copied().enumerate();
        rows.skip(self.top).take(self.page)
    }

    /// The selected row's place in the board.
    pub(super) fn selected_row(&self) -> Option<usize> {
        self.shown.get(self.selected).copied()
    }

    pub(super) fn scroll(&mut self, to: Move) {
        let last = self.shown.len().saturating_sub(1);
        let selected = match to {
            Move::Up => self.selected.saturating_sub(1),
            Move::Down => self.selected + 1,
            Move::PageUp => self.selected.saturating_sub(self.page),
            Move::PageDown => self.selected + self.page,
            Move::Home => 0,
            Move::End => last,
        };
        self.selected = selected.min(last);
        self.keep_in_sight();
    }

    /// So many rows fit on the screen.
    pub(super) fn set_page(&mut self, rows: usize) {
        self.page = rows.max(1);
        self.keep_in_sight();
    }

    fn keep_in_sight(&mut self) {
        let last = self.shown.len().saturating_sub(1);
        self.selected = self.selected.min(last);
        let least = (self.selected + 1).saturating_sub(self.page);
        let full = self.shown.len().saturating_sub(self.page);
        self.top = self.top.min(full).clamp(least, self.selected.max(least));
    }

    /// Takes in new rows and sorts anew, now and then: what was sorted before is nearly in order.
    pub(super) fn arrange(&mut self, board: &Board, tick: Tick) {
        if board.generation() != self.generation {
            self.generation = board.generation();
            self.begin();
        }
        let is_due = match self.sorted {
            None => true,
            Some(_) if self.seen == 0 => !board.rows().is_empty(),
            Some(sorted) => board.version() != self.version && tick.at - sorted >= SORT_EVERY,
        };
        if !is_due {
            return;
        }
        let rows = board.rows();
        let new = (self.seen..).zip(rows.iter().skip(self.seen));
        let new = new.filter(|(_, row)| self.filter.matches(row.key()));
        self.shown.extend(new.map(|(at, _)| at));
        // A key and its kind never change.
        if rows.len() > self.seen || self.sorted.is_none() || self.column != Column::Key {
            self.sort(board, tick);
        }
        self.seen = rows.len();
        self.version = board.version();
        self.sorted = Some(tick.at);
        self.keep_in_sight();
    }

    fn sort(&mut self, board: &Board, tick: Tick) {
        let (column, is_rising) = (self.column, self.is_rising());
        self.shown.sort_by(
            |one, other| match (board.rows().get(*one), board.rows().get(*other)) {
                (Some(one), Some(other)) => compare(one, other, column, is_rising, tick),
                _ => one.cmp(other),
            },
        );
    }
}

fn compare(one: &Row, other: &Row, column: Column, is_rising: bool, tick: Tick) -> Ordering {
    let turned = |ordering: Ordering| {
        if is_rising {
            ordering
        } else {
            ordering.reverse()
        }
    };
    // What has no number comes last, however it is sorted.
    let numbers = |one: Option<f64>, other: Option<f64>| match (one, other) {
        (Some(one), Some(other)) => turned(one.total_cmp(&other)),
        (one, other) => other.is_some().cmp(&one.is_some()),
    };
    let keys = || (one.key(), one.kind()).cmp(&(other.key(), other.kind()));
    match column {
        Column::Key => turned(keys()),
        Column::Value => numbers(one.number(), other.number()).then_with(keys),
        Column::Change => numbers(one.change(), other.change()).then_with(keys),
        Column::Quality => turned(fault(one, tick).cmp(&fault(other, tick))).then_with(keys),
        // The youngest has the least age.
        Column::Age => turned(other.taken_in().cmp(&one.taken_in())).then_with(keys),
    }
}

/// How bad a row is.
fn fault(row: &Row, tick: Tick) -> u8 {
    match row.quality() {
        "" if row.is_stale(tick.unix) => 1,
        "" => 0,
        "unc" => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::watch::samples::{reading, second, status},
        proto::v1::{Quality, record::Payload},
    };

    fn tick(millis: u64) -> Tick {
        let begin = Tick::now();
        Tick {
            at: begin.at + Duration::from_millis(millis),
            unix: second(100),
        }
    }

    fn board() -> Board {
        let mut board = Board::default();
        let mut bad = reading("b", 2.0, 1, second(20));
        if let Some(Payload::Reading(reading)) = &mut bad.payload {
            reading.set_quality(Quality::Bad);
        }
        board.take(reading("c", 3.0, 0, second(10)));
        board.take(bad);
        board.take(status("a", "offline", 2, second(30)));
        board.take(reading("d", -4.0, 3, second(40)));
        board.take(reading("d", -3.0, 4, second(50)));
        board
    }

    fn keys(list: &List, board: &Board) -> String {
        let visible = list.visible();
        visible.map(|(_, at)| board.rows()[at].key()).collect()
    }

    #[test]
    fn each_column_has_its_usual_order_and_the_reverse() {
        let board = board();
        let mut list = List::default();
        list.set_page(10);
        let mut seen = vec![];
        for _ in Column::ALL {
            list.arrange(&board, tick(0));
            let usual = keys(&list, &board);
            list.reverse();
            list.arrange(&board, tick(0));
            seen.push((list.column(), usual, keys(&list, &board)));
            list.sort_by(list.column().next());
        }
        let expected = [
            (Column::Key, "abcd", "dcba"),
            (Column::Value, "cbda", "dbca"),
            (Column::Change, "dabc", "dabc"),
            (Column::Quality, "bacd", "acdb"),
            (Column::Age, "dabc", "cbad"),
        ];
        let expected = expected.map(|(column, one, other)| (column, one.into(), other.into()));
        assert_eq!(seen, expected);
        assert_eq!(list.column(), Column::Key, "round again");
        assert_eq!(Column::Key.previous(), Column::Age);
        assert_eq!(Column::Age.previous(), Column::Quality);
    }

    #[test]
    fn rows_keep_their_places_for_a_moment() {
        let mut board = board();
        let mut list = List::default();
        list.set_page(10);
        list.sort_by(Column::Value);
        let begin = tick(0);
        let after = |millis| Tick {
            at: begin.at + Duration::from_millis(millis),
            ..begin
        };
        list.arrange(&board, begin);
        board.take(reading("d", 9.0, 5, second(60)));
        list.arrange(&board, after(499));
        assert_eq!(keys(&list, &board), "cbda");
        list.arrange(&board, after(500));
        assert_eq!(keys(&list, &board), "dcba");
    }

    #[test]
    fn the_first_rows_need_not_wait() {
        let begin = tick(0);
        let mut list = List::default();
        list.set_page(10);
        list.arrange(&Board::default(), begin);
        let board = board();
        list.arrange(&board, begin);
        assert_eq!(keys(&list, &board), "abcd");
    }

    #[test]
    fn a_filter_is_of_rows_to_come_as_well() {
        let mut board = board();
        let mut list = List::default();
        list.set_page(10);
        list.set_filter(Filter::new("[cdx]*".to_owned()));
        let begin = tick(0);
        list.arrange(&board, begin);
        assert_eq!(keys(&list, &board), "cd");
        board.take(reading("x", 1.0, 5, second(60)));
        board.take(reading("y", 1.0, 6, second(60)));
        let later = Tick {
            at: begin.at + SORT_EVERY,
            ..begin
        };
        list.arrange(&board, later);
        assert_eq!(keys(&list, &board), "cdx");
        board.clear();
        board.take(reading("d", 1.0, 0, second(70)));
        let later = Tick {
            at: later.at + SORT_EVERY,
            ..begin
        };
        list.arrange(&board, later);
        assert_eq!(keys(&list, &board), "d", "the feed began anew");
    }

    #[test]
    fn the_selected_row_stays_in_sight() {
        let mut board = Board::default();
        for number in 0..100_u32 {
            let offset = u64::from(number);
            board.take(reading(&format!("{number:02}"), 1.0, offset, second(1)));
        }
        let mut list = List::default();
        list.set_page(10);
        list.arrange(&board, tick(0));
        let place = |list: &List| {
            let first = list.visible().next().map(|(place, _)| place);
            (first, list.selected(), list.visible().count())
        };
        for (to, expected) in [
            (Move::Up, (0, 0)),
            (Move::PageDown, (1, 10)),
            (Move::Down, (2, 11)),
            (Move::Up, (2, 10)),
            (Move::End, (90, 99)),
            (Move::Down, (90, 99)),
            (Move::PageUp, (89, 89)),
            (Move::Home, (0, 0)),
        ] {
            list.scroll(to);
            assert_eq!(place(&list), (Some(expected.0), expected.1, 10), "{to:?}");
        }
        list.scroll(Move::End);
        list.set_page(40);
        assert_eq!(
            place(&list),
            (Some(60), 99, 40),
            "a larger screen is filled"
        );
        list.set_page(3);
        assert_eq!(place(&list), (Some(97), 99, 3));
        list.set_filter(Filter::new("zzz".to_owned()));
        list.arrange(&board, tick(0));
        assert_eq!(place(&list), (None, 0, 0));
        list.scroll(Move::Down);
        assert_eq!(list.selected_row(), None);
    }
}
