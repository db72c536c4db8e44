//! How much the histories exercised: a test that does nothing passes as well.

use std::{collections::BTreeMap, fmt};

/// What was exercised, how often.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<&'static str, u64>);

/// What 2,000 histories exercise at the least.
const TEETH: &[(&str, u64)] = &[
    ("histories over memory", 1_500),
    ("histories over sled", 200),
    ("subscribers", 4_000),
    ("records", 300_000),
    ("records refused", 10_000),
    ("latest checked", 40_000),
    ("snapshots", 900),
    ("restarts", 500),
    ("resumes by cursors", 900),
    ("resumes by token", 400),
    ("fidelity changes", 200),
    ("selectors added", 80),
    ("selectors replaced", 80),
    ("selectors removed", 60),
    ("selectors ended", 800),
    ("acknowledged cursors", 150),
    ("joins", 50),
    ("modes changed by slowness", 60),
    ("gaps EVICTED", 150),
    ("gaps TRIMMED", 200),
    ("gaps JUMPED", 80),
    ("gaps LOST", 50),
    ("gaps EPOCH_CHANGED", 250),
];

impl Tally {
    pub(super) fn count(&mut self, what: &'static str, many: u64) {
        *self.0.entry(what).or_default() += many;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (what, many) in &other.0 {
            self.count(what, *many);
        }
    }

    pub(super) fn assert_teeth(&self, times: u64) {
        for (what, least) in TEETH {
            let found = self.0.get(what).copied().unwrap_or_default();
            assert!(
                found >= least * times,
                "{found} times {what}, not {least}: {self}"
            );
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "histories:")?;
        for (what, many) in &self.0 {
            write!(f, " {many} {what};")?;
        }
        Ok(())
    }
}
