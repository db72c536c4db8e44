//! Of two uploads with one producer's name the newer one stays, whatever kind they are.

use bytes::Bytes;
use ringfeed::{
    client::{ConnectOptions, Connection, PublishError, PublishOptions, Publisher, is_fenced},
    proto::v1,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{Device, hello};
use crate::harness::{
    Server, exact, number, numbered, progress, read_to_now, reason, until, within,
};

fn assert_fenced(status: &Status) {
    assert_eq!(
        (status.code(), &*reason(status)),
        (Code::Aborted, "PRODUCER_FENCED")
    );
    assert!(status.message().contains("another device"), "{status:?}");
}

fn one(n: u64) -> Vec<Bytes> {
    vec![number("k", n)]
}

async fn listed(server: &Server) -> Vec<v1::Producer> {
    let asked = v1::ListProducersRequest::default();
    let answer = server.catalog().await.list_producers(asked).await;
    answer.unwrap().into_inner().producers
}

#[tokio::test]
async fn two_devices_with_one_name_end_with_one_fenced_and_told_why() {
    let server = Server::start().await;
    let (mut feeds, mut other) = (server.feeds().await, server.feeds().await);
    let (mut old, _) = Device::hello(&mut feeds, hello("f", "pi")).await.unwrap();
    old.send(1, one(1));
    assert_eq!(old.ack().await.unwrap().sequence, 1);
    let second = v1::PublishHello {
        instance: Bytes::from_static(b"another"),
        ..hello("f", "pi")
    };
    let (mut newer, welcome) = Device::hello(&mut other, second).await.unwrap();
    assert_eq!(welcome.next_sequence, Some(2));
    old.send(2, one(200));
    assert_fenced(&old.end().await.unwrap_err());
    newer.send(2, one(2));
    assert_eq!(newer.ack().await.unwrap().sequence, 2);
    let pi = listed(&server).await.remove(0);
    assert_eq!((pi.connected, pi.durable_sequence), (true, 2));
    let all = read_to_now(&mut feeds, "f").await;
    assert_eq!(all.records.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_publisher_does_not_fight_for_its_name() {
    let server = Server::start().await;
    let connection = || Connection::new(&ConnectOptions::to(server.address().to_string())).unwrap();
    let connect = || Publisher::connect(connection(), PublishOptions::to("f", "pi"));
    let mut old = connect().await.unwrap();
    old.send(one(1)).await.unwrap().ack().await.unwrap();
    let mut newer = connect().await.unwrap();
    assert_eq!(newer.next_sequence(), 2);
    let failed = match old.send(one(2)).await {
        Ok(receipt) => receipt.ack().await.err(),
        Err(error) => Some(error),
    };
    let Some(PublishError::Status(status)) = failed else {
        panic!("{failed:?}");
    };
    assert_fenced(&status);
    assert!(is_fenced(&status));
    // It stays ended, and the newer one was never pushed out.
    assert!(old.send(one(2)).await.is_err());
    assert_eq!(old.cuts(), 0);
    assert!(within("its end", old.close()).await.is_err());
    for n in 2..50 {
        newer.send(one(n)).await.unwrap().ack().await.unwrap();
    }
    assert_eq!(newer.cuts(), 0);
    newer.close().await.unwrap();
    let scrape = server.scrape().await;
    let streams = scrape.get("ringfeed_rpc_started_total", &["rpc=\"Publish\""]);
    assert_eq!(streams, 2.0, "one stream each");
}

/// An upload of one record that stays open.
async fn open_upload(
    server: &Server,
    first: u64,
) -> (
    mpsc::Sender<v1::IngestRequest>,
    tokio::task::JoinHandle<Result<v1::IngestResponse, Status>>,
) {
    let mut feeds = server.feeds().await;
    let (send, messages) = mpsc::channel(4);
    send.send(numbered("f", "pi", first, one(first)))
        .await
        .unwrap();
    let call = tokio::spawn(async move {
        let answer = feeds.ingest(ReceiverStream::new(messages)).await;
        answer.map(tonic::Response::into_inner)
    });
    until("the record", async || {
        let listed = listed(server).await;
        listed
            .iter()
            .any(|p| p.durable_sequence == first && p.connected)
    })
    .await;
    (send, call)
}

#[tokio::test]
async fn an_upload_and_a_device_fence_each_other() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let (send, upload) = open_upload(&server, 1).await;
    let (mut device, welcome) = Device::hello(&mut feeds, hello("f", "pi")).await.unwrap();
    assert_eq!(welcome.next_sequence, Some(2));
    let fenced = within("the upload's end", upload)
        .await
        .unwrap()
        .unwrap_err();
    assert_fenced(&fenced);
    assert_eq!(progress(&fenced).unwrap().stored_through_sequence, Some(1));
    drop(send);
    device.send(2, one(2));
    assert_eq!(device.ack().await.unwrap().sequence, 2);

    let (send, upload) = open_upload(&server, 3).await;
    assert_fenced(&device.end().await.unwrap_err());
    let (newer, last) = open_upload(&server, 4).await;
    assert_fenced(
        &within("the upload's end", upload)
            .await
            .unwrap()
            .unwrap_err(),
    );
    drop((send, newer));
    let summary = within("the last one's end", last).await.unwrap().unwrap();
    assert_eq!(exact(&summary), (1, 0, 0));
    let all = read_to_now(&mut feeds, "f").await;
    assert_eq!(all.records.len(), 4);
}

#[tokio::test]
async fn a_device_that_is_silent_is_listed() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let (device, _) = Device::hello(&mut feeds, hello("f", "silent"))
        .await
        .unwrap();
    let found = listed(&server).await;
    let silent = &found[0];
    assert_eq!((&*silent.producer, &*silent.feed), ("silent", "f"));
    assert!(silent.connected);
    assert!(silent.last_seen_time.as_ref().unwrap().seconds > 1_700_000_000);
    let stale = v1::ListProducersRequest {
        stale: Some(prost_types::Duration {
            seconds: 3_600,
            nanos: 0,
        }),
        ..v1::ListProducersRequest::default()
    };
    let stale = server.catalog().await.list_producers(stale).await;
    assert_eq!(stale.unwrap().into_inner().producers, []);
    drop(device);
    until("it to be gone", async || listed(&server).await.is_empty()).await;
}
