//! Eviction, trim, age, resize, seek.

use crate::{
    model::{GapReason, Visibility},
    store::{Clock, StoreError, Unit},
};

use super::bed::*;

/// Fills a ring of 1 MiB several times over, flushing now and then.
fn turn_over(bed: &impl Bed, rounds: i64) {
    let ring = bed.ring();
    for round in 0..rounds {
        append(&*ring, 10, 10_000, round);
        if round % 3 == 0 {
            bed.flush();
        }
    }
    bed.flush();
}

pub(super) fn evicted_range_arrives_as_a_gap(bed: impl Bed) {
    turn_over(&bed, 40);
    let ring = bed.ring();
    let bounds = assert_whole(&*ring);
    assert!(bounds.head > 0 && bounds.bytes <= MIB);
    let (_, gaps) = drain(&*ring, 3);
    let evicted = gap(3, bounds.head, Some(bounds.head - 3), GapReason::Evicted);
    assert_eq!(gaps, [evicted]);
}

pub(super) fn a_ring_keeps_most_of_its_bytes(bed: impl Bed) {
    turn_over(&bed, 40);
    let bounds = bed.ring().bounds();
    let kept = (bounds.tail - bounds.head) * 10_000;
    assert!(kept > MIB * 3 / 4, "only {kept} bytes are kept");
}

pub(super) fn the_head_of_a_flush_can_be_read_until_the_next(bed: impl Bed) {
    turn_over(&bed, 40);
    let ring = bed.ring();
    let flushed = ring.bounds().head;
    append(&*ring, 12, 10_000, 50);
    assert_eq!(offsets(&*ring, flushed).first(), Some(&flushed));
}

pub(super) fn head_never_moves_back_over_reopen(mut bed: impl Bed) {
    let mut last = bed.ring().bounds();
    for round in 0..6 {
        turn_over(&bed, 12);
        append(&*bed.ring(), 20, 10_000, 100);
        let seen = bed.ring().bounds();
        if round % 2 == 0 {
            bed.cut_power();
        } else {
            bed.restart();
        }
        let bounds = assert_whole(&*bed.ring());
        assert!(bounds.head >= seen.head && bounds.head >= last.head);
        last = bounds;
    }
    assert!(last.head > 0);
}

pub(super) fn trim_is_exact_to_the_record(mut bed: impl Bed) {
    let ring = bed.ring();
    append(&*ring, 1_000, 1_000, 1);
    for before in [1, 2, 500, 400, 999] {
        ring.trim(before).unwrap();
    }
    bed.flush();
    drop(ring);
    bed.cut_power();
    let ring = bed.ring();
    assert_eq!(ring.bounds().head, 999);
    let (records, gaps) = drain(&*ring, 10);
    assert_eq!(records.len(), 1);
    assert_eq!(gaps, [gap(10, 999, Some(989), GapReason::Trimmed)]);
    assert_eq!(ring.trim(u64::MAX).unwrap().head, 1_000);
    append(&*ring, 1, 10, 2);
    assert_eq!(offsets(&*ring, 1_000), [1_000]);
}

pub(super) fn what_was_trimmed_and_then_evicted_says_both(bed: impl Bed) {
    let ring = bed.ring();
    append(&*ring, 10, 10_000, 1);
    ring.trim(5).unwrap();
    turn_over(&bed, 40);
    let (_, gaps) = drain(&*ring, 2);
    let head = ring.bounds().head;
    let trimmed = gap(2, 5, Some(3), GapReason::Trimmed);
    let evicted = gap(5, head, Some(head - 5), GapReason::Evicted);
    assert_eq!(gaps, [trimmed, evicted]);
}

pub(super) fn age_takes_whole_blocks_and_the_tail_last(mut bed: impl Bed) {
    let ring = bed.ring();
    for time in 0..40 {
        append(&*ring, 1, 20_000, time);
    }
    assert_eq!(ring.expire(-5).unwrap().head, 0);
    let head = ring.expire(20).unwrap().head;
    assert!((15..=20).contains(&head), "{head}");
    assert_eq!(offsets(&*ring, head).len() as u64, 40 - head);
    let kept = ring.expire(39).unwrap().head;
    assert!(kept < 40);
    bed.flush();
    drop(ring);
    bed.cut_power();
    let ring = bed.ring();
    assert_eq!(ring.bounds().head, kept);
    let gone = ring.expire(40).unwrap();
    assert_eq!((gone.head, gone.tail), (40, 40));
    assert_eq!(ring.last_ingest_time(), Some(39));
    append(&*ring, 2, 100, 41);
    assert_eq!(offsets(&*ring, 40), [40, 41]);
}

pub(super) fn seek_finds_the_block_of_a_time(mut bed: impl Bed) {
    let ring = bed.ring();
    for time in 0..40 {
        // Event times run backwards within each ten.
        let event = time / 10 * 10 + (9 - time % 10);
        put(&*ring, &[record(20_000, event)], &[], time, Unit::Record);
    }
    drop(ring);
    // Once with an empty index, once with what the first round left in it.
    bed.restart();
    for _ in 0..2 {
        let ring = bed.ring();
        assert_eq!(ring.seek(Clock::Ingest, -1).unwrap(), 0);
        for time in 0..40 {
            let at = ring.seek(Clock::Ingest, time).unwrap();
            let wanted = u64::try_from(time).unwrap();
            assert!(at <= wanted && wanted - at < 3, "ingest {time}: {at}");
            let at = ring.seek(Clock::Event, time).unwrap();
            let first = u64::try_from(time / 10 * 10).unwrap();
            assert!(at <= first && first - at < 3, "event {time}: {at}");
        }
        assert_eq!(ring.seek(Clock::Ingest, 40).unwrap(), 40);
        assert_eq!(ring.seek(Clock::Event, 40).unwrap(), 40);
    }
    let ring = bed.ring();
    ring.trim(25).unwrap();
    assert_eq!(ring.seek(Clock::Ingest, 3).unwrap(), 25);
}

pub(super) fn a_ring_that_grows_keeps_all_and_takes_more(mut bed: impl Bed) {
    turn_over(&bed, 20);
    let ring = bed.ring();
    let before = ring.bounds();
    assert_eq!(ring.resize(3 * MIB).unwrap().head, before.head);
    assert!(matches!(ring.resize(4 * MIB), Err(StoreError::Resizing)));
    turn_over(&bed, 15);
    assert_eq!(assert_whole(&*ring).head, before.head);
    drop(ring);
    bed.cut_power();
    let ring = bed.ring();
    assert_eq!(ring.max_bytes(), 3 * MIB);
    assert_eq!(assert_whole(&*ring).head, before.head);
    turn_over(&bed, 60);
    assert!(assert_whole(&*ring).head > before.tail);
    assert!(ring.bounds().bytes > MIB);
    ring.resize(2 * MIB).unwrap();
}

pub(super) fn a_ring_that_shrinks_keeps_the_newest(mut bed: impl Bed) {
    let ring = bed.open(FEED, 4 * MIB, Visibility::Durable);
    append(&*ring, 250, 10_000, 1);
    bed.flush();
    let shrunk = ring.resize(MIB).unwrap();
    assert!(shrunk.head > 100 && shrunk.tail == 250 && shrunk.bytes <= MIB);
    assert_eq!(assert_whole(&*ring), shrunk);
    bed.flush();
    bed.flush();
    drop(ring);
    bed.cut_power();
    assert_eq!(assert_whole(&*bed.ring()).head, shrunk.head);
    turn_over(&bed, 30);
    assert!(assert_whole(&*bed.ring()).bytes <= MIB);
}

pub(super) fn a_ring_is_at_least_a_mebibyte(bed: impl Bed) {
    assert!(matches!(
        bed.ring().resize(1_000),
        Err(StoreError::RingTooSmall { .. })
    ));
}
