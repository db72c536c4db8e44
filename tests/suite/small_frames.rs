//! Trap 1: peers that send or are sent many small messages are peers, not attackers. Stock tonic
//! clients with their default windows, in both directions.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use ringfeed::proto::v1::{IngestRequest, start::From};
use tokio::time::Instant;

use crate::harness::{
    Follow, Server, Setup, exact, number, number_of, numbered, read_to_now, stored, upload, within,
};

const READINGS: u64 = 200_000;
const KEY: &str = "pi17.temperature.x";

/// One message for each reading, made as they are sent. tonic joins what is ready at once into one
/// frame, so each waits a turn: a device has its readings one by one as well.
fn one_by_one(
    producer: &'static str,
    count: u64,
) -> impl Stream<Item = IngestRequest> + Send + 'static {
    let message = move |n| numbered("sensors", producer, n + 1, vec![number(KEY, n)]);
    tokio_stream::iter(0..count).then(move |n| async move {
        tokio::task::yield_now().await;
        message(n)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_thousand_tiny_messages_arrive_complete() {
    assert_eq!(number(KEY, 1).len(), 40);
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let messages = one_by_one("pi17", READINGS);
    let stored_all = within("the upload", feeds.ingest(messages)).await.unwrap();
    assert_eq!(exact(stored_all.get_ref()), (READINGS, 0, 0));
    let ledger = read_to_now(&mut feeds, "sensors").await;
    assert_eq!(ledger.records.len() as u64, READINGS);
    let in_order = (0..)
        .zip(&ledger.records)
        .all(|(n, (offset, bytes))| *offset == n && number_of(&stored(bytes)) == n);
    assert!(in_order);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_uploads_of_tiny_messages_share_a_connection() {
    const EACH: u64 = 25_000;
    let server = Server::start().await;
    let feeds = server.feeds().await;
    let uploads = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|producer| {
        let mut feeds = feeds.clone();
        tokio::spawn(async move {
            let messages = one_by_one(producer, EACH);
            let answer = within("the upload", feeds.ingest(messages)).await.unwrap();
            exact(answer.get_ref())
        })
    });
    for upload in uploads {
        assert_eq!(upload.await.unwrap(), (EACH, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_stalls_while_small_records_flow_loses_nothing() {
    // In memory every record is a commit of its own, and so a response of its own.
    let server = Setup::new().with("engine", "memory").start().await;
    let mut feeds = server.feeds().await;
    let first = numbered("sensors", "p", 1, vec![number(KEY, 0)]);
    upload(&mut feeds, vec![first]).await.unwrap();
    let mut subscriber = server.feeds().await;
    let mut follow = Follow::feed(&mut subscriber, "sensors", From::Offset(0)).await;
    follow.read_to(1).await;

    // The subscriber reads nothing for five seconds: that is what the connection has to outlive,
    // so this is real time.
    let stall = Instant::now() + Duration::from_secs(5);
    let message = |n| numbered("sensors", "p", n + 1, vec![number(KEY, n)]);
    // Far enough apart that each is taken in alone: what arrives together becomes one response.
    let start = Instant::now();
    let readings = tokio_stream::iter(1..).then(move |n| async move {
        let due = start + Duration::from_micros(100) * u32::try_from(n).unwrap();
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        (due < stall).then(|| message(n))
    });
    let readings = readings.take_while(|next| std::future::ready(next.is_some()));
    let answer = feeds.ingest(readings.filter_map(std::future::ready)).await;
    let sent = exact(answer.unwrap().get_ref()).0 + 1;
    eprintln!("{sent} small records flowed during the stall");
    assert!(sent > 10_000, "too few records to mean anything: {sent}");
    follow.read_to(sent).await;
    assert_eq!(follow.ledger().gap_list(), []);
    let values: Vec<u64> = follow.ledger().decoded().iter().map(number_of).collect();
    assert_eq!(values, (0..sent).collect::<Vec<_>>());
}
