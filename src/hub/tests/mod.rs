//! What needs no process: who is told what while a flush is under way or after it failed.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "any other step is not what the test is about, and fails it"
)]

mod bar_histories;
mod bars;
mod bed;
mod cursors;
mod devices;
mod fidelity;
mod flushes;
mod found;
mod slow;
mod views;

use std::sync::Arc;

use self::bed::{Bed, producer, record};
use super::{AppendError, End, Mode, SequenceError, Start, Step};
use crate::model::{Cursor, GapReason, Visibility};

#[tokio::test]
async fn a_producer_name_belongs_to_its_principal() {
    let bed = Bed::new(Visibility::Durable).await;
    let (mine, yours) = (producer("me", "p"), producer("you", "p"));
    assert_eq!(bed.store(&mine, 1, 10).await.unwrap(), (10, 0));
    assert_eq!(bed.store(&yours, 1, 3).await.unwrap(), (3, 0));
    assert_eq!(bed.store(&yours, 4, 2).await.unwrap(), (2, 0));
    let other = bed.send_records(
        Some((mine.clone(), 1)),
        vec![record("x", 0)],
        Mode::StoreValid,
    );
    let reused = other.await.ack().await.unwrap_err();
    assert!(matches!(
        reused,
        AppendError::Sequence(SequenceError::Reused { sequence: 1 })
    ));
    assert_eq!(bed.store(&mine, 1, 12).await.unwrap(), (2, 10));
    let view = |key| {
        bed.hub
            .producer(bed.feed.name(), key)
            .unwrap()
            .durable_sequence
    };
    assert_eq!((view(&mine), view(&yours)), (12, 5));
    let bed = bed.cut_power();
    assert_eq!(bed.store(&yours, 1, 6).await.unwrap(), (1, 5));
    assert_eq!(bed.store(&mine, 1, 12).await.unwrap(), (0, 12));
}

#[tokio::test]
async fn an_atomic_batch_that_is_refused_leaves_the_mark() {
    let bed = Bed::new(Visibility::Durable).await;
    let key = producer("me", "p");
    let half_bad = vec![record("p", 1), record("", 2)];
    let refused = bed.send_records(Some((key.clone(), 1)), half_bad, Mode::Atomic);
    let refused = refused.await.ack().await.unwrap_err();
    assert!(matches!(refused, AppendError::Atomic { index: 1, .. }));
    assert!(
        bed.hub.producer(bed.feed.name(), &key).is_err(),
        "still unknown"
    );
    assert_eq!(bed.store(&key, 1, 2).await.unwrap(), (2, 0));
    assert_eq!(bed.visible().await, [0, 1]);
}

#[tokio::test]
async fn a_failed_append_takes_every_later_batch_back_with_it() {
    let bed = Bed::new(Visibility::Durable).await;
    let (old, born) = (producer("me", "old"), producer("me", "born"));
    assert_eq!(bed.store(&old, 1, 10).await.unwrap(), (10, 0));

    // While a flush is under way, what comes is gathered for one commit of several groups.
    bed.control.hold();
    let mut flushes = bed.control.flushes();
    flushes.mark_unchanged();
    let under_way = bed.send(&old, 11, 1, Mode::StoreValid).await;
    flushes.changed().await.unwrap();
    let mut late = vec![];
    for batch in 0..3 {
        late.push(bed.send(&old, 12 + batch * 10, 10, Mode::Atomic).await);
        late.push(bed.send(&born, 1 + batch * 10, 10, Mode::Atomic).await);
    }
    bed.control.set_disk_full(true);
    bed.control.release();
    assert_eq!(under_way.ack().await.unwrap().stored, 1);
    for pending in late {
        let failed = pending.ack().await.unwrap_err();
        assert!(matches!(
            failed,
            AppendError::Store {
                disk_full: true,
                ..
            }
        ));
    }
    bed.control.set_disk_full(false);

    let gap = bed.store(&old, 22, 1).await.unwrap_err();
    assert!(matches!(
        gap,
        AppendError::Sequence(SequenceError::Gap { expected: 12, .. })
    ));
    assert!(
        bed.hub.producer(bed.feed.name(), &born).is_err(),
        "still unknown"
    );
    assert_eq!(bed.store(&old, 12, 30).await.unwrap(), (30, 0));
    // Numbers of producers stay those on disk, whoever was taken back.
    let next = producer("me", "next");
    assert_eq!(bed.store(&next, 1, 5).await.unwrap(), (5, 0));
    assert_eq!(bed.store(&born, 1, 30).await.unwrap(), (30, 0));
    let bed = bed.cut_power();
    for (key, count) in [(&old, 41), (&born, 30), (&next, 5)] {
        assert_eq!(
            bed.store(key, 1, count).await.unwrap(),
            (0, count),
            "{key:?}"
        );
    }
    assert_eq!(bed.visible().await.len(), 76);
}

#[tokio::test]
async fn only_an_immediate_feed_shows_records_before_their_flush() {
    for (visibility, shown) in [(Visibility::Immediate, 4), (Visibility::Durable, 1)] {
        let bed = Bed::new(visibility).await;
        let key = producer("me", "p");
        assert_eq!(bed.store(&key, 1, 1).await.unwrap(), (1, 0));
        bed.control.hold();
        let mut flushes = bed.control.flushes();
        flushes.mark_unchanged();
        let pending = bed.send(&key, 2, 3, Mode::StoreValid).await;
        flushes.changed().await.unwrap();
        assert_eq!(bed.visible().await.len(), shown, "{visibility:?}");
        let known = bed.hub.producer(bed.feed.name(), &key).unwrap();
        assert_eq!(
            known.durable_sequence, 1,
            "not called durable before the flush"
        );
        bed.control.release();
        assert_eq!(pending.ack().await.unwrap().stored, 3);
        assert_eq!(bed.visible().await.len(), 4);
        let known = bed.hub.producer(bed.feed.name(), &key).unwrap();
        assert_eq!(known.durable_sequence, 4);
    }
}

#[tokio::test]
async fn what_was_shown_and_lost_is_a_gap_and_its_offsets_are_not_used_again() {
    let bed = Bed::new(Visibility::Immediate).await;
    let key = producer("me", "p");
    assert_eq!(bed.store(&key, 1, 2).await.unwrap(), (2, 0));
    bed.control.hold();
    let mut flushes = bed.control.flushes();
    flushes.mark_unchanged();
    let unanswered = bed.send(&key, 3, 3, Mode::StoreValid).await;
    flushes.changed().await.unwrap();
    assert_eq!(bed.visible().await, [0, 1, 2, 3, 4]);

    let control = Arc::clone(&bed.control);
    let bed = bed.cut_power();
    control.release();
    drop(unanswered);
    assert_eq!(bed.store(&key, 1, 6).await.unwrap(), (4, 2));
    let mut follower = bed.follow(Start::Offset(0), End::Now).await;
    let Step::Records(first) = follower.next().await.unwrap() else {
        panic!("the durable records come first");
    };
    assert_eq!((first.covers.from, first.covers.to), (0, 2));
    let Step::Gap { gap, .. } = follower.next().await.unwrap() else {
        panic!("then what was lost");
    };
    assert_eq!((gap.reason, gap.span.from), (GapReason::Lost, 2));
    assert!(gap.span.to >= 5, "{gap:?}");
    let Step::Records(next) = follower.next().await.unwrap() else {
        panic!("then what came after");
    };
    assert_eq!((next.covers.from, next.count), (gap.span.to, 4));
}

#[tokio::test]
async fn a_gap_still_to_be_told_is_part_of_where_a_follower_resumes() {
    let bed = Bed::new(Visibility::Durable).await;
    assert_eq!(bed.store(&producer("me", "p"), 1, 5).await.unwrap(), (5, 0));
    let old = Cursor {
        epoch: 1,
        offset: 3,
    };
    let mut follower = bed.follow(Start::Cursor(old), End::Never).await;
    assert_eq!(follower.resume().cursor, Some(old));
    let step = follower.next().await.unwrap();
    assert!(matches!(step, Step::Gap { epoch: 1, .. }), "{step:?}");
    let now = Cursor {
        epoch: bed.feed.epoch(),
        offset: 0,
    };
    assert_eq!(follower.resume().cursor, Some(now));
}
