//! How many flushes batches cost, and what is seen of them while one is under way: counted, and
//! in steps that the test decides.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use prost::Message as _;
use tokio::{sync::watch, time::timeout};

use super::bed::{Bed, producer, record};
use crate::{
    hub::{End, Follower, Mode, Pending, Start, Step, commit::APPEND_BYTES, flush::TRAY_BYTES},
    model::Visibility,
    proto::v1,
};

const APPEND: u64 = APPEND_BYTES as u64;
const TRAY: u64 = TRAY_BYTES as u64;
/// Records of a large batch, and about how many bytes it has.
const RECORDS: u64 = 12;
const BATCH: u64 = RECORDS * 8_000;

/// Far beyond what anything here takes; reached only by a defect.
const DEADLINE: Duration = Duration::from_secs(60);

/// Hands in large batches of nobody's.
async fn send_large(bed: &Bed, batches: u64) -> Vec<Pending> {
    let vector = v1::Vector {
        values: vec![0.5; 1_000],
    };
    let reading = v1::Reading {
        value: Some(v1::reading::Value::Vector(vector)),
        ..v1::Reading::default()
    };
    let record = v1::Record {
        key: "large".into(),
        event_time_unix_nanos: Some(0),
        payload: Some(v1::record::Payload::Reading(reading)),
        ..v1::Record::default()
    };
    let record: Bytes = record.encode_to_vec().into();
    let mut sent = vec![];
    for _ in 0..batches {
        let records = (0..RECORDS).map(|_| record.clone()).collect();
        sent.push(bed.send_records(None, records, Mode::StoreValid).await);
    }
    sent
}

/// Hands in one record, whose flush begins and is held.
async fn hold_one(bed: &Bed) -> (Pending, watch::Receiver<u64>) {
    bed.control.hold();
    let mut flushes = bed.control.flushes();
    flushes.mark_unchanged();
    let one = vec![record("first", 0)];
    let under_way = bed.send_records(None, one, Mode::StoreValid).await;
    flushes.changed().await.unwrap();
    (under_way, flushes)
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect(what)
}

/// Waits until so many bytes were appended.
async fn reach(appended: &mut watch::Receiver<u64>, bytes: u64) {
    let reached = appended.wait_for(|appended| *appended >= bytes);
    let reached = in_time("they are appended", reached).await;
    assert!(reached.is_ok());
}

/// Lets a flush end, and waits until the next one begins.
async fn step(bed: &Bed, flushes: &mut watch::Receiver<u64>) {
    flushes.mark_unchanged();
    bed.control.release_one();
    let changed = flushes.changed();
    in_time("the next flush begins", changed).await.unwrap();
}

/// Takes records until there are `count` of them.
async fn take(follower: &mut Follower, count: u32) {
    let mut taken = 0;
    while taken < count {
        match follower.next().await.unwrap() {
            Step::Records(view) => taken += view.count,
            Step::AtTail => in_time("more is shown", follower.wait()).await,
            end => panic!("not expected: {end:?}"),
        }
    }
    assert_eq!(taken, count);
}

#[tokio::test]
async fn a_batch_alone_takes_one_flush() {
    for visibility in [Visibility::Durable, Visibility::Immediate] {
        let bed = Bed::new(visibility).await;
        let key = producer("me", "p");
        let flushes = bed.control.flushes();
        let before = *flushes.borrow();
        for batch in 0..5 {
            assert_eq!(bed.store(&key, 1 + batch * 3, 3).await.unwrap(), (3, 0));
            assert_eq!(*flushes.borrow(), before + batch + 1, "{visibility:?}");
        }
    }
}

#[tokio::test]
async fn batches_that_wait_share_a_flush_as_far_as_the_tray_holds_them() {
    let bed = Bed::new(Visibility::Durable).await;
    let (under_way, mut flushes) = hold_one(&bed).await;
    let first = *flushes.borrow();
    let mut appended = bed.control.appended();
    let all = 12 * APPEND;
    let late = send_large(&bed, all.div_ceil(BATCH)).await;
    // What is less than an append may wait for the last flush to end.
    let by_then = all - APPEND;
    for full in (1..).map(|n| n * TRAY).take_while(|full| *full < by_then) {
        reach(&mut appended, full).await;
        step(&bed, &mut flushes).await;
    }
    reach(&mut appended, by_then).await;
    bed.control.release();
    assert_eq!(under_way.ack().await.unwrap().stored, 1);
    let batches = late.len();
    for pending in late {
        assert_eq!(pending.ack().await.unwrap().stored, RECORDS);
    }
    let taken = *flushes.borrow() - first;
    let most = all.div_ceil(TRAY) + 2;
    assert!(taken <= most, "{taken} flushes for {batches} batches");
}

#[tokio::test]
async fn what_is_appended_behind_a_flush_is_neither_seen_nor_answered_before_its_own() {
    let bed = Bed::new(Visibility::Durable).await;
    let (under_way, mut flushes) = hold_one(&bed).await;
    let first = *flushes.borrow();
    let mut appended = bed.control.appended();
    let batches = APPEND.div_ceil(BATCH);
    let late = send_large(&bed, batches).await;
    let mut late: Vec<_> = late.into_iter().map(|p| Box::pin(p.ack())).collect();
    let mut under_way = Box::pin(under_way.ack());

    // The disk has work at once when the flush ends.
    reach(&mut appended, APPEND).await;
    assert_eq!(bed.feed.ring.bounds().tail, 1 + batches * RECORDS);
    assert_eq!(*flushes.borrow(), first);
    assert_eq!(bed.visible().await, [0; 0]);
    assert!(under_way.as_mut().now_or_never().is_none());

    step(&bed, &mut flushes).await;
    let ack = in_time("the first is answered", under_way).await;
    assert_eq!(ack.unwrap().stored, 1);
    assert_eq!(bed.visible().await, [0]);
    let early = late
        .iter_mut()
        .filter_map(|ack| ack.as_mut().now_or_never());
    assert_eq!(early.count(), 0, "answered before their flush");

    bed.control.release();
    for ack in late {
        assert_eq!(ack.await.unwrap().stored, RECORDS);
    }
    assert_eq!(bed.visible().await.len() as u64, 1 + batches * RECORDS);
    assert_eq!(*flushes.borrow(), first + 1);
}

#[tokio::test]
async fn an_immediate_feed_shows_what_comes_during_a_flush() {
    let bed = Bed::new(Visibility::Immediate).await;
    let mut follower = bed.follow(Start::New, End::Never).await;
    let (under_way, flushes) = hold_one(&bed).await;
    let first = *flushes.borrow();
    take(&mut follower, 1).await;
    let key = producer("me", "p");
    for batch in 0..5 {
        let pending = bed.send(&key, 1 + batch * 3, 3, Mode::StoreValid).await;
        take(&mut follower, 3).await;
        assert!(pending.ack().now_or_never().is_none(), "not durable yet");
    }
    assert_eq!(*flushes.borrow(), first);
    bed.control.release();
    assert_eq!(under_way.ack().await.unwrap().stored, 1);
}
