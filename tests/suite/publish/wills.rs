//! What is said of a device that is gone, and when it is back.

use prost::Message as _;
use ringfeed::proto::v1::{self, record::Payload, start::From};

use super::{Device, hello};
use crate::harness::{Follow, Server, number};

fn with_will(seconds: i64) -> v1::PublishHello {
    let status = |state: &str| v1::Status {
        state: state.into(),
        reason: "says its will".into(),
    };
    v1::PublishHello {
        will: Some(v1::Will {
            key: "pi.status".into(),
            status: Some(status("offline")),
            grace: Some(prost_types::Duration { seconds, nanos: 0 }),
            online: None,
        }),
        ..hello("f", "pi")
    }
}

/// The states of `pi.status` that a subscriber was told, up to `count`.
async fn states(server: &Server, count: usize) -> Vec<String> {
    let mut feeds = server.feeds().await;
    let mut follow = Follow::feed(&mut feeds, "f", From::Offset(0)).await;
    follow
        .read_until(|l| words(&l[0].records).len() >= count)
        .await;
    words(&follow.ledger().records)
}

fn words(records: &[(u64, bytes::Bytes)]) -> Vec<String> {
    let decoded = records
        .iter()
        .map(|(_, bytes)| v1::Record::decode(bytes.clone()).unwrap());
    let status = |record: v1::Record| match record.payload {
        Some(Payload::Status(status)) => {
            assert_eq!(record.key, "pi.status");
            assert!(record.event_time_unix_nanos.is_some() && record.time_assigned);
            Some(status.state)
        }
        _ => None,
    };
    decoded.filter_map(status).collect()
}

#[tokio::test]
async fn a_will_is_stored_when_the_device_stays_away_and_its_return_as_well() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let (mut device, _) = Device::hello(&mut feeds, with_will(0)).await.unwrap();
    device.send(1, vec![number("k", 1)]);
    device.ack().await.unwrap();
    drop(device);
    assert_eq!(states(&server, 1).await, ["offline"]);
    let (mut device, welcome) = Device::hello(&mut feeds, with_will(3_600)).await.unwrap();
    assert_eq!(welcome.next_sequence, Some(2));
    assert_eq!(
        welcome.next.unwrap().offset,
        3,
        "its return is stored already"
    );
    assert_eq!(states(&server, 2).await, ["offline", "online"]);
    device.send(2, vec![number("k", 2)]);
    assert_eq!(device.ack().await.unwrap().offsets.unwrap().from, 3);
}

#[tokio::test]
async fn a_will_survives_a_kill_and_is_told_of_who_does_not_come_back() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let (device, _) = Device::hello(&mut feeds, with_will(1)).await.unwrap();
    let mut other = with_will(3_600);
    other.producer = "patient".into();
    let (patient, _) = Device::hello(&mut feeds, other).await.unwrap();
    // The welcome was the promise: nothing was stored or flushed after it.
    let setup = server.kill9().await;
    drop((device, patient));
    let server = setup.start().await;
    assert_eq!(states(&server, 1).await, ["offline"]);
    let asked = v1::ListProducersRequest::default();
    let listed = server.catalog().await.list_producers(asked).await.unwrap();
    let listed: Vec<_> = listed
        .into_inner()
        .producers
        .into_iter()
        .map(|p| (p.producer, p.connected))
        .collect();
    assert_eq!(listed, [("patient".into(), false), ("pi".into(), false)]);

    // Told once: after another kill it is remembered, and a return is answered.
    let server = server.kill9().await.start().await;
    let mut feeds = server.feeds().await;
    let (_device, _) = Device::hello(&mut feeds, with_will(3_600)).await.unwrap();
    assert_eq!(states(&server, 2).await, ["offline", "online"]);
}
