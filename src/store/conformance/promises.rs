//! Order, durability, batches, marks, losses, small maps.

use crate::{
    model::{FeedId, Frames, GapReason, MarkNote, Visibility},
    store::{Append, MAX_RECORD_BYTES, Read, Space, StoreError, Unit, gone::RESERVE_AHEAD},
};

use super::bed::*;

pub(super) fn what_is_appended_can_be_read_at_once(bed: impl Bed) {
    let ring = bed.ring();
    assert!(matches!(ring.read(0, 100).unwrap(), Read::AtTail));
    assert_eq!(ring.last_ingest_time(), None);
    append(&*ring, 3, 100, 5);
    append(&*ring, 2_000, 100, 6);
    assert_eq!(assert_whole(&*ring).tail, 2_003);
    assert_eq!(ring.last_ingest_time(), Some(6));
    assert!(matches!(ring.read(2_003, 100).unwrap(), Read::AtTail));
    assert!(matches!(ring.read(9_999, 100).unwrap(), Read::AtTail));
}

pub(super) fn a_read_is_at_least_one_record_and_near_its_limit(bed: impl Bed) {
    let ring = bed.ring();
    append(&*ring, 10, 50_000, 1);
    append(&*ring, 10, 100, 1);
    for from in 0..20 {
        let Read::Records(chunk) = ring.read(from, 300).unwrap() else {
            panic!("no records at {from}");
        };
        assert_eq!(chunk.span().from, from);
        assert!(chunk.len() == 1 || chunk.body_len() <= 300);
    }
}

pub(super) fn a_record_comes_back_byte_for_byte(mut bed: impl Bed) {
    let ring = bed.ring();
    let bytes: Vec<u8> = (0..=250).cycle().take(MAX_RECORD_BYTES).collect();
    let record = crate::model::NewRecord {
        bytes: bytes.clone().into(),
        event_time: 3,
    };
    put(&*ring, &[record], &[], 4, Unit::Record);
    drop(ring);
    bed.restart();
    let Read::Records(chunk) = bed.ring().read(0, 1).unwrap() else {
        panic!("no record");
    };
    let (offset, back) = chunk.records().next().unwrap();
    assert_eq!(offset, 0);
    assert_eq!(&back[..bytes.len()], &bytes[..]);
}

pub(super) fn a_record_above_the_limit_is_refused(bed: impl Bed) {
    let ring = bed.ring();
    let records = [record(MAX_RECORD_BYTES + 1, 0)];
    let refused = ring.append(Append {
        records: Frames::of(&records),
        ingest_time: 0,
        marks: &[],
        unit: Unit::Record,
    });
    assert!(matches!(refused, Err(StoreError::RecordTooLarge { .. })));
    assert_eq!(ring.bounds().tail, 0);
}

pub(super) fn a_flushed_append_survives_an_unclean_reopen(mut bed: impl Bed) {
    let ring = bed.ring();
    append(&*ring, 1_000, 200, 1);
    bed.flush();
    append(&*ring, 10, 200, 2);
    drop(ring);
    bed.cut_power();
    let ring = bed.ring();
    assert_eq!(assert_whole(&*ring).tail, 1_000);
    append(&*ring, 1_000, 200, 3);
    assert_eq!(assert_whole(&*ring).tail, 2_000);
}

pub(super) fn a_clean_restart_keeps_everything(mut bed: impl Bed) {
    let ring = bed.ring();
    append(&*ring, 1_234, 100, 1);
    drop(ring);
    for round in 1..4 {
        bed.restart();
        let ring = bed.ring();
        assert_eq!(assert_whole(&*ring).tail, 1_233 + round);
        append(&*ring, 1, 100, 2);
    }
}

pub(super) fn an_unfinished_batch_is_cut_at_open(mut bed: impl Bed) {
    let ring = bed.ring();
    let mark = |sequence| {
        Some(MarkNote {
            producer: 1,
            sequence,
            content: sequence,
        })
    };
    put(&*ring, &[record(10, 1)], &[mark(1)], 1, Unit::Batch);
    bed.flush();
    // Larger than what may be staged: the engine flushes in the middle of it.
    let batch = vec![record(20_000, 2); 12];
    let marks: Vec<_> = (2..14).map(mark).collect();
    put(&*ring, &batch, &marks, 2, Unit::Batch);
    drop(ring);
    bed.cut_power();
    let ring = bed.ring();
    assert_eq!(assert_whole(&*ring).tail, 1);
    let mut notes = Vec::new();
    ring.replay(0, &mut |block| notes.extend(block.marks))
        .unwrap();
    assert_eq!(notes, [mark(1).unwrap()]);
    append(&*ring, 40, 20_000, 3);
    bed.flush();
    assert_eq!(assert_whole(&*ring).tail, 41);
    drop(ring);
    bed.restart();
    assert_eq!(assert_whole(&*bed.ring()).tail, 41);
}

pub(super) fn a_batch_as_large_as_the_ring_is_cut_as_well(mut bed: impl Bed) {
    let ring = bed.ring();
    append(&*ring, 5, 100, 1);
    put(&*ring, &vec![record(20_000, 2); 100], &[], 2, Unit::Batch);
    drop(ring);
    bed.cut_power();
    let ring = bed.ring();
    let bounds = assert_whole(&*ring);
    assert_eq!((bounds.head, bounds.tail), (5, 5));
    append(&*ring, 3, 100, 3);
    assert_eq!(offsets(&*ring, 5), [5, 6, 7]);
}

pub(super) fn a_finished_batch_is_there_as_a_whole(mut bed: impl Bed) {
    let ring = bed.ring();
    put(&*ring, &vec![record(20_000, 2); 12], &[], 2, Unit::Batch);
    bed.flush();
    drop(ring);
    bed.cut_power();
    assert_eq!(assert_whole(&*bed.ring()).tail, 12);
}

pub(super) fn replay_gives_each_block_with_its_marks(mut bed: impl Bed) {
    let ring = bed.ring();
    let note = |i: u32| MarkNote {
        producer: i % 3,
        sequence: u64::from(i),
        content: 1,
    };
    let marks: Vec<_> = (0..100).map(|i| Some(note(i))).collect();
    put(
        &*ring,
        &vec![record(5_000, 0); 100],
        &marks,
        1,
        Unit::Record,
    );
    drop(ring);
    bed.restart();
    let ring = bed.ring();
    let mut next = 0;
    ring.replay(0, &mut |block| {
        assert_eq!(block.records.span().from, next);
        next = block.records.span().to;
        let mut newest = block.marks;
        newest.sort_by_key(|mark| mark.sequence);
        let last = u32::try_from(next).unwrap();
        assert_eq!(newest, [note(last - 3), note(last - 2), note(last - 1)]);
    })
    .unwrap();
    assert_eq!(next, 100);
    let mut from_middle = Vec::new();
    ring.replay(50, &mut |block| from_middle.push(block.records.span()))
        .unwrap();
    assert!(from_middle[0].contains(50));
    assert_eq!(from_middle.last().unwrap().to, 100);
}

pub(super) fn a_block_holds_no_more_marks_than_fit(bed: impl Bed) {
    let ring = bed.ring();
    let mark = |producer| {
        Some(MarkNote {
            producer,
            sequence: 1,
            content: 1,
        })
    };
    let marks: Vec<_> = (0..250).map(mark).collect();
    put(&*ring, &vec![record(10, 0); 250], &marks, 1, Unit::Record);
    let mut seen = Vec::new();
    ring.replay(0, &mut |block| {
        assert_eq!(block.marks.len(), block.records.len());
        seen.extend(block.marks.iter().map(|mark| mark.producer));
    })
    .unwrap();
    assert_eq!(seen, (0..250).collect::<Vec<_>>());
}

pub(super) fn what_an_immediate_ring_may_have_shown_is_never_used_again(mut bed: impl Bed) {
    let ring = bed.immediate();
    append(&*ring, 10, 100, 1);
    bed.flush();
    append(&*ring, 5, 100, 2);
    drop(ring);
    bed.cut_power();
    let ring = bed.immediate();
    let tail = 10 + RESERVE_AHEAD;
    assert_eq!(ring.bounds().tail, tail);
    append(&*ring, 2, 100, 3);
    let (records, gaps) = drain(&*ring, 0);
    assert_eq!(records.len(), 12);
    assert_eq!(gaps, [gap(10, tail, None, GapReason::Lost)]);
    // Once more, before anything of the new reservation is flushed.
    drop(ring);
    bed.cut_power();
    let again = bed.immediate().bounds().tail;
    assert!(again >= tail + 2, "{again} was handed out before");
}

pub(super) fn an_immediate_ring_that_was_closed_lost_nothing(mut bed: impl Bed) {
    let ring = bed.immediate();
    append(&*ring, 10, 100, 1);
    drop(ring);
    bed.restart();
    let ring = bed.immediate();
    assert_eq!(assert_whole(&*ring).tail, 10);
    drop(ring);
    bed.cut_power();
    assert_eq!(assert_whole(&*bed.immediate()).tail, 10);
}

pub(super) fn a_ring_that_becomes_durable_reserves_no_longer(mut bed: impl Bed) {
    let ring = bed.immediate();
    append(&*ring, 10, 100, 1);
    ring.set_visibility(Visibility::Durable).unwrap();
    bed.flush();
    drop(ring);
    bed.cut_power();
    let ring = bed.ring();
    assert_eq!(assert_whole(&*ring).tail, 10);
    ring.set_visibility(Visibility::Immediate).unwrap();
    append(&*ring, 1, 100, 1);
    drop(ring);
    bed.cut_power();
    assert!(bed.ring().bounds().tail > 11);
}

pub(super) fn small_entries_are_durable_with_the_flush(mut bed: impl Bed) {
    let spaces = [Space::Catalog, Space::Marks, Space::Latest, Space::Cursors];
    for space in spaces {
        for key in ["a", "ab1", "ab2", "b"] {
            bed.engine()
                .put(space, key.as_bytes(), Some(space.name().as_bytes()))
                .unwrap();
        }
        bed.engine().put(space, b"b", None).unwrap();
    }
    bed.flush();
    bed.engine()
        .put(Space::Catalog, b"a", Some(b"lost"))
        .unwrap();
    bed.engine().put(Space::Catalog, b"ab1", None).unwrap();
    assert_eq!(bed.engine().get(Space::Catalog, b"ab1").unwrap(), None);
    bed.cut_power();
    for space in spaces {
        let value = space.name().as_bytes().to_vec();
        assert_eq!(bed.engine().get(space, b"a").unwrap(), Some(value.clone()));
        assert_eq!(bed.engine().get(space, b"b").unwrap(), None);
        let found = bed.engine().scan(space, b"ab").unwrap();
        assert_eq!(
            found,
            [(b"ab1".to_vec(), value.clone()), (b"ab2".to_vec(), value)]
        );
        assert_eq!(bed.engine().scan(space, b"").unwrap().len(), 3);
    }
}

pub(super) fn feeds_do_not_see_each_other(mut bed: impl Bed) {
    for feed in 0..4 {
        let ring = bed.open(FeedId(feed), MIB, Visibility::Durable);
        append(&*ring, 10 * (feed as usize + 1), 7_000, 1);
    }
    bed.restart();
    for feed in 0..4 {
        let ring = bed.open(FeedId(feed), MIB, Visibility::Durable);
        assert_eq!(assert_whole(&*ring).tail, 10 * u64::from(feed + 1));
    }
}

pub(super) fn a_deleted_ring_begins_anew(mut bed: impl Bed) {
    let ring = bed.ring();
    append(&*ring, 100, 5_000, 1);
    bed.flush();
    bed.engine().delete_ring(FEED).unwrap();
    bed.flush();
    drop(ring);
    bed.restart();
    let ring = bed.ring();
    assert_eq!((ring.bounds().head, ring.bounds().tail), (0, 0));
    append(&*ring, 3, 10, 1);
    assert_eq!(assert_whole(&*ring).tail, 3);
}

pub(super) fn nothing_is_written_after_close(bed: impl Bed) {
    let ring = bed.ring();
    bed.engine().close().unwrap();
    let records = [record(1, 1)];
    let late = Append {
        records: Frames::of(&records),
        ingest_time: 1,
        marks: &[],
        unit: Unit::Record,
    };
    assert!(matches!(ring.append(late), Err(StoreError::Stopped { .. })));
    let put = bed.engine().put(Space::Catalog, b"a", Some(b"b"));
    assert!(matches!(put, Err(StoreError::Stopped { .. })));
    assert!(matches!(
        bed.engine().flush(),
        Err(StoreError::Stopped { .. })
    ));
}
