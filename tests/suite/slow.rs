//! P5: a subscriber that does not read delays nobody, costs bounded memory, and is told exactly
//! what it missed.

use bytes::Bytes;
use ringfeed::proto::v1::{self, GapReason, ListSubscribersRequest, SubscribeRequest, start::From};

use crate::harness::{
    Follow, MIB, Server, event_nanos, feed_exists, get_feed, plain, until, upload, vector,
};

const FEED: &str = "busy";
const CHANNELS: usize = 1_000;
const BATCH: u64 = 100;
const BATCHES: u64 = 240;

fn batch(n: u64) -> Vec<Bytes> {
    let records = n * BATCH..(n + 1) * BATCH;
    records.map(|n| vector("k", n, CHANNELS)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_subscriber_delays_nobody_and_misses_only_what_it_is_told() {
    let server = Server::start().await;
    feed_exists(&mut server.catalog().await, FEED, 32 * MIB).await;
    let mut feeds = server.feeds().await;
    upload(&mut feeds, vec![plain(FEED, batch(0))])
        .await
        .unwrap();
    let mut slow_feeds = server.feeds().await;
    let mut slow = Follow::feed(&mut slow_feeds, FEED, From::Offset(0)).await;
    slow.step().await.unwrap();
    let mut fast_feeds = server.feeds().await;
    let mut fast = Follow::feed(&mut fast_feeds, FEED, From::Offset(0)).await;

    // One message for the slow one in forty batches; the fast one keeps up with each.
    let before = server.rss();
    let mut peak = before;
    for n in 1..BATCHES {
        upload(&mut feeds, vec![plain(FEED, batch(n))])
            .await
            .unwrap();
        fast.read_to((n + 1) * BATCH).await;
        if n % 40 == 0 {
            slow.step().await.unwrap();
            peak = peak.max(server.rss());
        }
    }
    let total = BATCHES * BATCH;
    assert_eq!(
        fast.ledger().records.len() as u64,
        total,
        "the fast one has all"
    );
    assert_eq!(fast.ledger().gap_list(), []);
    let slow_has = slow.ledger().records.len() as u64;
    assert!(
        slow_has < total / 50,
        "the slow one read {slow_has} of {total}"
    );
    // 64 MiB of window and what is on its way; not the 180 MiB that were passed on.
    assert!(
        peak < before + 160 * MIB && peak < 300 * MIB,
        "{} MiB resident, {} before",
        peak / MIB,
        before / MIB
    );

    let subscribers = server
        .catalog()
        .await
        .list_subscribers(ListSubscribersRequest::default())
        .await
        .unwrap()
        .into_inner()
        .subscribers;
    assert_eq!(subscribers.len(), 2);
    let all_told = |s: &v1::Subscriber| s.cursor + s.lag_records == total;
    assert!(subscribers.iter().all(all_told), "{subscribers:?}");
    let lag = subscribers.iter().map(|s| s.lag_records).max().unwrap();
    assert!(lag > 30 * BATCH, "{lag} records behind");

    let head = get_feed(&mut server.catalog().await, FEED).await.oldest;
    slow.read_to(total).await;
    let ledger = slow.ledger();
    let missed = ledger.gap_list();
    assert!(!missed.is_empty(), "the ring went past the slow one");
    for (from, to, count, why) in &missed {
        assert_eq!((*count, *why), (Some(to - from), GapReason::Evicted));
    }
    let (from, to, ..) = missed[missed.len() - 1];
    assert!(from < head && to == head, "{missed:?}");
    // The ledger saw that records and gaps join up: so this is all there was, once.
    let lost: u64 = missed.iter().map(|(from, to, ..)| to - from).sum();
    assert_eq!(ledger.records.len() as u64 + lost, total);
    for record in ledger.decoded() {
        assert_eq!(
            record.event_time_unix_nanos,
            Some(event_nanos(record.offset))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_stuck_subscribers_cost_bounded_memory() {
    const STUCK: usize = 50;
    let server = Server::start().await;
    feed_exists(&mut server.catalog().await, FEED, 64 * MIB).await;
    let mut feeds = server.feeds().await;
    for n in 0..60 {
        upload(&mut feeds, vec![plain(FEED, batch(n))])
            .await
            .unwrap();
    }
    let before = server.rss();
    let mut stuck = vec![];
    for _ in 0..STUCK {
        let mut own = server.feeds().await;
        let mut follow = Follow::feed(&mut own, FEED, From::Offset(0)).await;
        follow.step().await.unwrap();
        stuck.push((own, follow));
    }
    for n in 60..120 {
        upload(&mut feeds, vec![plain(FEED, batch(n))])
            .await
            .unwrap();
    }
    let each = server.rss().saturating_sub(before) / STUCK as u64;
    eprintln!("{} KiB for each stuck subscriber", each / 1024);
    assert!(each < 3 * MIB, "{each} bytes for each stuck subscriber");
    // And it shows: they took nothing of what is there for 10 s.
    until("the stuck are counted", async || {
        let scrape = server.scrape().await;
        scrape.of_feed("ringfeed_subscribers_stalled", FEED) == STUCK as f64
    })
    .await;
    // They were stuck, not lost.
    for (_, follow) in &mut stuck[..3] {
        follow.read_to(12_000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_selector_holds_up_no_other_stream_of_its_connection() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    for n in 0..20 {
        upload(&mut feeds, vec![plain(FEED, batch(n))])
            .await
            .unwrap();
    }
    // Stock clients have one window for a connection of the size of that for a stream, so a
    // stuck stream starves its neighbours; another connection is not touched.
    let mut shared = server.feeds().await;
    let mut stuck = Follow::feed(&mut shared, FEED, From::Offset(0)).await;
    stuck.step().await.unwrap();
    let mut other = server.feeds().await;
    let mut free = Follow::open(
        &mut other,
        SubscribeRequest {
            subscriber: "free".into(),
            ..crate::harness::one(FEED, From::Offset(0), None)
        },
    )
    .await
    .unwrap();
    free.read_to(20 * BATCH).await;
    assert!((stuck.ledger().records.len() as u64) < 20 * BATCH);
}
