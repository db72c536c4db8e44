//! Feeds, keys, producers and subscribers: made, listed in pages, limited, forgotten, and still
//! there after a restart.

use bytes::Bytes;
use prost_types::Duration;
use ringfeed::proto::v1::{
    self, CreateFeedRequest, DeleteFeedRequest, GetFeedRequest, GetLatestRequest,
    GetProducerRequest, KeyInfo, LatestBy, ListFeedsRequest, ListKeysRequest, ListProducersRequest,
    ListSubscribersRequest, Retention, SetKeyInfoRequest, SubscribeRequest, TrimFeedRequest,
    UpdateFeedRequest, Visibility, reading::Value, set_key_info_request::Scope, start::From,
};
use tonic::{Code, transport::Channel};

use crate::harness::{
    Follow, MIB, Server, Setup, encode, event_nanos, feed_exists, get_feed, number, number_of,
    numbered, one, plain, read_to_now, reading, reason, stored, upload, vector, violated_field,
};

type Catalog = v1::catalog_service_client::CatalogServiceClient<Channel>;
type Feeds = v1::feed_service_client::FeedServiceClient<Channel>;

fn create(name: &str, max_bytes: u64) -> CreateFeedRequest {
    CreateFeedRequest {
        name: name.into(),
        retention: Some(Retention {
            max_bytes,
            max_age: None,
        }),
        visibility: 0,
    }
}

async fn names(catalog: &mut Catalog, page_size: u32) -> Vec<Vec<String>> {
    let mut pages = vec![];
    let mut page_token = String::new();
    loop {
        let asked = ListFeedsRequest {
            page_size,
            page_token,
        };
        let page = catalog.list_feeds(asked).await.unwrap().into_inner();
        pages.push(page.feeds.into_iter().map(|feed| feed.name).collect());
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return pages;
        }
    }
}

#[tokio::test]
async fn a_feed_is_made_changed_listed_and_deleted_for_good() {
    let server = Server::start().await;
    let mut catalog = server.catalog().await;
    let asked = CreateFeedRequest {
        retention: Some(Retention {
            max_bytes: 3 * MIB,
            max_age: Some(Duration {
                seconds: 3_600,
                nanos: 5,
            }),
        }),
        visibility: Visibility::Immediate.into(),
        ..create("a.b_c-1", 0)
    };
    let made = catalog.create_feed(asked.clone()).await.unwrap();
    let made = made.into_inner().feed.unwrap();
    assert_eq!(made.retention, asked.retention);
    assert_eq!(made.visibility(), Visibility::Immediate);
    assert_eq!(
        (made.oldest, made.next, made.bytes, made.keys),
        (0, 0, 0, 0)
    );
    assert!(made.epoch > 1_600_000_000_000);
    let twice = catalog.create_feed(asked.clone()).await.unwrap_err();
    assert_eq!(
        (twice.code(), &*reason(&twice)),
        (Code::AlreadyExists, "FEED_EXISTS")
    );
    let default = CreateFeedRequest {
        retention: None,
        ..create("b", 0)
    };
    let default = catalog.create_feed(default).await.unwrap();
    let default = default.into_inner().feed.unwrap();
    assert_eq!(default.retention.unwrap().max_bytes, 256 * MIB);
    assert_eq!(default.visibility(), Visibility::Durable);

    let update = UpdateFeedRequest {
        name: made.name.clone(),
        max_bytes: None,
        max_age: Some(Duration::default()),
        visibility: Visibility::Durable.into(),
    };
    let changed = catalog.update_feed(update).await.unwrap();
    let changed = changed.into_inner().feed.unwrap();
    assert_eq!(changed.retention.as_ref().unwrap().max_age, None);
    assert_eq!(changed.retention.as_ref().unwrap().max_bytes, 3 * MIB);
    assert_eq!(changed.visibility(), Visibility::Durable);

    for name in ["d", "c", "e"] {
        feed_exists(&mut catalog, name, MIB).await;
    }
    let all = ["a.b_c-1", "b", "c", "d", "e"];
    assert_eq!(names(&mut catalog, 0).await, [all]);
    assert_eq!(
        names(&mut catalog, 2).await,
        [vec!["a.b_c-1", "b"], vec!["c", "d"], vec!["e"]]
    );
    let server = server.kill9().await.start().await;
    let mut catalog = server.catalog().await;
    assert_eq!(get_feed(&mut catalog, "a.b_c-1").await, changed);
    let delete = DeleteFeedRequest { name: "c".into() };
    catalog.delete_feed(delete.clone()).await.unwrap();
    let server = server.kill9().await.start().await;
    let mut catalog = server.catalog().await;
    assert_eq!(
        names(&mut catalog, 3).await,
        [vec!["a.b_c-1", "b", "d"], vec!["e"]]
    );
    let gone = catalog.delete_feed(delete).await.unwrap_err();
    assert_eq!(
        (gone.code(), &*reason(&gone)),
        (Code::NotFound, "UNKNOWN_FEED")
    );
    let asked = GetFeedRequest { name: "c".into() };
    assert_eq!(
        catalog.get_feed(asked).await.unwrap_err().code(),
        Code::NotFound
    );

    for (asked, field) in [
        (create("A", MIB), "name"),
        (create("x", MIB - 1), "retention.max_bytes"),
    ] {
        let refused = catalog.create_feed(asked).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(violated_field(&refused), field);
    }
    let forged = ListFeedsRequest {
        page_size: 0,
        page_token: "x".into(),
    };
    let refused = catalog.list_feeds(forged).await.unwrap_err();
    assert_eq!(violated_field(&refused), "page_token");
}

#[tokio::test]
async fn feeds_and_their_bytes_are_limited() {
    let setup = Setup::new()
        .with("limits__feeds", 3)
        .with("store__max_total_bytes", "10MiB");
    let server = setup.start().await;
    let mut catalog = server.catalog().await;
    feed_exists(&mut catalog, "a", 6 * MIB).await;
    let full = catalog.create_feed(create("b", 5 * MIB)).await.unwrap_err();
    assert_eq!(
        (full.code(), &*reason(&full)),
        (Code::ResourceExhausted, "NO_ROOM")
    );
    feed_exists(&mut catalog, "b", 3 * MIB).await;
    let update = UpdateFeedRequest {
        name: "b".into(),
        max_bytes: Some(5 * MIB),
        ..UpdateFeedRequest::default()
    };
    let full = catalog.update_feed(update.clone()).await.unwrap_err();
    assert_eq!(reason(&full), "NO_ROOM");
    feed_exists(&mut catalog, "c", MIB).await;
    let many = catalog.create_feed(create("d", MIB)).await.unwrap_err();
    assert_eq!(
        (many.code(), &*reason(&many)),
        (Code::ResourceExhausted, "FEED_LIMIT")
    );
    let delete = DeleteFeedRequest { name: "a".into() };
    catalog.delete_feed(delete).await.unwrap();
    catalog.update_feed(update).await.unwrap();
    feed_exists(&mut catalog, "d", 4 * MIB).await;
    // An upload to a feed that is not there creates it, within the same limits.
    let refused = upload(
        &mut server.feeds().await,
        vec![plain("e", vec![number("k", 0)])],
    )
    .await;
    assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);

    let strict = Setup::new().with("feeds__auto_create", "no").start().await;
    let refused = upload(
        &mut strict.feeds().await,
        vec![plain("e", vec![number("k", 0)])],
    )
    .await;
    assert_eq!(reason(&refused.unwrap_err()), "UNKNOWN_FEED");
}

async fn keys(catalog: &mut Catalog, page_size: u32) -> Vec<v1::Key> {
    let mut all = vec![];
    let mut page_token = String::new();
    loop {
        let asked = ListKeysRequest {
            feed: "f".into(),
            page_size,
            page_token,
        };
        let page = catalog.list_keys(asked).await.unwrap().into_inner();
        assert!(page.keys.len() <= page_size.max(1) as usize);
        all.extend(page.keys);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

async fn set_info(catalog: &mut Catalog, scope: Scope, info: Option<KeyInfo>) {
    let asked = SetKeyInfoRequest {
        feed: "f".into(),
        scope: Some(scope),
        info,
    };
    catalog.set_key_info(asked).await.unwrap();
}

#[tokio::test]
async fn keys_are_listed_with_inherited_descriptions() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let mut catalog = server.catalog().await;
    let key = |n: u64| format!("pi{:02}.{}", n / 2, ["hum", "temp"][(n % 2) as usize]);
    let records: Vec<Bytes> = (0..40).map(|n| number(&key(n), n)).collect();
    upload(&mut feeds, vec![plain("f", records)]).await.unwrap();
    let unit = |unit: &str| {
        Some(KeyInfo {
            unit: Some(unit.into()),
            ..KeyInfo::default()
        })
    };
    let named = Some(KeyInfo {
        display_name: Some("outdoors".into()),
        ..KeyInfo::default()
    });
    set_info(&mut catalog, Scope::All(v1::AllKeys {}), unit("1")).await;
    set_info(&mut catalog, Scope::Glob("*.temp".into()), unit("Cel")).await;
    set_info(&mut catalog, Scope::Key("pi03.temp".into()), named).await;
    set_info(&mut catalog, Scope::Key("pi04.temp".into()), unit("K")).await;
    set_info(&mut catalog, Scope::Key("pi05.temp".into()), unit("K")).await;
    set_info(&mut catalog, Scope::Key("pi05.temp".into()), None).await;

    let server = server.kill9().await.start().await;
    let mut catalog = server.catalog().await;
    let all = keys(&mut catalog, 7).await;
    let expected: Vec<String> = (0..40).map(key).collect();
    assert_eq!(
        all.iter().map(|k| k.key.clone()).collect::<Vec<_>>(),
        expected
    );
    for (n, key) in (0..).zip(&all) {
        assert_eq!(key.kinds, ["reading"]);
        assert_eq!(key.last_offset, n);
        assert_eq!(key.last_event_time_unix_nanos, event_nanos(n));
        let info = key.info.clone().unwrap();
        let expected = match n {
            9 => "K",
            n if n % 2 == 1 => "Cel",
            _ => "1",
        };
        assert_eq!(info.unit.as_deref(), Some(expected), "{}", key.key);
        assert_eq!(info.display_name.is_some(), n == 7);
    }
    let bad = SetKeyInfoRequest {
        feed: "f".into(),
        scope: Some(Scope::Glob("a[".into())),
        info: None,
    };
    let refused = catalog.set_key_info(bad).await.unwrap_err();
    assert_eq!(violated_field(&refused), "glob");
}

async fn latest(feeds: &mut Feeds, keys: &[&str], by: LatestBy, page_size: u32) -> Vec<v1::Record> {
    let mut all = vec![];
    let mut page_token = String::new();
    loop {
        let asked = GetLatestRequest {
            feed: "f".into(),
            keys: keys.iter().map(|key| (*key).into()).collect(),
            by: by.into(),
            page_size,
            page_token,
        };
        let page = feeds.get_latest(asked).await.unwrap().into_inner();
        all.extend(page.records.iter().map(stored));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

#[tokio::test]
async fn latest_is_the_newest_by_event_or_by_arrival_of_each_kind() {
    let mut server = Server::start().await;
    let mut feeds = server.feeds().await;
    let status = v1::Status {
        state: "online".into(),
        reason: String::new(),
    };
    let mut online = reading("b", event_nanos(2), Value::Flag(true));
    online.payload = Some(v1::record::Payload::Status(status));
    let records = vec![
        number("a", 100),
        number("a", 50),
        number("b", 7),
        encode(&online),
        number("c", 1),
        number("a", 60),
    ];
    upload(&mut feeds, vec![plain("f", records)]).await.unwrap();
    for restarted in [false, true] {
        let offsets = |records: Vec<v1::Record>| -> Vec<u64> {
            records.iter().map(|record| record.offset).collect()
        };
        for size in [0, 1, 2] {
            let by_event = latest(&mut feeds, &[], LatestBy::EventTime, size).await;
            assert_eq!(offsets(by_event), [0, 2, 3, 4], "{size} {restarted}");
            let by_arrival = latest(&mut feeds, &[], LatestBy::Arrival, size).await;
            assert_eq!(offsets(by_arrival), [5, 2, 3, 4], "{size} {restarted}");
            let named = ["c", "a", "unheard-of", "a"];
            let named = latest(&mut feeds, &named, LatestBy::Unspecified, size).await;
            assert_eq!(offsets(named), [0, 4]);
        }
        server = server.kill9().await.start().await;
        feeds = server.feeds().await;
    }
}

#[tokio::test]
async fn a_quiet_key_keeps_its_latest_in_a_busy_ring_until_it_is_trimmed() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    feed_exists(&mut server.catalog().await, "f", MIB).await;
    upload(&mut feeds, vec![plain("f", vec![number("quiet", 42)])])
        .await
        .unwrap();
    let busy: Vec<Bytes> = (0..100).map(|n| vector("busy", n, 1_000)).collect();
    let load = vec![plain("f", busy); 8];
    upload(&mut feeds, load.clone()).await.unwrap();
    assert!(get_feed(&mut server.catalog().await, "f").await.oldest > 500);
    let mut server = server;
    for step in 0..3 {
        let mut feeds = server.feeds().await;
        let quiet = latest(&mut feeds, &["quiet"], LatestBy::EventTime, 0).await;
        assert_eq!(quiet.len(), 1, "step {step}");
        assert_eq!((quiet[0].offset, number_of(&quiet[0])), (0, 42));
        upload(&mut feeds, load.clone()).await.unwrap();
        server = match step {
            0 => server.kill9().await.start().await,
            1 => server.restart().await,
            _ => server,
        };
    }
    let trim = TrimFeedRequest {
        name: "f".into(),
        before_offset: 1_000,
    };
    server.catalog().await.trim_feed(trim).await.unwrap();
    for _ in 0..2 {
        let mut feeds = server.feeds().await;
        let quiet = latest(&mut feeds, &["quiet"], LatestBy::EventTime, 0).await;
        assert_eq!(quiet, [], "what was trimmed is not latest");
        assert_eq!(
            latest(&mut feeds, &["busy"], LatestBy::EventTime, 0)
                .await
                .len(),
            1
        );
        server = server.kill9().await.start().await;
    }
}

#[tokio::test]
async fn deleted_keys_are_forgotten_and_their_records_stay() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let records = ["a", "b", "c"].map(|key| number(key, 1)).to_vec();
    upload(&mut feeds, vec![plain("f", records)]).await.unwrap();
    let mut catalog = server.catalog().await;
    let described = Some(KeyInfo {
        unit: Some("m".into()),
        ..KeyInfo::default()
    });
    set_info(&mut catalog, Scope::Key("b".into()), described).await;
    let asked = v1::DeleteKeysRequest {
        feed: "f".into(),
        keys: vec!["b".into(), "unheard-of".into()],
    };
    let deleted = catalog.delete_keys(asked).await.unwrap();
    assert_eq!(deleted.get_ref().deleted, 1);
    let mut server = server;
    for _ in 0..2 {
        let mut feeds = server.feeds().await;
        let names: Vec<String> = keys(&mut server.catalog().await, 10)
            .await
            .into_iter()
            .map(|key| key.key)
            .collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(latest(&mut feeds, &["b"], LatestBy::EventTime, 0).await, []);
        assert_eq!(read_to_now(&mut feeds, "f").await.records.len(), 3);
        server = server.kill9().await.start().await;
    }
    upload(
        &mut server.feeds().await,
        vec![plain("f", vec![number("b", 5)])],
    )
    .await
    .unwrap();
    let b = keys(&mut server.catalog().await, 10).await.remove(1);
    assert_eq!((&*b.key, b.last_offset), ("b", 3));
    assert_eq!(b.info.unwrap().unit, None);
}

#[tokio::test]
async fn producers_and_subscribers_are_listed() {
    let server = Setup::new()
        .with("limits__producers_per_feed", 5)
        .start()
        .await;
    let mut feeds = server.feeds().await;
    let mut catalog = server.catalog().await;
    let one_record = |n| vec![number("k", n)];
    for producer in ["p3", "p1", "p2", "p5", "p4"] {
        let records = vec![number("k", 0), number("", 0), number("k", 1)];
        upload(&mut feeds, vec![numbered("f", producer, 1, records)])
            .await
            .unwrap();
    }
    let many = upload(&mut feeds, vec![numbered("f", "p6", 1, one_record(0))]).await;
    assert_eq!(reason(&many.unwrap_err()), "PRODUCER_LIMIT");
    upload(&mut feeds, vec![numbered("g", "p1", 11, one_record(0))])
        .await
        .unwrap();
    let mut found = vec![];
    let mut page_token = String::new();
    loop {
        let asked = ListProducersRequest {
            page_size: 4,
            page_token,
            ..ListProducersRequest::default()
        };
        let page = catalog.list_producers(asked).await.unwrap().into_inner();
        found.extend(page.producers);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let listed: Vec<_> = found
        .iter()
        .map(|p| (&*p.feed, &*p.producer, p.durable_sequence, p.refused))
        .collect();
    let of_f = ["p1", "p2", "p3", "p4", "p5"].map(|p| ("f", p, 3, 1));
    assert_eq!(listed, [&of_f[..], &[("g", "p1", 11, 0)]].concat());
    assert!(
        found
            .iter()
            .all(|p| !p.connected && p.principal == "anonymous")
    );
    let stale = ListProducersRequest {
        stale: Some(Duration {
            seconds: 3_600,
            nanos: 0,
        }),
        ..ListProducersRequest::default()
    };
    let stale = catalog.list_producers(stale).await.unwrap();
    assert_eq!(stale.get_ref().producers, []);
    let unknown = GetProducerRequest {
        feed: "f".into(),
        producer: "p6".into(),
    };
    let unknown = catalog.get_producer(unknown).await.unwrap_err();
    assert_eq!(
        (unknown.code(), &*reason(&unknown)),
        (Code::NotFound, "UNKNOWN_PRODUCER")
    );

    let mut open = vec![];
    for name in ["s2", "s1"] {
        let request = SubscribeRequest {
            subscriber: name.into(),
            ..one("f", From::Offset(4), None)
        };
        let mut follow = Follow::open(&mut feeds, request).await.unwrap();
        follow.read_until(|l| !l[0].caught_up.is_empty()).await;
        open.push(follow);
    }
    let asked = ListSubscribersRequest {
        feed: "f".into(),
        page_size: 1,
        page_token: String::new(),
    };
    let page = catalog
        .list_subscribers(asked.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(page.subscribers[0].name, "s1");
    assert_eq!(
        (page.subscribers[0].cursor, page.subscribers[0].lag_records),
        (10, 0)
    );
    assert_eq!(page.subscribers[0].fidelity, "full");
    let next = ListSubscribersRequest {
        page_token: page.next_page_token,
        ..asked.clone()
    };
    let page = catalog.list_subscribers(next).await.unwrap().into_inner();
    assert_eq!(
        (&*page.subscribers[0].name, &*page.next_page_token),
        ("s2", "")
    );
    let feed = get_feed(&mut catalog, "f").await;
    assert_eq!((feed.producers, feed.subscribers, feed.keys), (5, 2, 1));
    drop(open);
    crate::harness::until("the subscribers to be gone", async || {
        let mut catalog = catalog.clone();
        let page = catalog.list_subscribers(asked.clone()).await.unwrap();
        page.get_ref().subscribers.is_empty()
    })
    .await;
}
