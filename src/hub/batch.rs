//! A batch as it is checked: what is valid is framed at once, and its keys are looked up, on the
//! thread of the upload and without waiting for the committer.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Feed,
    append::Refused,
    gate::{self, KeyGate},
    hello::Errand,
    keys::{KeyId, KeyLimits, KeyTable, SeenMeta},
    lease::{Lease, ProducerGuard},
    producers::ProducerKey,
};
use crate::{
    model::{Frames, UnixNanos},
    proto::wire::{self, Invalid, Kept, Limits, Reason, RecordView},
    trace::Source,
};

/// Stands in for the number of a key that was not known when the batch was checked.
const UNKNOWN: KeyId = KeyId::MAX;

/// What an invalid record does to the batch it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The valid records are stored.
    StoreValid,
    /// All records are stored, or none.
    Atomic,
}

/// Records of one upload for one feed, checked. `check` adds to it.
#[derive(Debug)]
pub struct Batch {
    /// Who numbered the records, and the first number.
    pub(super) producer: Option<(ProducerKey, u64)>,
    pub(super) mode: Mode,
    /// Records sent.
    pub(super) count: usize,
    /// The valid ones.
    pub(super) frames: Frames,
    pub(super) metas: Vec<SeenMeta>,
    /// The others, by index.
    pub(super) refused: Vec<Refused>,
    /// Content hashes of all, where they are numbered.
    pub(super) hashes: Vec<u64>,
    /// Which valid records have keys that were not known, and which.
    new_keys: Vec<(usize, Arc<str>)>,
    /// Of the feed's keys, when they were looked up.
    removals: u64,
    /// Whoever may store it; a fenced one may not.
    pub(super) lease: Option<Arc<Lease>>,
    /// What is to be done with it beside storing.
    pub(super) errand: Option<Box<Errand>>,
    /// The call it came with, where that is traced.
    pub(super) source: Option<Arc<Source>>,
}

impl Batch {
    /// An empty batch with room for `records` of `bytes` together.
    pub fn new(
        producer: Option<(ProducerKey, u64)>,
        mode: Mode,
        records: usize,
        bytes: usize,
    ) -> Self {
        Self {
            hashes: Vec::with_capacity(if producer.is_some() { records } else { 0 }),
            producer,
            mode,
            count: 0,
            frames: Frames::with_capacity(records, bytes),
            metas: Vec::with_capacity(records),
            refused: vec![],
            new_keys: vec![],
            removals: 0,
            lease: None,
            errand: None,
            source: None,
        }
    }

    /// Is traced with the call it came with.
    #[must_use]
    pub fn from(mut self, source: Option<&Arc<Source>>) -> Self {
        self.source = source.map(Arc::clone);
        self
    }

    /// Is stored only as long as the upload speaks for its producer.
    #[must_use]
    pub fn under(mut self, upload: &ProducerGuard) -> Self {
        self.lease = Some(Arc::clone(upload.lease()));
        self
    }

    /// Checks `records` as they came and takes them in, whatever their keys.
    pub fn check<'a>(
        &mut self,
        feed: &Feed,
        records: impl Iterator<Item = &'a [u8]>,
        limits: &Limits,
        now: UnixNanos,
    ) {
        self.check_at(&mut KeyGate::open(), feed, records, limits, now);
    }

    /// Checks `records` as they came and takes those in whose keys may pass the gate.
    pub fn check_at<'a>(
        &mut self,
        gate: &mut KeyGate,
        feed: &Feed,
        records: impl Iterator<Item = &'a [u8]>,
        limits: &Limits,
        now: UnixNanos,
    ) {
        let keys = feed.key_ids().reading();
        gate.begin(keys.removals);
        if self.count == 0 {
            self.removals = keys.removals;
        }
        for record in records {
            if let Some((_, first)) = &self.producer {
                let sequence = first.wrapping_add(self.count as u64);
                self.hashes.push(wire::content_hash(record, sequence));
            }
            let taken = wire::scan(record, limits).and_then(|view| {
                let key = keys.get(view.key);
                if !gate.lets_pass(key, view.key) {
                    return Err(gate::not_allowed());
                }
                self.take(record, &view, key, now);
                Ok(())
            });
            if let Err(invalid) = taken {
                self.refused.push(Refused {
                    index: self.count,
                    invalid,
                });
            }
            self.count += 1;
        }
    }

    /// Frames a valid record.
    #[inline]
    fn take(&mut self, record: &[u8], view: &RecordView<'_>, key: Option<KeyId>, now: UnixNanos) {
        let kept = Kept::of(record, view, now);
        let key = key.unwrap_or(UNKNOWN);
        if key == UNKNOWN {
            self.new_keys.push((self.metas.len(), view.key.into()));
        }
        self.metas.push(SeenMeta {
            key,
            kind: view.kind,
            event_time: kept.event_time,
        });
        self.frames.push(kept.parts(), kept.event_time);
    }

    /// Records sent.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the valid records.
    pub fn bytes(&self) -> usize {
        self.frames.body_len()
    }

    /// Drops the leading `count` of the records sent. Returns how many of them were valid.
    pub(super) fn skip(&mut self, count: usize) -> usize {
        let invalid = self.refused.partition_point(|r| r.index < count);
        let valid = count - invalid;
        if valid > 0 {
            self.frames.skip(valid);
            self.metas.drain(..valid);
            self.new_keys.retain(|(index, _)| *index >= valid);
            for (index, _) in &mut self.new_keys {
                *index -= valid;
            }
        }
        valid
    }

    /// Numbers the keys that have no number yet; records whose key would be one too many are
    /// refused. `skipped` of the records sent were dropped before.
    pub(super) fn number_keys(&mut self, keys: &mut KeyTable, limits: KeyLimits, skipped: usize) {
        if keys.ids().removals() != self.removals {
            self.look_up_again();
        }
        let mut beyond = vec![];
        for (index, name) in std::mem::take(&mut self.new_keys) {
            match (keys.intern(&name, limits), self.metas.get_mut(index)) {
                (Some(id), Some(meta)) => meta.key = id,
                (_, _) => beyond.push(index),
            }
        }
        for index in beyond.into_iter().rev() {
            let refused = Refused {
                index: self.index_sent(index, skipped),
                invalid: key_limit(limits),
            };
            self.frames.remove(index);
            self.metas.remove(index);
            let at = self.refused.partition_point(|r| r.index < refused.index);
            self.refused.insert(at, refused);
        }
    }

    /// Whether all new keys have room; an ATOMIC batch needs to know before. Fails with the first
    /// record whose key has none.
    pub(super) fn keys_fit(&self, keys: &KeyTable, limits: KeyLimits) -> Result<(), Refused> {
        let mut new = BTreeSet::new();
        for (index, name) in &self.new_keys {
            let is_new = keys.get(name).is_none() && new.insert(name);
            if is_new && !keys.has_room(new.len(), limits) {
                return Err(Refused {
                    index: *index,
                    invalid: key_limit(limits),
                });
            }
        }
        Ok(())
    }

    /// A key was removed since: its number is of no use any more.
    fn look_up_again(&mut self) {
        let names = (0..self.metas.len()).map(|index| {
            let record = self.frames.record(index).unwrap_or_default();
            (index, wire::key_of(record).into())
        });
        self.new_keys = names.collect();
    }

    /// The index, among the records sent, of valid record `index` of those left.
    fn index_sent(&self, index: usize, skipped: usize) -> usize {
        let mut sent = skipped + index;
        for refused in self.refused.iter().filter(|r| r.index >= skipped) {
            if refused.index > sent {
                break;
            }
            sent += 1;
        }
        sent
    }
}

fn key_limit(limits: KeyLimits) -> Invalid {
    let KeyLimits { keys, latest_bytes } = limits;
    Invalid {
        field: "key",
        reason: Reason::KeyLimit,
        message: format!(
            "the feed takes no new key beyond {keys} keys, or {latest_bytes} bytes of last records; delete keys, or raise limits.keys_per_feed or limits.latest_bytes_per_feed"
        ),
    }
}
