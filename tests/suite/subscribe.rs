//! P1, P2, P9: what a subscriber asks for is what it gets, with every offset accounted for.

use bytes::Bytes;
use prost_types::Duration;
use ringfeed::proto::v1::{
    self, Clock, Cursor, DeleteFeedRequest, End, GapReason, KeyInfo, Selector, SetKeyInfoRequest,
    Start, SubscribeRequest, TimeStart, TrimFeedRequest, end::At, reading::Value,
    set_key_info_request::Scope, start::From, subscribe_response::Event,
};
use tonic::{Code, transport::Channel};

use crate::harness::{
    Follow, MIB, Server, encode, event_nanos, event_of, feed_exists, number, number_of, one, plain,
    read_to_now, reading, reason, text, upload, vector,
};

type Feeds = v1::feed_service_client::FeedServiceClient<Channel>;

const NOW: End = End {
    at: Some(At::Now(v1::Now {})),
};

fn selector(feed: &str, from: From, end: Option<End>) -> Selector {
    one(feed, from, end).selectors.remove(0)
}

fn earliest() -> From {
    From::Earliest(v1::Earliest {})
}

/// Keys a, b, c, d in turn: record `n` has the value `n`.
async fn filled(feeds: &mut Feeds, feed: &str, count: u64) {
    let key = |n: u64| ["a", "b", "c", "d"][usize::try_from(n % 4).unwrap()];
    let records: Vec<Bytes> = (0..count).map(|n| number(key(n), n)).collect();
    for part in records.chunks(1_000) {
        upload(feeds, vec![plain(feed, part.to_vec())])
            .await
            .unwrap();
    }
}

/// The values that one selector gets up to now.
async fn values(feeds: &mut Feeds, selector: Selector) -> Vec<u64> {
    let request = SubscribeRequest {
        selectors: vec![selector],
        ..SubscribeRequest::default()
    };
    let mut follow = Follow::open(feeds, request).await.unwrap();
    follow.read_out().await.unwrap();
    follow.ledger().decoded().iter().map(number_of).collect()
}

#[tokio::test]
async fn several_selectors_get_their_keys_and_account_for_the_rest() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 4_000).await;
    filled(&mut feeds, "g", 400).await;
    let mut two_keys = selector("f", From::Offset(0), None);
    two_keys.keys = vec!["a".into(), "c".into(), "unheard-of".into()];
    let mut all_but = selector("f", From::Offset(0), None);
    all_but.exclude_keys = vec!["b".into()];
    let mut both = selector("g", From::Offset(100), None);
    both.keys = vec!["a".into(), "b".into()];
    both.exclude_keys = vec!["b".into()];
    let mut none = selector("g", From::Offset(0), None);
    none.keys = vec!["unheard-of".into()];
    // A heartbeat tells before where the selector is: the last one need not wait for 10 s.
    let request = SubscribeRequest {
        selectors: vec![two_keys, all_but, both, none],
        heartbeat_interval: Some(prost_types::Duration {
            seconds: 0,
            nanos: 200_000_000,
        }),
        ..SubscribeRequest::default()
    };
    let mut follow = Follow::open(&mut feeds, request).await.unwrap();
    let ends = [4_000, 4_000, 400, 400];
    let there = |ledgers: &[crate::harness::Ledger]| {
        let settled = |(l, end): (&crate::harness::Ledger, u64)| l.next == Some(end);
        ledgers.iter().zip(ends).all(settled) && ledgers.iter().all(|l| !l.caught_up.is_empty())
    };
    follow.read_until(there).await;
    let got =
        |i: usize| -> Vec<u64> { follow.ledgers[i].decoded().iter().map(number_of).collect() };
    let expect = |range: std::ops::Range<u64>, keep: &dyn Fn(u64) -> bool| -> Vec<u64> {
        range.filter(|n| keep(n % 4)).collect()
    };
    assert_eq!(got(0), expect(0..4_000, &|k| k == 0 || k == 2));
    assert_eq!(got(1), expect(0..4_000, &|k| k != 1));
    assert_eq!(got(2), expect(100..400, &|k| k == 0));
    assert_eq!(got(3), [0; 0]);

    // Live: all four move on, the one that wants nothing by its covers alone.
    filled(&mut feeds, "f", 8).await;
    filled(&mut feeds, "g", 8).await;
    let ends = [4_008, 4_008, 408, 408];
    follow
        .read_until(|ledgers| ledgers.iter().zip(ends).all(|(l, end)| l.next == Some(end)))
        .await;
    assert_eq!(follow.ledgers[0].records.len(), 2_004);
    assert_eq!(follow.ledgers[1].records.len(), 3_006);
    assert_eq!(follow.ledgers[2].records.len(), 77);
    assert_eq!(follow.ledgers[3].records.len(), 0);
}

#[tokio::test]
async fn every_start_begins_where_it_says() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 100).await;
    let epoch = read_to_now(&mut feeds, "f").await.epoch.unwrap();
    let from = |n: u64| (n..100).collect::<Vec<u64>>();
    let cursor = |offset| {
        From::Cursor(Cursor {
            feed: "f".into(),
            epoch,
            offset,
        })
    };
    let event = |n| {
        From::Time(TimeStart {
            unix_nanos: event_nanos(n),
            clock: Clock::Event.into(),
        })
    };
    for (start, first) in [
        (From::Offset(0), 0),
        (From::Offset(42), 42),
        (From::Offset(100), 100),
        (cursor(42), 42),
        (cursor(100), 100),
        (earliest(), 0),
        (event(17), 17),
        (event(0), 0),
        (event(99), 99),
        (event(1_000), 100),
        (From::New(v1::New {}), 100),
    ] {
        let got = values(&mut feeds, selector("f", start.clone(), Some(NOW))).await;
        assert_eq!(got, from(first), "{start:?}");
    }

    // By the server's clock: what came in later than a moment between two uploads.
    let between = read_to_now(&mut feeds, "f").await.decoded()[99].ingest_time_unix_nanos + 1;
    let late = encode(&reading("a", event_nanos(5), Value::Number(100.0)));
    upload(&mut feeds, vec![plain("f", vec![late])])
        .await
        .unwrap();
    let start = From::Time(TimeStart {
        unix_nanos: between,
        clock: Clock::Ingest.into(),
    });
    let got = values(&mut feeds, selector("f", start, Some(NOW))).await;
    assert_eq!(got, [100]);

    // A cursor of epoch 0 and a start that is left out.
    let present = From::Cursor(Cursor {
        offset: 99,
        ..Cursor::default()
    });
    let got = values(&mut feeds, selector("f", present, Some(NOW))).await;
    assert_eq!(got, [99, 100]);
    let mut new = selector("f", earliest(), Some(NOW));
    new.start = None;
    assert_eq!(values(&mut feeds, new).await, [0; 0]);
}

#[tokio::test]
async fn the_last_of_each_key_come_first_and_then_everything() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 30_000).await;
    // A key that is far back, and one with a single record.
    let mut records: Vec<Bytes> = (0..20_000).map(|n| number("busy", 100_000 + n)).collect();
    records.push(number("rare", 7));
    for part in records.chunks(2_000) {
        upload(&mut feeds, vec![plain("f", part.to_vec())])
            .await
            .unwrap();
    }
    let request = one("f", From::LastPerKey(2), None);
    let mut follow = Follow::open(&mut feeds, request).await.unwrap();
    follow.read_to(50_001).await;
    let got: Vec<u64> = follow.ledger().decoded().iter().map(number_of).collect();
    let fours = 29_992..30_000;
    let expected: Vec<u64> = fours.chain([119_998, 119_999, 7]).collect();
    assert_eq!(got, expected);
    filled(&mut feeds, "f", 4).await;
    follow.read_to(50_005).await;
    assert_eq!(follow.ledger().records.len(), expected.len() + 4);

    let mut named = selector("f", From::LastPerKey(3), Some(NOW));
    named.keys = vec!["rare".into(), "a".into()];
    let got = values(&mut feeds, named).await;
    assert_eq!(got, [29_992, 29_996, 7, 0]);
}

#[tokio::test]
async fn every_end_ends_where_it_says() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 50).await;
    let between = read_to_now(&mut feeds, "f").await.decoded()[49].ingest_time_unix_nanos + 1;
    filled(&mut feeds, "f", 50).await;
    let ends = [
        (At::Offset(0), 0),
        (At::Offset(33), 33),
        (At::Now(v1::Now {}), 100),
        (At::IngestTimeUnixNanos(between), 50),
        (At::IngestTimeUnixNanos(0), 0),
        (At::IngestTimeUnixNanos(ringfeed::model::now()), 100),
    ];
    for (at, count) in ends {
        let end = Some(End { at: Some(at) });
        let got = values(&mut feeds, selector("f", earliest(), end)).await;
        assert_eq!(got.len(), count, "{at:?}");
    }
    // An end that is still to come: the stream ends by itself when it is there.
    let end = End {
        at: Some(At::Offset(102)),
    };
    let mut follow = Follow::open(&mut feeds, one("f", earliest(), Some(end)))
        .await
        .unwrap();
    follow.read_to(100).await;
    filled(&mut feeds, "f", 10).await;
    follow.read_out().await.unwrap();
    assert_eq!(follow.ledger().next, Some(102));
}

#[tokio::test]
async fn a_subscriber_is_told_once_when_it_has_seen_everything() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 10).await;
    let mut follow = Follow::feed(&mut feeds.clone(), "f", From::Offset(0)).await;
    follow.read_until(|l| !l[0].caught_up.is_empty()).await;
    assert_eq!(
        follow.ledger().caught_up[0].next.as_ref().unwrap().offset,
        10
    );
    let token = follow.ledger().caught_up[0].resume_token.clone();
    // Live records do not make it say so again and again.
    for n in 0..20 {
        filled(&mut feeds, "f", 1).await;
        follow.read_to(11 + n).await;
    }
    assert_eq!(follow.ledger().caught_up.len(), 1);
    // The token goes on after what was sent before it.
    let mut resumed = Follow::resume(&mut feeds, &token).await;
    resumed.ledgers[0].next = Some(10);
    resumed.read_to(30).await;
    assert_eq!(resumed.ledger().records.len(), 20);
}

#[tokio::test]
async fn heartbeats_say_where_everything_is_also_while_busy() {
    let server = Server::start().await;
    feed_exists(&mut server.catalog().await, "f", 64 * MIB).await;
    let mut feeds = server.feeds().await;
    let request = |from| SubscribeRequest {
        heartbeat_interval: Some(Duration {
            seconds: 0,
            nanos: 100_000_000,
        }),
        ..one("f", from, None)
    };
    let mut idle = Follow::open(&mut feeds, request(From::Offset(0)))
        .await
        .unwrap();
    idle.read_until(|l| l[0].heartbeats.len() == 2).await;
    let beat = &idle.ledger().heartbeats[1];
    assert_eq!(beat.oldest.as_ref().unwrap().offset, 0);
    assert_eq!(beat.next.as_ref().unwrap().offset, 0);
    assert_eq!(beat.lag_records, 0);
    assert_eq!(beat.lag, Some(Duration::default()));

    let large: Vec<Bytes> = (0..100).map(|n| vector("k", n, 1_000)).collect();
    let load = vec![plain("f", large); 60];
    upload(&mut feeds, load).await.unwrap();
    let mut busy = Follow::open(&mut feeds, request(From::Offset(0)))
        .await
        .unwrap();
    let mut behind = vec![];
    while busy.ledger().next != Some(6_000) {
        let response = busy.step().await.unwrap().unwrap();
        if let Event::Heartbeat(beat) = event_of(response) {
            behind.push(beat);
            // Takes its time over a response, so that there is more than one beat in this.
        }
        tokio::time::sleep(std::time::Duration::from_millis(4)).await;
    }
    assert!(!behind.is_empty(), "no heartbeat while busy");
    for beat in &behind {
        assert_eq!(beat.next.as_ref().unwrap().offset, 6_000);
    }
    assert!(behind[0].lag_records > 0);
    assert!(behind[0].lag.is_some_and(|lag| lag != Duration::default()));
    // Its token goes on at its cursor.
    let at = behind[0].cursor.as_ref().unwrap().offset;
    let mut resumed = Follow::resume(&mut feeds, &behind[0].resume_token).await;
    resumed.ledgers[0].next = Some(at);
    resumed.read_to(6_000).await;
    assert_eq!(resumed.ledger().records.len() as u64, 6_000 - at);
}

#[tokio::test]
async fn one_token_resumes_every_selector_of_a_stream() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 1_000).await;
    filled(&mut feeds, "g", 1_000).await;
    let mut keyed = selector("f", From::Offset(500), None);
    keyed.keys = vec!["a".into()];
    let until = End {
        at: Some(At::Offset(1_010)),
    };
    let request = SubscribeRequest {
        selectors: vec![keyed, selector("g", From::Offset(0), Some(until))],
        subscriber: "two".into(),
        ..SubscribeRequest::default()
    };
    let mut follow = Follow::open(&mut feeds, request).await.unwrap();
    follow
        .read_until(|l| l.iter().all(|l| !l.caught_up.is_empty()))
        .await;
    let last = |l: &crate::harness::Ledger| l.caught_up[0].resume_token.clone();
    // The token of the selector that caught up last covers both.
    let token = last(&follow.ledgers[1]);
    drop(follow);
    filled(&mut feeds, "f", 40).await;
    filled(&mut feeds, "g", 40).await;
    let server = server.restart().await;
    let mut feeds = server.feeds().await;
    let request = SubscribeRequest {
        resume_token: token,
        ..SubscribeRequest::default()
    };
    let mut resumed = Follow::open(&mut feeds, request).await.unwrap();
    resumed.ledgers.push(crate::harness::Ledger::from(1_000));
    let settled =
        |l: &[crate::harness::Ledger]| l[0].next == Some(1_040) && l[1].next == Some(1_010);
    resumed.read_until(settled).await;
    let got: Vec<u64> = resumed.ledgers[0].decoded().iter().map(number_of).collect();
    assert_eq!(got, (0..40).step_by(4).collect::<Vec<_>>(), "only key a");
    assert_eq!(resumed.ledgers[1].records.len(), 10, "the end is kept");
}

#[tokio::test]
async fn a_key_is_described_before_its_first_record_and_when_that_changes() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let mut catalog = server.catalog().await;
    feed_exists(&mut catalog, "f", MIB).await;
    let describe = |scope, unit: &str| SetKeyInfoRequest {
        feed: "f".into(),
        scope: Some(scope),
        info: Some(KeyInfo {
            unit: Some(unit.into()),
            ..KeyInfo::default()
        }),
    };
    let all = Scope::All(v1::AllKeys {});
    catalog.set_key_info(describe(all, "Cel")).await.unwrap();
    let request = SubscribeRequest {
        include_info: true,
        ..one("f", From::Offset(0), None)
    };
    let mut follow = Follow::open(&mut feeds.clone(), request).await.unwrap();
    filled(&mut feeds, "f", 2).await;
    let mut seen = vec![];
    while follow.ledger().next != Some(2) {
        match event_of(follow.step().await.unwrap().unwrap()) {
            Event::KeyInfo(update) => seen.push(update.key),
            Event::Records(batch) => {
                for record in &batch.records {
                    let key = crate::harness::stored(record).key;
                    assert!(seen.contains(&key), "{key} came before its description");
                }
            }
            _ => {}
        }
    }
    assert_eq!(seen, ["a", "b"]);
    let unit = |i: usize| follow.ledger().infos[i].info.clone().unwrap().unit;
    assert_eq!((unit(0), unit(1)), (Some("Cel".into()), Some("Cel".into())));

    let of_a = Scope::Key("a".into());
    catalog.set_key_info(describe(of_a, "K")).await.unwrap();
    filled(&mut feeds, "f", 1).await;
    follow.read_to(3).await;
    let infos = &follow.ledger().infos;
    assert_eq!(infos.len(), 3, "only what changed is said again: {infos:?}");
    assert_eq!(infos[2].key, "a");
    assert_eq!(infos[2].info.clone().unwrap().unit, Some("K".into()));
}

#[tokio::test]
async fn what_was_trimmed_and_what_has_another_epoch_is_told() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let mut catalog = server.catalog().await;
    filled(&mut feeds, "f", 100).await;
    let before = read_to_now(&mut feeds, "f").await;
    let mut live = Follow::feed(&mut feeds.clone(), "f", From::Offset(0)).await;
    live.read_to(100).await;
    let trim = |before_offset| TrimFeedRequest {
        name: "f".into(),
        before_offset,
    };
    catalog.trim_feed(trim(60)).await.unwrap();
    let after = read_to_now(&mut feeds, "f").await;
    assert_eq!(after.gap_list(), [(0, 60, Some(60), GapReason::Trimmed)]);
    assert_eq!(after.records.len(), 40);
    let in_it = crate::harness::read_from(&mut feeds, "f", 20).await;
    assert_eq!(in_it.gap_list(), [(20, 60, Some(40), GapReason::Trimmed)]);
    // An end within the gap ends the gap.
    let end = End {
        at: Some(At::Offset(30)),
    };
    let mut short = Follow::open(&mut feeds, one("f", From::Offset(20), Some(end)))
        .await
        .unwrap();
    short.read_out().await.unwrap();
    assert_eq!(
        short.ledger().gap_list(),
        [(20, 30, Some(10), GapReason::Trimmed)]
    );
    // Trimming beyond the end leaves nothing, and the next offset stays.
    catalog.trim_feed(trim(u64::MAX)).await.unwrap();
    let empty = read_to_now(&mut feeds, "f").await;
    assert_eq!(empty.gap_list(), [(0, 100, Some(100), GapReason::Trimmed)]);
    filled(&mut feeds, "f", 1).await;
    live.read_to(101).await;
    assert_eq!(live.ledger().gap_list(), []);

    let delete = DeleteFeedRequest { name: "f".into() };
    catalog.delete_feed(delete).await.unwrap();
    let ended = live.read_out().await.unwrap_err();
    assert_eq!(ended.code(), Code::NotFound);
    assert_eq!(reason(&ended), "FEED_DELETED");

    filled(&mut feeds, "f", 5).await;
    let old = before.epoch.unwrap();
    for offset in [0, 3, 77] {
        let cursor = From::Cursor(Cursor {
            feed: "f".into(),
            epoch: old,
            offset,
        });
        let request = one("f", cursor, Some(NOW));
        let mut anew = Follow::open(&mut feeds, request).await.unwrap();
        anew.read_out().await.unwrap();
        let gap = (offset, offset, None, GapReason::EpochChanged);
        assert_eq!(anew.ledger().gap_list(), [gap]);
        assert_eq!(anew.ledger().gaps[0].epoch, old);
        assert_eq!(anew.ledger().gaps[0].oldest.as_ref().unwrap().offset, 0);
        assert_eq!(anew.ledger().records.len(), 5);
        assert!(anew.ledger().epoch.unwrap() > old);
    }
}

#[tokio::test]
async fn a_place_that_never_was_is_a_gap_and_no_error() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 5).await;
    let epoch = read_to_now(&mut feeds, "f").await.epoch.unwrap();
    let cursor = |epoch, offset| {
        From::Cursor(Cursor {
            feed: "f".into(),
            epoch,
            offset,
        })
    };
    let places = [
        From::Offset(6),
        From::Offset(u64::MAX),
        cursor(epoch, 6),
        cursor(epoch - 1, 2),
        cursor(epoch + 1, 2),
        cursor(u64::MAX, u64::MAX),
    ];
    for place in places {
        let request = one("f", place.clone(), Some(NOW));
        let mut follow = Follow::open(&mut feeds, request).await.unwrap();
        follow.read_out().await.unwrap();
        let reasons: Vec<_> = follow.ledger().gaps.iter().map(v1::Gap::reason).collect();
        assert_eq!(reasons, [GapReason::EpochChanged], "{place:?}");
        assert_eq!(follow.ledger().records.len(), 5, "{place:?}");
    }
}

#[tokio::test]
async fn a_token_before_a_gap_was_told_still_tells_it() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 5).await;
    filled(&mut feeds, "g", 5).await;
    // The first selector is at its tail at once, before the second one can say anything.
    let foreign = From::Cursor(Cursor {
        feed: "g".into(),
        epoch: 1,
        offset: 3,
    });
    let request = SubscribeRequest {
        selectors: vec![
            selector("f", From::New(v1::New {}), None),
            selector("g", foreign, None),
        ],
        ..SubscribeRequest::default()
    };
    let mut follow = Follow::open(&mut feeds, request).await.unwrap();
    follow.read_until(|l| !l[0].caught_up.is_empty()).await;
    assert_eq!(follow.ledgers[1].gaps.len(), 0, "the token came first");
    let token = follow.ledgers[0].caught_up[0].resume_token.clone();
    let request = SubscribeRequest {
        resume_token: token,
        ..SubscribeRequest::default()
    };
    let mut resumed = Follow::open(&mut feeds, request).await.unwrap();
    resumed.ledgers.push(crate::harness::Ledger::default());
    resumed.read_until(|l| l[1].next == Some(5)).await;
    let gaps = resumed.ledgers[1].gap_list();
    assert_eq!(gaps, [(3, 3, None, GapReason::EpochChanged)]);
}

#[tokio::test]
async fn large_and_small_records_share_responses_of_bounded_size() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    // Whatever the mix, the ledger checks every response's size.
    let mut records = vec![];
    for n in 0..6_000_u64 {
        records.push(match n % 500 {
            0..400 => number("s", n),
            400..499 => text("t", n, &"x".repeat(4_000)),
            _ => vector("v", n, 1_020),
        });
    }
    for part in records.chunks(200) {
        upload(&mut feeds, vec![plain("f", part.to_vec())])
            .await
            .unwrap();
    }
    let all = read_to_now(&mut feeds, "f").await;
    assert_eq!(all.records.len(), 6_000);
    let server = server.restart().await;
    let from_disk = read_to_now(&mut server.feeds().await, "f").await;
    assert_eq!(from_disk.records, all.records);
}

#[tokio::test]
async fn start_is_where_the_proto_says_it_is() {
    // A start without a case is a mistake, not NEW.
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 1).await;
    let mut empty = one("f", earliest(), None);
    empty.selectors[0].start = Some(Start { from: None });
    let refused = Follow::open(&mut feeds, empty).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}
