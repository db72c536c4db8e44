//! What may be uploaded: feeds, keys, wills.

use ringfeed::proto::v1::{
    IngestMode, IngestRequest, PublishBatch, PublishHello, PublishRequest, Status as Words, Will,
    publish_request::Command, publish_response::Event,
};
use tonic::{Code, Status};

use super::{Bed, Feeds, denied, upload};
use crate::harness::{number, plain, reason, within};

fn tail(bed: &Bed, feed: &str) -> u64 {
    let feed = bed.hub.feed(&feed.parse().unwrap()).unwrap();
    feed.bounds().tail
}

#[tokio::test]
async fn a_record_outside_the_scope_is_refused_and_those_around_it_are_stored() {
    let bed = Bed::with(&["sensors"]).await;
    bed.knows("pi17", &["ingest:sensors:{principal}.*"]);
    let mut feeds = bed.feeds("pi17");
    // Twice: before the keys have numbers, and after.
    bed.knows("all", &["ingest:*"]);
    for round in 0..2 {
        let records = ["pi17.a", "pi18.a", "pi17.b", "door"].map(|key| number(key, round));
        let answer = upload(&mut feeds, vec![plain("sensors", records.to_vec())]);
        let answer = answer.await.unwrap();
        assert_eq!((answer.stored, answer.refused), (2, 2));
        let refused = answer.refusals.iter();
        let told: Vec<_> = refused
            .map(|r| (r.index, r.field.as_str(), r.reason.as_str()))
            .collect();
        assert_eq!(
            told,
            [(1, "key", "KEY_NOT_ALLOWED"), (3, "key", "KEY_NOT_ALLOWED")]
        );
        let known = ["pi18.a", "door"].map(|key| number(key, 1));
        let all = vec![plain("sensors", known.to_vec())];
        let all = upload(&mut bed.feeds("all"), all).await;
        assert_eq!(all.unwrap().refused, 0);
    }
    assert_eq!(tail(&bed, "sensors"), 8);
}

#[tokio::test]
async fn an_atomic_batch_with_such_a_record_is_refused_whole() {
    let bed = Bed::with(&["sensors"]).await;
    bed.knows("pi17", &["ingest:sensors:pi17.*"]);
    let records = vec![number("pi17.a", 0), number("pi18.a", 1)];
    let message = IngestRequest {
        mode: IngestMode::Atomic.into(),
        ..plain("sensors", records)
    };
    let refused = upload(&mut bed.feeds("pi17"), vec![message]).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(reason(&refused), "KEY_NOT_ALLOWED");
    assert_eq!(tail(&bed, "sensors"), 0);
}

#[tokio::test]
async fn a_feed_outside_the_scope_ends_the_upload_and_is_not_created() {
    let bed = Bed::with(&["a", "b"]).await;
    bed.knows("me", &["ingest:a", "subscribe:*", "ingest:new.*"]);
    let mut feeds = bed.feeds("me");
    // Whether it is there or not.
    for feed in ["b", "c"] {
        let messages = vec![
            plain("a", vec![number("k", 1)]),
            plain(feed, vec![number("k", 2)]),
        ];
        let named = denied(upload(&mut feeds, messages).await);
        assert_eq!(named, ["ingest", feed, ""]);
    }
    assert_eq!((tail(&bed, "a"), tail(&bed, "b")), (2, 0));
    assert!(bed.hub.feed(&"c".parse().unwrap()).is_err());
    let created = upload(&mut feeds, vec![plain("new.x", vec![number("k", 1)])]).await;
    assert_eq!(created.unwrap().stored, 1);
}

fn hello(feed: &str, will: Option<&str>) -> PublishRequest {
    let will = will.map(|key| Will {
        key: key.into(),
        status: Some(Words {
            state: "offline".into(),
            ..Words::default()
        }),
        ..Will::default()
    });
    let hello = PublishHello {
        feed: feed.into(),
        producer: "p".into(),
        instance: vec![1].into(),
        will,
    };
    PublishRequest {
        command: Some(Command::Hello(hello)),
    }
}

async fn publish(feeds: &mut Feeds, messages: Vec<PublishRequest>) -> Result<Vec<Event>, Status> {
    let opened = feeds.publish(tokio_stream::iter(messages));
    let mut answers = within("a device", opened).await?.into_inner();
    let mut events = vec![];
    while let Some(answer) = within("an answer", answers.message()).await? {
        events.extend(answer.event);
    }
    Ok(events)
}

#[tokio::test]
async fn a_device_writes_its_own_keys_and_leaves_a_will_of_its_own() {
    let bed = Bed::with(&["sensors", "other"]).await;
    bed.knows("pi17", &["ingest:sensors:{principal}.*"]);
    let mut feeds = bed.feeds("pi17");
    let refused = publish(&mut feeds, vec![hello("other", None)]).await;
    assert_eq!(denied(refused), ["ingest", "other", ""]);
    let refused = publish(&mut feeds, vec![hello("sensors", Some("pi18.state"))]).await;
    assert_eq!(denied(refused), ["ingest", "sensors", "pi18.state"]);

    let records = ["pi17.a", "pi18.a", "pi17.b"].map(|key| number(key, 1));
    let batch = PublishRequest {
        command: Some(Command::Batch(PublishBatch {
            first_sequence: 1,
            records: records.to_vec(),
            ..PublishBatch::default()
        })),
    };
    let talk = vec![hello("sensors", Some("pi17.state")), batch];
    let events = publish(&mut feeds, talk).await.unwrap();
    let ack = events.iter().find_map(|event| match event {
        Event::Ack(ack) => Some(ack),
        _ => None,
    });
    let ack = ack.unwrap();
    assert_eq!((ack.stored, ack.refused, ack.sequence), (2, 1, 3));
    assert_eq!(ack.refusals[0].reason, "KEY_NOT_ALLOWED");
    assert_eq!(ack.refusals[0].sequence, 2);
}
