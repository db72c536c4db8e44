//! Slow policies: who is too far behind, what becomes of it, and when that is over.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    bed::Bed,
    fidelity::{at, follow, only, store, take},
};
use crate::{
    hub::{Carried, Fidelity, SlowAction, SlowPolicy, Start, Step, Wanted},
    model::{GapReason, Visibility},
};

fn slow(action: SlowAction) -> Wanted {
    Wanted {
        slow: SlowPolicy {
            max_lag_records: Some(100),
            max_lag: None,
            action,
        },
        ..Wanted::default()
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_too_slow_is_conflated_and_gets_every_record_again_when_it_keeps_up() {
    let bed = Bed::new(Visibility::Durable).await;
    let mut follower = follow(&bed, slow(SlowAction::Conflate)).await;
    store(&bed, vec![at("a", 0, 0); 100]).await;
    assert_eq!(take(&mut follower).await.0.len(), 100, "within its limit");
    store(&bed, vec![at("a", 0, 0); 101]).await;
    let step = follower.next().await.unwrap();
    assert!(
        matches!(step, Step::ModeChanged(Fidelity::Conflate(_))),
        "{step:?}"
    );
    assert_eq!(take(&mut follower).await, (vec![200], 201));
    let begun = Instant::now();
    for n in 0..3 {
        follower.wait().await;
        store(&bed, vec![at("a", 0, 0); 90]).await;
        assert!(
            take(&mut follower).await.0.len() <= 1,
            "round {n}: still too many"
        );
    }
    let mut calm = 0;
    let back = loop {
        follower.wait().await;
        match follower.next().await.unwrap() {
            Step::ModeChanged(mode) => break mode,
            Step::AtTail => calm += 1,
            Step::Records(_) => {}
            other => panic!("not expected: {other:?}"),
        }
        assert!(calm < 100, "it never gets back");
    };
    assert_eq!(back, Fidelity::Full);
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "not at the first calm moment"
    );
    store(&bed, vec![at("a", 0, 0); 3]).await;
    assert_eq!(take(&mut follower).await.0.len(), 3);
}

#[tokio::test]
async fn who_is_too_slow_jumps_to_the_tail_with_a_gap() {
    let bed = Bed::new(Visibility::Durable).await;
    let mut follower = follow(&bed, slow(SlowAction::JumpToTail)).await;
    store(&bed, vec![at("a", 0, 0); 150]).await;
    let Step::Gap { gap, .. } = follower.next().await.unwrap() else {
        panic!("it jumps");
    };
    assert_eq!(
        (gap.reason, gap.span.from, gap.span.to),
        (GapReason::Jumped, 0, 150)
    );
    store(&bed, vec![at("a", 0, 0); 5]).await;
    assert_eq!(take(&mut follower).await.0, [150, 151, 152, 153, 154]);
}

#[tokio::test]
async fn who_is_too_slow_ends_where_that_was_asked_for() {
    let bed = Bed::new(Visibility::Durable).await;
    let mut follower = follow(&bed, slow(SlowAction::Disconnect)).await;
    store(&bed, vec![at("a", 0, 0); 150]).await;
    let step = follower.next().await.unwrap();
    assert!(matches!(step, Step::TooSlow), "{step:?}");
    assert_eq!(follower.resume().cursor.unwrap().offset, 0);
}

#[tokio::test]
async fn history_that_was_asked_for_is_no_slowness() {
    let bed = Bed::new(Visibility::Durable).await;
    store(&bed, vec![at("a", 0, 0); 1_000]).await;
    let wanted = Wanted {
        start: Start::Earliest,
        ..slow(SlowAction::Disconnect)
    };
    let mut follower = follow(&bed, wanted.clone()).await;
    assert_eq!(take(&mut follower).await.0.len(), 1_000);
    assert!(follower.resume().carried.is_live);
    store(&bed, vec![at("a", 0, 0); 150]).await;
    let step = follower.next().await.unwrap();
    assert!(matches!(step, Step::TooSlow), "{step:?}");
    let carried = Carried {
        is_live: true,
        ..Carried::default()
    };
    let mut resumed = follow(&bed, Wanted { carried, ..wanted }).await;
    let step = resumed.next().await.unwrap();
    assert!(
        matches!(step, Step::TooSlow),
        "a resumed one was live: {step:?}"
    );
}

#[tokio::test]
async fn one_message_does_not_make_a_follower_too_slow() {
    let bed = Bed::new(Visibility::Durable).await;
    let mut follower = follow(&bed, slow(SlowAction::Conflate)).await;
    take(&mut follower).await;
    store(&bed, vec![at("a", 0, 0); 60]).await;
    store(&bed, vec![at("b", 0, 0); 40]).await;
    let Step::Records(view) = follower.next().await.unwrap() else {
        panic!("records");
    };
    assert_eq!(view.count, 100);
    let history = Wanted {
        start: Start::Earliest,
        filter: only("b"),
        ..slow(SlowAction::Conflate)
    };
    store(&bed, vec![at("b", 0, 0); 250]).await;
    let mut follower = follow(&bed, history).await;
    let mut counts = vec![];
    while let Step::Records(view) = follower.next().await.unwrap() {
        counts.push(view.count);
    }
    assert_eq!(counts, [40, 100, 100, 50]);
}
