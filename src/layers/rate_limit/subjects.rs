//! Who called lately. Whoever is idle is forgotten, so that many addresses cost no memory for long.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::subject::Subject;

/// Fewer are not worth looking through.
const FEW: usize = 1_024;
const SWEEP: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Subjects<K>(Mutex<Known<K>>);

#[derive(Debug)]
struct Known<K> {
    subjects: HashMap<K, Arc<Subject>>,
    /// How many there may be before it is looked who is idle: twice those that were not.
    room: usize,
    swept: Instant,
}

impl<K> Default for Subjects<K> {
    fn default() -> Self {
        Self(Mutex::new(Known {
            subjects: HashMap::new(),
            room: FEW,
            swept: Instant::now(),
        }))
    }
}

impl<K: Hash + Eq> Subjects<K> {
    pub(super) fn of(&self, key: K, make: impl FnOnce(&K) -> Subject) -> Arc<Subject> {
        let mut known = self.0.lock();
        known.tidy();
        if let Some(subject) = known.subjects.get(&key) {
            return Arc::clone(subject);
        }
        let subject = Arc::new(make(&key));
        known.subjects.insert(key, Arc::clone(&subject));
        subject
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().subjects.len()
    }
}

impl<K: Hash + Eq> Known<K> {
    fn tidy(&mut self) {
        let now = Instant::now();
        if self.subjects.len() < self.room && now < self.swept + SWEEP {
            return;
        }
        let held = |subject: &Arc<Subject>| Arc::strong_count(subject) > 1;
        let keep = |subject: &Arc<Subject>| held(subject) || !subject.is_idle();
        self.subjects.retain(|_, subject| keep(subject));
        self.room = FEW.max(2 * self.subjects.len());
        if self.subjects.capacity() > 2 * self.room {
            self.subjects.shrink_to(self.room);
        }
        self.swept = now;
    }
}
