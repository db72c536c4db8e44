//! The last record of each key, and the list of keys, paged.

use super::{Feed, keys::LatestBy};
use crate::{
    model::{Keys, Offset, PayloadKind, UnixNanos},
    proto::v1::KeyInfo,
};

/// The last record of one key and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatestRecord {
    pub kind: PayloadKind,
    pub offset: Offset,
    pub bytes: bytes::Bytes,
}

/// A page of last records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatestPage {
    /// Everything before it is in the records.
    pub as_of: Offset,
    pub records: Vec<LatestRecord>,
    /// The last key of the page, when there are more.
    pub next: Option<String>,
}

/// A key as users see it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyView {
    pub key: String,
    pub kinds: Vec<PayloadKind>,
    pub last_offset: Offset,
    pub last_event_time: UnixNanos,
    pub last_ingest_time: UnixNanos,
    pub info: KeyInfo,
}

impl Feed {
    /// The last records of visible keys after `after`: whole keys, up to `max_records` (at least one key)
    /// and `max_bytes`.
    pub fn latest(
        &self,
        keys: &[String],
        visible: &Keys,
        by: LatestBy,
        after: Option<&str>,
        max_records: usize,
        max_bytes: usize,
    ) -> LatestPage {
        let state = self.state();
        let mut page = LatestPage {
            as_of: state.seen_to,
            ..LatestPage::default()
        };
        let mut bytes = 0;
        let mut names: Vec<&str> = keys.iter().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        let named = names
            .into_iter()
            .filter(|key| after.is_none_or(|after| *key > after));
        let named = named.filter_map(|key| state.keys.get(key));
        let all = state.keys.page(after).take_while(|_| keys.is_empty());
        let wanted = named
            .chain(all)
            .filter(|entry| visible.contain(&entry.name));
        let mut last_key = None;
        for entry in wanted {
            if page.records.len() >= max_records || bytes >= max_bytes {
                page.next = last_key;
                return page;
            }
            for (kind, lasts) in entry.lasts() {
                let Some(last) = lasts.get(by) else { continue };
                bytes += last.bytes.len();
                let record = bytes::Bytes::copy_from_slice(&last.bytes);
                page.records.push(LatestRecord {
                    kind,
                    offset: last.offset,
                    bytes: record,
                });
            }
            last_key = Some(entry.name.to_string());
        }
        page
    }

    /// Visible keys after `after`, by name.
    pub fn keys(&self, visible: &Keys, after: Option<&str>, limit: usize) -> Vec<KeyView> {
        let state = self.state();
        let entries = state.keys.page(after);
        let entries = entries.filter(|entry| visible.contain(&entry.name));
        entries
            .take(limit)
            .map(|entry| {
                let newest = entry.newest();
                let kinds = entry.lasts().filter(|(_, lasts)| lasts.by_event.is_some());
                KeyView {
                    key: entry.name.to_string(),
                    kinds: kinds.map(|(kind, _)| kind).collect(),
                    last_offset: newest.map_or(0, |last| last.offset),
                    last_event_time: entry.latest_event_time().unwrap_or_default(),
                    last_ingest_time: newest.map_or(0, |last| last.ingest_time),
                    info: state.infos.get(&entry.name),
                }
            })
            .collect()
    }

    pub fn key_count(&self) -> usize {
        self.state().keys.len()
    }

    pub fn producer_count(&self) -> usize {
        self.state().producers.len()
    }

    /// When a record last came in.
    pub fn last_append(&self) -> Option<UnixNanos> {
        self.state().last_append
    }

    /// A key's description, inherited parts included.
    pub fn key_info(&self, key: &str) -> KeyInfo {
        self.state().infos.get(key)
    }

    /// Rises whenever a description changes.
    pub fn info_version(&self) -> u64 {
        self.state().infos.version()
    }

    /// Offsets of the newest record of each wanted key, for finding the last n of each.
    pub(super) fn newest_offsets(&self, wants: impl Fn(&str) -> bool) -> Vec<(String, Offset)> {
        let state = self.state();
        let wanted = state.keys.page(None).filter(|entry| wants(&entry.name));
        wanted
            .filter_map(|e| Some((e.name.to_string(), e.newest()?.offset)))
            .collect()
    }
}
