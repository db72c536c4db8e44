//! What lies between the rings and the disk: what is staged, what is on its way, where everything
//! else lies, and some blocks read lately. Locked for moments, never through a read or a write.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use ::sled::ObjectId;
use bytes::Bytes;

use crate::{model::FeedId, store::Space};

use super::{keys::SlotKey, objects::Key};

/// Contents by key; `None` where it is removed.
pub(super) type Layer = BTreeMap<Key, Option<Bytes>>;

/// Where the content of a key is.
#[derive(Debug)]
pub(super) enum Place {
    Here(Option<Bytes>),
    OnDisk(ObjectId),
}

#[derive(Debug)]
pub(super) struct Desk {
    staged: Layer,
    /// Staged before the flush that is under way, or that failed.
    leaving: Arc<Layer>,
    table: Table,
    cache: Cache,
    /// Flushes that ended.
    flushes: u64,
}

impl Desk {
    pub(super) fn new(cache_bytes: usize) -> Self {
        Self {
            staged: Layer::new(),
            leaving: Arc::default(),
            table: Table::default(),
            cache: Cache::new(cache_bytes),
            flushes: 0,
        }
    }

    /// Takes what was found in the database, in place of what was known of it.
    pub(super) fn learn(&mut self, recovered: Vec<(Key, ObjectId)>) {
        self.table = Table::default();
        for (key, id) in recovered {
            self.table.set(key, Some(id));
        }
    }

    pub(super) fn stage(&mut self, key: Key, content: Option<Bytes>) {
        self.staged.insert(key, content);
    }

    /// Where `key` is, and the moment, for `remember`.
    pub(super) fn find(&self, key: &Key) -> (Place, u64) {
        let staged = self.staged.get(key).or_else(|| self.leaving.get(key));
        let place = match (staged, key, self.table.get(key)) {
            (Some(content), ..) => Place::Here(content.clone()),
            (None, Key::Block(slot), Some(id)) => match self.cache.get(slot) {
                Some(block) => Place::Here(Some(block)),
                None => Place::OnDisk(id),
            },
            (None, _, Some(id)) => Place::OnDisk(id),
            (None, _, None) => Place::Here(None),
        };
        (place, self.flushes)
    }

    /// Keeps a block that was read, unless a flush ended since it was looked for.
    pub(super) fn remember(&mut self, slot: SlotKey, block: &Bytes, moment: u64) {
        if self.flushes == moment {
            self.cache.put(slot, block.clone());
        }
    }

    /// The keys of a space that begin with `prefix`, those staged to be removed left out.
    pub(super) fn keys(&self, space: Space, prefix: &[u8]) -> Vec<Vec<u8>> {
        let first = Key::entry(space, prefix);
        let within = |key: &Key| match key {
            Key::Entry(of, key) => *of == space && key.starts_with(prefix),
            Key::Root | Key::Block(_) => false,
        };
        let mut keys: BTreeMap<&Key, bool> = BTreeMap::new();
        let known = self
            .table
            .entries
            .range(&first..)
            .map(|(key, _)| (key, true));
        keys.extend(known.take_while(|(key, _)| within(key)));
        for layer in [&*self.leaving, &self.staged] {
            let held = layer.range(&first..).map(|(key, c)| (key, c.is_some()));
            keys.extend(held.take_while(|(key, _)| within(key)));
        }
        let there = keys.into_iter().filter(|(_, there)| *there);
        there
            .filter_map(|(key, _)| match key {
                Key::Entry(_, key) => Some(key.clone()),
                Key::Root | Key::Block(_) => None,
            })
            .collect()
    }

    /// Takes what is staged for a flush; what a flush before could not write goes along.
    pub(super) fn leave(&mut self) -> Arc<Layer> {
        if !self.staged.is_empty() {
            Arc::make_mut(&mut self.leaving).append(&mut self.staged);
        }
        Arc::clone(&self.leaving)
    }

    /// Where the object of `key` is, if there is one.
    pub(super) fn id(&self, key: &Key) -> Option<ObjectId> {
        self.table.get(key)
    }

    /// The flush ended well.
    pub(super) fn arrive(&mut self, places: Vec<(Key, Option<ObjectId>)>) {
        for (key, id) in places {
            if let Key::Block(slot) = &key {
                self.cache.remove(slot);
            }
            self.table.set(key, id);
        }
        self.leaving = Arc::default();
        self.flushes += 1;
    }
}

/// The object of each key.
#[derive(Debug, Default)]
struct Table {
    blocks: HashMap<(FeedId, u16), Slots>,
    entries: BTreeMap<Key, ObjectId>,
}

/// By slot: eight bytes for each.
#[derive(Debug, Default)]
struct Slots {
    ids: Vec<Option<ObjectId>>,
    taken: usize,
}

impl Table {
    fn get(&self, key: &Key) -> Option<ObjectId> {
        match key {
            Key::Block(slot) => {
                let slots = self.blocks.get(&(slot.feed, slot.generation))?;
                *slots.ids.get(usize::try_from(slot.slot).ok()?)?
            }
            Key::Root | Key::Entry(..) => self.entries.get(key).copied(),
        }
    }

    fn set(&mut self, key: Key, id: Option<ObjectId>) {
        match (key, id) {
            (Key::Block(slot), id) => self.set_block(slot, id),
            (key, Some(id)) => drop(self.entries.insert(key, id)),
            (key, None) => drop(self.entries.remove(&key)),
        }
    }

    fn set_block(&mut self, key: SlotKey, id: Option<ObjectId>) {
        let ring = (key.feed, key.generation);
        let slots = self.blocks.entry(ring).or_default();
        slots.set(usize::try_from(key.slot).unwrap_or(usize::MAX), id);
        if slots.taken == 0 {
            self.blocks.remove(&ring);
        }
    }
}

impl Slots {
    fn set(&mut self, at: usize, id: Option<ObjectId>) {
        if id.is_some() && self.ids.len() <= at {
            self.ids.resize(at + 1, None);
        }
        if let Some(place) = self.ids.get_mut(at) {
            self.taken -= usize::from(place.is_some());
            self.taken += usize::from(id.is_some());
            *place = id;
        }
    }
}

/// Blocks read lately, the longest there leaving first.
#[derive(Debug)]
struct Cache {
    blocks: HashMap<SlotKey, Bytes>,
    order: VecDeque<SlotKey>,
    bytes: usize,
    limit: usize,
}

impl Cache {
    fn new(limit: usize) -> Self {
        Self {
            blocks: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            limit,
        }
    }

    fn get(&self, slot: &SlotKey) -> Option<Bytes> {
        self.blocks.get(slot).cloned()
    }

    fn put(&mut self, slot: SlotKey, block: Bytes) {
        self.remove(&slot);
        self.bytes += block.len();
        self.blocks.insert(slot, block);
        self.order.push_back(slot);
        // A slot that was removed is still in the order, once or more.
        while self.bytes > self.limit || self.order.len() > 2 * self.blocks.len() + 16 {
            match self.order.pop_front() {
                Some(first) => self.remove(&first),
                None => break,
            }
        }
    }

    fn remove(&mut self, slot: &SlotKey) {
        if let Some(block) = self.blocks.remove(slot) {
            self.bytes -= block.len();
        }
    }
}
