//! P8: on SIGTERM streams end with a token that goes on exactly there, what was acknowledged is
//! kept, and the process ends well and in time.

use std::time::Instant;

use bytes::Bytes;
use ringfeed::proto::v1::{
    Selector, SubscribeRequest, feed_service_client::FeedServiceClient, start::From,
    subscribe_response::Event,
};
use tokio::task::JoinHandle;
use tonic::{Code, transport::Channel};

use crate::harness::{
    Follow, Ledger, MIB, Server, Setup, event_of, feed_exists, number, numbered, one, own_bytes,
    plain, progress, read_to_now, reason, stored, until, upload, vector, within,
};

/// Uploads one batch after the other; returns how many records were acknowledged.
fn uploader(server: &Server, feed: &'static str) -> impl Future<Output = u64> + Send + use<> {
    let address = format!("http://{}", server.address());
    async move {
        let endpoint = Channel::from_shared(address).unwrap();
        let mut feeds = FeedServiceClient::new(endpoint.connect().await.unwrap());
        let mut acked = 0;
        loop {
            let messages = (0..5).map(|m| {
                let first = acked + 1 + m * 20;
                let records = (first..first + 20).map(|n| number(feed, n)).collect();
                numbered(feed, "device", first, records)
            });
            match upload(&mut feeds, messages.collect()).await {
                Ok(_) => acked += 100,
                Err(stopped) => {
                    let told = progress(&stopped).and_then(|p| p.stored_through_sequence);
                    return told.unwrap_or(acked).max(acked);
                }
            }
        }
    }
}

/// Reads until the server says goodbye; the ledgers and the token.
async fn read_to_reconnect(mut follow: Follow) -> (Vec<Ledger>, String) {
    follow.read_out().await.unwrap();
    let goodbye = follow.ledgers[0].reconnect.take();
    let token = goodbye.expect("a Reconnect at the end").resume_token;
    (follow.ledgers, token)
}

fn both(from: u64) -> SubscribeRequest {
    let feed = |feed: &str| -> Selector { one(feed, From::Offset(from), None).selectors.remove(0) };
    SubscribeRequest {
        selectors: vec![feed("a"), feed("b")],
        ..SubscribeRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_the_middle_of_everything_loses_and_doubles_nothing() {
    let server = Server::start().await;
    let mut catalog = server.catalog().await;
    for feed in ["a", "b"] {
        feed_exists(&mut catalog, feed, 64 * MIB).await;
    }
    let uploads = ["a", "b"].map(|feed| tokio::spawn(uploader(&server, feed)));
    let mut subscribers: Vec<JoinHandle<(Vec<Ledger>, String)>> = vec![];
    for _ in 0..3 {
        let mut feeds = server.feeds().await;
        let mut follow = Follow::open(&mut feeds, both(0)).await.unwrap();
        follow
            .read_until(|l| l.iter().all(|l| l.records.len() > 200))
            .await;
        subscribers.push(tokio::spawn(read_to_reconnect(follow)));
    }
    let begun = Instant::now();
    let setup = server.sigterm().await;
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());

    let mut acked = vec![];
    for upload in uploads {
        acked.push(within("an upload", upload).await.unwrap());
    }
    let server = setup.start().await;
    let mut tails = vec![];
    for (feed, acked) in ["a", "b"].into_iter().zip(&acked) {
        let all = read_to_now(&mut server.feeds().await, feed).await;
        assert!(all.records.len() as u64 >= *acked, "{feed}: {acked}");
        for (n, (_, bytes)) in (1..).zip(&all.records) {
            assert_eq!(own_bytes(bytes), number(feed, n));
        }
        tails.push(all.next.unwrap());
    }
    for subscriber in subscribers {
        let (before, token) = within("a subscriber", subscriber).await.unwrap();
        let mut feeds = server.feeds().await;
        let mut follow = Follow::resume(&mut feeds, &token).await;
        // Where the ledgers stood is where the new stream has to go on.
        follow.ledgers = before;
        let settled = |l: &[Ledger]| l.iter().zip(&tails).all(|(l, t)| l.next == Some(*t));
        follow.read_until(settled).await;
        for (ledger, tail) in follow.ledgers.iter().zip(&tails) {
            assert_eq!(ledger.gap_list(), []);
            assert_eq!(ledger.records.len() as u64, *tail, "once each");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_ready_when_the_server_stopped_is_sent_before_the_goodbye() {
    const KEYS: u64 = 20_000;
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let records: Vec<Bytes> = (0..KEYS)
        .map(|n| number(&format!("key-{n:05}"), n))
        .collect();
    for part in records.chunks(5_000) {
        upload(&mut feeds, vec![plain("f", part.to_vec())])
            .await
            .unwrap();
    }
    // A description of 256 bytes goes before each record: far more than windows hold.
    let request = SubscribeRequest {
        include_info: true,
        ..one("f", From::Offset(0), None)
    };
    let mut follow = Follow::open(&mut server.feeds().await, request)
        .await
        .unwrap();
    follow.ledgers[0].next = Some(0);
    follow.step().await.unwrap();
    server.terminate();
    until("the server to stop", async || {
        server.log().contains("stopping")
    })
    .await;
    let (mut ledgers, token) = read_to_reconnect(follow).await;
    let ledger = ledgers.remove(0);
    assert!(ledger.next < Some(KEYS), "it was in the middle");
    let setup = server.sigterm_done().await;
    let server = setup.start().await;
    let mut resumed = Follow::resume(&mut server.feeds().await, &token).await;
    resumed.ledgers[0].next = ledger.next;
    resumed.read_to(KEYS).await;
    let rest = resumed.ledger().records.iter();
    let all = ledger.records.iter().chain(rest);
    let all: Vec<Bytes> = all.map(|(_, bytes)| own_bytes(bytes)).collect();
    assert_eq!(all, records);
    assert!(
        !resumed.ledger().infos.is_empty(),
        "it still wants descriptions"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_under_way_is_told_how_far_it_came() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let (send, messages) = tokio::sync::mpsc::channel(4);
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let call = tokio::spawn(async move { feeds.ingest(messages).await });
    let ten: Vec<Bytes> = (0..10).map(|n| number("k", n)).collect();
    send.send(numbered("f", "p", 1, ten)).await.unwrap();
    until("the records to be stored", async || {
        server.scrape().await.of_feed("ringfeed_next_offset", "f") >= 10.0
    })
    .await;
    server.terminate();
    let stopped = within("the answer", call).await.unwrap().unwrap_err();
    assert_eq!(stopped.code(), Code::Unavailable);
    assert_eq!(reason(&stopped), "STOPPING");
    let progress = progress(&stopped).unwrap();
    assert_eq!(progress.stored_through_sequence, Some(10));
    server.sigterm_done().await;
}

/// A server with a subscriber that has much to read and does not.
async fn with_a_stuck_subscriber(setup: Setup) -> (Server, Follow) {
    let server = setup.start().await;
    let mut feeds = server.feeds().await;
    let part: Vec<Bytes> = (0..100).map(|n| vector("k", n, 1_000)).collect();
    upload(&mut feeds, vec![plain("f", part); 20])
        .await
        .unwrap();
    // Its window is smaller than the first response, which so never ends.
    let address = format!("http://{}", server.address());
    let endpoint = Channel::from_shared(address).unwrap();
    let endpoint = endpoint.initial_stream_window_size(65_535);
    let mut narrow = FeedServiceClient::new(endpoint.connect().await.unwrap());
    let follow = Follow::feed(&mut narrow, "f", From::Offset(0)).await;
    until("the first response to be under way", async || {
        server
            .scrape()
            .await
            .of_feed("ringfeed_sent_records_total", "f")
            > 0.0
    })
    .await;
    (server, follow)
}

#[tokio::test]
async fn a_stuck_subscriber_does_not_hold_up_the_stop() {
    let setup = Setup::new().with("shutdown_deadline", "3s");
    let (server, stuck) = with_a_stuck_subscriber(setup).await;
    // One that reads is told goodbye all the same, and counted so.
    let mut reader = Follow::feed(&mut server.feeds().await, "f", From::Offset(2_000)).await;
    let begun = Instant::now();
    server.terminate();
    let goodbye = loop {
        let response = reader.step().await.unwrap().unwrap();
        if let Event::Reconnect(goodbye) = event_of(response) {
            break goodbye;
        }
    };
    assert!(begun.elapsed().as_secs() < 2);
    assert!(!goodbye.resume_token.is_empty());
    let metrics = server.metrics_address();
    until("the count of stopped streams", async || {
        let scrape = crate::harness::scrape_of(metrics).await.unwrap();
        let labels = ["rpc=\"Subscribe\"", "reason=\"server_stop\""];
        scrape.get("ringfeed_streams_ended_total", &labels) >= 1.0
    })
    .await;
    let setup = server.sigterm_done().await;
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    drop(stuck);
    let server = setup.start().await;
    let all = read_to_now(&mut server.feeds().await, "f").await;
    assert_eq!(all.records.len(), 2_000);
    assert_eq!(stored(&all.records[0].1).key, "k");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (mut server, stuck) = with_a_stuck_subscriber(Setup::new()).await;
    let begun = Instant::now();
    server.terminate();
    until("the server to stop", async || {
        server.log().contains("stopping")
    })
    .await;
    server.terminate();
    let status = server.ended().await;
    let took = begun.elapsed();
    assert!(
        !status.success() && took.as_secs() < 5,
        "{status} after {took:?}"
    );
    drop(stuck);
    let server = server.setup().start().await;
    let all = read_to_now(&mut server.feeds().await, "f").await;
    assert_eq!(all.records.len(), 2_000);
}
