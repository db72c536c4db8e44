//! What a device may have in flight, and what one costs that does not read.

use bytes::Bytes;
use ringfeed::{
    client::{ConnectOptions, Connection, PublishOptions, Publisher},
    proto::v1::{self, publish_response::Event},
};
use tonic::Code;

use super::{Device, hello};
use crate::harness::{Server, Setup, number, reason, text, until};

const WINDOW: u64 = 64 << 10;

async fn small_window() -> Server {
    Setup::new()
        .with("limits__publish_window", "64KiB")
        .start()
        .await
}

#[tokio::test]
async fn credit_comes_back_with_the_acks() {
    let server = small_window().await;
    let mut feeds = server.feeds().await;
    let (mut device, welcome) = Device::hello(&mut feeds, hello("f", "pi")).await.unwrap();
    assert_eq!(welcome.credit_bytes, WINDOW);
    let records = |n: u64| vec![text("k", n, &"x".repeat(1_000 + n as usize)); 3];
    let mut credit = WINDOW;
    let (mut acked, mut sent) = (0, vec![]);
    for n in 0..200_u64 {
        let request = super::batch(1 + n * 3, records(n));
        let bytes = prost::Message::encoded_len(&request) as u64;
        while bytes > credit {
            match device.next().await.unwrap().unwrap() {
                Event::Credit(more) => credit += more.bytes,
                event => acked = super::ack_of(event).sequence,
            }
        }
        credit -= bytes;
        sent.push(bytes);
        device.requests.try_send(request).unwrap();
    }
    while credit < WINDOW {
        match device.next().await.unwrap().unwrap() {
            Event::Credit(more) => credit += more.bytes,
            event => acked = super::ack_of(event).sequence,
        }
    }
    assert_eq!((credit, acked), (WINDOW, 600), "all of it came back");
    assert!(sent.iter().sum::<u64>() > 5 * WINDOW);
}

#[tokio::test]
async fn who_sends_more_than_its_credit_is_told_so() {
    let server = small_window().await;
    let mut feeds = server.feeds().await;
    let (mut device, _) = Device::hello(&mut feeds, hello("f", "pi")).await.unwrap();
    device.send(1, vec![text("k", 1, "fits")]);
    let records: Vec<Bytes> = (2..22).map(|n| text("k", n, &"x".repeat(4_000))).collect();
    device.send(2, records);
    assert_eq!(
        device.ack().await.unwrap().sequence,
        1,
        "what came before is acked"
    );
    let exceeded = device.end().await.unwrap_err();
    assert_eq!(exceeded.code(), Code::FailedPrecondition);
    assert_eq!(reason(&exceeded), "CREDIT_EXCEEDED");
    assert!(exceeded.message().contains("wait for the credit"));
    let (_, welcome) = Device::hello(&mut feeds, hello("f", "pi")).await.unwrap();
    assert_eq!(welcome.next_sequence, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_publisher_keeps_to_its_credit() {
    let server = small_window().await;
    let connection = Connection::new(&ConnectOptions::to(server.address().to_string())).unwrap();
    let options = PublishOptions::to("f", "pi");
    let mut publisher = Publisher::connect(connection, options).await.unwrap();
    let mut receipts = vec![];
    for n in 0..1_000_u64 {
        let size = 1 + (n as usize * 7_919) % 4_000;
        let records = vec![text("k", n, &"x".repeat(size)); 1 + n as usize % 12];
        receipts.push(publisher.send(records).await.unwrap());
    }
    for receipt in receipts {
        let published = receipt.ack().await.unwrap();
        assert_eq!(published.ack.unwrap().stored, published.records);
    }
    assert_eq!(publisher.cuts(), 0);
    publisher.close().await.unwrap();
}

async fn listed(server: &Server) -> Option<v1::Producer> {
    let asked = v1::ListProducersRequest::default();
    let listed = server.catalog().await.list_producers(asked).await;
    listed.unwrap().into_inner().producers.pop()
}

/// A device that sends so many batches of these, and reads nothing.
async fn flood(server: &Server, batches: u64, records: &[Bytes]) -> Device {
    let mut feeds = server.feeds().await;
    let (device, _) = Device::hello(&mut feeds, hello("f", "pi")).await.unwrap();
    for n in 0..batches {
        device.send(1 + n * records.len() as u64, records.to_vec());
    }
    device
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_floods_and_reads_no_ack_is_ended() {
    let server = Server::start().await;
    let before = server.rss();
    let mut device = flood(&server, 200_000, &[number("k", 0)]).await;
    until("the flood to be refused", async || {
        listed(&server)
            .await
            .is_some_and(|device| !device.connected)
    })
    .await;
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 100 << 20, "{grown} bytes more");
    let ended = device.end().await.unwrap_err();
    assert_eq!(reason(&ended), "CREDIT_EXCEEDED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_reads_no_refusals_costs_little_and_goes_on_when_it_reads() {
    const BATCHES: u64 = 5_000;
    let server = Setup::new()
        .with("limits__publish_window", "64MiB")
        .start()
        .await;
    let before = server.rss();
    // Refusals are what an ack can be large with: 100 for each batch.
    let mut device = flood(&server, BATCHES, &vec![number("", 0); 100]).await;
    until("the first batches to be refused", async || {
        listed(&server)
            .await
            .is_some_and(|device| device.refused > 20_000)
    })
    .await;
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 200 << 20, "{grown} bytes more");
    // Nobody else noticed.
    let mut other = server.feeds().await;
    let (mut other, _) = Device::hello(&mut other, hello("f", "other"))
        .await
        .unwrap();
    other.send(1, vec![number("k", 1)]);
    assert_eq!(other.ack().await.unwrap().stored, 1);
    for n in 1..=BATCHES {
        let ack = device.ack().await.unwrap();
        assert_eq!(
            (ack.sequence, ack.refused, ack.refusals.len()),
            (n * 100, 100, 100)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_pauses_is_not_cut_off_by_small_acks() {
    const BATCHES: u64 = 400;
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let (mut device, _) = Device::hello(&mut feeds, hello("f", "pi")).await.unwrap();
    let mut catalog = server.catalog().await;
    for n in 1..=BATCHES {
        // One after the other, so that each ack goes out by itself; none of them is read.
        device.send(n, vec![number("k", n)]);
        until("the record", async || {
            let asked = v1::GetProducerRequest {
                feed: "f".into(),
                producer: "pi".into(),
            };
            match catalog.get_producer(asked).await {
                Ok(found) => found.into_inner().producer.unwrap().durable_sequence == n,
                Err(_unknown) => false,
            }
        })
        .await;
    }
    for n in 1..=BATCHES {
        assert_eq!(device.ack().await.unwrap().sequence, n);
    }
    let small = device.sizes.iter().filter(|size| **size < 256).count();
    assert!(
        small < device.sizes.len(),
        "the last of each burst is padded"
    );
}
