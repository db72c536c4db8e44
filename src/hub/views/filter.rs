//! Key filters: equal ones of a feed are one, so that what it lets pass is worked out once.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use crate::{
    hub::{Feed, keys::KeyId},
    model::Globs,
};

/// A filter with more keys than this is always a matter of the bitmap.
const MAX_FEW: usize = 1_024;

/// Which keys are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFilter {
    /// `None`, and no globs: all.
    pub include: Option<HashSet<String>>,
    pub include_globs: Globs,
    pub exclude: HashSet<String>,
    pub exclude_globs: Globs,
    /// `None`: no bounds. Keys outside are left out, whatever else is wanted.
    pub within: Option<Globs>,
}

impl KeyFilter {
    pub fn is_all(&self) -> bool {
        let excludes_none = self.exclude.is_empty() && self.exclude_globs.is_empty();
        self.includes_all() && excludes_none && self.within.is_none()
    }

    pub fn wants(&self, key: &str) -> bool {
        let named = || self.include.as_ref().is_some_and(|keys| keys.contains(key));
        let included = self.includes_all() || named() || self.include_globs.matches(key);
        let within = || self.within.as_ref().is_none_or(|globs| globs.matches(key));
        let excluded = || self.exclude.contains(key) || self.exclude_globs.matches(key);
        included && within() && !excluded()
    }

    /// Whether it wants no key outside of these globs, as far as can be told without looking at keys.
    pub fn stays_within(&self, globs: &Globs) -> bool {
        let mut named = self.include.iter().flatten();
        let mut wanted = self.include_globs.texts().iter();
        !self.includes_all()
            && named.all(|key| globs.matches(key))
            && wanted.all(|glob| globs.texts().contains(glob))
    }

    fn includes_all(&self) -> bool {
        self.include.is_none() && self.include_globs.is_empty()
    }

    /// The keys that are wanted by name and no others, where they are few.
    fn names_few(&self) -> bool {
        let names = self.include.as_ref();
        names.is_some_and(|names| names.len() <= MAX_FEW) && self.include_globs.is_empty()
    }

    /// Equal for equal filters, and for no others: what a subscriber gets must not depend on
    /// whether somebody else found a collision.
    fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let mut add = |texts: Vec<&String>| {
            hasher.update(&(texts.len() as u64).to_le_bytes());
            for text in texts {
                hasher.update(&(text.len() as u64).to_le_bytes());
                hasher.update(text.as_bytes());
            }
        };
        for keys in [self.include.as_ref(), Some(&self.exclude)] {
            let mut keys: Vec<_> = keys.into_iter().flatten().collect();
            keys.sort_unstable();
            add(keys);
        }
        add(self.include_globs.texts().iter().collect());
        add(self.exclude_globs.texts().iter().collect());
        let within = self.within.as_ref().map_or(&[][..], Globs::texts);
        add(within.iter().collect());
        hasher.update(&[self.include.is_some().into(), self.within.is_some().into()]);
        hasher.finalize()
    }
}

/// Numbers the filters of a feed. 0 is the one that lets everything pass.
pub(crate) type FilterId = u64;
pub(crate) const ALL: FilterId = 0;

/// A filter in use.
#[derive(Debug)]
pub(crate) struct Filter {
    pub id: FilterId,
    /// The wanted keys, when they are few and all of them named.
    few: Option<Box<[String]>>,
    wanted: RwLock<Wanted>,
}

/// Which numbers of keys a filter wants; right for those below `decided`.
#[derive(Debug)]
pub(crate) struct Wanted {
    keys: KeyFilter,
    bits: Vec<u64>,
    decided: KeyId,
    /// The wanted numbers, rising, unless they are too many.
    few: Option<Vec<KeyId>>,
}

impl Filter {
    fn new(id: FilterId, keys: KeyFilter) -> Self {
        let named = keys.include.iter().flatten();
        let few = keys.names_few();
        let few_names = few.then(|| named.filter(|key| keys.wants(key)).cloned().collect());
        let wanted = Wanted {
            keys,
            bits: vec![],
            decided: 0,
            few: few.then(Vec::new),
        };
        Self {
            id,
            few: few_names,
            wanted: RwLock::new(wanted),
        }
    }

    /// What is wanted, right for all keys of the feed below `keys_end`.
    pub(super) fn wanted(&self, feed: &Feed, keys_end: KeyId) -> RwLockReadGuard<'_, Wanted> {
        let wanted = self.wanted.read();
        if wanted.decided >= keys_end {
            return wanted;
        }
        drop(wanted);
        let mut wanted = self.wanted.write();
        wanted.decide(feed);
        parking_lot::RwLockWriteGuard::downgrade(wanted)
    }

    /// The wanted keys by name, when they are few and there can be no others.
    pub(crate) fn few_names(&self) -> Option<&[String]> {
        self.few.as_deref()
    }

    pub(crate) fn wants(&self, key: &str) -> bool {
        self.wanted.read().has_name(key)
    }
}

impl Wanted {
    pub(super) fn has(&self, key: KeyId) -> bool {
        let word = self.bits.get(key as usize / 64);
        word.is_some_and(|word| word >> (key % 64) & 1 == 1)
    }

    pub(super) fn has_name(&self, key: &str) -> bool {
        self.keys.wants(key)
    }

    /// The wanted keys, when they are few.
    pub(super) fn few(&self) -> Option<&[KeyId]> {
        self.few.as_deref()
    }

    /// Looks at the keys that came up since.
    fn decide(&mut self, feed: &Feed) {
        let state = feed.state();
        for (id, name) in state.keys.numbered(self.decided) {
            if self.bits.len() <= id as usize / 64 {
                self.bits.push(0);
            }
            self.decided = id + 1;
            if !self.keys.wants(name) {
                continue;
            }
            if let Some(word) = self.bits.get_mut(id as usize / 64) {
                *word |= 1 << (id % 64);
            }
            if let Some(few) = &mut self.few {
                few.push(id);
            }
        }
        // A key that was deleted and came again has another number.
        if self.few.as_ref().is_some_and(|few| few.len() > MAX_FEW) {
            self.few = None;
        }
    }
}

/// The filters in use of one feed.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    next: AtomicU64,
    known: Mutex<HashMap<blake3::Hash, Weak<Filter>>>,
}

impl Filters {
    /// The filter that is in use for these keys; `None` when all are wanted.
    pub(crate) fn intern(&self, keys: KeyFilter) -> Option<Arc<Filter>> {
        if keys.is_all() {
            return None;
        }
        let digest = keys.digest();
        let mut known = self.known.lock();
        if let Some(filter) = known.get(&digest).and_then(Weak::upgrade) {
            return Some(filter);
        }
        if known.len() == known.capacity() {
            known.retain(|_, filter| filter.strong_count() > 0);
        }
        let id = self.next.fetch_add(1, Relaxed) + ALL + 1;
        let filter = Arc::new(Filter::new(id, keys));
        known.insert(digest, Arc::downgrade(&filter));
        Some(filter)
    }
}
