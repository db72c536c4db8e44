//! What is known of each key of the feed. Pure: records in, rows out.

use std::{collections::HashMap, hash::BuildHasher as _, rc::Rc};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::row::Row;
use crate::{cli::output::kind, proto::v1};

/// One row for each key and payload kind, in the order in which they came up. A clone shares the
/// rows that do not change after it.
#[derive(Clone, Debug, Default)]
pub(super) struct Board {
    rows: Vec<Rc<Row>>,
    /// Indexes of rows, by key and kind.
    index: HashTable<usize>,
    hasher: DefaultHashBuilder,
    infos: HashMap<String, Rc<v1::KeyInfo>>,
    /// What was said last: keys that one glob describes share it.
    last_info: Option<Rc<v1::KeyInfo>>,
    /// A key has several kinds, or keys have different ones.
    mixed: bool,
    version: u64,
    generation: u64,
}

impl Board {
    pub(super) fn rows(&self) -> &[Rc<Row>] {
        &self.rows
    }

    /// Rises with each change of a row.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Rises when all rows go.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether there is more than one payload kind.
    pub(super) fn is_mixed(&self) -> bool {
        self.mixed
    }

    pub(super) fn take(&mut self, record: v1::Record) {
        match self.find(&record.key, kind(&record)) {
            Some(at) => {
                let row = self.rows.get_mut(at).map(Rc::make_mut);
                let changed = row.is_some_and(|row| row.take(record));
                self.version += u64::from(changed);
            }
            None => self.add(record),
        }
    }

    /// Puts numbers of older records in front of the trends.
    pub(super) fn put_before(&mut self, older: &HashMap<(String, &'static str), Vec<(u64, f64)>>) {
        for ((key, kind), numbers) in older {
            let at = self.find(key, kind);
            if let Some(row) = at.and_then(|at| self.rows.get_mut(at)) {
                Rc::make_mut(row).put_before(numbers);
            }
        }
        self.version += 1;
    }

    pub(super) fn describe(&mut self, key: String, info: v1::KeyInfo) {
        let info = shown(info);
        let info = match &self.last_info {
            Some(last) if **last == info => Rc::clone(last),
            Some(_) | None => Rc::new(info),
        };
        self.last_info = Some(Rc::clone(&info));
        for kind in ["quote", "trade", "bar", "reading", "status", ""] {
            let at = self.find(&key, kind);
            if let Some(row) = at.and_then(|at| self.rows.get_mut(at)) {
                Rc::make_mut(row).info = Some(Rc::clone(&info));
            }
        }
        self.version += 1;
        self.infos.insert(key, info);
    }

    /// The feed began anew: its keys are others.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.index.clear();
        self.mixed = false;
        self.generation += 1;
        self.version += 1;
    }

    fn find(&self, key: &str, kind: &str) -> Option<usize> {
        let hash = self.hasher.hash_one((key, kind));
        let same = |at: &usize| {
            let row = self.rows.get(*at);
            row.is_some_and(|row| row.key() == key && row.kind() == kind)
        };
        self.index.find(hash, same).copied()
    }

    fn add(&mut self, record: v1::Record) {
        let info = self.infos.get(&record.key).map(Rc::clone);
        let row = Row::new(record, info);
        self.mixed |= self
            .rows
            .first()
            .is_some_and(|first| first.kind() != row.kind());
        let hash = self.hasher.hash_one((row.key(), row.kind()));
        let at = self.rows.len();
        self.rows.push(Rc::new(row));
        let (rows, hasher) = (&self.rows, &self.hasher);
        let rehash = |at: &usize| {
            let row = rows.get(*at).map(|row| (row.key(), row.kind()));
            hasher.hash_one(row.unwrap_or_default())
        };
        self.index.insert_unique(hash, at, rehash);
        self.version += 1;
    }
}

/// What of a description is shown.
fn shown(info: v1::KeyInfo) -> v1::KeyInfo {
    v1::KeyInfo {
        display_name: info.display_name,
        unit: info.unit,
        currency: info.currency,
        display_decimals: info.display_decimals,
        enum_labels: info.enum_labels,
        expected_interval: info.expected_interval,
        ..v1::KeyInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::watch::samples::{reading, second, status};

    #[test]
    fn a_key_has_a_row_for_each_kind() {
        let mut board = Board::default();
        board.take(reading("door", 1.0, 0, second(1)));
        assert!(!board.is_mixed());
        board.take(status("door", "offline", 1, second(2)));
        board.take(reading("door", 2.0, 2, second(3)));
        let kinds: Vec<_> = board.rows().iter().map(|row| row.kind()).collect();
        assert_eq!(kinds, ["reading", "status"]);
        assert_eq!(board.rows()[0].number(), Some(2.0));
        assert!(board.is_mixed());
    }

    #[test]
    fn a_description_is_that_of_its_key_whenever_it_comes() {
        let unit = |unit: &str| v1::KeyInfo {
            unit: Some(unit.to_owned()),
            description: Some("long".to_owned()),
            ..v1::KeyInfo::default()
        };
        let mut board = Board::default();
        board.describe("k".to_owned(), unit("Cel"));
        board.take(reading("k", 1.0, 0, second(1)));
        board.take(reading("other", 1.0, 1, second(1)));
        let shown = |board: &Board, at: usize| {
            let info = board.rows()[at].info();
            info.and_then(|info| info.unit.clone())
        };
        assert_eq!(
            (shown(&board, 0), shown(&board, 1)),
            (Some("Cel".into()), None)
        );
        board.describe("k".to_owned(), unit("K"));
        assert_eq!(shown(&board, 0), Some("K".into()));
        assert_eq!(board.rows()[0].info().unwrap().description, None);
        board.describe("other".to_owned(), unit("K"));
        let infos = board.rows().iter().map(|row| row.info.as_ref().unwrap());
        let infos: Vec<_> = infos.collect();
        assert!(Rc::ptr_eq(infos[0], infos[1]), "kept once");
    }

    #[test]
    fn a_clone_holds_still_and_shares_what_did_not_change() {
        let mut board = Board::default();
        for (offset, key) in ["a", "b"].into_iter().enumerate() {
            board.take(reading(key, 1.0, offset as u64, second(1)));
        }
        let held = board.clone();
        board.take(reading("a", 2.0, 2, second(2)));
        board.take(reading("c", 3.0, 3, second(2)));
        assert_eq!(held.rows().len(), 2);
        assert_eq!(held.rows()[0].number(), Some(1.0));
        assert_eq!(board.rows()[0].number(), Some(2.0));
        assert!(Rc::ptr_eq(&held.rows()[1], &board.rows()[1]));
    }

    #[test]
    fn thousands_of_keys_are_told_apart() {
        let mut board = Board::default();
        for round in 0..2_u32 {
            for key in 0..5_000_u32 {
                let offset = u64::from(round * 5_000 + key);
                let value = f64::from(key + round);
                board.take(reading(
                    &format!("k{key}"),
                    value,
                    offset,
                    second(offset as i64),
                ));
            }
        }
        assert_eq!(board.rows().len(), 5_000);
        let right = (0..).zip(board.rows()).all(|(key, row)| {
            row.key() == format!("k{key}") && row.number() == Some(f64::from(key + 1))
        });
        assert!(right);
    }
}
