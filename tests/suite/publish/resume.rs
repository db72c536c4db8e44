//! P4 for devices: cut anywhere, a device that goes on by its hello has each record stored once.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use ringfeed::{
    client::{ConnectOptions, Connection, PublishOptions, Publisher},
    proto::v1::{self, publish_response::Event},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};
use tonic::Code;

use super::{Device, hello};
use crate::harness::{Random, Server, number, own_bytes, read_to_now, reason, until, within};

const CUTS: u64 = 100;

fn numbers(range: std::ops::Range<u64>) -> Vec<Bytes> {
    range.map(|n| number("k", n)).collect()
}

/// Each record once, in order: the values are the sequences.
async fn assert_stored(server: &Server, feed: &str, to: u64) {
    let all = read_to_now(&mut server.feeds().await, feed).await;
    let stored: Vec<Bytes> = all
        .records
        .iter()
        .map(|(_, bytes)| own_bytes(bytes))
        .collect();
    assert_eq!(stored, numbers(1..to));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_cut_at_random_goes_on_by_its_hello_and_is_stored_once() {
    let mut random = Random::seeded("publish cuts");
    let server = Server::start().await;
    let (mut next, mut acked) = (1, 0);
    for cut in 0..=CUTS {
        // Each life has a connection of its own, which dies with it.
        let mut feeds = server.feeds().await;
        let (mut device, welcome) = Device::hello(&mut feeds, hello("f", "pi")).await.unwrap();
        let goes_on = welcome.next_sequence.unwrap_or(1);
        assert!(
            (acked + 1..=next).contains(&goes_on),
            "at {goes_on}, acked {acked}, sent up to {next}"
        );
        let mut first = goes_on;
        let batches = 1 + random.below(8);
        for _ in 0..batches {
            let count = 1 + random.below(30);
            device.send(first, numbers(first..first + count));
            first += count;
        }
        // What was cut before it arrived is sent again by a later life; the last one ends it.
        next = if cut == CUTS { first } else { next.max(first) };
        let read = if cut == CUTS {
            batches
        } else {
            random.below(batches + 1)
        };
        for _ in 0..read {
            acked = device.ack().await.unwrap().sequence;
        }
        if random.below(2) == 0 {
            // The stream is reset, or the whole connection goes.
            drop(device);
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(acked, next - 1);
    assert_stored(&server, "f", next).await;
}

/// Passes connections on to the server, and cuts all of them when it is told to.
struct Proxy {
    address: SocketAddr,
    cut: Arc<Notify>,
    connections: Arc<AtomicU64>,
}

impl Proxy {
    async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, connections) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
        let proxy = Self {
            address,
            cut: Arc::clone(&cut),
            connections: Arc::clone(&connections),
        };
        tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                tokio::select! {
                    () = cut.notified() => open.abort_all(),
                    accepted = listener.accept() => {
                        let (mut near, _) = accepted.unwrap();
                        connections.fetch_add(1, Relaxed);
                        open.spawn(async move {
                            let mut far = TcpStream::connect(server).await.unwrap();
                            drop(copy_bidirectional(&mut near, &mut far).await);
                        });
                    }
                }
            }
        });
        proxy
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_publisher_goes_on_by_itself_over_cuts_and_a_kill() {
    let mut random = Random::seeded("publisher cuts");
    let server = Server::start().await;
    let proxy = Proxy::start(server.address()).await;
    let connection = Connection::new(&ConnectOptions::to(proxy.address.to_string())).unwrap();
    let options = PublishOptions::to("f", "pi");
    let mut publisher = Publisher::connect(connection, options).await.unwrap();
    assert_eq!(publisher.next_sequence(), 1);
    let mut receipts = vec![];
    let mut cuts = 0;
    while cuts < CUTS {
        let (from, count) = (publisher.next_sequence(), 1 + random.below(20));
        let receipt = publisher.send(numbers(from..from + count)).await.unwrap();
        if random.below(3) == 0 {
            proxy.cut.notify_one();
            cuts += 1;
        }
        if random.below(4) == 0 {
            receipt.ack().await.unwrap();
        } else {
            receipts.push(receipt);
        }
    }
    let next = publisher.next_sequence();
    for receipt in receipts {
        let published = receipt.ack().await.unwrap();
        if let Some(ack) = published.ack {
            assert_eq!(ack.stored + ack.duplicates, published.records);
        }
    }
    assert!(
        publisher.cuts() > 10,
        "{} cuts were noticed",
        publisher.cuts()
    );
    within("the end", publisher.close()).await.unwrap();
    assert!(proxy.connections.load(Relaxed) > 10);
    assert_stored(&server, "f", next).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_batch_is_told_and_ends_the_stream_as_an_upload() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let (mut device, welcome) = Device::hello(&mut feeds, hello("f", "pi")).await.unwrap();
    assert_eq!(welcome.next_sequence, None, "unknown, never 0");
    assert_eq!(welcome.next.unwrap().offset, 0);
    device.send(1, vec![number("k", 1), number("", 2), number("k", 3)]);
    let ack = device.ack().await.unwrap();
    assert_eq!((ack.stored, ack.duplicates, ack.refused), (2, 0, 1));
    assert_eq!(ack.sequence, 3, "a refused one uses its number up");
    let refusal = &ack.refusals[0];
    assert_eq!(
        (refusal.index, refusal.sequence, &*refusal.field),
        (1, 2, "key")
    );
    let offsets = ack.offsets.unwrap();
    assert_eq!((offsets.from, offsets.to), (0, 2));

    // Sent again together with what is new; then a hole.
    device.send(3, numbers(3..6));
    device.send(9, numbers(9..10));
    device.send(10, numbers(10..11));
    let ack = device.ack().await.unwrap();
    assert_eq!((ack.stored, ack.duplicates, ack.sequence), (2, 1, 5));
    let gap = device.end().await.unwrap_err();
    assert_eq!(
        (gap.code(), &*reason(&gap)),
        (Code::FailedPrecondition, "SEQUENCE_GAP")
    );
    assert_eq!(crate::harness::expected_of(&gap), 6);

    let (mut device, welcome) = Device::hello(&mut feeds, hello("f", "pi")).await.unwrap();
    assert_eq!(welcome.next_sequence, Some(6));
    assert_eq!(welcome.next.unwrap().offset, 4);
    device.send(5, vec![number("k", 77)]);
    let reused = device.end().await.unwrap_err();
    assert_eq!(reason(&reused), "SEQUENCE_REUSED");

    let (mut device, _) = Device::hello(&mut feeds, hello("f", "pi")).await.unwrap();
    device.send(0, numbers(6..7));
    let unnumbered = device.end().await.unwrap_err();
    assert_eq!(reason(&unnumbered), "INVALID_ARGUMENT");
    let all = read_to_now(&mut feeds, "f").await;
    assert_eq!(all.records.len(), 4);
}

#[tokio::test]
async fn a_stop_acknowledges_what_was_accepted_and_says_goodbye() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let (mut device, _) = Device::hello(&mut feeds, hello("f", "pi")).await.unwrap();
    for first in (1..1_001).step_by(10) {
        device.send(first, numbers(first..first + 10));
    }
    let first = device.ack().await.unwrap();
    server.terminate();
    let mut acked = first.sequence;
    let goodbye = loop {
        match device.next().await.unwrap() {
            Some(Event::Ack(ack)) => acked = ack.sequence,
            Some(Event::Credit(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(goodbye, Some(Event::Reconnect(_))), "{goodbye:?}");
    assert_eq!(device.next().await.unwrap(), None);
    let server = server.sigterm_done().await.start().await;
    let mut feeds = server.feeds().await;
    let (_device, welcome) = Device::hello(&mut feeds, hello("f", "pi")).await.unwrap();
    assert_eq!(
        welcome.next_sequence,
        Some(acked + 1),
        "all that was accepted was acknowledged"
    );
    assert_stored(&server, "f", acked + 1).await;
}

#[tokio::test]
async fn a_hello_that_cannot_be_taken_says_which_part() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let good = || hello("f", "pi");
    let will = |key: &str, state: &str, seconds| {
        let status = v1::Status {
            state: state.into(),
            ..v1::Status::default()
        };
        Some(v1::Will {
            key: key.into(),
            status: Some(status),
            grace: Some(prost_types::Duration { seconds, nanos: 0 }),
            online: None,
        })
    };
    let with_will = |will| v1::PublishHello { will, ..good() };
    let with_instance = |bytes: usize| v1::PublishHello {
        instance: vec![1; bytes].into(),
        ..good()
    };
    let cases = [
        (hello("", "pi"), "hello.feed"),
        (hello("Not A Feed", "pi"), "hello.feed"),
        (hello("f", ""), "hello.producer"),
        (hello("f", &"p".repeat(129)), "hello.producer"),
        (with_instance(0), "hello.instance"),
        (with_instance(65), "hello.instance"),
        (with_will(will("", "offline", 1)), "hello.will.key"),
        (with_will(will("k", "", 1)), "hello.will.status.state"),
        (with_will(will("k", "gone", -1)), "hello.will.grace"),
        (
            with_will(will("k", "gone", 30 * 86_400 + 1)),
            "hello.will.grace",
        ),
    ];
    for (hello, field) in cases {
        let refused = Device::hello(&mut feeds, hello).await.err().unwrap();
        assert_eq!(
            refused.code(),
            Code::InvalidArgument,
            "{field}: {refused:?}"
        );
        assert_eq!(crate::harness::violated_field(&refused), field);
        assert!(!refused.message().is_empty());
    }
    let mut device = Device::open(&mut feeds, super::batch(1, numbers(1..2))).await;
    let refused = device.end().await.unwrap_err();
    assert_eq!(crate::harness::violated_field(&refused), "hello");
    let mut device = Device::open(&mut feeds, v1::PublishRequest::default()).await;
    let refused = device.end().await.unwrap_err();
    assert_eq!(crate::harness::violated_field(&refused), "command");
    let (mut device, _) = Device::hello(&mut feeds, good()).await.unwrap();
    let again = v1::PublishRequest {
        command: Some(v1::publish_request::Command::Hello(good())),
    };
    device.requests.try_send(again).unwrap();
    let refused = device.end().await.unwrap_err();
    assert_eq!(crate::harness::violated_field(&refused), "hello");
    drop(device);
    until("the device to be gone", async || {
        let mut catalog = server.catalog().await;
        let listed = catalog.list_producers(v1::ListProducersRequest::default());
        let listed = listed.await.unwrap().into_inner();
        listed.producers.is_empty()
    })
    .await;
}
