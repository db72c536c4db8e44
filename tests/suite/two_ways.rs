//! Subscribe is answered from shared bytes; the generated service is what it must be equal to, and
//! still answers compressed requests. Both over real connections.

use bytes::Bytes;
use prost_types::Duration;
use ringfeed::proto::v1::{
    Bars, Conflate, Cursor, End, Fidelity, KeyInfo, Now, Selector, SetKeyInfoRequest,
    SnapshotStart, SubscribeRequest, SubscribeResponse, end::At,
    feed_service_client::FeedServiceClient, fidelity::View, set_key_info_request::Scope,
    start::From, subscribe_response::Event,
};
use tonic::{Code, Status, codec::CompressionEncoding, transport::Channel};

use crate::harness::{
    MIB, Server, feed_exists, number, one, plain, stored, upload, vector, within,
};

type Feeds = FeedServiceClient<Channel>;

const NOW: End = End {
    at: Some(At::Now(Now {})),
};

/// Responses of each selector but for heartbeats and what is different for every stream, and how
/// the stream ended.
type Heard = (
    Vec<Vec<SubscribeResponse>>,
    Result<(), (Code, String, Bytes)>,
);

async fn hear(feeds: &mut Feeds, request: SubscribeRequest) -> Heard {
    let mut heard = vec![vec![]; request.selectors.len().max(4)];
    let ended = listen(feeds, request, &mut heard).await;
    let told = |e: Status| {
        let details = Bytes::copy_from_slice(e.details());
        (e.code(), e.message().to_owned(), details)
    };
    (heard, ended.map_err(told))
}

async fn listen(
    feeds: &mut Feeds,
    request: SubscribeRequest,
    heard: &mut [Vec<SubscribeResponse>],
) -> Result<(), Status> {
    // Errors name it: it has to be the same.
    let mut request = tonic::Request::new(request);
    let id = request.metadata_mut();
    id.insert("x-request-id", "both-ways".parse().unwrap());
    let opened = within("a subscription", feeds.subscribe(request)).await?;
    let mut stream = opened.into_inner();
    while let Some(mut response) = within("a response", stream.message()).await? {
        let of_selector = &mut heard[response.selector as usize];
        match &mut response.event {
            Some(Event::Heartbeat(_)) => {}
            // The token is signed anew; its length, and so the padding, stays.
            Some(Event::CaughtUp(caught_up)) => {
                assert!(!caught_up.resume_token.is_empty());
                caught_up.resume_token.clear();
                of_selector.push(response);
            }
            Some(_) => of_selector.push(response),
            None => panic!("no event: {response:?}"),
        }
    }
    Ok(())
}

fn selector(feed: &str, from: From, keys: &[&str], not: &[&str]) -> Selector {
    Selector {
        keys: keys.iter().map(|key| (*key).into()).collect(),
        exclude_keys: not.iter().map(|key| (*key).into()).collect(),
        ..one(feed, from, Some(NOW)).selectors.remove(0)
    }
}

fn asking(selectors: Vec<Selector>) -> SubscribeRequest {
    SubscribeRequest {
        selectors,
        ..SubscribeRequest::default()
    }
}

async fn filled(server: &Server) {
    feed_exists(&mut server.catalog().await, "evicted", MIB).await;
    let mut feeds = server.feeds().await;
    let key = |n: u64| {
        ["a", "b", "c", "rare"][if n.is_multiple_of(997) {
            3
        } else {
            (n % 3) as usize
        }]
    };
    for part in 0..20 {
        let small = (part * 500..(part + 1) * 500).map(|n| number(key(n), n));
        upload(&mut feeds, vec![plain("small", small.collect())])
            .await
            .unwrap();
    }
    let large: Vec<Bytes> = (0..300).map(|n| vector(key(n), n, 1_000)).collect();
    for feed in ["evicted", "large"] {
        let parts = large.chunks(100).map(|part| plain(feed, part.to_vec()));
        upload(&mut feeds, parts.collect()).await.unwrap();
    }
    let info = KeyInfo {
        unit: Some("Cel".into()),
        ..KeyInfo::default()
    };
    let described = SetKeyInfoRequest {
        feed: "small".into(),
        scope: Some(Scope::Key("a".into())),
        info: Some(info),
    };
    let mut catalog = server.catalog().await;
    catalog.set_key_info(described).await.unwrap();
}

fn requests() -> Vec<(&'static str, SubscribeRequest)> {
    let from = From::Offset;
    let foreign = || {
        From::Cursor(Cursor {
            feed: "small".into(),
            epoch: 1,
            offset: 3,
        })
    };
    let alone =
        |feed, from, keys: &[&str], not: &[&str]| asking(vec![selector(feed, from, keys, not)]);
    let info = SubscribeRequest {
        include_info: true,
        ..asking(vec![selector("small", from(0), &[], &["c"])])
    };
    let bad_heartbeat = SubscribeRequest {
        heartbeat_interval: Some(Duration {
            seconds: 0,
            nanos: 1,
        }),
        ..asking(vec![selector("small", from(0), &[], &[])])
    };
    let viewed = |view| {
        let selector = Selector {
            fidelity: Some(Fidelity { view: Some(view) }),
            ..selector("small", from(0), &[], &[])
        };
        asking(vec![selector])
    };
    let interval = Some(Duration {
        seconds: 3_600,
        nanos: 0,
    });
    let bars = View::Bars(Bars {
        interval,
        include_open: true,
    });
    let snapshot = SubscribeRequest {
        include_info: true,
        ..alone("small", From::Snapshot(SnapshotStart {}), &[], &["c"])
    };
    let several = vec![
        selector("small", from(10), &[], &[]),
        selector("large", from(0), &["rare"], &[]),
        selector("evicted", from(0), &[], &["a"]),
        selector("small", from(0), &["nobody"], &[]),
    ];
    vec![
        ("small records", alone("small", from(0), &[], &[])),
        ("large records", alone("large", from(7), &[], &[])),
        ("some keys", alone("small", from(0), &["a", "rare"], &[])),
        ("all but a key", alone("large", from(0), &[], &["b"])),
        ("no key at all", alone("small", from(0), &["nobody"], &[])),
        ("an evicted start", alone("evicted", from(0), &[], &[])),
        ("another epoch", alone("small", foreign(), &["b"], &[])),
        (
            "last of each",
            alone("small", From::LastPerKey(2), &[], &[]),
        ),
        ("the tail", alone("small", from(10_000), &[], &[])),
        ("descriptions", info),
        ("a snapshot", snapshot),
        ("bars", viewed(bars)),
        ("conflated", viewed(View::Conflate(Conflate { interval }))),
        ("several selectors", asking(several)),
        ("an unknown feed", alone("unheard-of", from(0), &[], &[])),
        ("no selector", asking(vec![])),
        ("a bad heartbeat", bad_heartbeat),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_bytes_say_what_the_generated_service_says() {
    let server = Server::start().await;
    filled(&server).await;
    // What was written and is in memory, and what is read from disk: each sees the other's views.
    for server in [server.restart().await] {
        both_ways(&server).await;
        filled_live(&server).await;
        both_ways(&server).await;
    }
}

/// Adds to the ring what is then in memory.
async fn filled_live(server: &Server) {
    let mut feeds = server.feeds().await;
    let more: Vec<Bytes> = (0..600)
        .map(|n| number(["a", "c"][(n % 2) as usize], n))
        .collect();
    for part in more.chunks(200) {
        upload(&mut feeds, vec![plain("small", part.to_vec())])
            .await
            .unwrap();
    }
}

async fn both_ways(server: &Server) {
    let mut raw = server.feeds().await;
    let mut generated = server
        .feeds()
        .await
        .send_compressed(CompressionEncoding::Gzip);
    for (what, request) in requests() {
        let (heard, ended) = hear(&mut raw, request.clone()).await;
        let (specified, specified_end) = hear(&mut generated, request).await;
        assert_eq!(ended, specified_end, "{what}");
        let heard_all: usize = heard.iter().map(Vec::len).sum();
        assert!(
            heard_all > 0 || ended.is_err() || what == "the tail",
            "{what}"
        );
        for (heard, specified) in heard.iter().zip(&specified) {
            assert_eq!(heard.len(), specified.len(), "{what}");
            for pair in heard.iter().zip(specified) {
                assert_eq!(pair.0, pair.1, "{what}");
            }
        }
    }
}

/// A token of one way is good for the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_for_both() {
    let server = Server::start().await;
    filled(&server).await;
    let raw = server.feeds().await;
    let compressed = server.feeds().await;
    let compressed = compressed.send_compressed(CompressionEncoding::Gzip);
    for (mut first, mut second) in [(raw.clone(), compressed.clone()), (compressed, raw)] {
        let mut open = one("small", From::Offset(9_990), None);
        open.selectors[0].keys = vec!["b".into()];
        let mut stream = first.subscribe(open).await.unwrap().into_inner();
        let token = loop {
            let next = within("a response", stream.message()).await.unwrap();
            if let Some(Event::CaughtUp(caught_up)) = next.unwrap().event {
                break caught_up.resume_token;
            }
        };
        upload(&mut second, vec![plain("small", vec![number("b", 1)])])
            .await
            .unwrap();
        let resumed = SubscribeRequest {
            resume_token: token,
            ..SubscribeRequest::default()
        };
        let mut stream = second.subscribe(resumed).await.unwrap().into_inner();
        let next = within("a response", stream.message()).await.unwrap();
        match next.unwrap().event {
            Some(Event::Records(batch)) => {
                assert_eq!(batch.records.len(), 1);
                assert_eq!(stored(&batch.records[0]).key, "b");
            }
            other => panic!("not expected: {other:?}"),
        }
    }
}
