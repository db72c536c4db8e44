//! The keys of a feed, and the last record of each per payload kind.

use std::{collections::BTreeMap, sync::Arc};

use hashbrown::HashMap;

use crate::model::{Offset, PayloadKind, UnixNanos};

/// Numbers a key within its feed, in memory only.
pub(crate) type KeyId = u32;

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

impl Last {
    /// Takes over another record, reusing the buffer.
    fn set(&mut self, seen: &Seen<'_>) {
        self.event_time = seen.event_time;
        self.offset = seen.offset;
        self.ingest_time = seen.ingest_time;
        self.bytes.clear();
        self.bytes.extend_from_slice(seen.bytes);
    }
}

/// A record that became visible.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub kind: PayloadKind,
    pub event_time: UnixNanos,
    pub offset: Offset,
    pub ingest_time: UnixNanos,
    pub bytes: &'a [u8],
}

/// The last records of one key and kind. `by_arrival` is there only when it is another record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lasts {
    pub by_event: Option<Last>,
    pub by_arrival: Option<Last>,
    dirty: bool,
}

impl Lasts {
    pub(crate) fn get(&self, by: LatestBy) -> Option<&Last> {
        match by {
            LatestBy::EventTime => self.by_event.as_ref(),
            LatestBy::Arrival => self.by_arrival.as_ref().or(self.by_event.as_ref()),
        }
    }

    fn see(&mut self, seen: &Seen<'_>) {
        let newest = |last: &Last| (last.event_time, last.offset) <= (seen.event_time, seen.offset);
        if self.by_event.as_ref().is_none_or(newest) {
            self.by_event.get_or_insert_default().set(seen);
            self.by_arrival = None;
        } else {
            self.by_arrival.get_or_insert_default().set(seen);
        }
    }

    /// Bytes of the records.
    fn bytes(&self) -> usize {
        let len = |last: &Option<Last>| last.as_ref().map_or(0, |last| last.bytes.len());
        len(&self.by_event) + len(&self.by_arrival)
    }

    /// Drops what lies before `offset`; whether something was dropped.
    fn drop_before(&mut self, offset: Offset) -> bool {
        let old = |last: &Option<Last>| last.as_ref().is_some_and(|last| last.offset < offset);
        let (event, arrival) = (old(&self.by_event), old(&self.by_arrival));
        if arrival {
            self.by_arrival = None;
        }
        if event {
            self.by_event = self.by_arrival.take();
        }
        event || arrival
    }
}

#[derive(Debug)]
pub(crate) struct KeyEntry {
    pub name: Arc<str>,
    pub kinds: [Lasts; PayloadKind::ALL.len()],
}

impl KeyEntry {
    pub(crate) fn lasts(&self) -> impl Iterator<Item = (PayloadKind, &Lasts)> {
        PayloadKind::ALL.into_iter().zip(&self.kinds)
    }

    /// The record that arrived last, of whatever kind.
    pub(crate) fn newest(&self) -> Option<&Last> {
        self.kinds
            .iter()
            .filter_map(|l| l.get(LatestBy::Arrival))
            .max_by_key(|l| l.offset)
    }

    /// The greatest event time of whatever kind.
    pub(crate) fn latest_event_time(&self) -> Option<UnixNanos> {
        self.kinds
            .iter()
            .filter_map(|l| l.by_event.as_ref())
            .map(|l| l.event_time)
            .max()
    }
}

/// A changed entry on its way to disk; `None` when it is gone.
pub(crate) type DirtyLast<'a> = (&'a str, PayloadKind, LatestBy, Option<&'a Last>);

#[derive(Debug, Default)]
pub(crate) struct KeyTable {
    ids: HashMap<Arc<str>, KeyId>,
    entries: Vec<KeyEntry>,
    /// By name, for pages.
    sorted: BTreeMap<Arc<str>, KeyId>,
    dirty: Vec<(KeyId, PayloadKind)>,
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
    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The key's number; `None` when it would be one too many.
    pub(crate) fn intern(&mut self, name: &str, limits: KeyLimits) -> Option<KeyId> {
        if let Some(id) = self.ids.get(name) {
            return Some(*id);
        }
        if self.len() >= limits.keys || self.bytes >= limits.latest_bytes {
            return None;
        }
        let id = KeyId::try_from(self.entries.len()).ok()?;
        let name: Arc<str> = name.into();
        self.ids.insert(Arc::clone(&name), id);
        self.sorted.insert(Arc::clone(&name), id);
        self.entries.push(KeyEntry {
            name,
            kinds: Default::default(),
        });
        Some(id)
    }

    /// Takes note of a record that became visible. Records come in offset order.
    pub(crate) fn see(&mut self, id: KeyId, seen: &Seen<'_>) {
        let Some(entry) = self.entries.get_mut(id as usize) else {
            return;
        };
        if let Some(lasts) = entry.kinds.get_mut(seen.kind as usize) {
            let before = lasts.bytes();
            lasts.see(seen);
            self.bytes = self.bytes - before + lasts.bytes();
            if !std::mem::replace(&mut lasts.dirty, true) {
                self.dirty.push((id, seen.kind));
            }
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&KeyEntry> {
        self.entries.get(*self.ids.get(name)? as usize)
    }

    /// A known key's number.
    pub(crate) fn number_of(&self, name: &str) -> Option<KeyId> {
        self.ids.get(name).copied()
    }

    /// Numbers from `from` on with their names, rising; those of forgotten keys as well.
    pub(crate) fn numbered(&self, from: KeyId) -> impl Iterator<Item = (KeyId, &str)> {
        let entries = self.entries.get(from as usize..).unwrap_or_default();
        (from..).zip(entries.iter().map(|entry| &*entry.name))
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

    /// Loads an entry from disk.
    pub(crate) fn load(&mut self, name: &str, kind: PayloadKind, by: LatestBy, last: Last) {
        let Some(id) = self.intern(name, KeyLimits::NONE) else {
            return;
        };
        let lasts = self
            .entries
            .get_mut(id as usize)
            .and_then(|e| e.kinds.get_mut(kind as usize));
        self.bytes += last.bytes.len();
        match (lasts, by) {
            (Some(lasts), LatestBy::EventTime) => lasts.by_event = Some(last),
            (Some(lasts), LatestBy::Arrival) => lasts.by_arrival = Some(last),
            (None, _) => {}
        }
    }

    /// Drops last records before `offset`: they were trimmed or aged out.
    pub(crate) fn drop_before(&mut self, offset: Offset) {
        for (id, entry) in (0..).zip(&mut self.entries) {
            for (kind, lasts) in PayloadKind::ALL.into_iter().zip(&mut entry.kinds) {
                let before = lasts.bytes();
                let dropped = lasts.drop_before(offset);
                self.bytes = self.bytes - before + lasts.bytes();
                if dropped && !std::mem::replace(&mut lasts.dirty, true) {
                    self.dirty.push((id, kind));
                }
            }
        }
    }

    /// Forgets a key; whether it was known. Its number is not used again.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let Some(id) = self.ids.remove(name) else {
            return false;
        };
        self.sorted.remove(name);
        if let Some(entry) = self.entries.get_mut(id as usize) {
            self.bytes -= entry.kinds.iter().map(Lasts::bytes).sum::<usize>();
            entry.kinds = Default::default();
            self.dirty.extend(PayloadKind::ALL.map(|kind| (id, kind)));
        }
        true
    }

    /// Bytes of the records that changed since the last call of `take_dirty`, about.
    pub(crate) fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    /// Hands out each changed entry, and what else was there before is gone.
    pub(crate) fn take_dirty<E>(
        &mut self,
        mut each: impl FnMut(DirtyLast<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for (id, kind) in std::mem::take(&mut self.dirty) {
            let Some(entry) = self.entries.get_mut(id as usize) else {
                continue;
            };
            let Some(lasts) = entry.kinds.get_mut(kind as usize) else {
                continue;
            };
            lasts.dirty = false;
            each((
                &entry.name,
                kind,
                LatestBy::EventTime,
                lasts.by_event.as_ref(),
            ))?;
            each((
                &entry.name,
                kind,
                LatestBy::Arrival,
                lasts.by_arrival.as_ref(),
            ))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: usize) -> KeyLimits {
        KeyLimits {
            keys,
            ..KeyLimits::NONE
        }
    }

    #[test]
    fn last_records_over_their_bytes_take_no_new_key() {
        let limits = KeyLimits {
            latest_bytes: 2,
            ..KeyLimits::NONE
        };
        let mut table = KeyTable::default();
        see(&mut table, "a", 1, 0);
        assert!(table.intern("b", limits).is_some());
        see(&mut table, "b", 1, 1);
        see(&mut table, "b", 2, 2);
        assert_eq!(
            table.bytes, 2,
            "a newer record takes the place of the old one"
        );
        assert!(table.intern("c", limits).is_none());
        assert!(table.intern("a", limits).is_some());
        see(&mut table, "a", 0, 3);
        assert_eq!(
            table.bytes, 3,
            "one that arrived last, one of the greatest time"
        );
        table.drop_before(3);
        assert_eq!(table.bytes, 1);
        assert!(table.intern("c", limits).is_some());
        assert!(table.remove("a"));
        assert_eq!(table.bytes, 0);
    }

    fn see(table: &mut KeyTable, key: &str, event_time: UnixNanos, offset: Offset) {
        let id = table.intern(key, keys(10)).unwrap();
        let kind = PayloadKind::Reading;
        let bytes = [u8::try_from(offset).unwrap()];
        table.see(
            id,
            &Seen {
                kind,
                event_time,
                offset,
                ingest_time: 0,
                bytes: &bytes,
            },
        );
    }

    fn last(table: &KeyTable, key: &str, by: LatestBy) -> Option<Offset> {
        let lasts = &table.get(key)?.kinds[PayloadKind::Reading as usize];
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

    #[test]
    fn dirty_entries_are_handed_out_once() {
        let mut table = KeyTable::default();
        see(&mut table, "k", 1, 0);
        see(&mut table, "k", 2, 1);
        let mut seen = vec![];
        let mut collect = |(key, _, by, last): DirtyLast<'_>| {
            seen.push((key.to_owned(), by, last.map(|l| l.offset)));
            Ok::<_, ()>(())
        };
        table.take_dirty(&mut collect).unwrap();
        table.take_dirty(&mut collect).unwrap();
        assert_eq!(
            seen,
            [
                ("k".into(), LatestBy::EventTime, Some(1)),
                ("k".into(), LatestBy::Arrival, None)
            ]
        );
    }
}
