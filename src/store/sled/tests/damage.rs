//! Flipped bytes, files cut short, blocks out of place.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
};

use crate::{
    model::{GapReason, Visibility},
    store::{Space, StoreError, conformance::bed::*},
};

use super::{
    super::{SledEngine, check},
    fill, flip, key, metadata,
};

#[test]
fn a_kill_inside_open_loses_nothing() {
    let mut bed = SledBed::new();
    fill(&*bed.ring(), 10);
    bed.engine().put(Space::Catalog, b"a", Some(b"b")).unwrap();
    // From the log into the snapshot: the log is empty now, as in the midst of an open.
    bed.restart();
    bed.tamper(|dir| {
        for log in metadata(dir, "log_") {
            fs::remove_file(log).unwrap();
        }
    });
    assert_eq!(assert_whole(&*bed.ring()).tail, 10);
    bed.restart();
    assert_eq!(assert_whole(&*bed.ring()).tail, 10);
    assert!(bed.engine().get(Space::Catalog, b"a").unwrap().is_some());
}

#[test]
fn a_cookie_cut_short_is_written_anew() {
    let mut bed = SledBed::new();
    fill(&*bed.ring(), 3);
    bed.tamper(|dir| fs::write(dir.join("sled/durability_cookie"), []).unwrap());
    assert_eq!(assert_whole(&*bed.ring()).tail, 3);
}

#[test]
fn a_newer_format_is_refused() {
    let mut bed = SledBed::new();
    fill(&*bed.ring(), 1);
    let seam = &bed.sled().core.seam;
    let mut block = seam.get_block(&key(0)).unwrap().unwrap().to_vec();
    block[4] = 2;
    seam.put_block(key(0), block).unwrap();
    bed.restart();
    let spec = crate::store::RingSpec {
        feed: FEED,
        epoch: 99,
        max_bytes: MIB,
        visibility: Visibility::Durable,
    };
    let ring = bed.engine().open_ring(spec);
    assert!(matches!(
        ring,
        Err(StoreError::NewerFormat { found: 2, .. })
    ));
    bed.stop();
    fs::write(bed.dir().join("FORMAT"), "ringfeed 3\n").unwrap();
    let engine = SledEngine::open(options(bed.dir()));
    assert!(matches!(
        engine,
        Err(StoreError::NewerFormat {
            found: 3,
            known: 2,
            ..
        })
    ));
}

#[test]
fn a_damaged_block_is_a_gap_and_the_ring_goes_on() {
    let mut bed = SledBed::new();
    fill(&*bed.ring(), 20);
    bed.tamper(|dir| flip(dir, 4));
    let ring = bed.ring();
    let (records, gaps) = drain(&*ring, 0);
    let bad: u64 = gaps.iter().map(|gap| gap.span.len()).sum();
    assert_eq!(records.len() as u64 + bad, 20);
    assert!(gaps.iter().all(|gap| gap.reason == GapReason::Corrupt));
    assert!(
        gaps.iter()
            .any(|gap| gap.span.contains(4) && gap.count == Some(gap.span.len()))
    );
    // Over its slot and around.
    for round in 30..60 {
        append(&*ring, 10, 10_000, round);
        bed.flush();
    }
    assert_whole(&*ring);
    drop(ring);
    bed.restart();
    assert_whole(&*bed.ring());
}

#[test]
fn damage_met_while_something_is_staged_loses_nothing_else() {
    let mut bed = SledBed::new();
    fill(&*bed.ring(), 20);
    bed.engine().put(Space::Catalog, b"a", Some(b"b")).unwrap();
    bed.tamper(|dir| flip(dir, 4));
    let ring = bed.ring();
    append(&*ring, 1, 10, 30);
    bed.engine().put(Space::Catalog, b"c", Some(b"d")).unwrap();
    assert!(!matches!(
        ring.read(4, 1),
        Ok(crate::store::Read::Records(_))
    ));
    let (records, gaps) = drain(&*ring, 0);
    assert_eq!((records.len(), gaps.len()), (19, 1));
    bed.flush();
    drop(ring);
    bed.cut_power();
    assert_eq!(drain(&*bed.ring(), 0), (records, gaps));
    let small = bed.engine().scan(Space::Catalog, b"").unwrap();
    assert_eq!(small.len(), 2);
}

#[test]
fn a_damaged_slot_is_sound_again_once_it_is_overwritten() {
    let mut bed = SledBed::new();
    fill(&*bed.ring(), 20);
    bed.tamper(|dir| flip(dir, 4));
    let ring = bed.ring();
    assert_eq!(drain(&*ring, 0).1.len(), 1);
    assert!(!suspects(bed.dir()).is_empty());
    for round in 30..60 {
        append(&*ring, 10, 10_000, round);
        bed.flush();
    }
    assert_whole(&*ring);
    assert_eq!(suspects(bed.dir()), "");
}

fn suspects(dir: &Path) -> String {
    fs::read_to_string(dir.join("bad-slots")).unwrap()
}

#[test]
fn a_block_in_a_foreign_slot_is_not_served() {
    let bed = SledBed::new();
    let ring = bed.ring();
    fill(&*ring, 20);
    let seam = &bed.sled().core.seam;
    let second = seam.get_block(&key(1)).unwrap().unwrap();
    seam.put_block(key(3), second.to_vec()).unwrap();
    let mut flipped = seam.get_block(&key(5)).unwrap().unwrap().to_vec();
    flipped[40_000] ^= 1;
    seam.put_block(key(5), flipped).unwrap();
    let (records, gaps) = drain(&*ring, 0);
    assert_eq!(records.len(), 16);
    let corrupt = |from| gap(from, from + 2, Some(2), GapReason::Corrupt);
    assert_eq!(gaps, [corrupt(6), corrupt(10)]);
    assert_eq!(offsets(&*ring, 12).len(), 8);
}

#[test]
fn offsets_of_a_damaged_tail_block_are_not_used_again() {
    let mut bed = SledBed::new();
    fill(&*bed.ring(), 9);
    let seam = &bed.sled().core.seam;
    let mut tail = seam.get_block(&key(4)).unwrap().unwrap().to_vec();
    tail[100] ^= 1;
    seam.put_block(key(4), tail).unwrap();
    bed.restart();
    let ring = bed.ring();
    assert!(ring.bounds().tail > 9);
    append(&*ring, 1, 10, 50);
    let (records, gaps) = drain(&*ring, 0);
    assert_eq!((records.len(), gaps.len()), (9, 1));
    assert_eq!((gaps[0].span.from, gaps[0].reason), (8, GapReason::Lost));
    drop(ring);
    bed.restart();
    assert_eq!(drain(&*bed.ring(), 0), (records, gaps));
}

/// A block that cannot be read takes the database with it, again and again as others are met:
/// nobody beside it notices.
#[test]
fn damage_is_met_by_readers_while_others_write() {
    let mut bed = SledBed::new();
    let ring = bed.open(FEED, 8 * MIB, Visibility::Durable);
    fill(&*ring, 90);
    drop(ring);
    bed.tamper(|dir| (10..80).step_by(20).for_each(|i| flip(dir, i)));
    let ring = bed.ring();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for time in 100..150 {
                append(&*ring, 2, 10_000, time);
                bed.flush();
            }
        });
        let mut reading = Vec::new();
        for _ in 0..3 {
            reading.push(scope.spawn(|| drain(&*ring, 0)));
        }
        for reading in reading {
            let (records, gaps) = reading.join().unwrap();
            assert!(records.len() >= 82, "{} of 90", records.len());
            assert_eq!(gaps.len(), 4);
        }
        writing.join().unwrap();
    });
    let (records, gaps) = drain(&*ring, 0);
    let bad: u64 = gaps.iter().map(|gap| gap.span.len()).sum();
    assert_eq!((records.len() as u64, gaps.len()), (190 - bad, 4));
    drop(ring);
    bed.cut_power();
    assert_eq!(drain(&*bed.ring(), 0), (records, gaps));
}

#[test]
fn check_finds_what_is_wrong() {
    let mut bed = SledBed::new();
    fill(&*bed.ring(), 20);
    bed.stop();
    let sound = check(bed.dir()).unwrap();
    assert!(sound.is_sound() && sound.logs.iter().any(|log| log.frames > 0));
    let ring = &sound.rings[0];
    assert_eq!(
        (ring.feed, ring.epoch, ring.head, ring.tail),
        (FEED, 99, 0, 20)
    );
    assert_eq!((ring.blocks, ring.records), (10, 20));
    flip(bed.dir(), 4);
    let bad = check(bed.dir()).unwrap();
    assert!(!bad.is_sound() && !bad.rings[0].bad.is_empty());
    bed.start();
    assert!(!drain(&*bed.ring(), 0).1.is_empty());
    bed.stop();
    let snapshot = metadata(bed.dir(), "snapshot_").pop().unwrap();
    let file = OpenOptions::new().write(true).open(snapshot).unwrap();
    file.write_all_at(&[0xEE, 0xEE], 20).unwrap();
    let bad = check(bed.dir()).unwrap();
    assert!(!bad.is_sound() && bad.rings.is_empty());
    assert_eq!(
        bad.logs
            .iter()
            .filter(|log| log.damaged_at == Some(0))
            .count(),
        1
    );
}
