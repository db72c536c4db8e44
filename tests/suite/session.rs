//! Selectors that come, change and go on one stream, without a reconnect; commands are answered in
//! their order, and a bad one hurts nobody.

use std::time::Duration;

use bytes::Bytes;
use ringfeed::proto::v1::{
    self, DeleteFeedRequest, Earliest, End, GapReason, Now, Selector, SessionRequest,
    SessionResponse, SubscribeRequest, end::At, feed_service_client::FeedServiceClient,
    session_request::Command, session_response, start::From, subscribe_response::Event,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, codec::CompressionEncoding, transport::Channel};

use crate::harness::{
    Follow, Ledger, MIB, Server, Talk, acknowledge, feed_exists, hello, number, number_of, one,
    plain, reason, remove, set, upload, vector, within,
};

type Feeds = FeedServiceClient<Channel>;

const NOW: End = End {
    at: Some(At::Now(Now {})),
};

fn from(feed: &str, start: From) -> Selector {
    one(feed, start, None).selectors.remove(0)
}

fn earliest(feed: &str) -> Selector {
    from(feed, From::Earliest(Earliest {}))
}

async fn filled(feeds: &mut Feeds, feed: &str, range: std::ops::Range<u64>) {
    let key = |n: u64| ["a", "b", "c", "d"][(n % 4) as usize];
    let records: Vec<Bytes> = range.map(|n| number(key(n), n)).collect();
    upload(feeds, vec![plain(feed, records)]).await.unwrap();
}

fn change(selector_id: u32, fidelity: Option<v1::Fidelity>) -> Command {
    Command::Change(v1::ChangeSelector {
        selector_id,
        fidelity,
        slow_policy: None,
    })
}

fn full() -> Option<v1::Fidelity> {
    let view = Some(v1::fidelity::View::Full(v1::Full {}));
    Some(v1::Fidelity { view })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_changes_on_one_stream_and_bad_ones_among_them() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    for feed in ["f", "g", "h"] {
        filled(&mut feeds, feed, 0..100).await;
    }
    let mut talk = Talk::open(&mut server.feeds().await).await;
    // This one stays, and must have everything once.
    talk.done(set(1, earliest("f"))).await;
    let mut stored = 100;
    for n in 0..1_000_u64 {
        let id = 2 + u32::try_from(n % 20).unwrap();
        let feed = ["f", "g", "h"][(n % 3) as usize];
        // Without waiting for the answers of those before.
        let (command, expected) = match n % 10 {
            0..4 => (Some(set(id, earliest(feed))), ""),
            4 => (
                Some(set(id, from("unheard-of", From::Offset(0)))),
                "UNKNOWN_FEED",
            ),
            5 => (None, "INVALID_ARGUMENT"),
            6 => (Some(remove(999)), "UNKNOWN_SELECTOR"),
            7 => (Some(change(1, full())), ""),
            8 => (Some(acknowledge(1, "f", stored)), ""),
            _ => (Some(set(id, Selector::default())), "INVALID_ARGUMENT"),
        };
        let request = talk.send_as(command).await;
        if n % 10 == 9 {
            filled(&mut feeds, "f", stored..stored + 5).await;
            stored += 5;
        }
        if n % 25 == 24 {
            let answer = talk.answer(request).await;
            assert_eq!(answer.reason, expected, "{answer:?}");
        }
    }
    talk.read_until(|talk| talk.answers.len() == 1_001).await;
    for (n, answer) in (0..1_000_u64).zip(&talk.answers[1..]) {
        let expected = match n % 10 {
            4 => "UNKNOWN_FEED",
            5 | 9 => "INVALID_ARGUMENT",
            6 => "UNKNOWN_SELECTOR",
            _ => "",
        };
        assert_eq!(answer.reason, expected, "{n}: {answer:?}");
    }
    talk.read_to(1, "f", stored).await;
    let got: Vec<u64> = talk
        .ledger(1, "f")
        .decoded()
        .iter()
        .map(number_of)
        .collect();
    assert_eq!(got, (0..stored).collect::<Vec<_>>());
    assert_eq!(talk.ended, []);
}

#[tokio::test]
async fn a_command_that_makes_no_sense_is_answered_by_its_id() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 0..10).await;
    let mut talk = Talk::open(&mut server.feeds().await).await;
    talk.done(set(7, earliest("f"))).await;
    let bad_glob = Selector {
        key_globs: vec!["[".into()],
        ..earliest("f")
    };
    let missing = Command::Set(v1::SetSelector {
        selector_id: 8,
        selector: None,
    });
    let named = from("f", From::NamedCursor(v1::NamedCursor {}));
    let empty = v1::Fidelity { view: None };
    let nothing = Command::Acknowledge(v1::Acknowledge {
        selector_id: 7,
        cursor: None,
    });
    for (command, reason, says) in [
        (
            set(7, bad_glob),
            "INVALID_ARGUMENT",
            "set.selector.key_globs[0]",
        ),
        (missing, "INVALID_ARGUMENT", "set.selector"),
        (set(8, named), "INVALID_ARGUMENT", "set.selector.start"),
        (remove(8), "UNKNOWN_SELECTOR", "8"),
        (change(8, full()), "UNKNOWN_SELECTOR", "8"),
        (
            change(7, Some(empty)),
            "INVALID_ARGUMENT",
            "change.fidelity",
        ),
        (acknowledge(8, "f", 1), "UNKNOWN_SELECTOR", "8"),
        (
            acknowledge(7, "g", 1),
            "INVALID_ARGUMENT",
            "acknowledge.cursor.feed",
        ),
        (acknowledge(7, "f", 11), "INVALID_ARGUMENT", "cursor.offset"),
        (nothing, "INVALID_ARGUMENT", "acknowledge.cursor"),
        (hello("late", ""), "HELLO_TOO_LATE", "hello"),
    ] {
        let text = format!("{command:?}");
        let answer = talk.ask(command).await;
        assert_eq!(answer.reason, reason, "{text}: {answer:?}");
        assert!(answer.message.contains(says), "{text}: {answer:?}");
    }
    for id in 100..163 {
        talk.done(set(id, from("f", From::New(v1::New {})))).await;
    }
    let one_more = talk.ask(set(163, earliest("f"))).await;
    assert_eq!(one_more.reason, "SELECTOR_LIMIT");
    // The first one ran on through all of it.
    filled(&mut feeds, "f", 10..20).await;
    talk.read_to(7, "f", 20).await;
    assert_eq!(talk.ledger(7, "f").records.len(), 20);
}

#[tokio::test]
async fn a_message_that_is_none_ends_the_session() {
    let server = Server::start().await;
    let channel = server.channel().await;
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    // The generated client sends what it is given as another message of the API.
    let codec = tonic_prost::ProstCodec::<v1::IngestRequest, SessionResponse>::default();
    let broken = v1::IngestRequest {
        feed: "\u{7f}not a number".into(),
        ..v1::IngestRequest::default()
    };
    let path = http::uri::PathAndQuery::from_static("/ringfeed.v1.FeedService/Session");
    let request = tonic::Request::new(tokio_stream::iter([broken]));
    let opened = grpc.streaming(request, path, codec).await.unwrap();
    let mut stream = opened.into_inner();
    let ended = within("the end", stream.message()).await.unwrap_err();
    assert_eq!(ended.code(), Code::InvalidArgument);
    assert_eq!(reason(&ended), "INVALID_ARGUMENT");
}

#[tokio::test]
async fn selectors_begin_are_replaced_and_end_each_for_itself() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 0..100).await;
    filled(&mut feeds, "g", 0..100).await;
    let mut talk = Talk::open(&mut server.feeds().await).await;
    talk.done(set(5, earliest("f"))).await;
    talk.done(set(u32::MAX, from("g", From::Offset(90)))).await;
    talk.read_to(5, "f", 100).await;
    talk.read_to(u32::MAX, "g", 100).await;
    assert_eq!(talk.ledger(u32::MAX, "g").records.len(), 10);

    // Replaced: it begins anew, elsewhere. Its ledger is a new one from the answer on.
    let only_a = Selector {
        keys: vec!["a".into()],
        ..from("f", From::Offset(50))
    };
    talk.done(set(5, only_a)).await;
    talk.read_until(|talk| talk.next_of(5, "f") == Some(100))
        .await;
    let got: Vec<u64> = talk
        .ledger(5, "f")
        .decoded()
        .iter()
        .map(number_of)
        .collect();
    assert_eq!(got, (52..100).step_by(4).collect::<Vec<_>>());

    // Refused: the one before goes on.
    let refused = talk.ask(set(5, Selector::default())).await;
    assert_eq!(refused.reason, "INVALID_ARGUMENT");
    filled(&mut feeds, "f", 100..104).await;
    talk.read_until(|talk| talk.ledger(5, "f").records.len() == got.len() + 1)
        .await;

    // At its end, it says so.
    let until_now = Selector {
        end: Some(NOW),
        ..earliest("g")
    };
    talk.done(set(9, until_now)).await;
    talk.read_until(|talk| !talk.ended.is_empty()).await;
    assert_eq!(
        (talk.ended[0].selector_id, talk.ended[0].reason.as_str()),
        (9, "")
    );
    assert_eq!(talk.next_of(9, "g"), Some(100));

    // Removed, it says no more; the harness would see it.
    talk.done(remove(5)).await;
    filled(&mut feeds, "f", 104..108).await;
    filled(&mut feeds, "g", 100..104).await;
    talk.read_to(u32::MAX, "g", 104).await;
    assert_eq!(talk.ask(remove(5)).await.reason, "UNKNOWN_SELECTOR");
}

#[tokio::test]
async fn a_deleted_feed_ends_its_selector_and_no_other() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    feed_exists(&mut server.catalog().await, "f", 64 * MIB).await;
    let large: Vec<Bytes> = (0..100).map(|n| vector("k", n, 1_000)).collect();
    upload(&mut feeds, vec![plain("f", large); 30])
        .await
        .unwrap();
    filled(&mut feeds, "g", 0..10).await;
    let mut talk = Talk::open(&mut server.feeds().await).await;
    talk.done(set(1, earliest("f"))).await;
    talk.done(set(2, earliest("g"))).await;
    let name = "f".into();
    let mut catalog = server.catalog().await;
    catalog
        .delete_feed(DeleteFeedRequest { name })
        .await
        .unwrap();
    talk.read_until(|talk| !talk.ended.is_empty()).await;
    assert_eq!(talk.ended[0].selector_id, 1);
    assert_eq!(talk.ended[0].reason, "FEED_DELETED");
    // Nobody reads 24 MB in so short a time: the rest was told.
    let ledger = talk.ledger(1, "f");
    let gaps = ledger.gap_list();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!((gaps[0].1, gaps[0].3), (3_000, GapReason::Trimmed));
    assert_eq!(ledger.records.len() as u64, gaps[0].0);
    filled(&mut feeds, "g", 10..20).await;
    talk.read_to(2, "g", 20).await;
    assert_eq!(talk.ask(remove(1)).await.reason, "UNKNOWN_SELECTOR");
}

/// What is said of a selector after the answer is of the one that replaced it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_selector_is_not_told_of_the_one_that_replaced_it() {
    let server = Server::start().await;
    let (mut feeds, mut catalog) = (server.feeds().await, server.catalog().await);
    feed_exists(&mut catalog, "g", 64 * MIB).await;
    let mut talk = Talk::open(&mut server.feeds().await).await;
    let large: Vec<Bytes> = (0..100).map(|n| vector("k", n, 1_000)).collect();
    for round in 0..60 {
        upload(&mut feeds, vec![plain("d", large.clone()); 3])
            .await
            .unwrap();
        // More than is read at once: what happens now the session comes upon all together.
        talk.done(set(1, earliest("d"))).await;
        let name = "d".into();
        catalog
            .delete_feed(DeleteFeedRequest { name })
            .await
            .unwrap();
        let id = talk.send(set(1, earliest("g"))).await;
        assert_eq!(talk.answer(id).await.reason, "");
        filled(&mut feeds, "g", round..round + 1).await;
        talk.read_to(1, "g", round + 1).await;
    }
}

#[tokio::test]
async fn a_client_that_says_no_more_keeps_its_selectors_to_their_end() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 0..10).await;
    // Without a selector there is nothing to keep.
    let mut nothing = Talk::open(&mut server.feeds().await).await;
    nothing.close();
    nothing.read_out().await.unwrap();
    let mut talk = Talk::open(&mut server.feeds().await).await;
    let to = Selector {
        end: Some(End {
            at: Some(At::Offset(15)),
        }),
        ..earliest("f")
    };
    // Not answered yet when it closes.
    talk.send(set(3, to)).await;
    talk.close();
    talk.read_to(3, "f", 10).await;
    filled(&mut feeds, "f", 10..20).await;
    talk.read_out().await.unwrap();
    assert_eq!(talk.next_of(3, "f"), Some(15));
    assert_eq!(talk.ended.len(), 1);
}

#[tokio::test]
async fn a_token_of_a_session_is_good_for_both_and_keeps_its_ids() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 0..100).await;
    filled(&mut feeds, "g", 0..100).await;
    let mut talk = Talk::open(&mut server.feeds().await).await;
    talk.done(hello("board", "")).await;
    talk.done(set(40, earliest("f"))).await;
    let keyed = Selector {
        key_globs: vec!["[ab]".into()],
        ..earliest("g")
    };
    talk.done(set(41, keyed)).await;
    talk.read_until(|talk| {
        talk.ledgers
            .values()
            .filter(|l| !l.caught_up.is_empty())
            .count()
            == 2
    })
    .await;
    let token = talk.token.clone();
    drop(talk);
    filled(&mut feeds, "f", 100..110).await;
    filled(&mut feeds, "g", 100..110).await;
    let expected = [(100..110).collect(), vec![100, 101, 104, 105, 108, 109]];

    let server = server.restart().await;
    let mut session = Talk::resume(&mut server.feeds().await, &token, &[40, 41]).await;
    for (id, feed) in [(40, "f"), (41, "g")] {
        session.ledgers.insert((id, feed.into()), Ledger::from(100));
    }
    session
        .read_until(|talk| talk.ledgers.values().all(|l| l.next == Some(110)))
        .await;
    for ((id, feed), expected) in [(40, "f"), (41, "g")].into_iter().zip(&expected) {
        let got: Vec<u64> = session
            .ledger(id, feed)
            .decoded()
            .iter()
            .map(number_of)
            .collect();
        assert_eq!(&got, expected);
    }
    session.done(remove(41)).await;

    let mut feeds = server.feeds().await;
    let request = SubscribeRequest {
        resume_token: token,
        ..SubscribeRequest::default()
    };
    let opened = feeds.subscribe(request).await.unwrap();
    let mut stream = opened.into_inner();
    let mut got = [vec![], vec![]];
    while got != expected {
        let next = within("a response", stream.message())
            .await
            .unwrap()
            .unwrap();
        if let Some(Event::Records(batch)) = next.event {
            let records = batch.records.iter().map(crate::harness::stored);
            got[(next.selector - 40) as usize].extend(records.map(|r| number_of(&r)));
        }
    }

    // And the other way round.
    let mut follow = Follow::feed(&mut feeds.clone(), "f", From::Offset(0)).await;
    follow.read_until(|l| !l[0].caught_up.is_empty()).await;
    let token = follow.ledger().caught_up[0].resume_token.clone();
    let mut session = Talk::resume(&mut feeds, &token, &[0]).await;
    session.ledgers.insert((0, "f".into()), Ledger::from(110));
    filled(&mut feeds, "f", 110..111).await;
    session.read_to(0, "f", 111).await;
    let mut tampered = Talk::open(&mut feeds).await;
    let answer = tampered.ask(hello("", &token[..token.len() - 2])).await;
    assert_eq!(answer.reason, "INVALID_ARGUMENT");
    tampered.done(hello("", &token)).await;
}

#[tokio::test]
async fn a_stop_ends_a_session_with_a_token_that_loses_nothing() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 0..50).await;
    let mut talk = Talk::open(&mut server.feeds().await).await;
    talk.done(set(6, earliest("f"))).await;
    talk.read_to(6, "f", 50).await;
    server.terminate();
    talk.read_out().await.unwrap();
    let token = talk.reconnect.take().unwrap().resume_token;
    let server = server.sigterm_done().await.start().await;
    filled(&mut server.feeds().await, "f", 50..60).await;
    let mut again = Talk::resume(&mut server.feeds().await, &token, &[6]).await;
    again.ledgers.insert((6, "f".into()), Ledger::from(50));
    again.read_to(6, "f", 60).await;
    let scrape = server.scrape().await;
    let started = scrape.get("ringfeed_rpc_started_total", &["rpc=\"Session\""]);
    assert_eq!(started, 1.0);
}

/// Who sends commands and reads no answers is not read any more, and costs what is in the windows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_commands_is_bounded_and_answered_in_the_end() {
    const COMMANDS: u64 = 400_000;
    let server = Server::start().await;
    let (commands, requests) = mpsc::channel(16);
    let opened = server
        .feeds()
        .await
        .session(ReceiverStream::new(requests))
        .await;
    let mut stream = opened.unwrap().into_inner();
    let before = server.rss();
    let mut sent = 0;
    while sent < COMMANDS {
        let request = SessionRequest {
            request_id: sent,
            command: Some(remove(1)),
        };
        // How long nothing moves is no matter of the test: it is only not to wait for ever.
        let pause = Duration::from_secs(2);
        match tokio::time::timeout(pause, commands.send(request)).await {
            Ok(taken) => taken.unwrap(),
            Err(_stuck) => break,
        }
        sent += 1;
    }
    assert!(sent < COMMANDS, "everything was taken though no answer was");
    let grown = server.rss().saturating_sub(before);
    eprintln!("{sent} commands taken, {} KiB more in use", grown / 1024);
    assert!(grown < 16 * MIB, "{grown} bytes for {sent} commands");
    // Others are served.
    let mut feeds = server.feeds().await;
    filled(&mut feeds, "f", 0..10).await;
    let mut other = Talk::open(&mut feeds).await;
    other.done(set(1, earliest("f"))).await;
    other.read_to(1, "f", 10).await;
    drop(commands);
    for n in 0..sent {
        let next = within("an answer", stream.message())
            .await
            .unwrap()
            .unwrap();
        let Some(session_response::Event::Answer(answer)) = next.event else {
            panic!("not expected: {next:?}");
        };
        assert_eq!(
            (answer.request_id, answer.reason.as_str()),
            (n, "UNKNOWN_SELECTOR")
        );
    }
    assert!(within("the end", stream.message()).await.unwrap().is_none());
}

/// Everything a session says to some commands, but for heartbeats, and without tokens: they are
/// signed anew. By selector, as their turns may differ.
async fn transcript(feeds: &mut Feeds, commands: Vec<Command>) -> Vec<Vec<SessionResponse>> {
    let (send, requests) = mpsc::channel(64);
    let opened = feeds.session(ReceiverStream::new(requests)).await.unwrap();
    let mut stream = opened.into_inner();
    for (id, command) in (1..).zip(commands) {
        let request = SessionRequest {
            request_id: id,
            command: Some(command),
        };
        send.send(request).await.unwrap();
    }
    drop(send);
    let mut said = vec![vec![]; 8];
    while let Some(mut next) = within("an answer", stream.message()).await.unwrap() {
        let of = match next.event.as_mut().unwrap() {
            session_response::Event::Answer(_) => 0,
            session_response::Event::Ended(ended) => ended.selector_id,
            session_response::Event::Response(response) => {
                match response.event.as_mut().unwrap() {
                    Event::Heartbeat(_) => continue,
                    Event::CaughtUp(caught_up) => caught_up.resume_token.clear(),
                    _ => {}
                }
                response.selector
            }
        };
        said[of as usize].push(next);
    }
    said
}

#[tokio::test]
async fn shared_bytes_say_what_the_generated_session_says() {
    let server = Server::start().await;
    let mut raw = server.feeds().await;
    feed_exists(&mut server.catalog().await, "evicted", MIB).await;
    for n in 0..20 {
        filled(&mut raw, "small", n * 100..(n + 1) * 100).await;
    }
    let large: Vec<Bytes> = (0..300).map(|n| vector("k", n, 1_000)).collect();
    let parts = large
        .chunks(100)
        .map(|part| plain("evicted", part.to_vec()));
    upload(&mut raw, parts.collect()).await.unwrap();
    let ending = |selector: Selector| Selector {
        end: Some(NOW),
        ..selector
    };
    let some = Selector {
        keys: vec!["a".into()],
        ..earliest("small")
    };
    let single = Selector {
        end: Some(End {
            at: Some(At::Offset(1)),
        }),
        ..from("small", From::Offset(0))
    };
    let commands = || {
        vec![
            hello("", ""),
            set(1, ending(from("small", From::Offset(3)))),
            set(2, ending(some.clone())),
            set(3, Selector::default()),
            set(4, ending(from("evicted", From::Offset(0)))),
            set(5, single.clone()),
            remove(77),
        ]
    };
    let mut generated = server
        .feeds()
        .await
        .send_compressed(CompressionEncoding::Gzip);
    let heard = transcript(&mut raw, commands()).await;
    let specified = transcript(&mut generated, commands()).await;
    for (id, (heard, specified)) in heard.iter().zip(&specified).enumerate() {
        assert_eq!(heard.len(), specified.len(), "{id}");
        for pair in heard.iter().zip(specified) {
            assert_eq!(pair.0, pair.1, "{id}");
        }
    }
    let counts: Vec<usize> = heard.iter().map(Vec::len).collect();
    assert_eq!(counts[0], 7, "answers");
    for id in [1, 2, 4, 5] {
        assert!(counts[id] >= 2, "{counts:?}");
    }
}
