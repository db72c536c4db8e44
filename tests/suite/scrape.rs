//! The scrape itself: small however much there is, and without what is not there any more.

use bytes::Bytes;
use prost_types::Duration;
use ringfeed::proto::v1::{
    DeleteFeedRequest, KeyInfo, SetKeyInfoRequest, set_key_info_request::Scope, start::From,
};

use crate::harness::{
    Follow, MIB, Server, Setup, feed_exists, number, plain, scraped, until, upload,
};

const FEEDS: usize = 1_000;
const KEYS_PER_FEED: u64 = 100;
const CONNECTIONS: usize = 10;
const STREAMS_PER_CONNECTION: usize = 1_000;

fn name(feed: usize) -> String {
    format!("plant{:02}.line{:03}", feed / 100, feed)
}

#[tokio::test]
async fn a_large_server_has_a_small_scrape() {
    let setup = Setup::new().with("feeds__ring_bytes", "1MiB");
    let server = setup.start().await;
    let mut feeds = server.feeds().await;
    let records: Vec<Bytes> = (0..KEYS_PER_FEED)
        .map(|n| number(&format!("sensor{n}"), n))
        .collect();
    for feed in 0..FEEDS {
        let batch = plain(&name(feed), records.clone());
        upload(&mut feeds, vec![batch]).await.unwrap();
    }
    let mut follow = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut feeds = server.feeds().await;
        follow.spawn(async move {
            let mut open = Vec::with_capacity(STREAMS_PER_CONNECTION);
            for stream in 0..STREAMS_PER_CONNECTION {
                let feed = name(stream % FEEDS);
                open.push(Follow::feed(&mut feeds, &feed, From::Offset(0)).await);
            }
            open
        });
    }
    let open: Vec<_> = follow.join_all().await.into_iter().flatten().collect();
    until("all subscribers on the gauge", async || {
        let scrape = server.scrape().await;
        scrape.get("ringfeed_subscribers", &[]) == open.len() as f64
            && scrape.get("ringfeed_keys", &[]) == (FEEDS as u64 * KEYS_PER_FEED) as f64
    })
    .await;
    let bytes = scraped(server.metrics_address()).await.unwrap().len();
    assert!(bytes < 2 << 20, "{bytes} bytes");
}

async fn describe(server: &Server, scope: Scope, interval: Option<Duration>) {
    let asked = SetKeyInfoRequest {
        feed: "f".into(),
        scope: Some(scope),
        info: Some(KeyInfo {
            expected_interval: interval,
            ..KeyInfo::default()
        }),
    };
    server.catalog().await.set_key_info(asked).await.unwrap();
}

#[tokio::test]
async fn keys_are_stale_after_three_of_their_intervals() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let keys = ["a.temp", "b.temp", "c.temp", "d.hum"];
    let records = keys
        .iter()
        .zip(0..)
        .map(|(key, n)| number(key, n))
        .collect();
    upload(&mut feeds, vec![plain("f", records)]).await.unwrap();
    let stale = async |count: f64| {
        until("the stale keys on the gauge", async || {
            let scrape = server.scrape().await;
            scrape.of_feed("ringfeed_keys", "f") == 4.0
                && scrape.of_feed("ringfeed_keys_stale", "f") == count
        })
        .await;
    };
    stale(0.0).await;
    let short = Some(Duration {
        seconds: 0,
        nanos: 1_000_000,
    });
    let long = Some(Duration {
        seconds: 86_400,
        nanos: 0,
    });
    describe(&server, Scope::Glob("*.temp".into()), short).await;
    stale(3.0).await;
    // The nearest description that says something counts.
    describe(&server, Scope::Key("a.temp".into()), long).await;
    describe(&server, Scope::Key("b.temp".into()), None).await;
    stale(2.0).await;
}

#[tokio::test]
async fn a_feed_that_is_deleted_leaves_the_scrape() {
    let server = Server::start().await;
    let mut catalog = server.catalog().await;
    for feed in ["stays", "goes"] {
        feed_exists(&mut catalog, feed, MIB).await;
        let batch = plain(feed, vec![number("k", 0)]);
        upload(&mut server.feeds().await, vec![batch])
            .await
            .unwrap();
    }
    let scrape = async || scraped(server.metrics_address()).await.unwrap();
    assert!(scrape().await.contains("feed=\"goes\""));
    let asked = DeleteFeedRequest {
        name: "goes".into(),
    };
    catalog.delete_feed(asked).await.unwrap();
    let scrape = scrape().await;
    assert!(!scrape.contains("feed=\"goes\""), "{scrape}");
    assert!(scrape.contains("ringfeed_next_offset{feed=\"stays\"} 1\n"));
    assert!(scrape.contains("ringfeed_tokio_busy_seconds_total "));
}
