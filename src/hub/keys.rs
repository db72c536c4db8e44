//! The keys of a feed, and the last record of each per payload kind.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use hashbrown::HashMap;
use parking_lot::{RwLock, RwLockReadGuard};
use smallvec::SmallVec;

use super::last_page::{self, PAGE_KEYS, SavedLast};
use crate::{
    model::{Chunk, Offset, PayloadKind, UnixNanos},
    proto::wire,
};

/// Numbers a key within its feed, in memory only.
pub(crate) type KeyId = u32;

/// Names to numbers. Apart from the table, so that uploads are checked while it changes.
#[derive(Debug, Default)]
pub(crate) struct KeyIds {
    ids: RwLock<HashMap<Arc<str>, KeyId>>,
    removals: AtomicU64,
}

impl KeyIds {
    /// To look up many at once.
    pub(crate) fn reading(&self) -> KeyReader<'_> {
        KeyReader {
            ids: self.ids.read(),
            removals: self.removals(),
        }
    }

    /// Rises when a key is removed: numbers looked up before may be of no use then.
    pub(crate) fn removals(&self) -> u64 {
        self.removals.load(Relaxed)
    }

    fn get(&self, name: &str) -> Option<KeyId> {
        self.ids.read().get(name).copied()
    }
}

/// Keys as they are while it is held.
#[derive(Debug)]
pub(crate) struct KeyReader<'a> {
    ids: RwLockReadGuard<'a, HashMap<Arc<str>, KeyId>>,
    pub removals: u64,
}

impl KeyReader<'_> {
    pub(crate) fn get(&self, name: &str) -> Option<KeyId> {
        self.ids.get(name).copied()
    }
}

/// What the hub keeps of a record between its check and its visibility.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeenMeta {
    pub key: KeyId,
    pub kind: PayloadKind,
    pub event_time: UnixNanos,
}

/// What "last" means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LatestBy {
    /// The greatest event time, ties by offset: a spool of old readings is not current.
    EventTime,
    /// The greatest offset.
    Arrival,
}

/// One record of a key, with what orders it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Last {
    pub event_time: UnixNanos,
    pub offset: Offset,
    pub ingest_time: UnixNanos,
    /// The record as delivered.
    pub bytes: Vec<u8>,
}

/// A record that became visible: what orders it. Its bytes follow.
#[derive(Clone, Copy, Debug)]
struct Seen {
    event_time: UnixNanos,
    offset: Offset,
}

impl Last {
    /// Takes over another record, whose bytes follow.
    fn set(&mut self, seen: Seen) {
        self.event_time = seen.event_time;
        self.offset = seen.offset;
    }

    /// Takes its bytes from the chunk that holds it; others stay as they are.
    fn fill(&mut self, chunk: &Chunk) {
        if let Some(bytes) = chunk.record(self.offset) {
            self.bytes.clear();
            self.bytes.extend_from_slice(bytes);
            self.ingest_time = wire::ingest_time(bytes);
        }
    }
}

/// The last records of one key and kind. `by_arrival` is there only when it is another record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lasts {
    pub by_event: Option<Last>,
    pub by_arrival: Option<Box<Last>>,
    /// It is on the list of what the chunk at hand changed.
    touched: bool,
}

impl Lasts {
    pub(crate) fn get(&self, by: LatestBy) -> Option<&Last> {
        match by {
            LatestBy::EventTime => self.by_event.as_ref(),
            LatestBy::Arrival => self.by_arrival.as_deref().or(self.by_event.as_ref()),
        }
    }

    fn see(&mut self, seen: Seen) {
        let newest = |last: &Last| (last.event_time, last.offset) <= (seen.event_time, seen.offset);
        if self.by_event.as_ref().is_none_or(newest) {
            self.by_event.get_or_insert_default().set(seen);
            self.by_arrival = None;
        } else {
            self.by_arrival.get_or_insert_default().set(seen);
        }
    }

    fn fill(&mut self, chunk: &Chunk) {
        let lasts = self.by_event.iter_mut();
        lasts
            .chain(self.by_arrival.as_deref_mut())
            .for_each(|last| last.fill(chunk));
    }

    /// Bytes of the records.
    fn bytes(&self) -> usize {
        let lasts = self.by_event.iter().chain(self.by_arrival.as_deref());
        lasts.map(|last| last.bytes.len()).sum()
    }

    /// Drops what lies before `offset`; whether something was dropped.
    fn drop_before(&mut self, offset: Offset) -> bool {
        let old = |last: Option<&Last>| last.is_some_and(|last| last.offset < offset);
        let event = old(self.by_event.as_ref());
        let arrival = old(self.by_arrival.as_deref());
        if arrival {
            self.by_arrival = None;
        }
        if event {
            self.by_event = self.by_arrival.take().map(|last| *last);
        }
        event || arrival
    }
}

#[derive(Debug)]
pub(crate) struct KeyEntry {
    pub name: Arc<str>,
    /// Nearly every key has records of one kind, which are then beside its name.
    kinds: SmallVec<[(PayloadKind, Lasts); 1]>,
}

impl KeyEntry {
    /// By kind.
    pub(crate) fn lasts(&self) -> impl Iterator<Item = (PayloadKind, &Lasts)> {
        self.kinds.iter().map(|(kind, lasts)| (*kind, lasts))
    }

    fn of_kind(&mut self, kind: PayloadKind) -> Option<&mut Lasts> {
        let at = match self.kinds.iter().position(|(known, _)| *known == kind) {
            Some(at) => at,
            None => {
                let at = self.kinds.partition_point(|(known, _)| *known < kind);
                self.kinds.insert(at, (kind, Lasts::default()));
                at
            }
        };
        self.kinds.get_mut(at).map(|(_, lasts)| lasts)
    }

    /// The record that arrived last, of whatever kind.
    pub(crate) fn newest(&self) -> Option<&Last> {
        self.lasts()
            .filter_map(|(_, lasts)| lasts.get(LatestBy::Arrival))
            .max_by_key(|last| last.offset)
    }

    /// The greatest event time of whatever kind.
    pub(crate) fn latest_event_time(&self) -> Option<UnixNanos> {
        self.lasts()
            .filter_map(|(_, lasts)| lasts.by_event.as_ref())
            .map(|last| last.event_time)
            .max()
    }
}

#[derive(Debug, Default)]
pub(crate) struct KeyTable {
    ids: Arc<KeyIds>,
    entries: Vec<KeyEntry>,
    /// By name, for pages.
    sorted: BTreeMap<Arc<str>, KeyId>,
    /// Pages of keys whose last records changed since they were saved.
    dirty: BTreeSet<u32>,
    /// What the chunk at hand changed; empty between chunks.
    touched: Vec<(KeyId, PayloadKind)>,
    /// Of all last records.
    bytes: usize,
}

/// Beyond what a new key is refused; known ones go on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyLimits {
    pub keys: usize,
    /// Bytes of all keys' last records.
    pub latest_bytes: usize,
}

impl KeyLimits {
    /// What was taken in once is taken in again.
    pub(crate) const NONE: Self = Self {
        keys: usize::MAX,
        latest_bytes: usize::MAX,
    };
}

impl KeyTable {
    pub(crate) fn ids(&self) -> &Arc<KeyIds> {
        &self.ids
    }

    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether `count` more keys may be taken in.
    pub(crate) fn has_room(&self, count: usize, limits: KeyLimits) -> bool {
        self.len() + count <= limits.keys && self.bytes < limits.latest_bytes
    }

    /// The key's number; `None` when it would be one too many.
    pub(crate) fn intern(&mut self, name: &str, limits: KeyLimits) -> Option<KeyId> {
        if let Some(id) = self.ids.get(name) {
            return Some(id);
        }
        if !self.has_room(1, limits) {
            return None;
        }
        let id = KeyId::try_from(self.entries.len()).ok()?;
        self.place(id, name.into());
        Some(id)
    }

    /// Takes note of records that became visible. Chunks come in offset order. The bytes of what
    /// was last in the chunk are copied, and no others.
    pub(crate) fn see(&mut self, chunk: &Chunk, metas: &[SeenMeta]) {
        for (offset, meta) in (chunk.span().from..).zip(metas) {
            let entry = self.entries.get_mut(meta.key as usize);
            let Some(lasts) = entry.and_then(|entry| entry.of_kind(meta.kind)) else {
                continue;
            };
            if !std::mem::replace(&mut lasts.touched, true) {
                self.bytes -= lasts.bytes();
                self.touched.push((meta.key, meta.kind));
            }
            lasts.see(Seen {
                event_time: meta.event_time,
                offset,
            });
        }
        let mut touched = std::mem::take(&mut self.touched);
        let mut page = u32::MAX;
        for (key, kind) in touched.drain(..) {
            if let Some(lasts) = self.lasts(key, kind) {
                lasts.touched = false;
                lasts.fill(chunk);
                self.bytes += lasts.bytes();
                if std::mem::replace(&mut page, key / PAGE_KEYS) != key / PAGE_KEYS {
                    self.dirty.insert(page);
                }
            }
        }
        self.touched = touched;
    }

    fn lasts(&mut self, key: KeyId, kind: PayloadKind) -> Option<&mut Lasts> {
        self.entries.get_mut(key as usize)?.of_kind(kind)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&KeyEntry> {
        self.entries.get(self.ids.get(name)? as usize)
    }

    /// Numbers from `from` on with their names, rising; those of forgotten keys as well.
    pub(crate) fn numbered(&self, from: KeyId) -> impl Iterator<Item = (KeyId, &str)> {
        let entries = self.entries.get(from as usize..).unwrap_or_default();
        (from..).zip(entries.iter().map(|entry| &*entry.name))
    }

    /// Up to `count` keys from a number on, with their numbers; those of forgotten keys as well.
    pub(crate) fn stretch(
        &self,
        from: KeyId,
        count: usize,
    ) -> impl Iterator<Item = (KeyId, &KeyEntry)> {
        let entries = self.entries.get(from as usize..).unwrap_or_default();
        (from..).zip(entries).take(count)
    }

    /// All keys, in no order.
    pub(crate) fn known(&self) -> impl Iterator<Item = &KeyEntry> {
        self.entries.iter()
    }

    /// Keys by name, beginning after `after`.
    pub(crate) fn page(&self, after: Option<&str>) -> impl Iterator<Item = &KeyEntry> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let ids = self
            .sorted
            .range::<str, _>((from, Unbounded))
            .map(|(_, id)| *id as usize);
        ids.filter_map(|id| self.entries.get(id))
    }

    /// Loads an entry from disk. A key has the number it had: its page says so.
    pub(crate) fn load(&mut self, saved: SavedLast) {
        let SavedLast {
            key,
            name,
            kind,
            by,
            last,
        } = saved;
        let known = self.entries.get(key as usize);
        if known.is_none_or(|entry| *entry.name != *name) {
            self.place(key, name.into());
        }
        self.bytes += last.bytes.len();
        match (self.lasts(key, kind), by) {
            (Some(lasts), LatestBy::EventTime) => lasts.by_event = Some(last),
            (Some(lasts), LatestBy::Arrival) => lasts.by_arrival = Some(Box::new(last)),
            (None, _) => {}
        }
    }

    /// Gives a key its number; those below that nobody has stay without a key.
    fn place(&mut self, id: KeyId, name: Arc<str>) {
        let nobody = || KeyEntry {
            name: "".into(),
            kinds: SmallVec::new(),
        };
        if self.entries.len() <= id as usize {
            self.entries.resize_with(id as usize + 1, nobody);
        }
        self.ids.ids.write().insert(Arc::clone(&name), id);
        self.sorted.insert(Arc::clone(&name), id);
        if let Some(entry) = self.entries.get_mut(id as usize) {
            entry.name = name;
        }
    }

    /// Drops last records before `offset`: they were trimmed or aged out.
    pub(crate) fn drop_before(&mut self, offset: Offset) {
        for (id, entry) in (0..).zip(&mut self.entries) {
            for (_, lasts) in &mut entry.kinds {
                let before = lasts.bytes();
                let dropped = lasts.drop_before(offset);
                self.bytes = self.bytes - before + lasts.bytes();
                if dropped {
                    self.dirty.insert(id / PAGE_KEYS);
                }
            }
        }
    }

    /// Forgets a key; whether it was known. Its number is not used again.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let Some(id) = self.ids.ids.write().remove(name) else {
            return false;
        };
        self.ids.removals.fetch_add(1, Relaxed);
        self.sorted.remove(name);
        if let Some(entry) = self.entries.get_mut(id as usize) {
            self.bytes -= entry.lasts().map(|(_, l)| l.bytes()).sum::<usize>();
            entry.kinds.clear();
            self.dirty.insert(id / PAGE_KEYS);
        }
        true
    }

    /// Pages that changed since the last call of `take_dirty`.
    pub(crate) fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    /// Hands out each changed page, as it is to rest; `None` when nothing is left of it.
    pub(crate) fn take_dirty<E>(
        &mut self,
        mut each: impl FnMut(u32, Option<Vec<u8>>) -> Result<(), E>,
    ) -> Result<(), E> {
        for page in std::mem::take(&mut self.dirty) {
            let first = page * PAGE_KEYS;
            let keys = (first..).zip(self.entries.iter().skip(first as usize));
            each(page, last_page::write(keys.take(PAGE_KEYS as usize)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Frames, NewRecord, SERVER_FIELDS_LEN};

    fn keys(keys: usize) -> KeyLimits {
        KeyLimits {
            keys,
            ..KeyLimits::NONE
        }
    }

    /// Bytes of a record of these tests.
    const ONE: usize = 1 + SERVER_FIELDS_LEN;

    #[test]
    fn last_records_over_their_bytes_take_no_new_key() {
        let limits = KeyLimits {
            latest_bytes: 2 * ONE,
            ..KeyLimits::NONE
        };
        let mut table = KeyTable::default();
        see(&mut table, "a", 1, 0);
        assert!(table.intern("b", limits).is_some());
        see(&mut table, "b", 1, 1);
        see(&mut table, "b", 2, 2);
        assert_eq!(
            table.bytes,
            2 * ONE,
            "a newer record takes the place of the old one"
        );
        assert!(table.intern("c", limits).is_none());
        assert!(table.intern("a", limits).is_some());
        see(&mut table, "a", 0, 3);
        assert_eq!(
            table.bytes,
            3 * ONE,
            "one that arrived last, one of the greatest time"
        );
        table.drop_before(3);
        assert_eq!(table.bytes, ONE);
        assert!(table.intern("c", limits).is_some());
        assert!(table.remove("a"));
        assert_eq!(table.bytes, 0);
    }

    fn see(table: &mut KeyTable, key: &str, event_time: UnixNanos, offset: Offset) {
        let id = table.intern(key, keys(10)).unwrap();
        let kind = PayloadKind::Reading;
        let new = NewRecord {
            bytes: vec![u8::try_from(offset).unwrap()].into(),
            event_time,
        };
        let (chunk, _) = Frames::of(&[new]).seal(offset, 0);
        let meta = SeenMeta {
            key: id,
            kind,
            event_time,
        };
        table.see(&chunk, &[meta]);
    }

    fn last(table: &KeyTable, key: &str, by: LatestBy) -> Option<Offset> {
        let (_, lasts) = table.get(key)?.lasts().next()?;
        lasts.get(by).map(|last| last.offset)
    }

    #[test]
    fn a_spool_of_old_readings_does_not_become_current() {
        let mut table = KeyTable::default();
        for (event_time, offset) in [(100, 0), (50, 1), (60, 2)] {
            see(&mut table, "k", event_time, offset);
        }
        assert_eq!(last(&table, "k", LatestBy::EventTime), Some(0));
        assert_eq!(last(&table, "k", LatestBy::Arrival), Some(2));
        see(&mut table, "k", 100, 3);
        assert_eq!(last(&table, "k", LatestBy::EventTime), Some(3));
        assert_eq!(last(&table, "k", LatestBy::Arrival), Some(3));
    }

    #[test]
    fn what_was_trimmed_is_not_latest() {
        let mut table = KeyTable::default();
        see(&mut table, "k", 100, 0);
        see(&mut table, "k", 50, 1);
        table.drop_before(1);
        assert_eq!(last(&table, "k", LatestBy::EventTime), Some(1));
        table.drop_before(2);
        assert_eq!(last(&table, "k", LatestBy::EventTime), None);
    }

    #[test]
    fn one_key_too_many_is_refused_and_known_ones_go_on() {
        let mut table = KeyTable::default();
        assert!(table.intern("a", keys(2)).is_some());
        assert!(table.intern("b", keys(2)).is_some());
        assert!(table.intern("c", keys(2)).is_none());
        assert!(table.intern("a", keys(2)).is_some());
        assert!(table.remove("a"));
        assert!(table.intern("c", keys(2)).is_some());
        let names: Vec<_> = table.page(Some("b")).map(|e| e.name.to_string()).collect();
        assert_eq!(names, ["c"]);
    }

    fn saved(table: &mut KeyTable) -> Vec<(u32, Option<Vec<u8>>)> {
        let mut pages = vec![];
        let took = table.take_dirty(|page, bytes| {
            pages.push((page, bytes));
            Ok::<_, ()>(())
        });
        took.unwrap();
        pages
    }

    #[test]
    fn changed_pages_are_handed_out_once_and_load_as_they_were() {
        let mut table = KeyTable::default();
        for n in 0..250 {
            let id = table.intern(&format!("k{n}"), keys(1_000)).unwrap();
            assert_eq!(id, n);
        }
        for (key, event_time, offset) in [("k0", 5, 0), ("k200", 7, 1), ("k0", 3, 2), ("k97", 1, 3)]
        {
            see(&mut table, key, event_time, offset);
        }
        let pages = saved(&mut table);
        assert_eq!(
            pages.iter().map(|(page, _)| *page).collect::<Vec<_>>(),
            [0, 1, 2]
        );
        assert_eq!(saved(&mut table), []);

        let mut loaded = KeyTable::default();
        for (page, bytes) in &pages {
            let key = last_page::key(crate::model::FeedId(1), *page);
            match last_page::read(&key, bytes.as_ref().unwrap()) {
                Some(last_page::Saved::Page(lasts)) => {
                    lasts.into_iter().for_each(|l| loaded.load(l));
                }
                _ => panic!("page {page}"),
            }
        }
        assert_eq!(loaded.len(), 3, "keys without records are not kept");
        assert_eq!(loaded.bytes, table.bytes);
        for (key, by_event, by_arrival) in [("k0", 0, 2), ("k97", 3, 3), ("k200", 1, 1)] {
            assert_eq!(loaded.ids.get(key), table.ids.get(key), "{key}");
            assert_eq!(last(&loaded, key, LatestBy::EventTime), Some(by_event));
            assert_eq!(last(&loaded, key, LatestBy::Arrival), Some(by_arrival));
        }
        // A new key comes behind all; a page whose only key is removed is gone.
        assert_eq!(loaded.intern("new", keys(1_000)), Some(201));
        assert!(loaded.remove("k97"));
        assert_eq!(saved(&mut loaded), [(1, None)]);
    }
}
