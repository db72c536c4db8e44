//! What random histories came upon, in the least words that show it.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt as _;

use super::bed::{Bed, producer, record};
use crate::{
    hub::{
        Carried, FeedChange, Fidelity, FollowError, Follower, KeyFilter, Mode, SlowAction,
        SlowPolicy, Start, Step, Wanted,
    },
    model::{Cursor, GapReason, Offset, Visibility},
};

const CONFLATE: Fidelity = Fidelity::Conflate(Duration::from_millis(250));

async fn store(bed: &Bed, count: u64) {
    store_key(bed, "a", count).await;
}

async fn store_key(bed: &Bed, key: &str, count: u64) {
    let records: Vec<Bytes> = (0..count).map(|n| record(key, n)).collect();
    let pending = bed.send_records(None, records, Mode::StoreValid).await;
    assert_eq!(pending.ack().await.unwrap().stored, count);
}

async fn follow(bed: &Bed, wanted: Wanted) -> Follower {
    bed.hub.follow(&bed.feed, wanted).await.unwrap()
}

fn slow(action: SlowAction, start: Start, fidelity: Fidelity) -> Wanted {
    Wanted {
        start,
        fidelity,
        slow: SlowPolicy {
            max_lag_records: Some(20),
            max_lag: None,
            action,
        },
        ..Wanted::default()
    }
}

async fn resize(bed: &Bed, change: FeedChange) {
    let changed = bed.hub.update_feed(bed.feed.name(), change).await;
    changed.unwrap();
}

#[tokio::test]
async fn a_mark_outlives_records_that_aged_out() {
    let bed = Bed::new(Visibility::Durable).await;
    let key = producer("me", "p");
    assert_eq!(bed.store(&key, 1, 10).await.unwrap(), (10, 0));
    let change = FeedChange {
        max_age: Some(Some(Duration::from_nanos(1))),
        ..FeedChange::default()
    };
    resize(&bed, change).await;
    bed.hub.housekeep().await.unwrap();
    assert_eq!(bed.feed.bounds().head, 10, "all of them aged out");
    let bed = bed.cut_power();
    assert_eq!(bed.store(&key, 1, 12).await.unwrap(), (2, 10));
}

#[tokio::test]
async fn a_mark_outlives_records_that_a_smaller_ring_evicts() {
    let bed = Bed::new(Visibility::Durable).await;
    let key = producer("me", "p");
    assert_eq!(bed.store(&key, 1, 10).await.unwrap(), (10, 0));
    for _ in 0..6 {
        store(&bed, 10_000).await;
    }
    let change = FeedChange {
        max_bytes: Some(1 << 20),
        ..FeedChange::default()
    };
    resize(&bed, change).await;
    assert!(bed.feed.bounds().head > 10, "they were evicted");
    let bed = bed.cut_power();
    assert_eq!(bed.store(&key, 1, 12).await.unwrap(), (2, 10));
}

/// What its pick had passed by belongs to CONFLATE: FULL begins at the cursor.
#[test]
fn from_conflate_to_full_no_record_is_left_out() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build();
    runtime.unwrap().block_on(from_conflate_to_full());
}

async fn from_conflate_to_full() {
    let bed = Bed::new(Visibility::Durable).await;
    store(&bed, 1).await;
    let wanted = Wanted {
        start: Start::New,
        fidelity: CONFLATE,
        ..Wanted::default()
    };
    let mut other = follow(&bed, wanted.clone()).await;
    let filter = KeyFilter {
        include: Some(["a".to_owned()].into()),
        ..KeyFilter::default()
    };
    let mut follower = follow(&bed, Wanted { filter, ..wanted }).await;
    store(&bed, 100).await;
    bed.hub.window.remove(bed.feed.id());
    steps(&mut other).await;
    // What the other one found is known: it passes by all but the last record, and is cut short
    // when it begins to read that one.
    let (end, ended) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || ended.recv().is_ok());
    let read = follower.next().now_or_never();
    assert!(read.is_none(), "{read:?}");
    drop(end);
    let cursor = follower.cursor();
    follower.change(Some(Fidelity::Full), None);
    let Step::Records(view) = follower.next().await.unwrap() else {
        panic!("records are due");
    };
    assert_eq!(view.covers.from, cursor);
    assert_eq!(u64::from(view.count), view.covers.len());
}

/// The steps up to the tail; a follower that goes round in circles has more than these.
async fn steps(follower: &mut Follower) -> Vec<Step> {
    let mut steps = vec![];
    while steps.len() < 100 {
        match follower.next().await.unwrap() {
            Step::AtTail | Step::NotYet => return steps,
            step => steps.push(step),
        }
    }
    panic!("it goes round in circles: {:?}", steps.last());
}

#[tokio::test(start_paused = true)]
async fn what_is_conflated_is_not_relieved_by_conflation() {
    let bed = Bed::new(Visibility::Durable).await;
    let wanted = slow(SlowAction::Conflate, Start::New, CONFLATE);
    let mut follower = follow(&bed, wanted).await;
    steps(&mut follower).await;
    store(&bed, 100).await;
    steps(&mut follower).await;
}

#[tokio::test(start_paused = true)]
async fn a_conflated_history_is_not_jumped_over() {
    let bed = Bed::new(Visibility::Durable).await;
    store(&bed, 1).await;
    let mut first = follow(
        &bed,
        Wanted {
            start: Start::Earliest,
            fidelity: CONFLATE,
            ..Wanted::default()
        },
    )
    .await;
    // Its tick goes to offset 1.
    steps(&mut first).await;
    store(&bed, 100).await;
    let wanted = slow(SlowAction::JumpToTail, Start::Earliest, CONFLATE);
    let mut follower = follow(&bed, wanted).await;
    steps(&mut follower).await;
    let next = follower.next().await.unwrap();
    assert!(!matches!(next, Step::Gap { .. }), "{next:?}");
}

#[tokio::test]
async fn who_was_too_slow_can_go_on_with_its_token() {
    let bed = Bed::new(Visibility::Durable).await;
    let wanted = slow(SlowAction::Disconnect, Start::New, Fidelity::Full);
    let mut follower = follow(&bed, wanted).await;
    steps(&mut follower).await;
    store(&bed, 100).await;
    assert!(matches!(follower.next().await.unwrap(), Step::TooSlow));
    let resume = follower.resume();
    let again = Wanted {
        start: Start::Cursor(resume.cursor.unwrap()),
        carried: resume.carried,
        ..slow(SlowAction::Disconnect, Start::New, Fidelity::Full)
    };
    let mut follower = follow(&bed, again).await;
    let next = follower.next().await.unwrap();
    assert!(matches!(next, Step::Records(_)), "{next:?}");
}

#[tokio::test]
async fn a_hole_is_one_gap_whatever_the_slow_policy() {
    let bed = Bed::new(Visibility::Immediate).await;
    store(&bed, 1).await;
    let bed = bed.cut_power();
    let wanted = slow(SlowAction::Conflate, Start::Earliest, Fidelity::Full);
    let mut follower = follow(&bed, wanted).await;
    let found = steps(&mut follower).await;
    assert_eq!(found.len(), 2, "a record and a gap");
}

#[tokio::test]
async fn a_change_of_epoch_says_where_it_goes_on() {
    let bed = Bed::new(Visibility::Durable).await;
    store(&bed, 100).await;
    let before = Cursor {
        epoch: bed.feed.epoch() - 1,
        offset: 7,
    };
    let wanted = Wanted {
        start: Start::Cursor(before),
        ..Wanted::default()
    };
    let mut follower = follow(&bed, wanted).await;
    bed.hub.trim_feed(bed.feed.name(), 50).await.unwrap();
    let Step::Gap { oldest, .. } = follower.next().await.unwrap() else {
        panic!("a gap is due");
    };
    assert_eq!(oldest, follower.cursor());
    let Step::Gap { gap, .. } = follower.next().await.unwrap() else {
        panic!("a gap is due");
    };
    assert_eq!((gap.span.from, gap.span.to), (oldest, 50));
}

#[tokio::test]
async fn a_change_of_epoch_is_told_before_a_change_of_mode() {
    let bed = Bed::new(Visibility::Durable).await;
    store(&bed, 100).await;
    let before = Cursor {
        epoch: bed.feed.epoch() - 1,
        offset: 7,
    };
    let wanted = Wanted {
        carried: Carried {
            is_live: true,
            ..Carried::default()
        },
        ..slow(SlowAction::Conflate, Start::Cursor(before), Fidelity::Full)
    };
    let mut follower = follow(&bed, wanted).await;
    let next = follower.next().await.unwrap();
    assert!(matches!(next, Step::Gap { gap, .. } if gap.reason == GapReason::EpochChanged));
}

#[tokio::test]
async fn an_immediate_feed_shows_its_oldest_record_when_it_rests() {
    let bed = Bed::new(Visibility::Immediate).await;
    let change = FeedChange {
        max_bytes: Some(1 << 20),
        ..FeedChange::default()
    };
    resize(&bed, change).await;
    for _ in 0..6 {
        store(&bed, 10_000).await;
    }
    let shown: Offset = bed.feed.bounds().head;
    resize(&bed, FeedChange::default()).await;
    assert_eq!(shown, bed.feed.bounds().head);
}

/// What is left of the last n of each key when a stream is cut is the same after it.
#[tokio::test]
async fn the_last_of_each_key_outlive_a_resume() {
    let bed = Bed::new(Visibility::Durable).await;
    store_key(&bed, "a", 8_000).await;
    store_key(&bed, "b", 9_000).await;
    let wanted = Wanted {
        start: Start::LastPerKey(8_000),
        ..Wanted::default()
    };
    let mut follower = follow(&bed, wanted.clone()).await;
    let Step::Records(first) = follower.next().await.unwrap() else {
        panic!("records are due");
    };
    assert!(first.covers.to < 8_000, "one message has not room for all");
    // Other records are the last ones by now.
    store_key(&bed, "a", 10).await;
    let resume = follower.resume();
    assert_eq!(resume.carried.last_per_key, Some((8_000, 17_000)));
    let again = Wanted {
        start: Start::Cursor(resume.cursor.unwrap()),
        carried: resume.carried,
        ..wanted
    };
    let mut follower = follow(&bed, again.clone()).await;
    let mut count = 0;
    for step in steps(&mut follower).await {
        let Step::Records(view) = step else {
            panic!("records are due: {step:?}");
        };
        count += u64::from(view.count);
    }
    assert_eq!(count, 8_000 - first.covers.to + 8_000 + 10);
    assert_eq!(follower.resume().carried, Carried::default());
    // Of another life of the feed nothing was picked.
    let Start::Cursor(before) = again.start else {
        panic!("a cursor was asked for");
    };
    let epoch = before.epoch - 1;
    let again = Wanted {
        start: Start::Cursor(Cursor { epoch, ..before }),
        ..again
    };
    let follower = follow(&bed, again).await;
    let elsewhere = Carried {
        is_elsewhere: true,
        ..Carried::default()
    };
    assert_eq!(follower.resume().carried, elsewhere);
}

#[tokio::test]
async fn what_was_picked_and_left_before_a_resume_is_a_gap() {
    let bed = Bed::new(Visibility::Durable).await;
    store(&bed, 10).await;
    let wanted = Wanted {
        start: Start::LastPerKey(20),
        ..Wanted::default()
    };
    let resume = follow(&bed, wanted.clone()).await.resume();
    store(&bed, 10).await;
    for head in [5, 15] {
        bed.hub.trim_feed(bed.feed.name(), head).await.unwrap();
        let again = Wanted {
            start: Start::Cursor(resume.cursor.unwrap()),
            carried: resume.carried,
            ..wanted.clone()
        };
        let mut follower = follow(&bed, again).await;
        let next = follower.next().await.unwrap();
        assert!(
            matches!(&next, Step::Gap { gap, .. } if (gap.span.from, gap.span.to) == (0, head)),
            "{next:?}"
        );
        let Step::Records(view) = follower.next().await.unwrap() else {
            panic!("records are due");
        };
        assert_eq!(view.covers.from, head);
    }
}

#[tokio::test]
async fn a_ring_that_is_being_deleted_is_not_told_as_damaged() {
    let bed = Bed::new(Visibility::Durable).await;
    store(&bed, 10).await;
    bed.hub.window.remove(bed.feed.id());
    let wanted = Wanted {
        start: Start::Earliest,
        ..Wanted::default()
    };
    let mut follower = follow(&bed, wanted).await;
    let end = bed.control.damage();
    let mut next = pin!(follower.next());
    let read = next.as_mut().now_or_never();
    assert!(read.is_none(), "{read:?}");
    bed.hub.delete_feed(bed.feed.name()).await.unwrap();
    drop(end);
    let next = next.await;
    assert!(
        matches!(next, Err(FollowError::FeedDeleted { .. })),
        "{next:?}"
    );
}

/// A cursor that was above the tail when it came is told to be, also by a token from before that.
#[tokio::test]
async fn a_place_above_the_tail_stays_elsewhere_over_a_resume() {
    let bed = Bed::new(Visibility::Durable).await;
    store(&bed, 5).await;
    let above = Cursor {
        epoch: bed.feed.epoch(),
        offset: 8,
    };
    let wanted = Wanted {
        start: Start::Cursor(above),
        ..Wanted::default()
    };
    let resume = follow(&bed, wanted.clone()).await.resume();
    assert_eq!(resume.cursor, Some(above));
    store(&bed, 5).await;
    let carried = resume.carried;
    let mut follower = follow(&bed, Wanted { carried, ..wanted }).await;
    let Step::Gap { gap, oldest, .. } = follower.next().await.unwrap() else {
        panic!("it was told nothing yet");
    };
    assert_eq!((gap.reason, oldest), (GapReason::EpochChanged, 0));
    assert!(!follower.resume().carried.is_elsewhere, "now it was");
}
