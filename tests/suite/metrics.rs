//! What the scrape says is what was done, to the record.

use bytes::Bytes;
use prost::Message as _;
use ringfeed::proto::v1::{self, SubscribeRequest, start::From};

use crate::harness::{
    Follow, MIB, Server, exact, feed_exists, number, numbered, one, plain, read_from, read_to_now,
    reading, until, upload, vector, within,
};

const FEED: &str = "m";

fn refusals(n: u64) -> [Bytes; 2] {
    use ringfeed::proto::v1::reading::Value;
    let nan = reading("k", 0, Value::Number(f64::NAN + n as f64));
    [number("", n), crate::harness::encode(&nan)]
}

#[tokio::test]
async fn counters_and_gauges_are_exact() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let hundred: Vec<Bytes> = (0..100)
        .map(|n| number(["a", "b"][(n % 2) as usize], n))
        .collect();
    let mut received = 0;
    // With the head that gRPC puts in front.
    let mut sent = |request: v1::IngestRequest| {
        received += request.encoded_len() + 5;
        vec![request]
    };
    let first = sent(numbered(FEED, "p", 1, hundred.clone()));
    upload(&mut feeds, first).await.unwrap();
    let half = sent(numbered(FEED, "p", 1, hundred[..50].to_vec()));
    let again = upload(&mut feeds, half).await;
    assert_eq!(exact(&again.unwrap()), (0, 50, 0));
    let [no_key, nan] = refusals(1);
    let bad = sent(plain(FEED, vec![no_key.clone(), nan, no_key]));
    let refused = upload(&mut feeds, bad).await.unwrap();
    assert_eq!(exact(&refused), (0, 0, 3));
    let beyond = sent(numbered(FEED, "p", 999, hundred));
    upload(&mut feeds, beyond).await.unwrap_err();
    let all = read_to_now(&mut feeds, FEED).await;
    assert_eq!(all.records.len(), 100);
    read_from(&mut feeds, FEED, 90).await;

    let scrape = server.scrape().await;
    let of = |name: &str| scrape.of_feed(name, FEED);
    assert_eq!(of("ringfeed_appended_records_total"), 100.0);
    assert_eq!(of("ringfeed_sent_records_total"), 110.0);
    assert_eq!(of("ringfeed_duplicate_records_total"), 50.0);
    let why = |reason: &str| {
        let labels = [
            &*format!("feed=\"{FEED}\""),
            &*format!("reason=\"{reason}\""),
        ];
        scrape.get("ringfeed_refused_records_total", &labels)
    };
    assert_eq!((why("MISSING"), why("NOT_FINITE")), (2.0, 1.0));
    assert_eq!(of("ringfeed_oldest_offset"), 0.0);
    assert_eq!(of("ringfeed_next_offset"), 100.0);
    assert_eq!(of("ringfeed_evicted_records_total"), 0.0);
    let refused = [&*format!("feed=\"{FEED}\""), "reason=\"SEQUENCE_GAP\""];
    assert_eq!(scrape.get("ringfeed_refused_batches_total", &refused), 1.0);
    assert_eq!(scrape.get("ringfeed_append_to_ack_seconds_count", &[]), 3.0);
    // Bytes are those of the frames, in and out.
    let framed = |from: usize| -> f64 {
        let frame = |(_, bytes): &(u64, Bytes)| ringfeed::model::Chunk::framed_len(bytes.len());
        all.records[from..].iter().map(frame).sum::<usize>() as f64
    };
    assert_eq!(of("ringfeed_appended_bytes_total"), framed(0));
    assert_eq!(of("ringfeed_sent_bytes_total"), framed(0) + framed(90));

    let rpc =
        |name: &str, rpc: &str, label: &str| scrape.get(name, &[&format!("rpc=\"{rpc}\""), label]);
    assert_eq!(rpc("ringfeed_rpc_started_total", "Ingest", ""), 4.0);
    let came_in = |what: &str| rpc(&format!("ringfeed_rpc_received_{what}_total"), "Ingest", "");
    assert_eq!(came_in("messages"), 4.0);
    assert_eq!(came_in("bytes"), received as f64);
    let handled = "ringfeed_rpc_handled_total";
    assert_eq!(rpc(handled, "Ingest", "code=\"OK\""), 3.0);
    assert_eq!(rpc(handled, "Ingest", "code=\"FAILED_PRECONDITION\""), 1.0);
    assert_eq!(rpc(handled, "Subscribe", "code=\"OK\""), 2.0);
    let ended = "ringfeed_streams_ended_total";
    assert_eq!(rpc(ended, "Ingest", "reason=\"done\""), 3.0);
    assert_eq!(rpc(ended, "Ingest", "reason=\"error\""), 1.0);
    assert_eq!(rpc("ringfeed_streams_open", "Ingest", ""), 0.0);
    let build = scrape.get("ringfeed_build_info", &["engine=\"sled\"", "version=\""]);
    assert_eq!(build, 1.0);
}

#[tokio::test]
async fn evictions_and_gaps_are_counted_as_they_were_told() {
    let server = Server::start().await;
    feed_exists(&mut server.catalog().await, FEED, MIB).await;
    let mut feeds = server.feeds().await;
    let part: Vec<Bytes> = (0..100).map(|n| vector("k", n, 1_000)).collect();
    upload(&mut feeds, vec![plain(FEED, part); 5])
        .await
        .unwrap();
    let ledger = read_to_now(&mut feeds, FEED).await;
    let head = ledger.gaps[0].to;
    assert!(head > 300);
    let scrape = server.scrape().await;
    let of = |name: &str| scrape.of_feed(name, FEED);
    assert_eq!(of("ringfeed_evicted_records_total"), head as f64);
    assert_eq!(of("ringfeed_oldest_offset"), head as f64);
    assert_eq!(of("ringfeed_sent_records_total"), (500 - head) as f64);
    assert_eq!(of("ringfeed_ring_max_bytes"), MIB as f64);
    assert!((1.0..=MIB as f64).contains(&of("ringfeed_ring_bytes")));
    let gaps = |reason: &str| {
        let labels = [
            &*format!("feed=\"{FEED}\""),
            &*format!("reason=\"{reason}\""),
        ];
        scrape.get("ringfeed_gaps_total", &labels)
    };
    assert_eq!((gaps("evicted"), gaps("trimmed")), (1.0, 0.0));

    // A restart evicts nothing more.
    let server = server.restart().await;
    let scrape = server.scrape().await;
    assert_eq!(scrape.of_feed("ringfeed_evicted_records_total", FEED), 0.0);
    assert_eq!(scrape.of_feed("ringfeed_oldest_offset", FEED), head as f64);
}

#[tokio::test]
async fn streams_are_counted_by_how_they_ended() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    upload(&mut feeds, vec![plain(FEED, vec![number("k", 0)])])
        .await
        .unwrap();
    let ended = async |reason: &str, count: f64| {
        until(reason, async || {
            let labels = ["rpc=\"Subscribe\"", &format!("reason=\"{reason}\"")];
            let scrape = server.scrape().await;
            scrape.get("ringfeed_streams_ended_total", &labels) == count
        })
        .await;
    };
    read_to_now(&mut feeds, FEED).await;
    ended("done", 1.0).await;
    let unknown = one("unheard-of", From::Offset(0), None);
    Follow::open(&mut feeds, unknown).await.unwrap_err();
    ended("error", 1.0).await;
    let request = SubscribeRequest {
        subscriber: "leaver".into(),
        ..one(FEED, From::Offset(0), None)
    };
    let mut follow = Follow::open(&mut feeds, request).await.unwrap();
    follow.read_to(1).await;
    let open = async |rpc: &str| {
        let scrape = server.scrape().await;
        scrape.get("ringfeed_streams_open", &[&format!("rpc=\"{rpc}\"")])
    };
    assert_eq!(open("Subscribe").await, 1.0);
    until("the subscriber on the gauge", async || {
        server.scrape().await.of_feed("ringfeed_subscribers", FEED) == 1.0
    })
    .await;
    drop(follow);
    ended("client_gone", 1.0).await;
    assert_eq!(open("Subscribe").await, 0.0);

    // An upload that is open, then left.
    let (send, messages) = tokio::sync::mpsc::channel(1);
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let call = tokio::spawn(async move { feeds.ingest(messages).await });
    let record = vec![number("k", 1)];
    send.send(numbered(FEED, "p", 1, record)).await.unwrap();
    until("the producer on the gauge", async || {
        let scrape = server.scrape().await;
        scrape.of_feed("ringfeed_producers_connected", FEED) == 1.0
    })
    .await;
    assert_eq!(open("Ingest").await, 1.0);
    call.abort();
    assert!(
        within("the call's end", call)
            .await
            .unwrap_err()
            .is_cancelled()
    );
    until("the upload's end", async || {
        let labels = ["rpc=\"Ingest\"", "reason=\"client_gone\""];
        let scrape = server.scrape().await;
        scrape.get("ringfeed_streams_ended_total", &labels) == 1.0
    })
    .await;
    until("the producer off the gauge", async || {
        let scrape = server.scrape().await;
        scrape.of_feed("ringfeed_producers_connected", FEED) == 0.0
    })
    .await;
}

#[tokio::test]
async fn no_label_is_made_of_what_a_peer_says() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let secret = "a-name-nobody-else-uses";
    let record = vec![number(secret, 0)];
    upload(&mut feeds, vec![numbered(FEED, secret, 1, record)])
        .await
        .unwrap();
    let request = SubscribeRequest {
        subscriber: secret.into(),
        ..one(FEED, From::Offset(0), None)
    };
    let mut follow = Follow::open(&mut feeds, request).await.unwrap();
    follow.read_to(1).await;
    until("the subscriber on the gauge", async || {
        server.scrape().await.of_feed("ringfeed_subscribers", FEED) == 1.0
    })
    .await;
    let scrape = format!("{:?}", server.scrape().await);
    assert!(!scrape.contains(secret), "{scrape}");
    assert!(scrape.contains("process_"), "the process's own figures");
}
