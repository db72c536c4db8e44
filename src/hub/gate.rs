//! Which keys an upload may write. What was decided of a key is kept by its number, so that globs are
//! looked at once for each key of an upload and not for each record.

use hashbrown::HashMap;

use super::keys::KeyId;
use crate::{
    model::Keys,
    proto::wire::{Invalid, Reason},
};

/// Of one upload to one feed.
#[derive(Debug)]
pub struct KeyGate {
    /// `None`: all keys may pass.
    closed: Option<Box<Closed>>,
}

#[derive(Debug)]
struct Closed {
    keys: Keys,
    decided: HashMap<KeyId, bool>,
    /// Of the feed's keys, when the first of them was decided.
    removals: u64,
}

impl KeyGate {
    /// Lets every key pass.
    pub fn open() -> Self {
        Self { closed: None }
    }

    pub fn new(keys: Keys) -> Self {
        let closed = |keys| Closed {
            keys,
            decided: HashMap::new(),
            removals: 0,
        };
        Self {
            closed: match keys {
                Keys::All => None,
                keys @ Keys::Matching(_) => Some(Box::new(closed(keys))),
            },
        }
    }

    /// A batch comes, and so many keys of the feed were removed so far. Numbers are not given again,
    /// but those of removed keys need not be kept.
    pub(super) fn begin(&mut self, removals: u64) {
        if let Some(closed) = &mut self.closed
            && closed.removals != removals
        {
            closed.removals = removals;
            closed.decided.clear();
        }
    }

    /// Whether a record of this key may pass; `id` is its number, where it has one.
    #[inline]
    pub(super) fn lets_pass(&mut self, id: Option<KeyId>, key: &str) -> bool {
        match &mut self.closed {
            None => true,
            Some(closed) => closed.decide(id, key),
        }
    }
}

impl Closed {
    fn decide(&mut self, id: Option<KeyId>, key: &str) -> bool {
        match id {
            None => self.keys.contain(key),
            Some(id) => {
                let keys = &self.keys;
                *self.decided.entry(id).or_insert_with(|| keys.contain(key))
            }
        }
    }
}

#[cold]
pub(super) fn not_allowed() -> Invalid {
    Invalid {
        field: "key",
        reason: Reason::KeyNotAllowed,
        message: "the caller's scopes do not allow ingest of this key".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Action, Scopes};

    fn gate(scope: &str) -> KeyGate {
        let scopes = Scopes::parse([scope], "pi17").unwrap();
        KeyGate::new(scopes.keys(Action::Ingest, "f").unwrap())
    }

    #[test]
    fn an_open_gate_decides_nothing() {
        let mut gate = gate("ingest:f");
        assert!(gate.closed.is_none());
        assert!(gate.lets_pass(Some(1), "a") && gate.lets_pass(None, "b"));
    }

    #[test]
    fn a_key_with_a_number_is_decided_once() {
        let mut gate = gate("ingest:f:{principal}.*");
        gate.begin(0);
        for _ in 0..2 {
            assert!(gate.lets_pass(Some(1), "pi17.a") && !gate.lets_pass(Some(2), "pi18.a"));
            assert!(gate.lets_pass(None, "pi17.b") && !gate.lets_pass(None, "b"));
        }
        assert_eq!(gate.closed.as_ref().unwrap().decided.len(), 2);
        // By its number alone: the name does not matter any more.
        assert!(gate.lets_pass(Some(1), "b"));
        gate.begin(1);
        assert!(!gate.lets_pass(Some(1), "b"));
    }
}
