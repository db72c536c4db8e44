//! BARS of one follower and of crowds: which come, what of, and how often they were worked out.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use tokio::time::advance;

use super::bed::{Bed, record};
use crate::{
    hub::{BarsFidelity, End, Fidelity, Follower, KeyFilter, Mode, OpenBars, Start, Step, Wanted},
    model::{self, Cursor, GapReason, Offset, Visibility},
    proto::v1::{self, subscribe_response::Event},
};

const SECOND: i64 = 1_000_000_000;
const PACE: Duration = Duration::from_millis(200);

/// A reading of a key at a time in seconds.
fn at(key: &str, seconds: i64, value: u64) -> Bytes {
    let plain = v1::Record::decode(record(key, value)).unwrap();
    let record = v1::Record {
        event_time_unix_nanos: Some(seconds * SECOND),
        ..plain
    };
    record.encode_to_vec().into()
}

async fn store(bed: &Bed, records: Vec<Bytes>) {
    let count = records.len() as u64;
    let pending = bed.send_records(None, records, Mode::StoreValid).await;
    assert_eq!(pending.ack().await.unwrap().stored, count);
}

fn bars(start: Start, open_bars: OpenBars) -> Wanted {
    Wanted {
        start,
        fidelity: Fidelity::Bars(BarsFidelity {
            interval: Duration::from_secs(60),
            open_bars,
        }),
        ..Wanted::default()
    }
}

async fn follow(bed: &Bed, wanted: Wanted) -> Follower {
    bed.hub.follow(&bed.feed, wanted).await.unwrap()
}

/// Count, last value, and whether it is complete and partial, of each key and minute.
type Held = BTreeMap<(String, i64), (u64, f64, bool, bool)>;

/// Takes what comes until it waits or ends, and says up to where all is settled.
async fn take(follower: &mut Follower, held: &mut Held) -> Offset {
    let mut at = follower.cursor();
    loop {
        match follower.next().await.unwrap() {
            Step::Bars(view) => {
                let response = v1::SubscribeResponse::decode(&view.message()[5..]).unwrap();
                let Some(Event::Bars(batch)) = response.event else {
                    panic!("no bars: {response:?}");
                };
                let covers = batch.covers.unwrap();
                assert_eq!((covers.from, covers.to), (view.covers.from, view.covers.to));
                assert_eq!(covers.from, at, "what is settled joins up");
                at = covers.to;
                for bar in batch.bars {
                    let reading = bar.reading.unwrap();
                    let minute = reading.start_unix_nanos / (60 * SECOND);
                    let last = reading.last.unwrap_or(f64::NAN);
                    let entry = (reading.count, last, bar.complete, bar.partial);
                    held.insert((bar.key, minute), entry);
                }
            }
            Step::Records(view) => {
                assert_eq!((view.covers.from, view.count), (at, 0));
                at = view.covers.to;
            }
            Step::Gap { gap, .. } => {
                assert_eq!(gap.span.from, at);
                assert_eq!(gap.reason, GapReason::Trimmed);
                at = gap.span.to;
            }
            Step::AtTail | Step::Ended => {
                return follower.settle_passed().map_or(at, |view| view.covers.to);
            }
            other => panic!("not expected: {other:?}"),
        }
    }
}

fn held(bars: &[(&str, i64, u64, f64, bool)]) -> Held {
    let bars = bars.iter();
    bars.map(|(key, minute, count, last, complete)| {
        (
            ((*key).to_owned(), *minute),
            (*count, *last, *complete, false),
        )
    })
    .collect()
}

#[tokio::test(start_paused = true)]
async fn history_comes_as_complete_bars_and_then_what_is_live() {
    let bed = Bed::new(Visibility::Durable).await;
    store(
        &bed,
        vec![
            at("a", 5, 1),
            at("a", 65, 2),
            at("b", 66, 3),
            at("a", 70, 4),
        ],
    )
    .await;
    store(&bed, vec![at("a", 125, 5), at("a", 10, 6)]).await;
    let mut follower = follow(&bed, bars(Start::Earliest, OpenBars::LeftOut)).await;
    let mut got = Held::new();
    assert_eq!(take(&mut follower, &mut got).await, 6);
    let first = [("a", 0, 2, 6.0, true), ("a", 1, 2, 4.0, true)];
    assert_eq!(got, held(&first));
    store(&bed, vec![at("a", 185, 7), at("b", 300, 8), at("a", 69, 9)]).await;
    advance(PACE).await;
    assert_eq!(take(&mut follower, &mut got).await, 9);
    let then = [
        ("a", 0, 2, 6.0, true),
        // 70 s is later than 69 s, whenever it came.
        ("a", 1, 3, 4.0, true),
        ("a", 2, 1, 5.0, true),
        ("b", 1, 1, 3.0, true),
    ];
    assert_eq!(got, held(&then));
}

#[tokio::test(start_paused = true)]
async fn a_bar_that_began_before_its_follower_is_whole() {
    let bed = Bed::new(Visibility::Durable).await;
    store(&bed, vec![at("b", 1, 1), at("a", 65, 2), at("a", 66, 3)]).await;
    let mut follower = follow(&bed, bars(Start::New, OpenBars::Sent)).await;
    let mut got = Held::new();
    assert_eq!(take(&mut follower, &mut got).await, 3);
    // One of the present minute, one of a bar that began long before.
    store(&bed, vec![at("a", 70, 4), at("b", 2, 5)]).await;
    advance(PACE).await;
    assert_eq!(take(&mut follower, &mut got).await, 5);
    assert_eq!(
        got,
        held(&[("a", 1, 3, 4.0, false), ("b", 0, 2, 5.0, false)])
    );
}

#[tokio::test(start_paused = true)]
async fn a_resumed_follower_goes_on_with_its_bars_in_progress() {
    let bed = Bed::new(Visibility::Durable).await;
    store(
        &bed,
        vec![at("quiet", 1, 1), at("a", 500, 2), at("a", 501, 3)],
    )
    .await;
    let wanted = bars(Start::Earliest, OpenBars::LeftOut);
    let mut follower = follow(&bed, wanted.clone()).await;
    let mut got = Held::new();
    take(&mut follower, &mut got).await;
    let resume = follower.resume();
    let cursor = resume.cursor.unwrap();
    assert_eq!(
        resume.carried.bars_since,
        Some(0),
        "the quiet one's bar is the oldest"
    );
    drop(follower);
    store(
        &bed,
        vec![at("a", 503, 4), at("quiet", 100, 5), at("a", 600, 6)],
    )
    .await;
    let resumed = Wanted {
        start: Start::Cursor(cursor),
        carried: resume.carried,
        ..wanted
    };
    let mut follower = follow(&bed, resumed).await;
    assert_eq!(take(&mut follower, &mut got).await, 6);
    assert_eq!(
        got,
        held(&[("a", 8, 3, 4.0, true), ("quiet", 0, 1, 1.0, true)])
    );
}

#[tokio::test(start_paused = true)]
async fn a_bar_that_lost_records_says_so() {
    let bed = Bed::new(Visibility::Durable).await;
    store(
        &bed,
        vec![at("a", 1, 1), at("a", 2, 2), at("a", 61, 3), at("a", 62, 4)],
    )
    .await;
    bed.hub.trim_feed(bed.feed.name(), 1).await.unwrap();
    store(&bed, vec![at("a", 130, 5)]).await;
    let start = Start::Cursor(Cursor {
        epoch: 0,
        offset: 0,
    });
    let mut follower = follow(&bed, bars(start, OpenBars::LeftOut)).await;
    let mut got = Held::new();
    assert_eq!(take(&mut follower, &mut got).await, 5);
    let partial = ("a".to_owned(), 0);
    assert_eq!(got[&partial], (1, 2.0, true, true));
    assert_eq!(got[&("a".to_owned(), 1)], (2, 4.0, true, false));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_followers_of_the_same_bars_cost_one() {
    let bed = Bed::new(Visibility::Durable).await;
    let mut crowd = vec![];
    for _ in 0..1_000 {
        let mut follower = follow(&bed, bars(Start::New, OpenBars::Sent)).await;
        take(&mut follower, &mut Held::new()).await;
        crowd.push(follower);
    }
    for round in 1..=4_u64 {
        let seconds = 60 * i64::try_from(round).unwrap();
        store(
            &bed,
            (0..500)
                .map(|n| at(["a", "b"][n % 2], seconds, n as u64))
                .collect(),
        )
        .await;
        advance(PACE).await;
        for follower in &mut crowd {
            let mut got = Held::new();
            assert_eq!(take(follower, &mut got).await, 500 * round);
            assert!(got.len() >= 2);
        }
        assert_eq!(bed.feed.bar_views.computed.load(Relaxed), round);
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_and_an_end_count_for_bars_too() {
    let bed = Bed::new(Visibility::Durable).await;
    let seconds = (0..3_000).map(|n| at(&format!("k{}", n % 10), n, n.unsigned_abs()));
    store(&bed, seconds.collect()).await;
    let filter = KeyFilter {
        include: Some(["k3".to_owned()].into()),
        ..KeyFilter::default()
    };
    let wanted = Wanted {
        filter,
        end: End::Offset(600),
        ..bars(Start::Earliest, OpenBars::Sent)
    };
    let mut follower = follow(&bed, wanted).await;
    let mut got = Held::new();
    assert_eq!(take(&mut follower, &mut got).await, 600);
    let counts: Vec<_> = got.values().map(|(count, ..)| *count).collect();
    assert_eq!(counts, [6; 10]);
    let step = follower.next().await.unwrap();
    assert!(matches!(step, Step::Ended), "{step:?}");
}

#[tokio::test(start_paused = true)]
async fn bars_end_at_an_ingest_time() {
    let bed = Bed::new(Visibility::Durable).await;
    store(&bed, vec![at("a", 1, 1), at("a", 2, 2)]).await;
    let wanted = Wanted {
        end: End::IngestTime(model::now()),
        ..bars(Start::Earliest, OpenBars::LeftOut)
    };
    let mut follower = follow(&bed, wanted).await;
    store(&bed, vec![at("a", 3, 3)]).await;
    let mut got = Held::new();
    assert_eq!(take(&mut follower, &mut got).await, 2);
    assert_eq!(got, held(&[("a", 0, 2, 2.0, true)]));
    let step = follower.next().await.unwrap();
    assert!(matches!(step, Step::Ended), "{step:?}");
}

/// A key that has a bar in progress for long, and another.
async fn store_quiet(bed: &Bed) {
    store(bed, vec![at("quiet", 1, 1), at("a", 500, 2)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_resume_goes_by_what_was_returned_and_not_by_what_is_pending() {
    let bed = Bed::new(Visibility::Durable).await;
    store_quiet(&bed).await;
    let wanted = bars(Start::Earliest, OpenBars::LeftOut);
    let mut follower = follow(&bed, wanted.clone()).await;
    let step = follower.next().await.unwrap();
    assert!(matches!(step, Step::AtTail), "{step:?}");
    store(&bed, vec![at("quiet", 600, 3)]).await;
    advance(PACE).await;
    let Step::Records(passed) = follower.next().await.unwrap() else {
        panic!("what was passed comes before the bar");
    };
    assert_eq!((passed.covers.to, passed.count), (2, 0));
    let resume = follower.resume();
    assert_eq!(resume.carried.bars_since, Some(0));
    let resumed = Wanted {
        start: Start::Cursor(resume.cursor.unwrap()),
        carried: resume.carried,
        ..wanted
    };
    let mut got = Held::new();
    assert_eq!(take(&mut follow(&bed, resumed).await, &mut got).await, 3);
    assert_eq!(got, held(&[("quiet", 0, 1, 1.0, true)]));
}

#[tokio::test(start_paused = true)]
async fn a_bar_older_than_the_table_of_others_is_not_lost_to_it() {
    let bed = Bed::new(Visibility::Durable).await;
    store_quiet(&bed).await;
    let mut younger = follow(&bed, bars(Start::New, OpenBars::LeftOut)).await;
    take(&mut younger, &mut Held::new()).await;
    let mut older = follow(&bed, bars(Start::Earliest, OpenBars::LeftOut)).await;
    let mut got = Held::new();
    take(&mut older, &mut got).await;
    store(&bed, vec![at("quiet", 600, 3)]).await;
    advance(PACE).await;
    assert_eq!(take(&mut older, &mut got).await, 3);
    assert_eq!(got, held(&[("quiet", 0, 1, 1.0, true)]));
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_behind_does_not_say_what_is_in_progress() {
    let bed = Bed::new(Visibility::Durable).await;
    let wanted = bars(Start::Earliest, OpenBars::LeftOut);
    let mut first = follow(&bed, wanted.clone()).await;
    take(&mut first, &mut Held::new()).await;
    store_quiet(&bed).await;
    // It shares the table, which does not move yet.
    let mut second = follow(&bed, wanted).await;
    for _ in 0..2 {
        take(&mut second, &mut Held::new()).await;
        assert_eq!(second.resume().carried.bars_since, Some(0));
    }
}
