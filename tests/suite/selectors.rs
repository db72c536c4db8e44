//! Selectors by globs: of keys, and of feeds that come and go while they are followed. Each feed of
//! each selector accounts for itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost_types::Duration;
use ringfeed::proto::v1::{
    self, DeleteFeedRequest, Earliest, End, GapReason, New, Now, Selector, Start, SubscribeRequest,
    SubscribeResponse, TrimFeedRequest, end::At, feed_service_client::FeedServiceClient,
    start::From, subscribe_response::Event,
};
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::harness::{
    Ledger, MIB, Server, Talk, feed_exists, feed_of, number, number_of, one, plain, reason, set,
    stored, upload, vector, within,
};

type Feeds = FeedServiceClient<Channel>;

/// A subscription with a ledger for each selector and feed.
#[derive(Debug)]
struct Many {
    stream: Streaming<SubscribeResponse>,
    ledgers: BTreeMap<(u32, String), Ledger>,
    token: String,
    beats: u64,
}

impl Many {
    async fn open(feeds: &mut Feeds, request: SubscribeRequest) -> Result<Self, Status> {
        let opened = within("a subscription", feeds.subscribe(request)).await?;
        Ok(Self {
            stream: opened.into_inner(),
            ledgers: BTreeMap::new(),
            token: String::new(),
            beats: 0,
        })
    }

    async fn of(feeds: &mut Feeds, selectors: Vec<Selector>) -> Self {
        Self::open(feeds, asking(selectors)).await.unwrap()
    }

    async fn resume(feeds: &mut Feeds, token: &str) -> Self {
        let request = SubscribeRequest {
            resume_token: token.into(),
            ..SubscribeRequest::default()
        };
        Self::open(feeds, request).await.unwrap()
    }

    async fn step(&mut self) -> Result<Option<SubscribeResponse>, Status> {
        let next = within("a response", self.stream.message()).await?;
        let Some(response) = &next else {
            return Ok(None);
        };
        let event = response.event.as_ref().unwrap();
        match event {
            Event::Heartbeat(beat) => {
                self.beats += 1;
                self.note_token(&beat.resume_token.clone());
                if beat.cursor.is_none() {
                    return Ok(next);
                }
            }
            Event::CaughtUp(caught_up) => self.note_token(&caught_up.resume_token.clone()),
            _ => {}
        }
        let lane = (response.selector, feed_of(event));
        self.ledgers.entry(lane).or_default().take(response.clone());
        Ok(next)
    }

    fn note_token(&mut self, token: &str) {
        if !token.is_empty() {
            self.token = token.into();
        }
    }

    async fn read_until(&mut self, mut enough: impl FnMut(&Self) -> bool) {
        // Heartbeats go on for ever, so each message in time is not enough.
        let reading = async {
            while !enough(self) {
                let next = self.step().await.unwrap();
                assert!(next.is_some(), "the stream ended: {self:?}");
            }
        };
        within("what is waited for", reading).await;
    }

    fn get(&self, selector: u32, feed: &str) -> Option<&Ledger> {
        self.ledgers.get(&(selector, feed.to_owned()))
    }

    async fn read_to(&mut self, selector: u32, feed: &str, to: u64) {
        let there = |many: &Self| many.get(selector, feed).is_some_and(|l| l.next >= Some(to));
        self.read_until(there).await;
    }

    fn values(&self, selector: u32, feed: &str) -> Vec<u64> {
        let ledger = self.get(selector, feed).unwrap();
        ledger.decoded().iter().map(number_of).collect()
    }

    fn feeds(&self) -> Vec<&str> {
        self.ledgers.keys().map(|(_, feed)| feed.as_str()).collect()
    }
}

fn asking(selectors: Vec<Selector>) -> SubscribeRequest {
    SubscribeRequest {
        selectors,
        ..SubscribeRequest::default()
    }
}

fn matching(globs: &[&str], start: From) -> Selector {
    Selector {
        feed_globs: globs.iter().map(|glob| (*glob).into()).collect(),
        start: Some(Start { from: Some(start) }),
        ..Selector::default()
    }
}

fn earliest() -> From {
    From::Earliest(Earliest {})
}

fn new() -> From {
    From::New(New {})
}

/// Keys a0, a1, b0, b1 in turn: record `n` has the value `n`.
async fn filled(feeds: &mut Feeds, feed: &str, range: std::ops::Range<u64>) {
    let key = |n: u64| ["a0", "a1", "b0", "b1"][(n % 4) as usize];
    let records: Vec<Bytes> = range.map(|n| number(key(n), n)).collect();
    upload(feeds, vec![plain(feed, records)]).await.unwrap();
}

async fn delete(server: &Server, feed: &str) {
    let asked = DeleteFeedRequest { name: feed.into() };
    server.catalog().await.delete_feed(asked).await.unwrap();
}

#[tokio::test]
async fn feeds_that_are_created_later_join_from_their_beginning() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    for feed in ["plant.a", "plant.b", "plant.test", "office"] {
        filled(&mut feeds, feed, 0..10).await;
    }
    let mut selector = matching(&["plant.*", "lab?"], new());
    selector.exclude_feed_globs = vec!["*.test".into()];
    let mut many = Many::of(&mut server.feeds().await, vec![selector]).await;
    many.read_until(|many| many.ledgers.len() == 2).await;
    // What is there starts where it was asked to, what comes later at its beginning.
    filled(&mut feeds, "plant.b", 10..12).await;
    for feed in ["lab1", "lab12", "plant.c", "plant.c.test"] {
        filled(&mut feeds, feed, 0..5).await;
    }
    filled(&mut feeds, "plant.a", 10..13).await;
    for (feed, to) in [
        ("plant.a", 13),
        ("plant.b", 12),
        ("plant.c", 5),
        ("lab1", 5),
    ] {
        many.read_to(0, feed, to).await;
    }
    assert_eq!(many.values(0, "plant.a"), [10, 11, 12]);
    assert_eq!(many.values(0, "plant.b"), [10, 11]);
    assert_eq!(many.values(0, "plant.c"), [0, 1, 2, 3, 4]);
    assert_eq!(many.values(0, "lab1"), [0, 1, 2, 3, 4]);
    assert_eq!(many.feeds(), ["lab1", "plant.a", "plant.b", "plant.c"]);
}

#[tokio::test]
async fn a_glob_that_matches_nothing_yet_waits_and_beats() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let request = SubscribeRequest {
        heartbeat_interval: Some(Duration {
            seconds: 0,
            nanos: 100_000_000,
        }),
        ..asking(vec![matching(&["x*"], new())])
    };
    let mut many = Many::open(&mut server.feeds().await, request)
        .await
        .unwrap();
    many.read_until(|many| many.beats == 2).await;
    assert_eq!(many.feeds(), [""; 0]);
    filled(&mut feeds, "x1", 0..3).await;
    many.read_to(0, "x1", 3).await;
    assert_eq!(many.values(0, "x1"), [0, 1, 2]);
    // With an end it ends: at once when nothing can join any more.
    let end = |at| Selector {
        end: Some(End { at: Some(at) }),
        ..matching(&["x*"], earliest())
    };
    let mut now = Many::of(&mut feeds, vec![end(At::Now(Now {}))]).await;
    while now.step().await.unwrap().is_some() {}
    assert_eq!(now.values(0, "x1"), [0, 1, 2]);
    let soon = ringfeed::model::now() + 300_000_000;
    let mut timed = Many::of(&mut feeds, vec![end(At::IngestTimeUnixNanos(soon))]).await;
    filled(&mut feeds, "x2", 0..3).await;
    while timed.step().await.unwrap().is_some() {}
    assert_eq!(timed.values(0, "x2"), [0, 1, 2]);
    assert!(ringfeed::model::now() >= soon);
}

#[tokio::test]
async fn a_deleted_feed_leaves_with_a_gap_and_comes_back_with_another_epoch() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    feed_exists(&mut server.catalog().await, "big", 64 * MIB).await;
    let large: Vec<Bytes> = (0..100).map(|n| vector("k", n, 1_000)).collect();
    upload(&mut feeds, vec![plain("big", large); 30])
        .await
        .unwrap();
    filled(&mut feeds, "bit", 0..10).await;
    let mut many = Many::of(
        &mut server.feeds().await,
        vec![matching(&["b*"], earliest())],
    )
    .await;
    many.read_to(0, "bit", 10).await;
    delete(&server, "big").await;
    many.read_to(0, "big", 3_000).await;
    let ledger = many.get(0, "big").unwrap();
    let gaps = ledger.gap_list();
    assert_eq!(
        (gaps.len(), gaps[0].1, gaps[0].3),
        (1, 3_000, GapReason::Trimmed)
    );
    assert_eq!(ledger.records.len() as u64, gaps[0].0, "nothing twice");
    let before = ledger.epoch.unwrap();

    filled(&mut feeds, "big", 0..4).await;
    filled(&mut feeds, "bit", 10..20).await;
    many.read_to(0, "bit", 20).await;
    many.read_until(|many| many.get(0, "big").unwrap().next == Some(4))
        .await;
    let ledger = many.get(0, "big").unwrap();
    assert_eq!(ledger.gap_list()[1].3, GapReason::EpochChanged);
    assert!(ledger.epoch.unwrap() > before);
}

#[tokio::test]
async fn two_selectors_of_one_feed_know_nothing_of_each_other() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 0..1_000).await;
    let globbed = |globs: &[&str], not: &[&str], from| Selector {
        key_globs: globs.iter().map(|glob| (*glob).into()).collect(),
        exclude_key_globs: not.iter().map(|glob| (*glob).into()).collect(),
        ..one("f", From::Offset(from), None).selectors.remove(0)
    };
    let mut named = globbed(&["b?"], &["*1"], 0);
    named.keys = vec!["a1".into(), "a0".into()];
    let selectors = vec![
        globbed(&["a*"], &[], 0),
        globbed(&[], &["a*"], 500),
        named,
        one("f", From::Offset(900), None).selectors.remove(0),
        matching(&["f"], earliest()),
    ];
    let mut many = Many::of(&mut server.feeds().await, selectors).await;
    let all = |many: &Many| {
        let told = many.ledgers.values().filter(|l| !l.caught_up.is_empty());
        told.count() == 5
    };
    many.read_until(all).await;
    filled(&mut feeds, "f", 1_000..1_004).await;
    for id in 0..5 {
        many.read_until(|many| many.get(id, "f").is_some_and(|l| l.next > Some(1_001)))
            .await;
    }
    let pick = |from: u64, keep: fn(u64) -> bool| -> Vec<u64> {
        (from..1_002).filter(|n| keep(n % 4)).collect()
    };
    let upto = |id| -> Vec<u64> {
        let values = many.values(id, "f").into_iter();
        values.filter(|n| *n < 1_002).collect()
    };
    assert_eq!(upto(0), pick(0, |k| k < 2));
    assert_eq!(upto(1), pick(500, |k| k >= 2));
    // Exclusions win: b1 and a1 are out, whoever asked for them by name.
    assert_eq!(upto(2), pick(0, |k| k == 0 || k == 2));
    assert_eq!(upto(3), pick(900, |_| true));
    assert_eq!(upto(4), pick(0, |_| true));
}

#[tokio::test]
async fn one_token_covers_all_feeds_and_those_that_came_and_went() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    for feed in ["s.a", "s.b", "s.c", "exact"] {
        filled(&mut feeds, feed, 0..20).await;
    }
    let selectors = vec![
        matching(&["s.*"], earliest()),
        one("exact", From::Offset(15), None).selectors.remove(0),
    ];
    let mut many = Many::of(&mut server.feeds().await, selectors).await;
    let all = |many: &Many| {
        many.ledgers
            .values()
            .filter(|l| !l.caught_up.is_empty())
            .count()
            == 4
    };
    many.read_until(all).await;
    let token = many.token.clone();
    drop(many);

    filled(&mut feeds, "s.a", 20..30).await;
    filled(&mut feeds, "exact", 20..30).await;
    filled(&mut feeds, "s.new", 0..5).await;
    let trim = TrimFeedRequest {
        name: "s.a".into(),
        before_offset: 25,
    };
    server.catalog().await.trim_feed(trim).await.unwrap();
    delete(&server, "s.b").await;
    delete(&server, "s.c").await;
    filled(&mut feeds, "s.c", 0..3).await;

    let server = server.restart().await;
    let mut feeds = server.feeds().await;
    let mut again = Many::resume(&mut feeds, &token).await;
    for (id, feed, from) in [(0, "s.a", 20), (1, "exact", 20), (0, "s.new", 0)] {
        again.ledgers.insert((id, feed.into()), Ledger::from(from));
    }
    again.read_to(0, "s.a", 30).await;
    again.read_to(1, "exact", 30).await;
    again.read_to(0, "s.new", 5).await;
    again
        .read_until(|many| many.get(0, "s.c").is_some_and(|l| l.records.len() == 3))
        .await;
    let trimmed = (20, 25, Some(5), GapReason::Trimmed);
    assert_eq!(again.get(0, "s.a").unwrap().gap_list(), [trimmed]);
    assert_eq!(again.values(0, "s.a"), [25, 26, 27, 28, 29]);
    assert_eq!(again.values(0, "s.new"), [0, 1, 2, 3, 4]);
    let changed = (20, 20, None, GapReason::EpochChanged);
    assert_eq!(again.get(0, "s.c").unwrap().gap_list(), [changed]);
    assert!(
        again.get(0, "s.b").is_none(),
        "of what is gone nothing can be told"
    );

    // The exact one has to be there.
    delete(&server, "exact").await;
    let request = SubscribeRequest {
        resume_token: token.clone(),
        ..SubscribeRequest::default()
    };
    let refused = Many::open(&mut feeds, request).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::NotFound, "UNKNOWN_FEED".into())
    );
    // Nobody can make one.
    let mut forged = token.into_bytes();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    let request = SubscribeRequest {
        resume_token: String::from_utf8(forged).unwrap(),
        ..SubscribeRequest::default()
    };
    let refused = Many::open(&mut feeds, request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_stream_follows_so_many_feeds_and_no_more() {
    let server = Server::start().await;
    let mut catalog = server.catalog().await;
    for n in 0..64 {
        feed_exists(&mut catalog, &format!("m{n}"), MIB).await;
    }
    let selectors = vec![matching(&["m*"], new()); 16];
    let mut feeds = server.feeds().await;
    let request = SubscribeRequest {
        heartbeat_interval: Some(Duration {
            seconds: 0,
            nanos: 100_000_000,
        }),
        ..asking(selectors.clone())
    };
    let mut full = Many::open(&mut feeds.clone(), request).await.unwrap();
    full.read_until(|many| many.ledgers.len() == 1_024).await;
    // All of them beat, and what is live is not held up by that.
    full.read_until(|many| many.ledgers.values().all(|l| !l.heartbeats.is_empty()))
        .await;
    filled(&mut feeds, "m17", 0..10).await;
    for id in 0..16 {
        full.read_to(id, "m17", 10).await;
    }
    let mut session = Talk::open(&mut feeds).await;
    for (id, selector) in (0..).zip(&selectors) {
        session.done(set(id, selector.clone())).await;
    }
    let more = session.ask(set(99, selectors[0].clone())).await;
    assert_eq!(more.reason, "TOO_MANY_FEEDS");

    // One feed more for each of sixteen selectors: the stream cannot keep what it promised.
    feed_exists(&mut catalog, "m64", MIB).await;
    let ended = loop {
        match full.step().await {
            Ok(next) => assert!(next.is_some()),
            Err(ended) => break ended,
        }
    };
    assert_eq!(ended.code(), Code::ResourceExhausted);
    assert_eq!(reason(&ended), "TOO_MANY_FEEDS");
    let refused = Many::open(&mut feeds, asking(selectors)).await.unwrap_err();
    assert_eq!(reason(&refused), "TOO_MANY_FEEDS");
    // A session gives one selector up, and has room for the others.
    session.read_until(|talk| !talk.ended.is_empty()).await;
    assert_eq!(session.ended[0].reason, "TOO_MANY_FEEDS");
    let gone = session.ended[0].selector_id;
    filled(&mut feeds, "m64", 0..3).await;
    for id in (0..16).filter(|id| *id != gone) {
        session.read_to(id, "m64", 3).await;
    }
}

/// A busy stream of many feeds beats in time, and what it carries comes between the beats.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_stream_of_many_feeds_beats() {
    let server = Server::start().await;
    let mut catalog = server.catalog().await;
    for n in 0..20 {
        feed_exists(&mut catalog, &format!("m{n}"), 16 * MIB).await;
    }
    let mut feeds = server.feeds().await;
    let large: Vec<Bytes> = (0..100).map(|n| vector("k", n, 1_000)).collect();
    for n in 0..20 {
        let feed = format!("m{n}");
        upload(&mut feeds, vec![plain(&feed, large.clone()); 4])
            .await
            .unwrap();
    }
    let request = SubscribeRequest {
        heartbeat_interval: Some(Duration {
            seconds: 0,
            nanos: 100_000_000,
        }),
        ..asking(vec![matching(&["m*"], earliest())])
    };
    let mut many = Many::open(&mut feeds, request).await.unwrap();
    let mut rounds = 0;
    let behind = |many: &Many| many.ledgers.values().any(|l| l.next < Some(400));
    while many.ledgers.len() < 20 || behind(&many) {
        many.step().await.unwrap().unwrap();
        rounds = many
            .ledgers
            .values()
            .map(|l| l.heartbeats.len())
            .min()
            .unwrap();
        // Slow on purpose, so that there is more than one beat in this.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert!(
        rounds >= 2,
        "{rounds} heartbeats of each while it was behind"
    );
    let first = |l: &Ledger| l.heartbeats[0].lag_records > 0;
    assert!(many.ledgers.values().any(first), "they say how far behind");
    let tokens = many.ledgers.values().flat_map(|l| &l.heartbeats);
    assert!(tokens.clone().any(|beat| !beat.resume_token.is_empty()));
}

/// Views are the hub's matter; here: they reach who asked for them, described first.
#[tokio::test]
async fn a_snapshot_is_described_complete_and_then_live() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 0..10).await;
    let snapshot = From::Snapshot(v1::SnapshotStart {});
    let request = SubscribeRequest {
        include_info: true,
        ..one("f", snapshot, None)
    };
    let opened = server.feeds().await.subscribe(request).await.unwrap();
    let mut stream = opened.into_inner();
    let (mut described, mut latest, mut live) = (vec![], vec![], vec![]);
    let mut complete = None;
    while live.is_empty() {
        let next = within("a response", stream.message())
            .await
            .unwrap()
            .unwrap();
        match next.event.unwrap() {
            Event::KeyInfo(update) => described.push(update.key),
            Event::Snapshot(batch) => {
                assert!(complete.is_none());
                for record in batch.records.iter().map(stored) {
                    assert!(described.contains(&record.key), "{record:?}");
                    latest.push(number_of(&record));
                }
            }
            Event::SnapshotComplete(told) => {
                complete = told.as_of;
                filled(&mut feeds, "f", 10..11).await;
            }
            Event::Records(batch) => live.extend(batch.records.iter().map(stored)),
            Event::CaughtUp(_) | Event::Heartbeat(_) => {}
            other => panic!("not expected: {other:?}"),
        }
    }
    latest.sort_unstable();
    assert_eq!(latest, [6, 7, 8, 9]);
    assert_eq!(complete.unwrap().offset, 10);
    assert_eq!(number_of(&live[0]), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_too_slow_is_sent_away_with_a_token_when_it_wants_that() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    feed_exists(&mut server.catalog().await, "f", 64 * MIB).await;
    let slow = Selector {
        slow_policy: Some(v1::SlowPolicy {
            max_lag_records: 500,
            max_lag: None,
            action: v1::SlowAction::Disconnect.into(),
        }),
        ..one("f", earliest(), None).selectors.remove(0)
    };
    let mut many = Many::of(&mut server.feeds().await, vec![slow]).await;
    many.read_until(|many| many.get(0, "f").is_some_and(|l| !l.caught_up.is_empty()))
        .await;
    // It takes nothing of these 24 MB.
    let large: Vec<Bytes> = (0..100).map(|n| vector("k", n, 1_000)).collect();
    upload(&mut feeds, vec![plain("f", large); 30])
        .await
        .unwrap();
    let (mut token, mut at) = (String::new(), 0);
    let ended = loop {
        match within("a response", many.stream.message()).await {
            Ok(next) => match next.unwrap().event.unwrap() {
                Event::Records(batch) => at = batch.covers.unwrap().to,
                Event::Reconnect(reconnect) => token = reconnect.resume_token,
                _ => {}
            },
            Err(ended) => break ended,
        }
    };
    assert_eq!(
        (ended.code(), reason(&ended)),
        (Code::Aborted, "SLOW_SUBSCRIBER".into())
    );
    assert!(at < 3_000, "it had everything");
    let mut again = Many::resume(&mut feeds, &token).await;
    again.ledgers.insert((0, "f".into()), Ledger::from(at));
    // It is let to catch up, though it is as far behind as it was.
    again.read_to(0, "f", 3_000).await;
}

#[tokio::test]
async fn the_last_of_each_key_stay_the_same_over_a_resume() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    feed_exists(&mut server.catalog().await, "f", 64 * MIB).await;
    // More than one message has room for.
    for (key, count) in [("rare", 200), ("busy", 400)] {
        let records: Vec<Bytes> = (0..count).map(|n| vector(key, n, 1_000)).collect();
        for part in records.chunks(100) {
            let part = vec![plain("f", part.to_vec())];
            upload(&mut feeds, part).await.unwrap();
        }
    }
    filled(&mut feeds, "small", 0..1).await;
    let selectors = vec![
        one("f", From::LastPerKey(200), None).selectors.remove(0),
        one("small", earliest(), None).selectors.remove(0),
    ];
    let mut many = Many::of(&mut server.feeds().await, selectors).await;
    // The small one has caught up.
    many.read_until(|many| !many.token.is_empty()).await;
    let at = many.get(0, "f").map_or(0, |l| l.next.unwrap());
    assert!(at < 200, "all of the rare ones came at once");
    let token = many.token.clone();
    drop(many);

    let later: Vec<Bytes> = (0..10).map(|n| vector("busy", n, 1_000)).collect();
    upload(&mut feeds, vec![plain("f", later)]).await.unwrap();
    let server = server.restart().await;
    let mut again = Many::resume(&mut server.feeds().await, &token).await;
    again.ledgers.insert((0, "f".into()), Ledger::from(at));
    again.ledgers.insert((1, "small".into()), Ledger::from(1));
    again.read_to(0, "f", 610).await;
    let records = again.get(0, "f").unwrap().records.iter();
    let offsets: Vec<u64> = records.map(|(offset, _)| *offset).collect();
    let expected: Vec<u64> = (at..200).chain(400..610).collect();
    assert_eq!(offsets, expected);
}
