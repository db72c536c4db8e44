//! How far one producer came, and what it sent: enough to tell a repeat from a reused number.
//!
//! Every record has a hash of its content and sequence; a mark keeps the running (wrapping) sum of
//! them at *checkpoints*: all of the first and last few sequences, the ends of recent batches, and
//! further back ever fewer. Whatever is sent again is summed up from the nearest checkpoint and
//! compared at the next, so a repeat is known as one whatever the batch size, in a few kilobytes
//! a producer.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Sequences at the beginning and at the end whose sums are all kept.
const DENSE: u64 = 32;
const BATCH_ENDS: usize = 64;
const PRUNE_ABOVE: usize = 1_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    #[error("sequence {first} leaves a gap: {expected} is expected next; send the records between")]
    Gap { expected: u64, first: u64 },
    #[error(
        "sequences up to {sequence} were used before for other content; give this upload another producer name"
    )]
    Reused { sequence: u64 },
    #[error(
        "this producer began at {start} here: what it numbered before is not known; give this upload another producer name"
    )]
    BeforeStart { start: u64 },
    #[error("sequences count from 1 and stay below 2^63")]
    OutOfRange,
}

/// The highest sequence taken in, and the sums before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    sequence: u64,
    /// Where this producer's numbering began for us.
    start: u64,
    /// Sequence -> wrapping sum of the content hashes from `start` to it.
    sums: Sums,
    /// The ends of recent batches, where a repeat is likely to begin.
    ends: Vec<u64>,
    /// How far a repeat in progress was summed up.
    #[serde(skip)]
    repeat: Option<(u64, u64)>,
}

/// Sequences in rising order, each with its sum. A map on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sums(Vec<(u64, u64)>);

impl Sums {
    fn get(&self, sequence: u64) -> Option<u64> {
        let at = self.0.binary_search_by_key(&sequence, |(at, _)| *at).ok()?;
        self.0.get(at).map(|(_, sum)| *sum)
    }

    /// Adds what comes behind all others.
    fn push(&mut self, sequence: u64, sum: u64) {
        self.0.push((sequence, sum));
    }
}

impl Serialize for Sums {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().copied())
    }
}

impl<'de> Deserialize<'de> for Sums {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let map = BTreeMap::deserialize(from)?;
        Ok(Self(map.into_iter().collect()))
    }
}

/// What of a batch is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// Leading records that were taken in before.
    pub duplicates: usize,
}

impl Mark {
    /// A producer that is not known yet and begins at `first`,
    /// with `count` records.
    pub(crate) fn begin(first: u64, count: usize) -> Result<Self, SequenceError> {
        end_of(first, count)?;
        let start = first - 1;
        Ok(Self {
            sequence: start,
            start,
            sums: Sums(vec![(start, 0)]),
            ends: vec![],
            repeat: None,
        })
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The sum of the content hashes of everything taken in.
    pub(crate) fn content(&self) -> u64 {
        self.sums.get(self.sequence).unwrap_or_default()
    }

    /// Compares a batch with what was taken in before; changes nothing but the note of a repeat.
    pub(crate) fn admit(&mut self, first: u64, hashes: &[u64]) -> Result<Admitted, SequenceError> {
        let last = end_of(first, hashes.len())?;
        if first <= self.start {
            // No record may be called a duplicate that was never seen.
            let start = self.start + 1;
            return Err(SequenceError::BeforeStart { start });
        }
        if first > self.sequence + 1 {
            return Err(SequenceError::Gap {
                expected: self.sequence + 1,
                first,
            });
        }
        let duplicates = (self.sequence + 1 - first).min(last - first);
        let duplicates = usize::try_from(duplicates).unwrap_or(hashes.len());
        self.compare(first, hashes.get(..duplicates).unwrap_or(hashes))?;
        Ok(Admitted { duplicates })
    }

    fn compare(&mut self, first: u64, hashes: &[u64]) -> Result<(), SequenceError> {
        let before = first - 1;
        let mut sum = match self.repeat.take() {
            Some((at, sum)) if at == before => Some(sum),
            _ => self.sums.get(before),
        };
        let mut sequence = before;
        for hash in hashes {
            sequence += 1;
            sum = sum.map(|sum| sum.wrapping_add(*hash));
            let Some(known) = self.sums.get(sequence) else {
                continue;
            };
            if sum.is_some_and(|sum| sum != known) {
                return Err(SequenceError::Reused { sequence });
            }
            sum = Some(known);
        }
        self.repeat = sum.map(|sum| (sequence, sum));
        Ok(())
    }

    /// Takes in the next records; `each` gets the sequence and the sum of each.
    pub(crate) fn advance(&mut self, hashes: &[u64], mut each: impl FnMut(u64, u64)) {
        let mut sum = self.content();
        let last = self.sequence + hashes.len() as u64;
        for (sequence, hash) in (self.sequence + 1..).zip(hashes) {
            sum = sum.wrapping_add(*hash);
            if self.keeps(sequence, last) {
                self.sums.push(sequence, sum);
            }
            each(sequence, sum);
        }
        self.moved_to(last);
    }

    /// Goes to a place that a block noted, when the marks of disk are older than it.
    pub(crate) fn catch_up(&mut self, sequence: u64, content: u64) {
        if sequence > self.sequence {
            self.sums.push(sequence, content);
            self.moved_to(sequence);
        }
    }

    /// Goes back to `sequence`, a place where `advance` started: its append failed.
    pub(crate) fn back_to(&mut self, sequence: u64) {
        self.sums.0.retain(|(at, _)| *at <= sequence);
        self.ends.retain(|at| *at <= sequence);
        self.sequence = sequence;
        self.repeat = None;
    }

    fn moved_to(&mut self, last: u64) {
        self.sequence = last;
        self.ends.push(last);
        if self.ends.len() > BATCH_ENDS {
            self.ends.drain(..self.ends.len() - BATCH_ENDS);
        }
        if self.sums.0.len() > PRUNE_ABOVE {
            let mut sums = std::mem::take(&mut self.sums);
            let is_end = |at: u64| self.ends.binary_search(&at).is_ok();
            sums.0
                .retain(|(at, _)| self.keeps(*at, last) || is_end(*at));
            self.sums = sums;
        }
    }

    /// Sums are kept ever more sparsely towards the past: about 32 for each halving of it.
    fn keeps(&self, sequence: u64, last: u64) -> bool {
        let spacing = 1_u64 << sequence.trailing_zeros().min(62);
        sequence <= self.start + DENSE
            || last - sequence < DENSE.saturating_mul(spacing)
            || sequence == last
    }
}

/// One beyond the last sequence of a batch.
fn end_of(first: u64, count: usize) -> Result<u64, SequenceError> {
    first
        .checked_add(count as u64)
        .filter(|end| first > 0 && *end <= i64::MAX.cast_unsigned())
        .ok_or(SequenceError::OutOfRange)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hashes(range: std::ops::RangeInclusive<u64>) -> Vec<u64> {
        range
            .map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .collect()
    }

    fn fed(last: u64, batch: usize) -> Mark {
        let mut mark = Mark::begin(1, 1).unwrap();
        for part in hashes(1..=last).chunks(batch) {
            assert_eq!(
                mark.admit(mark.sequence() + 1, part),
                Ok(Admitted { duplicates: 0 })
            );
            mark.advance(part, |_, _| {});
        }
        mark
    }

    proptest! {
        #[test]
        fn a_repeat_is_known_whatever_the_batch_size(
            total in 1..5_000_u64, batch in 1..400_usize, again in 1..400_usize, more in 0..100_u64,
        ) {
            let mut mark = fed(total, batch);
            let mut first = 1;
            let mut new = 0;
            for part in hashes(1..=total + more).chunks(again) {
                let admitted = mark.admit(first, part).unwrap();
                new += part.len() - admitted.duplicates;
                mark.advance(&part[admitted.duplicates..], |_, _| {});
                first += part.len() as u64;
            }
            prop_assert_eq!(new as u64, more);
            prop_assert_eq!(mark.sequence(), total + more);
            prop_assert_eq!(mark.content(), fed(total + more, 7).content());
        }

        #[test]
        fn other_content_is_found_before_the_end_of_a_repeat(
            total in 1..20_000_u64, batch in 1..400_usize, again in 1..400_usize, at in 0..20_000_u64,
        ) {
            let mut mark = fed(total, batch);
            let mut other = hashes(1..=total);
            other[usize::try_from(at % total).unwrap()] ^= 1;
            let mut first = 1;
            let found = other.chunks(again).any(|part| {
                let refused = mark.admit(first, part).is_err();
                first += part.len() as u64;
                refused
            });
            prop_assert!(found);
        }
    }

    #[test]
    fn a_device_that_lost_its_counter_is_told_at_its_first_record() {
        let mut mark = fed(1_000_000, 256);
        assert_eq!(
            mark.admit(1, &[42]),
            Err(SequenceError::Reused { sequence: 1 })
        );
    }

    #[test]
    fn a_mark_stays_small() {
        assert!(fed(3_000_000, 100).sums.0.len() <= PRUNE_ABOVE + 100);
    }

    #[test]
    fn gaps_and_overflows_are_refused() {
        let mut mark = fed(10, 5);
        assert_eq!(
            mark.admit(12, &[1]),
            Err(SequenceError::Gap {
                expected: 11,
                first: 12
            })
        );
        assert_eq!(mark.admit(u64::MAX, &[1]), Err(SequenceError::OutOfRange));
        assert_eq!(mark.admit(0, &[1]), Err(SequenceError::OutOfRange));
        assert_eq!(Mark::begin(u64::MAX, 0), Err(SequenceError::OutOfRange));
        assert_eq!(mark.admit(11, &[1]), Ok(Admitted { duplicates: 0 }));
    }

    #[test]
    fn a_failed_append_is_undone() {
        let mut mark = fed(10, 5);
        let before = mark.content();
        mark.advance(&[1, 2, 3], |_, _| {});
        mark.back_to(10);
        assert_eq!((mark.sequence(), mark.content()), (10, before));
    }
}
