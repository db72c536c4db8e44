//! Wills: the status that is stored for a device that stayed away for too long, and the one for
//! its return. They are kept with the data.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::producers::ProducerKey;
use crate::{
    model::{FeedId, Principal, ProducerName, UnixNanos},
    proto::{
        v1,
        wire::{self, Invalid, Limits},
    },
};

/// Key and value of the catalogue.
pub(super) type Entry = (Vec<u8>, Option<Vec<u8>>);

/// A device that was gone before the server stopped has so long to come back after it started.
const AFTER_START: Duration = Duration::from_secs(10);
const ONLINE: &str = "online";

/// What is stored on behalf of a device that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Will {
    key: String,
    gone: Words,
    grace: Duration,
    back: Words,
}

/// A status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Words {
    state: String,
    reason: String,
}

/// A will whose records would be refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {}", cause.message)]
pub struct InvalidWill {
    /// Path of the field within the will.
    pub field: String,
    pub cause: Invalid,
}

impl From<v1::Status> for Words {
    fn from(status: v1::Status) -> Self {
        let v1::Status { state, reason } = status;
        Self { state, reason }
    }
}

impl Words {
    fn record(&self, key: &str) -> Vec<u8> {
        let Self { state, reason } = self.clone();
        let status = v1::Status { state, reason };
        let record = v1::Record {
            key: key.to_owned(),
            payload: Some(v1::record::Payload::Status(status)),
            ..v1::Record::default()
        };
        record.encode_to_vec()
    }
}

impl Will {
    /// Of its records.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Checks a will as its records will be checked.
    pub fn new(will: v1::Will, grace: Duration, limits: &Limits) -> Result<Self, InvalidWill> {
        let online = || v1::Status {
            state: ONLINE.to_owned(),
            ..v1::Status::default()
        };
        let will = Self {
            key: will.key,
            gone: will.status.unwrap_or_default().into(),
            grace,
            back: will.online.unwrap_or_else(online).into(),
        };
        for (name, words) in [("status", &will.gone), ("online", &will.back)] {
            let record = words.record(&will.key);
            wire::scan(&record, limits).map_err(|cause| InvalidWill {
                field: match cause.field.strip_prefix("status") {
                    Some(rest) => format!("{name}{rest}"),
                    None => cause.field.to_owned(),
                },
                cause,
            })?;
        }
        Ok(will)
    }
}

/// Where the device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Place {
    Here,
    Gone {
        since: UnixNanos,
    },
    /// Gone, and the will was stored.
    Told,
}

/// A will as it rests.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    producer: ProducerName,
    principal: Principal,
    will: Will,
    place: Place,
    /// When the device last said hello.
    seen: UnixNanos,
    /// When it is to be stored, as `Wills::due` has it.
    #[serde(skip)]
    due: Option<UnixNanos>,
}

/// The wills of a feed.
#[derive(Debug, Default)]
pub(crate) struct Wills {
    kept: HashMap<ProducerKey, Kept>,
    /// Those of devices that are gone, by when they are due.
    due: BTreeSet<(UnixNanos, ProducerKey)>,
    /// Those that are not on disk as they are here.
    unsaved: HashSet<ProducerKey>,
}

impl Wills {
    /// Takes one in that was read from disk. Whoever was here when the server stopped is gone
    /// since now.
    pub(super) fn load(&mut self, value: &[u8], now: UnixNanos) -> Result<(), serde_json::Error> {
        let mut kept: Kept = serde_json::from_slice(value)?;
        let key = ProducerKey {
            producer: Arc::clone(&kept.producer),
            principal: Arc::clone(&kept.principal),
        };
        let grace = kept.will.grace;
        let due = match kept.place {
            Place::Here => {
                kept.place = Place::Gone { since: now };
                Some(after(now, grace))
            }
            Place::Gone { since } => {
                Some(after(since, grace).max(after(now, grace.min(AFTER_START))))
            }
            Place::Told => None,
        };
        self.kept.insert(key.clone(), kept);
        self.set_due(&key, due);
        Ok(())
    }

    fn set_due(&mut self, key: &ProducerKey, due: Option<UnixNanos>) {
        let Some(kept) = self.kept.get_mut(key) else {
            return;
        };
        if let Some(before) = std::mem::replace(&mut kept.due, due) {
            self.due.remove(&(before, key.clone()));
        }
        self.due.extend(due.map(|due| (due, key.clone())));
    }

    fn place(&self, key: &ProducerKey) -> Option<Place> {
        self.kept.get(key).map(|kept| kept.place)
    }

    fn put(&mut self, key: &ProducerKey, place: Place) {
        if let Some(kept) = self.kept.get_mut(key)
            && kept.place != place
        {
            kept.place = place;
            self.unsaved.insert(key.clone());
        }
    }

    /// The device uploads: it is not gone, or not any more.
    pub(super) fn back(&mut self, key: &ProducerKey) {
        if let Some(Place::Gone { .. }) = self.place(key) {
            self.set_due(key, None);
            self.put(key, Place::Here);
        }
    }

    /// The device's upload ended.
    pub(super) fn left(&mut self, key: &ProducerKey, now: UnixNanos) {
        if let Some(kept) = self.kept.get(key)
            && kept.place != Place::Told
        {
            let due = after(now, kept.will.grace);
            self.put(key, Place::Gone { since: now });
            self.set_due(key, Some(due));
        }
    }

    /// The record of a device's return, where its will was stored.
    pub(super) fn greeting(&self, key: &ProducerKey) -> Option<Vec<u8>> {
        let told = |kept: &&Kept| kept.place == Place::Told;
        let Kept { will, .. } = self.kept.get(key).filter(told)?;
        Some(will.back.record(&will.key))
    }

    /// The device, which is here, said hello with this will.
    pub(super) fn hello(&mut self, key: &ProducerKey, will: Option<Will>, now: UnixNanos) {
        self.set_due(key, None);
        let Some(will) = will else {
            if self.kept.remove(key).is_some() {
                self.unsaved.insert(key.clone());
            }
            return;
        };
        let same = |kept: &Kept| kept.will == will && kept.place == Place::Here;
        if !self.kept.get(key).is_some_and(same) {
            self.unsaved.insert(key.clone());
        }
        let kept = Kept {
            producer: Arc::clone(&key.producer),
            principal: Arc::clone(&key.principal),
            will,
            place: Place::Here,
            seen: now,
            due: None,
        };
        self.kept.insert(key.clone(), kept);
    }

    /// The will of a device is being stored. `false`: it came back meanwhile.
    pub(super) fn tell(&mut self, key: &ProducerKey) -> bool {
        let gone = matches!(self.place(key), Some(Place::Gone { .. }));
        if gone {
            self.put(key, Place::Told);
        }
        gone
    }

    /// The will of a device could not be stored: it stays due.
    pub(super) fn untell(&mut self, key: &ProducerKey, now: UnixNanos) {
        if self.place(key) == Some(Place::Told) {
            self.put(key, Place::Gone { since: now });
            self.set_due(key, Some(now));
        }
    }

    /// Takes out whose will is due, with the record.
    pub(super) fn take_due(&mut self, now: UnixNanos) -> Vec<(ProducerKey, Vec<u8>)> {
        let later = self.due.split_off(&(now.saturating_add(1), first_key()));
        let due = std::mem::replace(&mut self.due, later);
        let record = |(_, key): (UnixNanos, ProducerKey)| {
            let kept = self.kept.get_mut(&key)?;
            kept.due = None;
            Some((key, kept.will.gone.record(&kept.will.key)))
        };
        due.into_iter().filter_map(record).collect()
    }

    pub(super) fn is_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// What a device's will has to be on disk, where it is not.
    pub(super) fn take_unsaved(&mut self, feed: FeedId, key: &ProducerKey) -> Option<Entry> {
        self.unsaved.take(key).map(|key| self.entry(feed, &key))
    }

    pub(super) fn take_all_unsaved(&mut self, feed: FeedId) -> Vec<Entry> {
        let unsaved = std::mem::take(&mut self.unsaved);
        unsaved.iter().map(|key| self.entry(feed, key)).collect()
    }

    /// These may not be on disk as they are here: a write failed.
    pub(super) fn doubt(&mut self, key: Option<&ProducerKey>) {
        match key {
            Some(key) => drop(self.unsaved.insert(key.clone())),
            None => self.unsaved.extend(self.kept.keys().cloned()),
        }
    }

    fn entry(&self, feed: FeedId, key: &ProducerKey) -> Entry {
        let value = self.kept.get(key).and_then(|kept| {
            let value = serde_json::to_vec(kept);
            value
                .inspect_err(|error| tracing::error!(%error, "a will does not encode"))
                .ok()
        });
        (entry_key(feed, key), value)
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn has(&self, key: &ProducerKey) -> bool {
        self.kept.contains_key(key)
    }

    /// Whose they are, and when each last said hello.
    pub(super) fn owners(&self) -> impl Iterator<Item = (&ProducerKey, UnixNanos)> {
        self.kept.iter().map(|(key, kept)| (key, kept.seen))
    }
}

fn after(time: UnixNanos, delay: Duration) -> UnixNanos {
    let delay = i64::try_from(delay.as_nanos()).unwrap_or(i64::MAX);
    time.saturating_add(delay)
}

/// Before any producer.
fn first_key() -> ProducerKey {
    ProducerKey {
        producer: "".into(),
        principal: "".into(),
    }
}

/// `w` ++ feed.
pub(super) fn prefix(feed: FeedId) -> Vec<u8> {
    [b"w".as_slice(), &feed.0.to_be_bytes()].concat()
}

/// `w` ++ feed ++ length of the producer's name ++ producer ++ principal.
fn entry_key(feed: FeedId, key: &ProducerKey) -> Vec<u8> {
    let len = u16::try_from(key.producer.len()).unwrap_or(u16::MAX);
    let mut bytes = prefix(feed);
    bytes.extend(len.to_be_bytes());
    bytes.extend(key.producer.as_bytes());
    bytes.extend(key.principal.as_bytes());
    bytes
}
