//! The catalogue and the latest records: lists show what may be seen, names are refused.

use ringfeed::proto::v1::{
    AcknowledgeCursorRequest, AllKeys, CreateFeedRequest, Cursor, DeleteCursorRequest,
    DeleteFeedRequest, DeleteKeysRequest, GetFeedRequest, GetLatestRequest, GetProducerRequest,
    ListFeedsRequest, ListKeysRequest, ListProducersRequest, ListSubscribersRequest,
    SetKeyInfoRequest, SubscribeRequest, TrimFeedRequest, UpdateFeedRequest,
    set_key_info_request::Scope, start::From,
};
use tonic::Code;

use super::{Bed, denied, of_feed, upload};
use crate::harness::{number, numbered, plain, stored};

async fn filled() -> Bed {
    let bed = Bed::with(&["a", "b", "c", "d", "e"]).await;
    let mut root = bed.feeds("root");
    for feed in ["a", "b"] {
        let records = ["x1", "x2", "y"].map(|key| number(key, 1)).to_vec();
        upload(&mut root, vec![plain(feed, records)]).await.unwrap();
        let records = vec![number("x1", 2)];
        upload(&mut root, vec![numbered(feed, "p", 1, records)])
            .await
            .unwrap();
    }
    bed
}

#[tokio::test]
async fn the_list_of_feeds_is_that_of_the_caller_page_by_page() {
    let bed = filled().await;
    bed.knows("me", &["ingest:a", "subscribe:c:k", "observe:d", "admin:e"]);
    let mut catalog = bed.catalog("me");
    let (mut found, mut page_token) = (vec![], String::new());
    loop {
        let asked = ListFeedsRequest {
            page_size: 2,
            page_token,
        };
        let page = catalog.list_feeds(asked).await.unwrap().into_inner();
        found.extend(page.feeds.into_iter().map(|feed| feed.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found, ["a", "c", "d", "e"]);
    let get = |name: &str| GetFeedRequest { name: name.into() };
    catalog.get_feed(get("c")).await.unwrap();
    for name in ["b", "none"] {
        let refused = catalog.get_feed(get(name)).await;
        let all = "ingest or subscribe or observe or admin";
        assert_eq!(denied(refused), [all, name, ""]);
    }
    bed.knows("more", &["subscribe:*"]);
    let unknown = bed.catalog("more").get_feed(get("none")).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn keys_and_latest_records_are_those_of_the_scope() {
    let bed = filled().await;
    bed.knows("me", &["subscribe:a:x*", "observe:a:y", "observe:b"]);
    let mut catalog = bed.catalog("me");
    let (mut found, mut page_token) = (vec![], String::new());
    bed.knows("reader", &["subscribe:a:x*"]);
    for (caller, expected) in [
        ("me", &["x1", "x2", "y"][..]),
        ("reader", &["x1", "x2"][..]),
    ] {
        loop {
            let asked = ListKeysRequest {
                feed: "a".into(),
                page_size: 1,
                page_token: page_token.clone(),
            };
            let page = bed
                .catalog(caller)
                .list_keys(asked)
                .await
                .unwrap()
                .into_inner();
            found.extend(page.keys.into_iter().map(|key| key.key));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(found, expected, "{caller}");
        found.clear();
    }
    let elsewhere = ListKeysRequest {
        feed: "c".into(),
        ..ListKeysRequest::default()
    };
    let refused = catalog.list_keys(elsewhere).await;
    assert_eq!(denied(refused), ["subscribe or observe", "c", ""]);

    let mut feeds = bed.feeds("me");
    let latest = |feed: &str, keys: &[&str]| GetLatestRequest {
        feed: feed.into(),
        keys: keys.iter().map(|key| (*key).into()).collect(),
        page_size: 1,
        ..GetLatestRequest::default()
    };
    let mut asked = latest("a", &[]);
    let mut keys = vec![];
    loop {
        let page = feeds.get_latest(asked.clone()).await.unwrap().into_inner();
        keys.extend(page.records.iter().map(|record| stored(record).key));
        asked.page_token = page.next_page_token;
        if asked.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(keys, ["x1", "x2"]);
    feeds.get_latest(latest("a", &["x1"])).await.unwrap();
    let refused = feeds.get_latest(latest("a", &["x1", "y"])).await;
    assert_eq!(denied(refused), ["subscribe", "a", "y"]);
    // To observe is not to read.
    let refused = feeds.get_latest(latest("b", &[])).await;
    assert_eq!(denied(refused), ["subscribe", "b", ""]);
}

#[tokio::test]
async fn producers_and_subscribers_are_those_of_feeds_that_are_observed() {
    let bed = filled().await;
    bed.knows("me", &["observe:b", "ingest:a", "subscribe:a"]);
    let mut streams = vec![];
    for feed in ["a", "b"] {
        let request = SubscribeRequest {
            selectors: vec![of_feed(feed, From::Offset(0))],
            ..SubscribeRequest::default()
        };
        streams.push(bed.feeds("root").subscribe(request).await.unwrap());
    }
    let mut catalog = bed.catalog("me");
    let listed = catalog
        .list_producers(ListProducersRequest::default())
        .await;
    let listed = listed.unwrap().into_inner().producers;
    assert!(
        listed.iter().all(|p| p.feed == "b") && listed.len() == 1,
        "{listed:?}"
    );
    let listed = catalog
        .list_subscribers(ListSubscribersRequest::default())
        .await;
    let listed = listed.unwrap().into_inner().subscribers;
    assert!(
        listed.iter().all(|s| s.feed == "b") && listed.len() == 1,
        "{listed:?}"
    );
    let refused = catalog.list_producers(ListProducersRequest {
        feed: "a".into(),
        ..ListProducersRequest::default()
    });
    assert_eq!(denied(refused.await), ["observe", "a", ""]);
    let refused = catalog.list_subscribers(ListSubscribersRequest {
        feed: "a".into(),
        ..ListSubscribersRequest::default()
    });
    assert_eq!(denied(refused.await), ["observe", "a", ""]);
}

#[tokio::test]
async fn producers_and_named_cursors_are_those_of_their_principal() {
    let bed = filled().await;
    bed.knows("me", &["ingest:a", "subscribe:a"]);
    bed.knows("you", &["ingest:a", "subscribe:a"]);
    let producer = |feed: &str| GetProducerRequest {
        feed: feed.into(),
        producer: "p".into(),
    };
    let records = vec![number("k", 1), number("k", 2)];
    let sent = vec![numbered("a", "p", 1, records)];
    assert_eq!(upload(&mut bed.feeds("me"), sent).await.unwrap().stored, 2);
    let mine = bed.catalog("me").get_producer(producer("a")).await.unwrap();
    let mine = mine.into_inner().producer.unwrap();
    assert_eq!((mine.principal.as_str(), mine.durable_sequence), ("me", 2));
    let unknown = bed.catalog("you").get_producer(producer("a")).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    let refused = bed.catalog("me").get_producer(producer("b")).await;
    assert_eq!(denied(refused), ["ingest", "b", ""]);

    let processed = |feed: &str| AcknowledgeCursorRequest {
        subscriber: "s".into(),
        cursor: Some(Cursor {
            feed: feed.into(),
            epoch: 0,
            offset: 1,
        }),
    };
    let forget = |feed: &str| DeleteCursorRequest {
        feed: feed.into(),
        subscriber: "s".into(),
    };
    bed.feeds("me")
        .acknowledge_cursor(processed("a"))
        .await
        .unwrap();
    let refused = bed.feeds("me").acknowledge_cursor(processed("b")).await;
    assert_eq!(denied(refused), ["subscribe", "b", ""]);
    let unknown = bed.catalog("you").delete_cursor(forget("a")).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    let refused = bed.catalog("me").delete_cursor(forget("b")).await;
    assert_eq!(denied(refused), ["subscribe", "b", ""]);
    bed.catalog("me").delete_cursor(forget("a")).await.unwrap();
}

#[tokio::test]
async fn a_feed_is_changed_by_an_admin_of_all_of_it() {
    let bed = filled().await;
    bed.knows("me", &["admin:a", "admin:b:x*", "ingest:b", "admin:new*"]);
    let mut catalog = bed.catalog("me");
    for feed in ["b", "none"] {
        let name = || feed.to_owned();
        let create = CreateFeedRequest {
            name: name(),
            ..CreateFeedRequest::default()
        };
        assert_eq!(
            denied(catalog.create_feed(create).await),
            ["admin", feed, ""]
        );
        let update = UpdateFeedRequest {
            name: name(),
            ..UpdateFeedRequest::default()
        };
        assert_eq!(
            denied(catalog.update_feed(update).await),
            ["admin", feed, ""]
        );
        let trim = TrimFeedRequest {
            name: name(),
            before_offset: 1,
        };
        assert_eq!(denied(catalog.trim_feed(trim).await), ["admin", feed, ""]);
        let delete = DeleteFeedRequest { name: name() };
        assert_eq!(
            denied(catalog.delete_feed(delete).await),
            ["admin", feed, ""]
        );
    }
    let describe = |feed: &str, scope| SetKeyInfoRequest {
        feed: feed.into(),
        scope: Some(scope),
        info: None,
    };
    for (scope, key) in [
        (Scope::Key("y".into()), "y"),
        (Scope::Glob("x*".into()), ""),
        (Scope::All(AllKeys {}), ""),
    ] {
        let refused = catalog.set_key_info(describe("b", scope.clone())).await;
        assert_eq!(denied(refused), ["admin", "b", key]);
        catalog.set_key_info(describe("a", scope)).await.unwrap();
    }
    catalog
        .set_key_info(describe("b", Scope::Key("x1".into())))
        .await
        .unwrap();
    let forget = |keys: &[&str]| DeleteKeysRequest {
        feed: "b".into(),
        keys: keys.iter().map(|key| (*key).into()).collect(),
    };
    let refused = catalog.delete_keys(forget(&["x1", "y"])).await;
    assert_eq!(denied(refused), ["admin", "b", "y"]);
    let deleted = catalog.delete_keys(forget(&["x1", "x2"])).await.unwrap();
    assert_eq!(deleted.into_inner().deleted, 2);

    let create = CreateFeedRequest {
        name: "new1".into(),
        ..CreateFeedRequest::default()
    };
    catalog.create_feed(create).await.unwrap();
    let trim = TrimFeedRequest {
        name: "a".into(),
        before_offset: 1,
    };
    catalog.trim_feed(trim).await.unwrap();
    catalog
        .delete_feed(DeleteFeedRequest { name: "a".into() })
        .await
        .unwrap();
}
