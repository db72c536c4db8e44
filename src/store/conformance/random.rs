//! Random lives of a ring: sled must show what the reference shows, at each step and from each
//! offset.

use std::{cell::RefCell, sync::Arc};

use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

use crate::{
    model::{FeedId, Frames, MarkNote, Visibility},
    store::{Append, Clock, Ring, Space, Unit},
};

use super::bed::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        sizes: Vec<usize>,
        unit: Unit,
    },
    Flush,
    /// In hundredths of head..tail.
    Trim(u64),
    /// That many appends ago.
    Expire(i64),
    Resize(u64),
    Put(u8, Option<u8>),
    Restart,
    CutPower,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let unit = prop_oneof![Just(Unit::Record), Just(Unit::Batch)];
    let sizes = prop_oneof![
        3 => vec(0..400_usize, 1..60),
        3 => vec(5_000..60_000_usize, 1..12),
        1 => vec(100..60_000_usize, 10..40),
    ];
    let step = prop_oneof![
        14 => (sizes, unit).prop_map(|(sizes, unit)| Step::Append { sizes, unit }),
        6 => Just(Step::Flush),
        1 => (0..101_u64).prop_map(Step::Trim),
        1 => (0..10_i64).prop_map(Step::Expire),
        1 => (1..4_u64).prop_map(Step::Resize),
        2 => (0..5_u8, any::<Option<u8>>()).prop_map(|(key, value)| Step::Put(key, value)),
        1 => Just(Step::Restart),
        1 => Just(Step::CutPower),
    ];
    vec(step, 1..20)
}

/// A ring on a bed, and the clock of its appends.
struct Life<'a, B> {
    bed: &'a mut B,
    feed: FeedId,
    visibility: Visibility,
    time: i64,
}

impl<'a, B: Bed> Life<'a, B> {
    fn new(bed: &'a mut B, feed: FeedId, visibility: Visibility) -> Self {
        Self {
            bed,
            feed,
            visibility,
            time: 0,
        }
    }

    fn ring(&self) -> Arc<dyn Ring> {
        self.bed.open(self.feed, MIB, self.visibility)
    }

    fn end(self) {
        // A deletion may flush, so that what is staged beside it would differ.
        self.bed.flush();
        self.bed.engine().delete_ring(self.feed).unwrap();
        self.bed.flush();
    }

    /// What it answers where it may refuse.
    fn take(&mut self, step: &Step) -> Option<String> {
        let ring = self.ring();
        match step {
            Step::Append { sizes, unit } => self.append(&*ring, sizes, *unit),
            Step::Flush => self.bed.flush(),
            Step::Trim(part) => {
                let bounds = ring.bounds();
                let before = bounds.head + (bounds.tail - bounds.head) * part / 100;
                ring.trim(before).unwrap();
            }
            Step::Expire(ago) => {
                ring.expire(self.time - ago).unwrap();
            }
            Step::Resize(mib) => return ring.resize(mib * MIB).err().map(|e| e.to_string()),
            Step::Put(key, value) => {
                let value = value.map(|value| [value]);
                let value = value.as_ref().map(|value| &value[..]);
                self.bed
                    .engine()
                    .put(Space::Latest, &[*key], value)
                    .unwrap();
            }
            Step::Restart => {
                drop(ring);
                self.bed.restart();
            }
            Step::CutPower => {
                drop(ring);
                self.bed.cut_power();
            }
        }
        None
    }

    fn append(&mut self, ring: &dyn Ring, sizes: &[usize], unit: Unit) {
        self.time += 1;
        let event = |i: usize| self.time * 10 - (i as i64 * 7) % 50;
        let records: Vec<_> = sizes
            .iter()
            .enumerate()
            .map(|(i, s)| record(*s, event(i)))
            .collect();
        let mark = |i: usize| MarkNote {
            producer: u32::try_from(i % 5).unwrap(),
            sequence: ring.bounds().tail + i as u64,
            content: 0,
        };
        let marks: Vec<_> = (0..sizes.len())
            .map(|i| (i % 5 > 0).then(|| mark(i)))
            .collect();
        let append = Append {
            records: Frames::of(&records),
            ingest_time: self.time,
            marks: &runs(&marks),
            unit,
        };
        ring.append(append).unwrap();
    }

    /// All there is to see.
    fn show(&self) -> String {
        let ring = self.ring();
        let bounds = ring.bounds();
        let middle = bounds.head.midpoint(bounds.tail);
        let reads: Vec<_> = [0, bounds.head / 2, bounds.head, middle, bounds.tail]
            .into_iter()
            .map(|from| drain(&*ring, from))
            .collect();
        let mut blocks = Vec::new();
        ring.replay(0, &mut |block| {
            blocks.push((block.records.span(), block.marks));
        })
        .unwrap();
        let seeks: Vec<_> = (0..self.time + 2)
            .map(|t| {
                (
                    ring.seek(Clock::Ingest, t).unwrap(),
                    ring.seek(Clock::Event, t * 10).unwrap(),
                )
            })
            .collect();
        let small = self.bed.engine().scan(Space::Latest, &[]).unwrap();
        let last = ring.last_ingest_time();
        // Where blocks were emptied, engines may differ in the bytes they count.
        let bounds = (bounds.head, bounds.tail);
        format!("{bounds:?} {last:?}\n{reads:?}\n{blocks:?}\n{seeks:?}\n{small:?}")
    }
}

fn live(
    memory: &mut MemoryBed,
    sled: &mut SledBed,
    feed: FeedId,
    steps: &[Step],
    visibility: Visibility,
) -> Result<(), TestCaseError> {
    let mut memory = Life::new(memory, feed, visibility);
    let mut sled = Life::new(sled, feed, visibility);
    for step in steps {
        prop_assert_eq!(memory.take(step), sled.take(step), "{:?}", step);
        let (expected, found) = (memory.ring().bounds(), sled.ring().bounds());
        prop_assert_eq!(
            (expected.head, expected.tail),
            (found.head, found.tail),
            "{:?}",
            step
        );
        if matches!(step, Step::Restart | Step::CutPower) {
            prop_assert_eq!(memory.show(), sled.show());
        }
    }
    prop_assert_eq!(memory.show(), sled.show());
    memory.end();
    sled.end();
    Ok(())
}

/// All lives are led on one pair of engines, one feed after the other: opening sled is slow.
#[test]
fn sled_shows_what_the_reference_shows() {
    let beds = RefCell::new((MemoryBed::new(), SledBed::new(), 0));
    let visibility = prop_oneof![Just(Visibility::Durable), Just(Visibility::Immediate)];
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(256)
    });
    let outcome = runner.run(&(steps(), visibility), |(steps, visibility)| {
        let (memory, sled, feed) = &mut *beds.borrow_mut();
        *feed += 1;
        live(memory, sled, FeedId(*feed), &steps, visibility)
    });
    outcome.unwrap();
}
