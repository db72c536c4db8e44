//! The producers of a feed, and how far each came. They outlive the ring and do not expire.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    lease::Lease,
    mark::{Mark, SequenceError},
};
use crate::model::{MarkNote, Principal, ProducerName, UnixNanos};

/// Who uploads: names are unique within a principal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProducerKey {
    pub producer: ProducerName,
    pub principal: Principal,
}

/// A producer as it rests on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ProducerState {
    pub producer: ProducerName,
    pub principal: Principal,
    pub mark: Mark,
    pub last_seen: UnixNanos,
    pub refused: u64,
    /// How far of the mark is on disk.
    #[serde(skip)]
    durable: u64,
    #[serde(skip)]
    dirty: bool,
}

/// A producer as users see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerView {
    pub producer: ProducerName,
    pub principal: Principal,
    pub durable_sequence: u64,
    pub connected: bool,
    pub last_seen: UnixNanos,
    pub refused: u64,
}

/// Numbered by first appearance; the number is what blocks note.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    ids: HashMap<ProducerKey, u32>,
    states: Vec<ProducerState>,
    /// Who uploads, for producers not yet known as well.
    uploads: HashMap<ProducerKey, Arc<Lease>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Producers {
    pub(crate) fn id(&self, key: &ProducerKey) -> Option<u32> {
        self.ids.get(key).copied()
    }

    /// Adds a producer that begins at `first` with `count` records.
    pub(crate) fn begin(
        &mut self,
        key: &ProducerKey,
        first: u64,
        count: usize,
        limit: usize,
    ) -> Result<Result<u32, TooMany>, SequenceError> {
        let mark = Mark::begin(first, count)?;
        if self.states.len() >= limit {
            return Ok(Err(TooMany));
        }
        let state = ProducerState {
            producer: Arc::clone(&key.producer),
            principal: Arc::clone(&key.principal),
            mark,
            last_seen: 0,
            refused: 0,
            durable: 0,
            dirty: true,
        };
        Ok(Ok(self.load(state)))
    }

    /// Adds a producer read from disk; they come by their numbers.
    pub(crate) fn load(&mut self, mut state: ProducerState) -> u32 {
        state.durable = state.mark.sequence();
        let id = u32::try_from(self.states.len()).unwrap_or(u32::MAX);
        let key = ProducerKey {
            producer: Arc::clone(&state.producer),
            principal: Arc::clone(&state.principal),
        };
        self.ids.insert(key, id);
        self.states.push(state);
        id
    }

    /// Forgets the youngest producer, whose first records were not stored: numbers stay dense.
    pub(crate) fn unborn(&mut self, id: u32) {
        if self.states.len() == id as usize + 1
            && let Some(state) = self.states.pop()
        {
            self.ids.remove(&ProducerKey {
                producer: state.producer,
                principal: state.principal,
            });
        }
    }

    /// This producer's mark up to `sequence` is on disk.
    pub(crate) fn settle(&mut self, id: u32, sequence: u64) {
        if let Some(state) = self.states.get_mut(id as usize) {
            state.durable = state.durable.max(sequence);
        }
    }

    /// The state of a producer that will be changed.
    pub(crate) fn state(&mut self, id: u32) -> Option<&mut ProducerState> {
        let state = self.states.get_mut(id as usize)?;
        state.dirty = true;
        Some(state)
    }

    pub(crate) fn peek(&self, id: u32) -> Option<&ProducerState> {
        self.states.get(id as usize)
    }

    /// Follows a block's note, at open.
    pub(crate) fn catch_up(&mut self, note: &MarkNote, seen: UnixNanos) {
        if let Some(state) = self.state(note.producer) {
            state.mark.catch_up(note.sequence, note.content);
            state.durable = state.mark.sequence();
            state.last_seen = state.last_seen.max(seen);
        }
    }

    /// Hands out each changed state.
    pub(crate) fn take_dirty<E>(
        &mut self,
        mut each: impl FnMut(u32, &ProducerState) -> Result<(), E>,
    ) -> Result<(), E> {
        for (id, state) in (0..).zip(&mut self.states) {
            if std::mem::take(&mut state.dirty) {
                each(id, state)?;
            }
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    /// Lets `lease` upload from now on. Returns who did before.
    pub(crate) fn open(&mut self, key: &ProducerKey, lease: &Arc<Lease>) -> Option<Arc<Lease>> {
        self.uploads.insert(key.clone(), Arc::clone(lease))
    }

    /// An upload ended. Whether it spoke for the producer to the end.
    pub(crate) fn close(&mut self, key: &ProducerKey, lease: &Arc<Lease>) -> bool {
        let speaks = self.speaks(key, lease);
        if speaks {
            self.uploads.remove(key);
        }
        speaks
    }

    pub(crate) fn speaks(&self, key: &ProducerKey, lease: &Arc<Lease>) -> bool {
        let newest = self.uploads.get(key);
        newest.is_some_and(|newest| Arc::ptr_eq(newest, lease))
    }

    pub(crate) fn is_connected(&self, key: &ProducerKey) -> bool {
        self.uploads.contains_key(key)
    }

    /// The connected ones, and since when.
    pub(crate) fn uploads(&self) -> impl ExactSizeIterator<Item = (&ProducerKey, UnixNanos)> {
        self.uploads.iter().map(|(key, lease)| (key, lease.since))
    }

    pub(crate) fn connected(&self) -> u64 {
        self.uploads.len() as u64
    }

    pub(crate) fn views(&self) -> impl Iterator<Item = ProducerView> + '_ {
        self.states.iter().map(|state| self.view(state))
    }

    pub(crate) fn find(&self, key: &ProducerKey) -> Option<ProducerView> {
        self.peek(self.id(key)?).map(|state| self.view(state))
    }

    fn view(&self, state: &ProducerState) -> ProducerView {
        let key = ProducerKey {
            producer: Arc::clone(&state.producer),
            principal: Arc::clone(&state.principal),
        };
        ProducerView {
            durable_sequence: state.durable,
            connected: self.is_connected(&key),
            last_seen: state.last_seen,
            refused: state.refused,
            producer: key.producer,
            principal: key.principal,
        }
    }
}
