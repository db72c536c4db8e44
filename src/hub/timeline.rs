//! When records came in, by offset, roughly: how old what a cursor points at is, without a read.

use crate::model::{Offset, UnixNanos};

/// Beyond so many samples every second one is let go.
const MAX_SAMPLES: usize = 512;
const FIRST_STEP_NANOS: i64 = 100_000_000;

/// Samples of offset and ingest time, both rising. Begins empty with each start of the server.
#[derive(Debug)]
pub(super) struct Timeline {
    samples: Vec<(Offset, UnixNanos)>,
    /// The least time between two samples.
    step: i64,
    /// The newest note, whether it is a sample or not.
    last: Option<(Offset, UnixNanos)>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            samples: vec![],
            step: FIRST_STEP_NANOS,
            last: None,
        }
    }
}

impl Timeline {
    /// The record at `offset` came in at `time`.
    pub(super) fn note(&mut self, offset: Offset, time: UnixNanos) {
        self.last = Some((offset, time));
        let due = |(_, last): &(Offset, UnixNanos)| time.saturating_sub(*last) >= self.step;
        if !self.samples.last().is_none_or(due) {
            return;
        }
        self.samples.push((offset, time));
        if self.samples.len() > MAX_SAMPLES {
            let mut keep = false;
            self.samples.retain(|_| {
                keep = !keep;
                keep
            });
            self.step = self.step.saturating_mul(2);
        }
    }

    /// About when the record at `offset` came in; between two samples in proportion. `None`:
    /// before all that is known.
    pub(super) fn at(&self, offset: Offset) -> Option<UnixNanos> {
        let after = self.samples.partition_point(|(at, _)| *at <= offset);
        let (from, begun) = *self.samples.get(after.checked_sub(1)?)?;
        let next = self.samples.get(after).copied().or(self.last);
        let (to, ended) = next
            .filter(|(to, _)| *to > from)
            .unwrap_or((from + 1, begun));
        let share = (offset - from).min(to - from) as f64 / (to - from) as f64;
        let nanos = (ended - begun) as f64 * share;
        #[expect(clippy::cast_possible_truncation, reason = "below `ended - begun`")]
        Some(begun + nanos as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_feed_is_known_to_a_part_of_its_age() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.at(5), None);
        for n in 100..2_000_000_u64 {
            timeline.note(n, i64::try_from(n).unwrap() * 1_000_000);
        }
        assert!(timeline.samples.len() <= MAX_SAMPLES);
        assert_eq!(timeline.at(99), None);
        for offset in [100, 101, 77_777, 1_000_000, 1_999_998, 1_999_999] {
            let off = timeline.at(offset).unwrap() - i64::try_from(offset).unwrap() * 1_000_000;
            assert!(off.abs() <= 2_000_000, "{offset}: {off} ns off");
        }
        let last = timeline.at(u64::MAX).unwrap();
        assert_eq!(last, 1_999_999 * 1_000_000, "no later than the last");
    }
}
