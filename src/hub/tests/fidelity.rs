//! CONFLATE and SNAPSHOT of one follower and of crowds: what comes, at what places, and how often it
//! was worked out.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt as _;
use prost::Message as _;
use tokio::time::{Instant, advance};

use super::bed::{Bed, record};
use crate::{
    hub::{
        BarsFidelity, End, Fidelity, FollowError, Follower, KeyFilter, Mode, OpenBars, Start, Step,
        View, Wanted,
    },
    model::{self, GapReason, Offset, Visibility},
    proto::v1::{self, subscribe_response::Event},
};

const INTERVAL: Duration = Duration::from_millis(100);

/// A reading of a key at a time; its value says which record it is.
pub(super) fn at(key: &str, event_time: i64, n: u64) -> Bytes {
    let plain = v1::Record::decode(record(key, n)).unwrap();
    let record = v1::Record {
        event_time_unix_nanos: Some(event_time),
        ..plain
    };
    record.encode_to_vec().into()
}

pub(super) async fn store(bed: &Bed, records: Vec<Bytes>) {
    let count = records.len() as u64;
    let pending = bed.send_records(None, records, Mode::StoreValid).await;
    assert_eq!(pending.ack().await.unwrap().stored, count);
}

pub(super) async fn follow(bed: &Bed, wanted: Wanted) -> Follower {
    bed.hub.follow(&bed.feed, wanted).await.unwrap()
}

fn conflated(start: Start) -> Wanted {
    Wanted {
        start,
        fidelity: Fidelity::Conflate(INTERVAL),
        ..Wanted::default()
    }
}

pub(super) fn only(key: &str) -> KeyFilter {
    KeyFilter {
        include: Some([key.to_owned()].into()),
        ..KeyFilter::default()
    }
}

fn offsets(view: &View) -> Vec<Offset> {
    let records = view.records();
    let decoded = records.iter().map(|r| v1::Record::decode(&r[..]).unwrap());
    decoded.map(|record| record.offset).collect()
}

/// What comes until it waits or ends: the offsets, and the place up to which all is settled.
pub(super) async fn take(follower: &mut Follower) -> (Vec<Offset>, Offset) {
    let (mut got, mut at) = (vec![], follower.cursor());
    loop {
        match follower.next().await.unwrap() {
            Step::Records(view) => {
                assert_eq!(view.covers.from, at, "what is settled joins up");
                at = view.covers.to;
                got.extend(offsets(&view));
            }
            Step::AtTail | Step::NotYet | Step::Ended => {
                at = follower.settle_passed().map_or(at, |view| view.covers.to);
                return (got, at);
            }
            other => panic!("not expected: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_backlog_collapses_to_the_latest_record_of_each_key() {
    let bed = Bed::new(Visibility::Durable).await;
    let mut records: Vec<_> = (0..3_000)
        .map(|n| at(["a", "b"][n % 2], n as i64, 0))
        .collect();
    // A spool of old readings does not become current; of equal times the later one counts.
    records.push(at("a", 5, 0));
    records.push(at("b", 2_999, 0));
    store(&bed, records).await;
    let wanted = Wanted {
        end: End::Now,
        ..conflated(Start::Earliest)
    };
    let mut follower = follow(&bed, wanted.clone()).await;
    assert_eq!(take(&mut follower).await, (vec![2_998, 3_001], 3_002));
    let filter = only("a");
    let mut filtered = follow(&bed, Wanted { filter, ..wanted }).await;
    assert_eq!(take(&mut filtered).await, (vec![2_998], 3_002));
}

#[tokio::test]
async fn a_backlog_that_is_not_in_memory_collapses_as_well() {
    let bed = Bed::new(Visibility::Durable).await;
    for n in 0..1_000 {
        store(&bed, vec![at("a", n, 0); 20]).await;
    }
    bed.hub.window.remove(bed.feed.id());
    let mut follower = follow(&bed, conflated(Start::Earliest)).await;
    assert_eq!(take(&mut follower).await, (vec![19_999], 20_000));
}

#[tokio::test(start_paused = true)]
async fn a_key_comes_at_most_once_in_an_interval() {
    let bed = Bed::new(Visibility::Durable).await;
    let mut follower = follow(&bed, conflated(Start::New)).await;
    assert_eq!(take(&mut follower).await, (vec![], 0));
    store(&bed, vec![at("a", 0, 0), at("a", 1, 0)]).await;
    assert_eq!(take(&mut follower).await, (vec![1], 2));
    for round in 0..5 {
        let begun = Instant::now();
        store(&bed, vec![at("a", 10 + round, 0)]).await;
        store(&bed, vec![at("a", 10 + round, 0)]).await;
        assert_eq!(
            take(&mut follower).await.0,
            [0; 0],
            "not before the next tick"
        );
        follower.wait().await;
        let waited = begun.elapsed();
        // Timers go by milliseconds.
        let most = INTERVAL + Duration::from_millis(1);
        assert!(waited > Duration::ZERO && waited <= most, "{waited:?}");
        let next = 3 + 2 * round.unsigned_abs();
        assert_eq!(take(&mut follower).await, (vec![next], next + 1));
    }
    advance(3 * INTERVAL).await;
    store(&bed, vec![at("a", 99, 0)]).await;
    assert_eq!(
        take(&mut follower).await.0.len(),
        1,
        "after silence it comes at once"
    );
}

#[tokio::test(start_paused = true)]
async fn a_thousand_followers_of_one_view_cost_one() {
    let bed = Bed::new(Visibility::Durable).await;
    let mut crowd = vec![];
    for _ in 0..1_000 {
        crowd.push(follow(&bed, conflated(Start::New)).await);
    }
    let computed = &bed.feed.conflations.computed;
    let messages = &bed.hub.window.hot.counts().computed;
    for round in 1..=4 {
        store(
            &bed,
            (0..500)
                .map(|n| at(["a", "b"][n % 2], n as i64, 0))
                .collect(),
        )
        .await;
        let before = messages.load(Relaxed);
        for follower in &mut crowd {
            let (got, to) = take(follower).await;
            assert_eq!((got.len(), to), (2, 500 * round));
        }
        assert_eq!(computed.load(Relaxed), round, "ranges looked at");
        assert_eq!(messages.load(Relaxed) - before, 1, "messages made");
        advance(INTERVAL).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_different_filters_cost_what_is_delivered() {
    let bed = Bed::new(Visibility::Durable).await;
    let mut crowd = vec![];
    for n in 0..1_000 {
        let filter = only(&format!("k{n}"));
        crowd.push(
            follow(
                &bed,
                Wanted {
                    filter,
                    ..conflated(Start::New)
                },
            )
            .await,
        );
    }
    let computed = &bed.feed.conflations.computed;
    let messages = &bed.hub.window.hot.counts().computed;
    for round in 1..=3 {
        // Ten of the thousand keys have news, in 20,000 records.
        store(
            &bed,
            (0..20_000)
                .map(|n| at(&format!("k{}", n % 10), n, 0))
                .collect(),
        )
        .await;
        let before = messages.load(Relaxed);
        let mut delivered = 0;
        for follower in &mut crowd {
            delivered += take(follower).await.0.len() as u64;
        }
        assert_eq!(delivered, 10);
        assert_eq!(
            computed.load(Relaxed),
            round,
            "the records are looked at once for all"
        );
        // The others are told that they moved, by a message without records.
        assert!(messages.load(Relaxed) - before <= 2_000);
        advance(INTERVAL).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_within_a_range_is_a_gap_and_not_conflated() {
    let bed = Bed::new(Visibility::Durable).await;
    store(&bed, (0..100).map(|n| at("a", n, 0)).collect()).await;
    let mut follower = follow(&bed, conflated(Start::Offset(10))).await;
    bed.hub.trim_feed(bed.feed.name(), 50).await.unwrap();
    let Step::Gap { gap, .. } = follower.next().await.unwrap() else {
        panic!("the gap comes first");
    };
    assert_eq!(
        (gap.reason, gap.span.from, gap.span.to),
        (GapReason::Trimmed, 10, 50)
    );
    advance(INTERVAL).await;
    assert_eq!(take(&mut follower).await, (vec![99], 100));
}

#[tokio::test(start_paused = true)]
async fn changing_the_fidelity_goes_on_from_the_cursor() {
    let bed = Bed::new(Visibility::Durable).await;
    let mut follower = follow(&bed, Wanted::default()).await;
    store(&bed, vec![at("a", 0, 0); 5]).await;
    assert_eq!(take(&mut follower).await.0, [0, 1, 2, 3, 4]);
    follower.change(Some(Fidelity::Conflate(INTERVAL)), None);
    assert_eq!(follower.fidelity(), Fidelity::Conflate(INTERVAL));
    store(&bed, vec![at("a", 0, 0); 5]).await;
    assert_eq!(take(&mut follower).await, (vec![9], 10));
    store(&bed, vec![at("a", 0, 0); 5]).await;
    assert_eq!(take(&mut follower).await.0, [0; 0]);
    follower.change(Some(Fidelity::Full), None);
    assert_eq!(take(&mut follower).await.0, [10, 11, 12, 13, 14]);
}

/// The records of a snapshot: key, value, offset.
async fn snapshot(follower: &mut Follower) -> (Vec<(String, u64)>, Offset) {
    let mut got = vec![];
    loop {
        match follower.next().await.unwrap() {
            Step::Snapshot(view) => {
                let message = &view.message()[5..];
                assert!(message.len() <= 256 << 10);
                let response = v1::SubscribeResponse::decode(message).unwrap();
                let Some(Event::Snapshot(batch)) = response.event else {
                    panic!("not a snapshot: {response:?}");
                };
                assert_eq!(batch.as_of.unwrap().offset, follower.cursor());
                let records = batch
                    .records
                    .iter()
                    .map(|r| v1::Record::decode(&r[..]).unwrap());
                got.extend(records.map(|r| (r.key, r.offset)));
            }
            Step::SnapshotComplete(as_of) => {
                got.sort();
                return (got, as_of.offset);
            }
            other => panic!("not expected: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_snapshot_is_the_latest_of_each_key_and_what_follows_begins_there() {
    let bed = Bed::new(Visibility::Durable).await;
    store(
        &bed,
        vec![at("a", 9, 0), at("b", 1, 0), at("a", 3, 0), at("b", 2, 0)],
    )
    .await;
    let wanted = Wanted {
        start: Start::Snapshot,
        ..Wanted::default()
    };
    let mut follower = follow(&bed, wanted.clone()).await;
    assert_eq!(follower.resume().cursor, None, "it would begin anew");
    store(&bed, vec![at("a", 10, 0)]).await;
    let (got, as_of) = snapshot(&mut follower).await;
    assert_eq!((got, as_of), (vec![("a".into(), 0), ("b".into(), 3)], 4));
    assert_eq!(follower.resume().cursor.unwrap().offset, 4);
    assert_eq!(take(&mut follower).await, (vec![4], 5));
    let filter = only("b");
    let mut of_one = follow(&bed, Wanted { filter, ..wanted }).await;
    assert_eq!(snapshot(&mut of_one).await, (vec![("b".into(), 3)], 5));
}

#[tokio::test]
async fn a_large_snapshot_comes_in_messages_and_a_crowd_shares_it() {
    let bed = Bed::new(Visibility::Durable).await;
    store(
        &bed,
        (0..20_000).map(|n| at(&format!("key-{n}"), n, 0)).collect(),
    )
    .await;
    let wanted = Wanted {
        start: Start::Snapshot,
        ..Wanted::default()
    };
    let free = bed.hub.view_bytes.available_permits();
    let mut crowd = vec![];
    for _ in 0..10 {
        crowd.push(follow(&bed, wanted.clone()).await);
    }
    let taken = free - bed.hub.view_bytes.available_permits();
    for follower in &mut crowd {
        let (got, as_of) = snapshot(follower).await;
        assert_eq!((got.len(), as_of), (20_000, 20_000));
    }
    assert!(taken > 0 && taken < 4 << 20, "one for all: {taken}");
    drop(crowd);
    assert_eq!(bed.hub.view_bytes.available_permits(), free, "given back");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_tick_is_not_having_caught_up() {
    let bed = Bed::new(Visibility::Durable).await;
    store(&bed, vec![at("a", 0, 0)]).await;
    let mut first = follow(&bed, conflated(Start::Earliest)).await;
    // Its tick goes to offset 1, for all.
    take(&mut first).await;
    store(&bed, vec![at("a", 1, 0); 9]).await;
    let mut second = follow(&bed, conflated(Start::Earliest)).await;
    let step = second.next().await.unwrap();
    assert!(matches!(step, Step::Records(_)), "{step:?}");
    let step = second.next().await.unwrap();
    assert!(matches!(step, Step::NotYet), "nine are missing: {step:?}");
    second.wait().await;
    assert_eq!(take(&mut second).await, (vec![9], 10));
    let step = second.next().await.unwrap();
    assert!(matches!(step, Step::AtTail), "{step:?}");
}

#[tokio::test]
async fn views_beyond_their_bytes_are_refused_for_a_moment() {
    let bed = Bed::new(Visibility::Durable).await;
    store(&bed, vec![at("a", 0, 0)]).await;
    let all = u32::try_from(bed.hub.view_bytes.available_permits()).unwrap();
    let taken = bed.hub.view_bytes.acquire_many(all).await.unwrap();
    let wanted = Wanted {
        start: Start::Snapshot,
        ..Wanted::default()
    };
    let refused = bed.hub.follow(&bed.feed, wanted.clone()).await;
    assert!(
        matches!(refused, Err(FollowError::ViewsFull)),
        "{refused:?}"
    );
    let bars = Fidelity::Bars(BarsFidelity {
        interval: Duration::from_secs(60),
        open_bars: OpenBars::LeftOut,
    });
    let of_bars = Wanted {
        fidelity: bars,
        start: Start::Earliest,
        ..Wanted::default()
    };
    let refused = follow(&bed, of_bars).await.next().await;
    assert!(
        matches!(refused, Err(FollowError::ViewsFull)),
        "{refused:?}"
    );
    drop(taken);
    let mut follower = follow(&bed, wanted).await;
    assert_eq!(snapshot(&mut follower).await.1, 1);
}

/// On a stream of many selectors what a follower waits for is dropped with each message of another.
#[tokio::test]
async fn who_is_asked_again_and_again_comes_by_what_takes_its_time() {
    let bed = Bed::new(Visibility::Durable).await;
    for n in 0..100 {
        store(&bed, vec![at("a", n, 0); 20]).await;
    }
    bed.hub.window.remove(bed.feed.id());
    let time = model::now();
    let by_conflation = conflated(Start::Earliest);
    let by_time = Wanted {
        start: Start::Earliest,
        end: End::IngestTime(time),
        ..Wanted::default()
    };
    for wanted in [by_conflation, by_time] {
        let mut follower = follow(&bed, wanted).await;
        let come = async {
            loop {
                match follower.next().now_or_never() {
                    Some(Ok(Step::AtTail | Step::Ended)) => return,
                    Some(step) => assert!(matches!(step, Ok(Step::Records(_))), "{step:?}"),
                    None => tokio::task::yield_now().await,
                }
            }
        };
        let come = tokio::time::timeout(Duration::from_secs(20), come).await;
        assert!(come.is_ok(), "it never comes to its end");
    }
    assert_eq!(bed.feed.conflations.computed.load(Relaxed), 1);
}
