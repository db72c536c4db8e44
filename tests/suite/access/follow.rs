//! What may be followed: exact names are refused, globs are narrowed, and that is said.

use bytes::Bytes;
use ringfeed::proto::v1::{
    Bars, Conflate, Earliest, End, Fidelity, KeyInfo, Narrowed, New, Now, Selector, SessionRequest,
    SetKeyInfoRequest, SetSelector, SnapshotStart, SubscribeRequest, SubscribeResponse, end::At,
    fidelity::View, session_request::Command, session_response::Event as Said,
    set_key_info_request::Scope, start::From, subscribe_response::Event,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Bed, Feeds, denied, of_feed, of_feeds, upload};
use crate::harness::{number, plain, stored, within};

const KEYS: [&str; 4] = ["pi17.a", "pi18.a", "pi17.b", "door"];

async fn filled(bed: &Bed, feed: &str) {
    for n in 0..5 {
        let records = KEYS.map(|key| number(key, n)).to_vec();
        let answer = upload(&mut bed.feeds("root"), vec![plain(feed, records)]).await;
        assert_eq!(answer.unwrap().stored, 4);
    }
}

fn now() -> Option<End> {
    Some(End {
        at: Some(At::Now(Now {})),
    })
}

fn asking(selectors: Vec<Selector>) -> SubscribeRequest {
    SubscribeRequest {
        selectors,
        ..SubscribeRequest::default()
    }
}

/// All events of a subscription that ends by itself, heartbeats aside.
async fn hear(feeds: &mut Feeds, request: SubscribeRequest) -> Result<Vec<Event>, Status> {
    let opened = within("a subscription", feeds.subscribe(request)).await?;
    let mut stream = opened.into_inner();
    let mut events = vec![];
    while let Some(response) = within("a response", stream.message()).await? {
        match response.event.unwrap() {
            Event::Heartbeat(_) => {}
            event => events.push(event),
        }
    }
    Ok(events)
}

/// The keys of everything in these events, each once.
fn keys(events: &[Event]) -> Vec<String> {
    let of = |records: &[Bytes]| records.iter().map(|r| stored(r).key).collect::<Vec<_>>();
    let mut keys: Vec<String> = events
        .iter()
        .flat_map(|event| match event {
            Event::Records(batch) => of(&batch.records),
            Event::Snapshot(batch) => of(&batch.records),
            Event::Bars(batch) => batch.bars.iter().map(|bar| bar.key.clone()).collect(),
            Event::KeyInfo(update) => vec![update.key.clone()],
            _ => vec![],
        })
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

fn narrowed(events: &[Event]) -> Vec<Narrowed> {
    let narrowed = events.iter().filter_map(|event| match event {
        Event::Narrowed(narrowed) => Some(narrowed.clone()),
        _ => None,
    });
    narrowed.collect()
}

fn to_keys(feed: &str, globs: &[&str]) -> Narrowed {
    Narrowed {
        feed: feed.into(),
        key_globs: globs.iter().map(|glob| (*glob).into()).collect(),
        feed_globs: vec![],
    }
}

/// Views of a feed: a name, how much of it, from where.
fn views() -> Vec<(&'static str, Option<View>, From)> {
    let second = Some(prost_types::Duration {
        seconds: 1,
        nanos: 0,
    });
    let conflate = View::Conflate(Conflate { interval: second });
    let bars = View::Bars(Bars {
        interval: second,
        include_open: true,
    });
    vec![
        ("full", None, From::Earliest(Earliest {})),
        ("last per key", None, From::LastPerKey(2)),
        ("snapshot", None, From::Snapshot(SnapshotStart::default())),
        ("conflate", Some(conflate), From::Earliest(Earliest {})),
        ("bars", Some(bars), From::Earliest(Earliest {})),
    ]
}

#[tokio::test]
async fn every_view_shows_only_keys_of_the_scope_and_says_so_first() {
    let bed = Bed::with(&["sensors"]).await;
    bed.knows("pi17", &["subscribe:sensors:{principal}.*"]);
    filled(&bed, "sensors").await;
    for (view, fidelity, start) in views() {
        let selector = Selector {
            fidelity: fidelity.map(|view| Fidelity { view: Some(view) }),
            end: now(),
            ..of_feed("sensors", start)
        };
        let request = SubscribeRequest {
            include_info: true,
            ..asking(vec![selector])
        };
        let own = hear(&mut bed.feeds("pi17"), request.clone()).await.unwrap();
        assert_eq!(keys(&own), ["pi17.a", "pi17.b"], "{view}");
        assert_eq!(narrowed(&own), [to_keys("sensors", &["pi17.*"])], "{view}");
        assert!(matches!(own[0], Event::Narrowed(_)), "{view}: {:?}", own[0]);
        let all = hear(&mut bed.feeds("root"), request).await.unwrap();
        assert_eq!(keys(&all).len(), 4, "{view}");
        assert_eq!(narrowed(&all), [], "{view}");
    }
}

#[tokio::test]
async fn what_a_key_is_told_of_is_that_of_the_scope() {
    let bed = Bed::with(&["sensors"]).await;
    bed.knows("pi17", &["subscribe:sensors:pi17.*"]);
    filled(&bed, "sensors").await;
    let request = SubscribeRequest {
        include_info: true,
        ..asking(vec![of_feed("sensors", From::Earliest(Earliest {}))])
    };
    let opened = bed.feeds("pi17").subscribe(request).await.unwrap();
    let mut stream = opened.into_inner();
    let mut heard = vec![];
    hear_until(&mut stream, &mut heard, |event| {
        matches!(event, Event::CaughtUp(_))
    })
    .await;
    // A glob describes all of them anew, and a record of each comes.
    let info = KeyInfo {
        unit: Some("Cel".into()),
        ..KeyInfo::default()
    };
    let described = SetKeyInfoRequest {
        feed: "sensors".into(),
        scope: Some(Scope::Glob("*".into())),
        info: Some(info),
    };
    let mut catalog = bed.catalog("root");
    catalog.set_key_info(described).await.unwrap();
    filled(&bed, "sensors").await;
    hear_until(&mut stream, &mut heard, |event| match event {
        Event::Records(batch) => batch.covers.unwrap().to == 40,
        _ => false,
    })
    .await;
    let told = |event: &Event| match event {
        Event::KeyInfo(update) => update.info.as_ref().unwrap().unit.is_some(),
        _ => false,
    };
    assert!(heard.iter().any(told), "nothing was told anew");
    assert_eq!(keys(&heard), ["pi17.a", "pi17.b"]);
}

async fn hear_until(
    stream: &mut Streaming<SubscribeResponse>,
    heard: &mut Vec<Event>,
    last: impl Fn(&Event) -> bool,
) {
    loop {
        let response = within("a response", stream.message()).await;
        let event = response.unwrap().unwrap().event.unwrap();
        let done = last(&event);
        heard.push(event);
        if done {
            return;
        }
    }
}

#[tokio::test]
async fn an_exact_feed_or_key_outside_the_scope_is_refused() {
    let bed = Bed::with(&["sensors", "other"]).await;
    bed.knows("pi17", &["subscribe:sensors:pi17.*", "ingest:other"]);
    let mut feeds = bed.feeds("pi17");
    // Whether it is there or not.
    for feed in ["other", "none"] {
        let request = asking(vec![of_feed(feed, From::New(New {}))]);
        let refused = hear(&mut feeds, request).await;
        assert_eq!(denied(refused), ["subscribe", feed, ""]);
    }
    let selector = |keys: &[&str]| Selector {
        keys: keys.iter().map(|key| (*key).into()).collect(),
        end: now(),
        ..of_feed("sensors", From::Earliest(Earliest {}))
    };
    let refused = hear(&mut feeds, asking(vec![selector(&["pi17.a", "door"])])).await;
    assert_eq!(denied(refused), ["subscribe", "sensors", "door"]);
    filled(&bed, "sensors").await;
    // What is all within the scope is not narrowed.
    let own = hear(&mut feeds, asking(vec![selector(&["pi17.a"])])).await;
    let own = own.unwrap();
    assert_eq!(keys(&own), ["pi17.a"]);
    assert_eq!(narrowed(&own), []);
    // Globs of keys are narrowed.
    let globs = Selector {
        key_globs: vec!["*.a".into()],
        ..selector(&[])
    };
    let own = hear(&mut feeds, asking(vec![globs])).await.unwrap();
    assert_eq!(keys(&own), ["pi17.a"]);
    assert_eq!(narrowed(&own), [to_keys("sensors", &["pi17.*"])]);
}

#[tokio::test]
async fn feeds_that_may_not_be_seen_do_not_join_now_or_later() {
    let bed = Bed::with(&["a.mine", "a.yours"]).await;
    bed.knows("me", &["subscribe:*.mine", "subscribe:*.part:k1"]);
    let request = asking(vec![of_feeds(&["a.*"], From::New(New {}))]);
    let opened = bed.feeds("me").subscribe(request).await.unwrap();
    let mut stream = opened.into_inner();
    let mut heard = vec![];
    hear_until(&mut stream, &mut heard, |event| {
        matches!(event, Event::CaughtUp(_))
    })
    .await;
    let narrowed_to = |globs: &[&str]| Narrowed {
        feed_globs: globs.iter().map(|glob| (*glob).into()).collect(),
        ..Narrowed::default()
    };
    assert_eq!(narrowed(&heard), [narrowed_to(&["*.mine", "*.part"])]);
    // Created by uploads, the last one of which is the one that is heard of last.
    let mut root = bed.feeds("root");
    for feed in ["a.yours", "a.theirs", "b.mine", "a.part", "a.mine"] {
        let records = ["k0", "k1"].map(|key| number(key, 0)).to_vec();
        upload(&mut root, vec![plain(feed, records)]).await.unwrap();
    }
    let mut heard = vec![];
    let all = |heard: &[Event]| {
        let mut feeds: Vec<_> = heard
            .iter()
            .filter_map(|event| match event {
                Event::Records(batch) if batch.covers.unwrap().to == 2 => Some(batch.feed.clone()),
                _ => None,
            })
            .collect();
        feeds.sort();
        feeds.dedup();
        feeds
    };
    while all(&heard).len() < 2 {
        hear_until(&mut stream, &mut heard, |_| true).await;
    }
    assert_eq!(all(&heard), ["a.mine", "a.part"]);
    assert_eq!(narrowed(&heard), [to_keys("a.part", &["k1"])]);
    let of_part = |event: &&Event| matches!(event, Event::Records(batch) if batch.feed == "a.part");
    let part: Vec<_> = heard.iter().filter(of_part).cloned().collect();
    assert_eq!(keys(&part), ["k1"]);
}

#[tokio::test]
async fn a_session_is_refused_and_narrowed_in_the_same_way() {
    let bed = Bed::with(&["sensors", "other"]).await;
    bed.knows("pi17", &["subscribe:sensors:pi17.*"]);
    filled(&bed, "sensors").await;
    let (commands, requests) = mpsc::channel(16);
    let mut feeds = bed.feeds("pi17");
    let opened = feeds.session(ReceiverStream::new(requests));
    let mut stream = within("a session", opened).await.unwrap().into_inner();
    let selector = |feed: &str, keys: &[&str]| Selector {
        keys: keys.iter().map(|key| (*key).into()).collect(),
        ..of_feed(feed, From::Earliest(Earliest {}))
    };
    let refused = [selector("other", &[]), selector("sensors", &["door"])];
    for (id, selector) in (1..).zip(refused.into_iter().chain([selector("sensors", &[])])) {
        let set = SetSelector {
            selector_id: id,
            selector: Some(selector),
        };
        let request = SessionRequest {
            request_id: u64::from(id),
            command: Some(Command::Set(set)),
        };
        commands.send(request).await.unwrap();
    }
    let (mut answers, mut heard) = (vec![], vec![]);
    while !heard
        .iter()
        .any(|event| matches!(event, Event::CaughtUp(_)))
    {
        let said = within("an answer", stream.message()).await.unwrap();
        match said.unwrap().event.unwrap() {
            Said::Answer(answer) => answers.push(answer.reason),
            Said::Response(response) => heard.extend(response.event),
            Said::Ended(ended) => panic!("{ended:?}"),
        }
    }
    assert_eq!(answers, ["PERMISSION_DENIED", "PERMISSION_DENIED", ""]);
    assert_eq!(narrowed(&heard), [to_keys("sensors", &["pi17.*"])]);
    assert!(matches!(heard[0], Event::Narrowed(_)), "{:?}", heard[0]);
    assert_eq!(keys(&heard), ["pi17.a", "pi17.b"]);
}

#[tokio::test]
async fn a_resume_token_carries_no_permission() {
    let bed = Bed::with(&["a", "b"]).await;
    bed.knows("me", &["subscribe:*"]);
    filled(&bed, "a").await;
    filled(&bed, "b").await;
    let exact = of_feed("a", From::Earliest(Earliest {}));
    let globs = of_feeds(&["*"], From::Earliest(Earliest {}));
    let token = async |selector: &Selector| {
        let request = asking(vec![selector.clone()]);
        let opened = bed.feeds("me").subscribe(request).await.unwrap();
        let mut stream = opened.into_inner();
        let mut left = if selector.feed.is_empty() { 2 } else { 1 };
        loop {
            let response = within("a response", stream.message()).await.unwrap();
            if let Event::CaughtUp(caught_up) = response.unwrap().event.unwrap() {
                left -= 1;
                if left == 0 {
                    return caught_up.resume_token;
                }
            }
        }
    };
    let resume = |token: &str| SubscribeRequest {
        resume_token: token.into(),
        ..SubscribeRequest::default()
    };
    let (exact, globs) = (token(&exact).await, token(&globs).await);
    // Nothing of a any more, some keys of b.
    bed.knows("me", &["subscribe:b:pi17.*"]);
    let refused = hear(&mut bed.feeds("me"), resume(&exact)).await;
    assert_eq!(denied(refused), ["subscribe", "a", ""]);
    let opened = bed.feeds("me").subscribe(resume(&globs)).await.unwrap();
    let mut stream = opened.into_inner();
    for feed in ["a", "b"] {
        filled(&bed, feed).await;
    }
    let mut heard = vec![];
    hear_until(&mut stream, &mut heard, |event| match event {
        Event::Records(batch) => batch.covers.unwrap().to == 40,
        _ => false,
    })
    .await;
    assert_eq!(keys(&heard), ["pi17.a", "pi17.b"]);
    assert_eq!(narrowed(&heard).len(), 2, "feeds, and keys of b");
    let token = heard.iter().rev().find_map(|event| match event {
        Event::CaughtUp(caught_up) => Some(caught_up.resume_token.clone()),
        _ => None,
    });
    // It comes back to where it was when it may see it again.
    bed.knows("me", &["subscribe:*"]);
    let opened = bed.feeds("me").subscribe(resume(&token.unwrap())).await;
    let mut stream = opened.unwrap().into_inner();
    let mut heard = vec![];
    hear_until(&mut stream, &mut heard, |event| match event {
        Event::Records(batch) => batch.feed == "a" && batch.covers.unwrap().to == 40,
        _ => false,
    })
    .await;
    let of_a = |event: &&Event| matches!(event, Event::Records(batch) if batch.feed == "a");
    let Event::Records(first) = heard.iter().find(of_a).unwrap() else {
        unreachable!()
    };
    assert_eq!(first.covers.unwrap().from, 20);
}
