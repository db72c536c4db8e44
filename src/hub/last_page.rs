//! The last records of neighbouring keys as they rest together: one write for many keys.
//!
//! ```text
//! key    feed 4 · 1 · page 4                                                        big endian
//! value  for each record: key 4 · kind 1 · by 1 · name 2 · record 4 · event time 8 · offset 8 ·
//!        ingest time 8 | name | record
//! ```
//! A key's number is kept, so that it stays in its page.

use bytes::{Buf as _, BufMut as _};

use super::keys::{KeyEntry, KeyId, Last, LatestBy};
use crate::model::{FeedId, Offset, PayloadKind};

/// Keys of a page. Ordinary records make it about 12 KiB.
pub(super) const PAGE_KEYS: u32 = 96;

pub(super) fn key(feed: FeedId, page: u32) -> Vec<u8> {
    [feed.0.to_be_bytes().as_slice(), &[1], &page.to_be_bytes()].concat()
}

/// The place up to which the pages of a feed hold everything.
pub(super) fn seen_key(feed: FeedId) -> Vec<u8> {
    [feed.0.to_be_bytes().as_slice(), &[0]].concat()
}

/// A saved entry.
pub(super) enum Saved {
    Page(Vec<SavedLast>),
    SeenTo(Offset),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct SavedLast {
    pub key: KeyId,
    pub name: String,
    pub kind: PayloadKind,
    pub by: LatestBy,
    pub last: Last,
}

/// `None`: the page is empty.
pub(super) fn write<'a>(keys: impl Iterator<Item = (KeyId, &'a KeyEntry)>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for (key, entry) in keys {
        for (kind, lasts) in entry.lasts() {
            let by_event = lasts.by_event.as_ref();
            let by_arrival = lasts.by_arrival.as_deref();
            let both = [
                (LatestBy::EventTime, by_event),
                (LatestBy::Arrival, by_arrival),
            ];
            for (by, last) in both {
                if let Some(last) = last {
                    put(&mut out, key, &entry.name, (kind, by), last);
                }
            }
        }
    }
    (!out.is_empty()).then_some(out)
}

fn put(out: &mut Vec<u8>, key: KeyId, name: &str, what: (PayloadKind, LatestBy), last: &Last) {
    let (kind, by) = what;
    out.put_u32(key);
    out.put_u8(kind.number());
    out.put_u8(match by {
        LatestBy::EventTime => 0,
        LatestBy::Arrival => 1,
    });
    out.put_u16(u16::try_from(name.len()).unwrap_or(u16::MAX));
    out.put_u32(u32::try_from(last.bytes.len()).unwrap_or(u32::MAX));
    out.put_i64(last.event_time);
    out.put_u64(last.offset);
    out.put_i64(last.ingest_time);
    out.put_slice(name.as_bytes());
    out.put_slice(&last.bytes);
}

/// Reads an entry back; `None` when it is none of these.
pub(super) fn read(key: &[u8], value: &[u8]) -> Option<Saved> {
    match key.get(4..)? {
        [0] => Some(Saved::SeenTo(Offset::from_be_bytes(value.try_into().ok()?))),
        [1, _page @ ..] => {
            let mut rest = value;
            let mut found = Vec::new();
            while !rest.is_empty() {
                found.push(take(&mut rest)?);
            }
            Some(Saved::Page(found))
        }
        _ => None,
    }
}

fn take(rest: &mut &[u8]) -> Option<SavedLast> {
    let key = rest.try_get_u32().ok()?;
    let kind = PayloadKind::from_number(rest.try_get_u8().ok()?)?;
    let by = match rest.try_get_u8().ok()? {
        0 => LatestBy::EventTime,
        _ => LatestBy::Arrival,
    };
    let name_len = usize::from(rest.try_get_u16().ok()?);
    let len = usize::try_from(rest.try_get_u32().ok()?).ok()?;
    let event_time = rest.try_get_i64().ok()?;
    let offset = rest.try_get_u64().ok()?;
    let ingest_time = rest.try_get_i64().ok()?;
    let (name, behind) = rest.split_at_checked(name_len)?;
    let (bytes, behind) = behind.split_at_checked(len)?;
    *rest = behind;
    Some(SavedLast {
        key,
        name: std::str::from_utf8(name).ok()?.to_owned(),
        kind,
        by,
        last: Last {
            event_time,
            offset,
            ingest_time,
            bytes: bytes.to_vec(),
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn last() -> impl Strategy<Value = SavedLast> {
        let bytes = prop::collection::vec(any::<u8>(), 0..50);
        (
            any::<u32>(),
            ".{0,9}",
            0..5_usize,
            any::<[bool; 1]>(),
            any::<(i64, u64, i64)>(),
            bytes,
        )
            .prop_map(|(key, name, kind, [arrival], times, bytes)| SavedLast {
                key,
                name,
                kind: PayloadKind::ALL[kind],
                by: [LatestBy::EventTime, LatestBy::Arrival][usize::from(arrival)],
                last: Last {
                    event_time: times.0,
                    offset: times.1,
                    ingest_time: times.2,
                    bytes,
                },
            })
    }

    proptest! {
        #[test]
        fn a_saved_page_reads_back(feed: u32, page: u32, all in prop::collection::vec(last(), 0..5)) {
            let mut value = vec![];
            for saved in &all {
                let what = (saved.kind, saved.by);
                put(&mut value, saved.key, &saved.name, what, &saved.last);
            }
            match read(&key(FeedId(feed), page), &value) {
                Some(Saved::Page(back)) => prop_assert_eq!(back, all.clone()),
                _ => prop_assert!(false),
            }
            if let Some(cut) = value.len().checked_sub(1) {
                prop_assert!(read(&key(FeedId(feed), page), &value[..cut]).is_none());
            }
        }
    }
}
