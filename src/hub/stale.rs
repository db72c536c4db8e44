//! Keys that are silent for longer than their descriptions let expect: counted now and then, for
//! operators.

use super::{Feed, info::Infos, keys::KeyId};
use crate::model::UnixNanos;

/// A key is stale after so many of its expected intervals.
const INTERVALS: i64 = 3;
/// Keys looked at in one go: those who write wait no longer than that takes.
const STRETCH: usize = 4096;
/// Nothing is expected of the key.
const ANY: i64 = i64::MAX;
/// Its description was not looked at yet.
const UNKNOWN: i64 = -1;

/// How long each key may be silent, by its number, as long as descriptions stay as they are.
#[derive(Debug, Default)]
pub(super) struct Silences {
    version: u64,
    /// In nanoseconds.
    allowed: Vec<i64>,
}

impl Silences {
    /// Forgets what another version of the descriptions said.
    fn keep_up(&mut self, infos: &Infos) {
        if self.version != infos.version() {
            self.version = infos.version();
            self.allowed.clear();
        }
    }

    fn allowed(&mut self, key: KeyId, name: &str, infos: &Infos) -> i64 {
        let at = key as usize;
        if self.allowed.len() <= at {
            self.allowed.resize(at + 1, UNKNOWN);
        }
        match self.allowed.get_mut(at) {
            Some(known) if *known == UNKNOWN => {
                *known = infos.expected_interval(name).map_or(ANY, silence);
                *known
            }
            known => known.map_or(ANY, |known| *known),
        }
    }
}

fn silence(interval: prost_types::Duration) -> i64 {
    let nanos = interval.seconds.saturating_mul(1_000_000_000);
    let nanos = nanos.saturating_add(interval.nanos.into());
    nanos.saturating_mul(INTERVALS).max(0)
}

impl Feed {
    /// Keys that were silent for longer than they may be.
    pub(super) fn stale_keys(&self, now: UnixNanos) -> usize {
        let (mut from, mut stale) = (0, 0);
        loop {
            let mut state = self.state();
            let state = &mut *state;
            if !state.infos.expect_intervals() {
                return 0;
            }
            state.silences.keep_up(&state.infos);
            let mut seen = 0;
            for (key, entry) in state.keys.stretch(from, STRETCH) {
                seen = key + 1;
                let allowed = state.silences.allowed(key, &entry.name, &state.infos);
                let silent = entry
                    .newest()
                    .map(|last| now.saturating_sub(last.ingest_time));
                stale += usize::from(silent.is_some_and(|silent| silent > allowed));
            }
            if seen == 0 {
                return stale;
            }
            from = seen;
        }
    }
}
