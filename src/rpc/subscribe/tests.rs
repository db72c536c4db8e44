//! A Subscribe stream as it is driven, one response after the other.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::{leg::Leg, *};
use crate::{
    hub::{Batch, Hub, HubOptions, Mode},
    model,
    proto::v1::subscribe_response::Event,
    store::MemoryEngine,
};

async fn context(feeds: &[&str], options: HubOptions) -> Arc<Context> {
    let hub = Hub::open(Arc::new(MemoryEngine::new()), options).unwrap();
    for feed in feeds {
        let name = feed.parse().unwrap();
        hub.create_feed(name, None, None).await.unwrap();
    }
    Arc::new(Context {
        hub,
        publish_window: 1 << 20,
        heartbeat: Duration::from_secs(10),
        stopping: CancellationToken::new(),
    })
}

fn call() -> Arc<Call> {
    Call::of(&http::Extensions::new())
}

fn from_the_beginning(feeds: &[&str]) -> v1::SubscribeRequest {
    let selector = |feed: &&str| v1::Selector {
        feed: (*feed).into(),
        start: Some(v1::Start {
            from: Some(v1::start::From::Earliest(v1::Earliest {})),
        }),
        ..v1::Selector::default()
    };
    v1::SubscribeRequest {
        selectors: feeds.iter().map(selector).collect(),
        ..v1::SubscribeRequest::default()
    }
}

/// Stores records of about so many bytes.
async fn store(context: &Context, feed: &str, count: usize, bytes: usize) {
    let text = v1::reading::Value::Text("x".repeat(bytes));
    let reading = v1::Reading {
        value: Some(text),
        ..v1::Reading::default()
    };
    let record = v1::Record {
        key: "k".into(),
        event_time_unix_nanos: Some(0),
        payload: Some(v1::record::Payload::Reading(reading)),
        ..v1::Record::default()
    };
    let record = Bytes::from(record.encode_to_vec());
    let feed = context.hub.feed(&feed.parse().unwrap()).unwrap();
    let now = model::now();
    let mut batch = Batch::new(None, Mode::StoreValid, count, 0);
    let records = (0..count).map(|_| &record[..]);
    batch.check(&feed, records, &context.hub.limits(now), now);
    let pending = context.hub.append(&feed, batch).await.unwrap();
    assert_eq!(pending.ack().await.unwrap().stored, count as u64);
}

/// Memory of 10,000 idle streams is mostly this, h2's own, and what is behind pointers.
#[tokio::test]
async fn a_stream_that_waits_is_small() {
    let context = context(&["f"], HubOptions::default()).await;
    let request = from_the_beginning(&["f"]);
    let subscription = open(&context, request, call()).await.unwrap();
    let leg = size_of::<Leg>();
    let stream = subscription.into_stream();
    let size = size_of_val(&stream);
    assert!(leg <= 400, "a selector of {leg} bytes");
    assert!(size <= 1_500, "a stream of {size} bytes");
    tokio::pin!(stream);
    let first = stream.next().await.unwrap().unwrap().response();
    assert!(matches!(first.event, Some(Event::CaughtUp(_))), "{first:?}");
}

/// Where the backlog is read from must not matter, so it is in memory once and in the ring once.
#[tokio::test]
async fn what_is_live_comes_at_once_beside_a_backlog() {
    for window_bytes in [64 << 20, 1 << 20] {
        let options = HubOptions {
            window_bytes,
            ..HubOptions::default()
        };
        let context = context(&["backlog", "live"], options).await;
        for _ in 0..100 {
            store(&context, "backlog", 60, 3_000).await;
        }
        let request = from_the_beginning(&["backlog", "live"]);
        let subscription = open(&context, request, call()).await.unwrap();
        let stream = subscription.into_stream();
        tokio::pin!(stream);
        let mut next = async || {
            let response = stream.next().await.unwrap().unwrap().response();
            let records = matches!(response.event, Some(Event::Records(_)));
            (response.selector, records)
        };
        while next().await != (0, true) {}
        let mut backlog = 0;
        for round in 0..20 {
            store(&context, "live", 1, 10).await;
            let two = [next().await, next().await];
            assert!(two.contains(&(1, true)), "round {round}: {two:?}");
            backlog += two.iter().filter(|one| **one == (0, true)).count();
        }
        assert!(
            backlog >= 15,
            "{backlog} messages of the backlog beside 20 live ones"
        );
    }
}
