use prost::Message as _;

use super::*;
use crate::client::{
    fake::{Dialogue, Fake, Reply},
    record_offset,
};

const EPOCH: u64 = 7;

fn say(selector: u32, event: Wire) -> Reply {
    Reply::Say(Box::new(v1::SubscribeResponse {
        selector,
        event: Some(event),
        ..v1::SubscribeResponse::default()
    }))
}

fn batch(selector: u32, from: u64, to: u64) -> Reply {
    let record = |offset| {
        let record = v1::Record {
            key: "k".to_owned(),
            offset,
            ..v1::Record::default()
        };
        record.encode_to_vec().into()
    };
    let records = v1::RecordBatch {
        feed: "f".to_owned(),
        epoch: EPOCH,
        covers: Some(v1::OffsetRange { from, to }),
        count: u32::try_from(to - from).unwrap(),
        cursor: None,
        records: (from..to).map(record).collect(),
    };
    say(selector, Wire::Records(records))
}

fn place(offset: u64) -> v1::Cursor {
    v1::Cursor {
        feed: "f".to_owned(),
        epoch: EPOCH,
        offset,
    }
}

fn token(selector: u32, next: u64, token: &str) -> Reply {
    let caught_up = v1::CaughtUp {
        next: Some(place(next)),
        resume_token: token.to_owned(),
    };
    say(selector, Wire::CaughtUp(caught_up))
}

fn cut() -> Reply {
    Reply::Fail(Status::unavailable("cut"))
}

fn named() -> v1::Selector {
    v1::Selector {
        feed: "f".to_owned(),
        ..v1::Selector::default()
    }
}

fn globbed() -> v1::Selector {
    v1::Selector {
        feed_globs: vec!["f*".to_owned()],
        ..v1::Selector::default()
    }
}

async fn session(fake: &Fake, dialogues: Vec<Dialogue>) -> Session {
    *fake.sessions.lock() = dialogues.into();
    let hello = v1::SessionHello {
        subscriber: "me".to_owned(),
        ..v1::SessionHello::default()
    };
    Session::new(fake.start().await, hello, RetryOptions::default())
}

/// The selectors and offsets of the next records.
async fn records(session: &mut Session) -> Vec<(u32, u64)> {
    loop {
        match session.next().await.unwrap() {
            Event::Records {
                selector, records, ..
            } => {
                let offsets = records.iter().filter_map(|record| record_offset(record));
                return offsets.map(|offset| (selector, offset)).collect();
            }
            Event::SelectorEnded { selector, .. } => return vec![(selector, u64::MAX)],
            Event::CaughtUp { .. } | Event::Disconnected { .. } => {}
            other @ (Event::Gap { .. }
            | Event::Heartbeat { .. }
            | Event::KeyInfo(_)
            | Event::Bars { .. }
            | Event::Snapshot { .. }
            | Event::SnapshotComplete { .. }
            | Event::ModeChanged { .. }
            | Event::Narrowed { .. }) => panic!("not expected: {other:?}"),
        }
    }
}

/// What a session was told, in a few words.
fn told(fake: &Fake, index: usize) -> Vec<String> {
    let commands = fake.commands.lock();
    let text = |request: &v1::SessionRequest| match request.command.as_ref().unwrap() {
        Command::Hello(hello) => format!("hello {}", hello.resume_token),
        Command::Set(set) => {
            let start = set.selector.as_ref().unwrap().start.clone();
            match start.and_then(|start| start.from) {
                Some(v1::start::From::Cursor(at)) => {
                    format!("set {} at {}", set.selector_id, at.offset)
                }
                _ => format!("set {}", set.selector_id),
            }
        }
        Command::Remove(remove) => format!("remove {}", remove.selector_id),
        Command::Change(change) => format!("change {}", change.selector_id),
        Command::Acknowledge(acknowledge) => {
            let at = acknowledge.cursor.as_ref().unwrap();
            format!("acknowledge {} {}", at.feed, at.offset)
        }
    };
    commands[index].iter().map(text).collect()
}

#[tokio::test]
async fn commands_return_when_they_are_answered_and_what_came_before_is_kept() {
    let fake = Fake::default();
    let dialogue = vec![
        vec![Reply::Done],
        vec![Reply::Done, batch(3, 0, 2)],
        vec![batch(3, 2, 4), Reply::Refused("UNKNOWN_FEED")],
        vec![batch(3, 4, 5), Reply::Done, batch(3, 40, 41)],
        vec![Reply::Done],
        vec![Reply::Done],
        vec![Reply::Done],
    ];
    let mut session = session(&fake, vec![dialogue]).await;
    session.add(3, named()).await.unwrap();
    assert!(session.add(3, named()).await.is_err(), "the id is taken");
    let refused = session.add(4, named()).await.unwrap_err();
    assert!(
        matches!(&refused, SubscribeError::Refused { reason, .. } if reason == "UNKNOWN_FEED"),
        "{refused:?}"
    );
    session.replace(3, named()).await.unwrap();
    for expected in [vec![0, 1], vec![2, 3], vec![4], vec![40]] {
        let expected: Vec<_> = expected.into_iter().map(|offset| (3, offset)).collect();
        assert_eq!(records(&mut session).await, expected);
    }
    let conflate = v1::Fidelity {
        view: Some(v1::fidelity::View::Conflate(v1::Conflate::default())),
    };
    session.change(3, Some(conflate), None).await.unwrap();
    assert_eq!(session.selectors()[&3].fidelity, Some(conflate));
    let processed = Cursor {
        epoch: EPOCH,
        offset: 41,
    };
    session.acknowledge(3, "f", processed).await.unwrap();
    assert_eq!(session.ledger().lanes().count(), 1);
    session.remove(3).await.unwrap();
    assert_eq!(session.ledger().lanes().count(), 0);
    let expected = [
        "hello ",
        "set 3",
        "set 4",
        "set 3",
        "change 3",
        "acknowledge f 41",
        "remove 3",
    ];
    assert_eq!(told(&fake, 0), expected);
}

#[tokio::test]
async fn a_cut_session_goes_on_with_its_selectors_where_they_were() {
    let fake = Fake::default();
    let dialogues = vec![
        vec![
            vec![Reply::Done],
            vec![Reply::Done, batch(1, 0, 3)],
            vec![Reply::Done, token(2, 9, "t"), batch(2, 9, 10), cut()],
        ],
        vec![
            vec![Reply::Done],
            vec![Reply::Done, batch(1, 3, 4)],
            vec![Reply::Done, batch(2, 10, 11)],
        ],
    ];
    let mut session = session(&fake, dialogues).await;
    session.add(1, named()).await.unwrap();
    session.add(2, named()).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.extend(records(&mut session).await);
    }
    let expected = [(1, 0), (1, 1), (1, 2), (2, 9), (1, 3), (2, 10)];
    assert_eq!(seen, expected);
    let again = ["hello ", "set 1 at 3", "set 2 at 10"];
    assert_eq!(told(&fake, 1), again, "own cursors say it all");
}

#[tokio::test]
async fn by_a_token_what_changed_since_is_put_right() {
    let fake = Fake::default();
    let dialogues = vec![
        vec![
            vec![Reply::Done],
            vec![Reply::Done, token(1, 5, "t"), batch(1, 5, 7)],
            vec![Reply::Done, batch(2, 0, 3)],
            vec![Reply::Done],
            vec![Reply::Done, cut()],
        ],
        vec![
            // The token knows 1 where it was, and 3; 2 is set anew.
            vec![batch(3, 1, 2), Reply::Done, batch(1, 5, 8)],
            vec![batch(2, 0, 1), Reply::Done, batch(2, 3, 4)],
            vec![batch(3, 2, 3), Reply::Refused("UNKNOWN_SELECTOR")],
        ],
    ];
    let mut session = session(&fake, dialogues).await;
    session.add(1, globbed()).await.unwrap();
    session.add(2, named()).await.unwrap();
    session.add(3, named()).await.unwrap();
    session.remove(3).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.extend(records(&mut session).await);
    }
    let expected = [(1, 5), (1, 6), (2, 0), (2, 1), (2, 2), (1, 7), (2, 3)];
    assert_eq!(seen, expected, "nothing twice, and nothing of 3");
    assert_eq!(told(&fake, 1), ["hello t", "set 2 at 3", "remove 3"]);
}

#[tokio::test]
async fn what_a_token_knows_from_before_a_snapshot_or_an_epoch_is_put_right() {
    let fake = Fake::default();
    let complete = v1::SnapshotComplete {
        as_of: Some(place(5)),
    };
    let changed = v1::Gap {
        feed: "f".to_owned(),
        epoch: EPOCH - 1,
        from: 3,
        to: 3,
        count: None,
        reason: v1::GapReason::EpochChanged.into(),
        oldest: Some(place(2)),
    };
    let dialogues = vec![
        vec![
            vec![Reply::Done],
            vec![Reply::Done, token(1, 9, "t")],
            vec![Reply::Done],
            vec![
                Reply::Done,
                token(1, 9, "t"),
                say(2, Wire::SnapshotComplete(complete)),
                batch(2, 5, 6),
                say(3, Wire::Gap(changed)),
                batch(3, 2, 4),
                cut(),
            ],
        ],
        vec![
            vec![Reply::Done, batch(1, 9, 10)],
            vec![Reply::Done, batch(2, 6, 7)],
            vec![Reply::Done, batch(3, 4, 5)],
        ],
    ];
    let mut session = session(&fake, dialogues).await;
    let from = Some(v1::start::From::Snapshot(v1::SnapshotStart {}));
    session.add(1, globbed()).await.unwrap();
    let snapshot = v1::Selector {
        start: Some(v1::Start { from }),
        ..named()
    };
    session.add(2, snapshot).await.unwrap();
    session.add(3, named()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 6 {
        if let Event::Records {
            selector, records, ..
        } = session.next().await.unwrap()
        {
            let offsets = records.iter().filter_map(|record| record_offset(record));
            seen.extend(offsets.map(|offset| (selector, offset)));
        }
    }
    assert_eq!(seen, [(2, 5), (3, 2), (3, 3), (1, 9), (2, 6), (3, 4)]);
    assert_eq!(told(&fake, 1), ["hello t", "set 2 at 6", "set 3 at 4"]);
}

#[tokio::test]
async fn a_command_that_was_not_answered_is_sent_again() {
    let fake = Fake::default();
    let dialogues = vec![
        vec![vec![Reply::Done], vec![cut()]],
        vec![vec![Reply::Done], vec![Reply::Done, batch(1, 0, 1)]],
    ];
    let mut session = session(&fake, dialogues).await;
    session.add(1, named()).await.unwrap();
    assert_eq!(records(&mut session).await, [(1, 0)]);
    assert_eq!(told(&fake, 1), ["hello ", "set 1"]);
}

#[tokio::test]
async fn a_selector_that_ended_or_cannot_come_back_is_told_of_and_gone() {
    let fake = Fake::default();
    let dialogues = vec![
        vec![
            vec![Reply::Done],
            vec![Reply::Done],
            vec![Reply::Done, Reply::Ended(1), cut()],
        ],
        vec![
            vec![Reply::Done],
            vec![Reply::Refused("UNKNOWN_FEED"), cut()],
        ],
        vec![vec![Reply::Done, Reply::Done]],
    ];
    let mut session = session(&fake, dialogues).await;
    session.add(1, named()).await.unwrap();
    session.add(2, named()).await.unwrap();
    assert_eq!(records(&mut session).await, [(1, u64::MAX)]);
    assert_eq!(records(&mut session).await, [(2, u64::MAX)]);
    assert!(session.selectors().is_empty());
    assert_eq!(told(&fake, 1), ["hello ", "set 2"]);
}

#[tokio::test]
async fn globs_that_no_token_knows_of_cannot_go_on() {
    let fake = Fake::default();
    let dialogue = vec![vec![Reply::Done], vec![Reply::Done, batch(1, 0, 2), cut()]];
    let mut session = session(&fake, vec![dialogue]).await;
    session.add(1, globbed()).await.unwrap();
    assert_eq!(records(&mut session).await.len(), 2);
    let error = session.next().await.unwrap_err();
    assert!(matches!(error, SubscribeError::Status(_)), "{error:?}");
}

#[tokio::test]
async fn a_skip_ends_the_session() {
    let fake = Fake::default();
    let dialogue = vec![
        vec![Reply::Done],
        vec![Reply::Done, batch(1, 0, 2), batch(1, 3, 4)],
    ];
    let mut session = session(&fake, vec![dialogue]).await;
    session.add(1, named()).await.unwrap();
    assert_eq!(records(&mut session).await.len(), 2);
    let error = session.next().await.unwrap_err();
    assert!(matches!(error, SubscribeError::Broken(_)), "{error:?}");
    assert!(session.next().await.is_err());
}
