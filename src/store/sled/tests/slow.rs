//! Many feeds that grow by little: notes, folding, and what a crash or damage leaves of them.

use std::{sync::Arc, time::Instant};

use crate::{
    model::{FeedId, GapReason, NewRecord, Visibility},
    store::{Ring, Unit, conformance::bed::*},
};

use super::{super::check, flip};

fn feeds(bed: &SledBed, count: u32) -> Vec<Arc<dyn Ring>> {
    (1..=count)
        .map(|feed| bed.open(FeedId(feed), MIB, Visibility::Durable))
        .collect()
}

/// A round: one record for each feed and one flush, which must be one.
fn round(bed: &SledBed, rings: &[Arc<dyn Ring>], time: i64) {
    for ring in rings {
        append(&**ring, 1, 112, time);
    }
    let before = bed.sled().core.seam.flushes();
    bed.flush();
    assert_eq!(bed.sled().core.seam.flushes(), before + 1);
}

#[test]
fn a_thousand_slow_feeds_share_a_flush_and_write_little() {
    const FEEDS: u32 = 1_000;
    const ROUNDS: u32 = 300;
    let mut bed = SledBed::new();
    let rings = feeds(&bed, FEEDS);
    bed.flush();
    let before = bed.engine().io().block_bytes_written;
    for time in 0..ROUNDS {
        round(&bed, &rings, time.into());
    }
    let written = bed.engine().io().block_bytes_written - before;
    let records = u64::from(FEEDS * ROUNDS) * 112;
    assert!(written > 2 * records, "blocks were folded: {written}");
    assert!(written <= 10 * records, "{written} bytes for {records}");
    eprintln!(
        "{:.1} bytes written per byte",
        written as f64 / records as f64
    );
    drop(rings);
    bed.cut_power();
    let opened = Instant::now();
    for ring in feeds(&bed, FEEDS) {
        assert_eq!(ring.bounds().tail, u64::from(ROUNDS));
        assert_eq!(offsets(&*ring, u64::from(ROUNDS) - 2).len(), 2);
    }
    eprintln!("opened in {:?}", opened.elapsed());
}

#[test]
fn a_lone_record_costs_hundreds_of_bytes() {
    let bed = SledBed::new();
    let ring = bed.ring();
    append(&*ring, 300, 100, 1);
    bed.flush();
    let before = bed.engine().io().block_bytes_written;
    append(&*ring, 1, 112, 2);
    bed.flush();
    let written = bed.engine().io().block_bytes_written - before;
    assert!(written < 1_000, "{written}");
}

/// Rounds of feeds of all paces, cut at each flush: some blocks are in notes, some in slots, some
/// in both.
#[test]
fn a_cut_between_any_two_flushes_loses_nothing() {
    let mut bed = SledBed::new();
    for time in 0..24_usize {
        let rings = feeds(&bed, 6);
        for (pace, ring) in rings.iter().enumerate() {
            append(&**ring, 1 + pace * pace * 4, 200 + pace * 100, time as i64);
        }
        bed.flush();
        let tails: Vec<_> = rings.iter().map(|ring| ring.bounds().tail).collect();
        append(&*rings[time % 6], 40, 300, time as i64);
        drop(rings);
        if time % 3 == 0 {
            bed.restart();
            continue;
        }
        bed.cut_power();
        for (ring, tail) in feeds(&bed, 6).iter().zip(tails) {
            assert_eq!(assert_whole(&**ring).tail, tail);
        }
    }
}

#[test]
fn a_damaged_note_is_a_loss_in_every_ring_and_no_offset_is_used_twice() {
    let mut bed = SledBed::new();
    let rings = feeds(&bed, 3);
    for ring in &rings {
        append(&**ring, 70, 1_000, 1);
    }
    bed.flush();
    for ring in &rings {
        let records = [NewRecord {
            bytes: vec![8; 2_000].into(),
            event_time: 0,
        }];
        put(&**ring, &records, &[], 2, Unit::Record);
    }
    bed.flush();
    drop(rings);
    bed.stop();
    flip(bed.dir(), 7);
    assert!(!check(bed.dir()).unwrap().is_sound());
    bed.start();
    let mut tails = Vec::new();
    for ring in feeds(&bed, 3) {
        let bounds = ring.bounds();
        assert!(bounds.tail > 71);
        append(&*ring, 1, 10, 3);
        let (records, gaps) = drain(&*ring, 0);
        assert!(records.len() >= 63, "{}", records.len());
        assert_eq!((gaps.len(), gaps[0].reason), (1, GapReason::Lost));
        tails.push(bounds.tail + 1);
    }
    bed.restart();
    assert!(check_again(&mut bed));
    let after: Vec<_> = feeds(&bed, 3)
        .iter()
        .map(|ring| ring.bounds().tail)
        .collect();
    assert_eq!(after, tails);
}

fn check_again(bed: &mut SledBed) -> bool {
    bed.stop();
    let sound = check(bed.dir()).unwrap().is_sound();
    bed.start();
    sound
}
