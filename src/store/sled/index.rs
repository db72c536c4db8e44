//! What is known of a ring's blocks without reading them; filled as they are written and read.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{Offset, UnixNanos},
    store::block::Block,
};

use super::format::Stored;

/// A good block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub number: u64,
    pub base: Offset,
    pub end: Offset,
    pub last_ingest: UnixNanos,
    pub max_event: UnixNanos,
    pub group_event: UnixNanos,
}

impl Entry {
    pub(super) fn of_stored(stored: &Stored) -> Self {
        Self::of(&stored.head)
    }

    pub(super) fn of(block: &Block) -> Self {
        Self {
            number: block.number,
            base: block.base,
            end: block.end(),
            last_ingest: block.last_ingest,
            max_event: block.max_event,
            group_event: block.group_event,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Index {
    blocks: BTreeMap<u64, Entry>,
    bases: BTreeSet<(Offset, u64)>,
    bad: BTreeSet<u64>,
}

impl Index {
    pub(super) fn insert(&mut self, entry: Entry) {
        self.bad.remove(&entry.number);
        self.bases.insert((entry.base, entry.number));
        if let Some(old) = self.blocks.insert(entry.number, entry)
            && old.base != entry.base
        {
            self.bases.remove(&(old.base, old.number));
        }
    }

    pub(super) fn mark_bad(&mut self, number: u64) {
        if let Some(old) = self.blocks.remove(&number) {
            self.bases.remove(&(old.base, old.number));
        }
        self.bad.insert(number);
    }

    pub(super) fn get(&self, number: u64) -> Option<Entry> {
        self.blocks.get(&number).copied()
    }

    pub(super) fn is_bad(&self, number: u64) -> bool {
        self.bad.contains(&number)
    }

    /// The newest known block that begins at or before `offset`.
    pub(super) fn at(&self, offset: Offset) -> Option<Entry> {
        let (_, number) = self.bases.range(..=(offset, u64::MAX)).next_back()?;
        self.get(*number)
    }

    /// The oldest known block that begins behind `offset`.
    pub(super) fn after(&self, offset: Offset) -> Option<u64> {
        let from = (offset.checked_add(1)?, 0);
        self.bases.range(from..).next().map(|(_, number)| *number)
    }

    /// Forgets the blocks before `head`.
    pub(super) fn forget_before(&mut self, head: u64) {
        while let Some(first) = self.blocks.first_entry()
            && *first.key() < head
        {
            let old = first.remove();
            self.bases.remove(&(old.base, old.number));
        }
        while self.bad.first().is_some_and(|number| *number < head) {
            self.bad.pop_first();
        }
    }
}
