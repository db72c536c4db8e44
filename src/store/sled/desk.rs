//! What lies between the rings and the disk: what is staged, what is on its way, where everything
//! else lies, and some blocks read lately. Locked for moments, never through a read or a write.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use ::sled::ObjectId;
use bytes::Bytes;

use crate::{model::FeedId, store::Space};

use super::{
    keys::SlotKey,
    objects::{Key, fill_closely, fill_up},
    session::{Change, Found},
    tails::{Plan, Tails},
};

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
    /// The blocks that still grow.
    pub(super) tails: Tails,
    table: Table,
    cache: Cache,
    /// The next flush: greater than that of any object.
    next: u64,
}

/// What a flush is about to do.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) seq: u64,
    pub(super) changes: Vec<Change>,
    plan: Plan,
}

impl Desk {
    pub(super) fn new(cache_bytes: usize) -> Self {
        Self {
            staged: Layer::new(),
            leaving: Arc::default(),
            table: Table::default(),
            tails: Tails::default(),
            cache: Cache::new(cache_bytes),
            next: 0,
        }
    }

    /// Takes what was found in the database, in place of what was known of it.
    pub(super) fn learn(&mut self, recovered: Vec<Found>) {
        self.table = Table::default();
        for Found { key, seq, id } in recovered {
            self.next = self.next.max(seq + 1);
            self.table.set(key, Some(id));
        }
    }

    pub(super) fn stage(&mut self, key: Key, content: Option<Bytes>) {
        self.staged.insert(key, content);
    }

    /// Where `key` is, and the moment, for `remember`.
    pub(super) fn find(&self, key: &Key) -> (Place, u64) {
        let staged = self.staged.get(key).or_else(|| self.leaving.get(key));
        let here = staged.cloned().or_else(|| self.block(key));
        let place = match (here, self.table.get(key)) {
            (Some(content), _) => Place::Here(content),
            (None, Some(id)) => Place::OnDisk(id),
            (None, None) => Place::Here(None),
        };
        (place, self.next)
    }

    /// A block that grows or was read lately.
    fn block(&self, key: &Key) -> Option<Option<Bytes>> {
        let Key::Block(slot) = key else {
            return None;
        };
        let tail = self.tails.get(slot).cloned();
        tail.or_else(|| self.cache.get(slot)).map(Some)
    }

    /// Keeps a block that was read, unless a flush ended since it was looked for.
    pub(super) fn remember(&mut self, slot: SlotKey, block: &Bytes, moment: u64) {
        if self.next == moment {
            self.cache.put(slot, block.clone());
        }
    }

    /// The keys of a space that begin with `prefix`, those staged to be removed left out.
    pub(super) fn keys(&self, space: Space, prefix: &[u8]) -> Vec<Vec<u8>> {
        let first = Key::entry(space, prefix);
        let within = |key: &Key| match key {
            Key::Entry(of, key) => *of == space && key.starts_with(prefix),
            Key::Root | Key::Block(_) | Key::Note(_) => false,
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
                Key::Root | Key::Block(_) | Key::Note(_) => None,
            })
            .collect()
    }

    /// Takes what is staged for a flush; what a flush before could not write goes along. `None`
    /// when there is nothing.
    pub(super) fn depart(&mut self) -> Option<Departure> {
        if !self.staged.is_empty() {
            Arc::make_mut(&mut self.leaving).append(&mut self.staged);
        }
        if self.leaving.is_empty() {
            return None;
        }
        let blocks = self.leaving.iter().filter_map(|(key, block)| match key {
            Key::Block(slot) => Some((*slot, block)),
            Key::Root | Key::Note(_) | Key::Entry(..) => None,
        });
        let plan = self.tails.plan(blocks);
        let seq = self.next;
        let changes = self.changes(seq, &plan);
        Some(Departure { seq, changes, plan })
    }

    fn changes(&self, seq: u64, plan: &Plan) -> Vec<Change> {
        let mut changes = Vec::new();
        for (slot, block) in &plan.whole {
            changes.push(self.store(Key::Block(*slot), fill_up(block)));
        }
        let spent = plan.spent.iter().map(|seq| Key::Note(*seq));
        changes.extend(spent.filter_map(|key| self.free(key)));
        match &plan.note {
            Some(note) => changes.push(self.store(Key::Note(seq), fill_closely(note))),
            // Of a flush that was in doubt.
            None => changes.extend(self.free(Key::Note(seq))),
        }
        for (key, content) in &*self.leaving {
            match (key, content) {
                (Key::Block(_), Some(_)) => (),
                (_, None) => changes.extend(self.free(key.clone())),
                (_, Some(content)) => changes.push(self.store(key.clone(), fill_up(content))),
            }
        }
        changes
    }

    fn store(&self, key: Key, object: Vec<u8>) -> Change {
        let id = self.table.get(&key);
        Change::Store { key, id, object }
    }

    fn free(&self, key: Key) -> Option<Change> {
        let id = self.table.get(&key)?;
        Some(Change::Free { key, id })
    }

    pub(super) fn id(&self, key: &Key) -> Option<ObjectId> {
        self.table.get(key)
    }

    /// The notes, oldest first.
    pub(super) fn notes(&self) -> Vec<(u64, ObjectId)> {
        let all = self.table.entries.range(Key::Note(0)..=Key::Note(u64::MAX));
        all.filter_map(|(key, id)| match key {
            Key::Note(seq) => Some((*seq, *id)),
            Key::Root | Key::Block(_) | Key::Entry(..) => None,
        })
        .collect()
    }

    /// The flush ended well. Answers the slots it wrote.
    pub(super) fn arrive(
        &mut self,
        departure: Departure,
        places: Vec<(Key, Option<ObjectId>)>,
    ) -> Vec<SlotKey> {
        let mut written = Vec::new();
        for key in self.leaving.keys() {
            if let Key::Block(slot) = key {
                self.cache.remove(slot);
            }
        }
        for (key, id) in places {
            if let Key::Block(slot) = &key {
                self.cache.remove(slot);
                written.push(*slot);
            }
            self.table.set(key, id);
        }
        self.tails.carry_out(departure.plan, departure.seq);
        self.leaving = Arc::default();
        self.next = departure.seq + 1;
        written
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
            Key::Root | Key::Note(_) | Key::Entry(..) => self.entries.get(key).copied(),
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
