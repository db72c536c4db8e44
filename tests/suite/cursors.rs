//! Named cursors: what was acknowledged is durable, and is where the subscriber goes on, from
//! whatever connection.

use bytes::Bytes;
use ringfeed::proto::v1::{
    self, AcknowledgeCursorRequest, Cursor, DeleteCursorRequest, Earliest, ListSubscribersRequest,
    NamedCursor, Selector, SubscribeRequest, feed_service_client::FeedServiceClient, start::From,
    subscribe_response::Event,
};
use tonic::{Code, Status, transport::Channel};

use crate::harness::{
    Follow, Server, Setup, Talk, acknowledge, event_of, hello, number, number_of, one, plain,
    reason, set, upload, violated_field,
};

type Feeds = FeedServiceClient<Channel>;

async fn filled(feeds: &mut Feeds, feed: &str, range: std::ops::Range<u64>) {
    let records: Vec<Bytes> = range.map(|n| number("k", n)).collect();
    upload(feeds, vec![plain(feed, records)]).await.unwrap();
}

fn at_cursor(feed: &str) -> Selector {
    let start = From::NamedCursor(NamedCursor {});
    one(feed, start, None).selectors.remove(0)
}

fn named(subscriber: &str, feed: &str) -> SubscribeRequest {
    SubscribeRequest {
        selectors: vec![at_cursor(feed)],
        subscriber: subscriber.into(),
        ..SubscribeRequest::default()
    }
}

async fn acked(feeds: &mut Feeds, subscriber: &str, offset: u64) -> Result<(), Status> {
    let asked = AcknowledgeCursorRequest {
        subscriber: subscriber.into(),
        cursor: Some(Cursor {
            feed: "f".into(),
            epoch: 0,
            offset,
        }),
    };
    feeds.acknowledge_cursor(asked).await.map(|_| ())
}

async fn forget(server: &Server, subscriber: &str) -> Result<(), Status> {
    let asked = DeleteCursorRequest {
        feed: "f".into(),
        subscriber: subscriber.into(),
    };
    server
        .catalog()
        .await
        .delete_cursor(asked)
        .await
        .map(|_| ())
}

/// The first record a named subscriber gets.
async fn first(feeds: &mut Feeds, subscriber: &str) -> u64 {
    let mut follow = Follow::open(feeds, named(subscriber, "f")).await.unwrap();
    follow.read_until(|l| !l[0].records.is_empty()).await;
    number_of(&follow.ledger().decoded()[0])
}

async fn listed(server: &Server) -> Vec<v1::Subscriber> {
    let asked = ListSubscribersRequest {
        feed: "f".into(),
        ..ListSubscribersRequest::default()
    };
    let mut catalog = server.catalog().await;
    let list = catalog.list_subscribers(asked).await.unwrap();
    list.into_inner().subscribers
}

#[tokio::test]
async fn a_named_cursor_survives_kill_9_and_goes_on_from_another_connection() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 0..100).await;
    let mut talk = Talk::open(&mut server.feeds().await).await;
    talk.done(hello("board", "")).await;
    talk.done(set(1, at_cursor("f"))).await;
    talk.read_to(1, "f", 100).await;
    assert_eq!(
        talk.ledger(1, "f").records.len(),
        100,
        "without one it is the oldest"
    );
    for offset in [10, 40, 70, 30] {
        talk.done(acknowledge(1, "", offset)).await;
    }
    acked(&mut feeds, "script", 55).await.unwrap();
    let server = server.kill9().await.start().await;
    let mut feeds = server.feeds().await;
    assert_eq!(first(&mut feeds, "board").await, 70);
    assert_eq!(first(&mut feeds, "script").await, 55);
    assert_eq!(first(&mut feeds, "nobody").await, 0);
    let mut talk = Talk::open(&mut feeds).await;
    talk.done(hello("board", "")).await;
    talk.done(set(4, at_cursor("f"))).await;
    talk.read_to(4, "f", 100).await;
    assert_eq!(talk.ledger(4, "f").records.len(), 30);

    // Of a feed that was created anew, it is told.
    let name = "f".into();
    let mut catalog = server.catalog().await;
    catalog
        .delete_feed(v1::DeleteFeedRequest { name })
        .await
        .unwrap();
    filled(&mut feeds, "f", 0..5).await;
    assert_eq!(first(&mut feeds, "board").await, 0, "it went with the feed");
    let list = listed(&server).await;
    assert!(
        list.iter().all(|s| s.connected && !s.acknowledged),
        "{list:?}"
    );
}

#[tokio::test]
async fn what_cannot_be_acknowledged_is_refused() {
    let server = Setup::new()
        .with("limits__cursors_per_feed", 2)
        .start()
        .await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 0..10).await;
    let beyond = acked(&mut feeds, "a", 11).await.unwrap_err();
    assert_eq!(violated_field(&beyond), "cursor.offset");
    acked(&mut feeds, "a", 10).await.unwrap();
    acked(&mut feeds, "b", 10).await.unwrap();
    let full = acked(&mut feeds, "c", 10).await.unwrap_err();
    assert_eq!(
        (full.code(), reason(&full)),
        (Code::ResourceExhausted, "CURSOR_LIMIT".into())
    );
    assert_eq!(
        violated_field(&acked(&mut feeds, "", 1).await.unwrap_err()),
        "subscriber"
    );
    let long = acked(&mut feeds, &"x".repeat(129), 1).await.unwrap_err();
    assert_eq!(violated_field(&long), "subscriber");
    let asked = |cursor| AcknowledgeCursorRequest {
        subscriber: "a".into(),
        cursor,
    };
    let missing = feeds.acknowledge_cursor(asked(None)).await.unwrap_err();
    assert_eq!(violated_field(&missing), "cursor");
    let foreign = Cursor {
        feed: "f".into(),
        epoch: 7,
        offset: 1,
    };
    let foreign = feeds
        .acknowledge_cursor(asked(Some(foreign)))
        .await
        .unwrap_err();
    assert_eq!(reason(&foreign), "EPOCH_CHANGED");
    let elsewhere = Cursor {
        feed: "g".into(),
        ..Cursor::default()
    };
    let elsewhere = feeds
        .acknowledge_cursor(asked(Some(elsewhere)))
        .await
        .unwrap_err();
    assert_eq!(reason(&elsewhere), "UNKNOWN_FEED");

    forget(&server, "b").await.unwrap();
    let unknown = forget(&server, "b").await.unwrap_err();
    assert_eq!(
        (unknown.code(), reason(&unknown)),
        (Code::NotFound, "UNKNOWN_CURSOR".into())
    );
    acked(&mut feeds, "c", 10).await.unwrap();
    let nameless = Follow::open(&mut feeds, named("", "f")).await.unwrap_err();
    assert_eq!(violated_field(&nameless), "selectors[0].start");
}

#[tokio::test]
async fn lag_is_told_from_what_was_acknowledged_and_of_who_is_away() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 0..100).await;
    acked(&mut feeds, "away", 25).await.unwrap();
    let beating = |subscriber: &str| {
        let heartbeat_interval = Some(prost_types::Duration {
            seconds: 0,
            nanos: 100_000_000,
        });
        v1::session_request::Command::Hello(v1::SessionHello {
            subscriber: subscriber.into(),
            heartbeat_interval,
            ..v1::SessionHello::default()
        })
    };
    let earliest = || {
        one("f", From::Earliest(Earliest {}), None)
            .selectors
            .remove(0)
    };
    let mut talks = vec![];
    for subscriber in ["board", ""] {
        let mut talk = Talk::open(&mut server.feeds().await).await;
        talk.done(beating(subscriber)).await;
        talk.done(set(1, earliest())).await;
        talk.read_until(|talk| talk.next_of(1, "f") == Some(100) && !talk.beats.is_empty())
            .await;
        let (_, beat) = talk.beats.last().unwrap();
        assert!(!beat.acknowledged, "{beat:?}");
        talk.done(acknowledge(1, "f", 60)).await;
        let seen = talk.beats.len();
        talk.read_until(|talk| talk.beats.len() > seen + 1).await;
        let (_, beat) = talk.beats.last().unwrap();
        assert!(beat.acknowledged, "{beat:?}");
        assert_eq!(beat.cursor.as_ref().unwrap().offset, 60);
        assert_eq!(beat.lag_records, 40);
        assert!(beat.lag.is_some_and(|lag| lag.seconds > 0 || lag.nanos > 0));
        talks.push(talk);
    }
    let list = listed(&server).await;
    let told: Vec<_> = list
        .iter()
        .map(|s| {
            (
                s.name.as_str(),
                s.connected,
                s.acknowledged,
                s.cursor,
                s.lag_records,
            )
        })
        .collect();
    let expected = [
        ("", true, true, 60, 40),
        ("away", false, true, 25, 75),
        ("board", true, true, 60, 40),
    ];
    assert_eq!(told, expected);
    for subscriber in &list {
        assert_eq!(subscriber.start_time.is_some(), subscriber.connected);
        assert_eq!(
            subscriber.fidelity,
            if subscriber.connected { "full" } else { "" }
        );
        assert_eq!(subscriber.principal, "anonymous");
        assert!(
            subscriber
                .lag
                .is_some_and(|lag| lag.seconds > 0 || lag.nanos > 0)
        );
    }
    drop(talks);
    let away = |list: Vec<v1::Subscriber>| {
        let absent = list.iter().filter(|s| !s.connected);
        absent.map(|s| s.name.clone()).collect::<Vec<_>>()
    };
    crate::harness::until("they are away", async || {
        away(listed(&server).await) == ["away", "board"]
    })
    .await;

    // A Subscribe that began at its cursor is measured from there, and by later calls.
    let request = SubscribeRequest {
        heartbeat_interval: Some(prost_types::Duration {
            seconds: 0,
            nanos: 100_000_000,
        }),
        ..named("board", "f")
    };
    let opened = feeds.subscribe(request).await.unwrap();
    let mut stream = opened.into_inner();
    let mut cursors = vec![];
    while cursors.last() != Some(&80) {
        let next = stream.message().await.unwrap().unwrap();
        if let Event::Heartbeat(beat) = event_of(next) {
            assert!(beat.acknowledged);
            cursors.push(beat.cursor.unwrap().offset);
            acked(&mut feeds, "board", 80).await.unwrap();
        }
    }
    assert_eq!(cursors[0], 60);
}

/// Acknowledgements that are under way together are answered by few flushes, in their order.
#[tokio::test]
async fn a_thousand_acknowledgements_take_little_time_of_the_disk() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 0..1_000).await;
    let mut talk = Talk::open(&mut server.feeds().await).await;
    talk.done(hello("board", "")).await;
    talk.done(set(1, at_cursor("f"))).await;
    talk.read_to(1, "f", 1_000).await;
    let flushes = async || {
        let scrape = server.scrape().await;
        scrape.get("ringfeed_flush_seconds_count", &[])
    };
    let before = flushes().await;
    for offset in 1..=1_000 {
        talk.send(acknowledge(1, "f", offset)).await;
    }
    talk.read_until(|talk| talk.answers.len() == 1_002).await;
    assert!(talk.answers.iter().all(|answer| answer.reason.is_empty()));
    let flushes = flushes().await - before;
    assert!((1.0..=30.0).contains(&flushes), "{flushes} flushes");
    let server = server.kill9().await.start().await;
    let list = listed(&server).await;
    assert_eq!((list[0].name.as_str(), list[0].cursor), ("board", 1_000));
}
