//! How streams end whose caller is none any more, or whose deadline passes: what is ready comes,
//! then where to go on, then why; what was acknowledged stays, what was not is not claimed.

use std::time::{Duration, Instant};

use ringfeed::{
    layers::RPCS,
    proto::v1::{
        Earliest, PublishBatch, PublishHello, PublishRequest, SessionHello, SessionRequest,
        SessionResponse, SetSelector, SubscribeRequest, SubscribeResponse,
        publish_request::Command as Say, publish_response::Event as Told, session_request::Command,
        session_response::Event as Said, start::From, subscribe_response::Event,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{
    Feeds, Wire, of_feed,
    place::{CAUSES, Cause, Place, places},
    raw::outcome,
    upload,
};
use crate::harness::{Server, number, number_of, numbered, plain, progress, stored, until, within};

async fn store(place: &Place, numbers: std::ops::Range<u64>) {
    let records = numbers.map(|n| number("k", n)).collect();
    upload(&mut place.root(), vec![plain("f", records)])
        .await
        .unwrap();
}

/// Runs a case for each cause, in each place, all at the same time.
async fn each(case: impl AsyncFn(Place, Cause)) {
    let cases = CAUSES.map(async |cause| {
        let [here, there] = places().await;
        futures_util::join!(case(here, cause), case(there, cause));
    });
    futures_util::future::join_all(cases).await;
}

/// A reader of Subscribe or Session, with what it was told.
enum Reader {
    Subscribe(Streaming<SubscribeResponse>),
    /// Its client has not said that it is done.
    Session {
        stream: Streaming<SessionResponse>,
        _commands: mpsc::Sender<SessionRequest>,
    },
}

impl Reader {
    /// Reads the feed from its beginning, or from where a token says.
    async fn open(of_session: bool, mut feeds: Feeds, token: Option<&str>) -> Self {
        let selector = of_feed("f", From::Earliest(Earliest {}));
        if !of_session {
            let request = SubscribeRequest {
                selectors: token.is_none().then_some(selector).into_iter().collect(),
                resume_token: token.unwrap_or_default().into(),
                ..SubscribeRequest::default()
            };
            let opened = within("a subscription", feeds.subscribe(request)).await;
            return Self::Subscribe(opened.unwrap().into_inner());
        }
        let (commands, requests) = mpsc::channel(4);
        let command = match token {
            Some(token) => Command::Hello(SessionHello {
                resume_token: token.into(),
                ..SessionHello::default()
            }),
            None => Command::Set(SetSelector {
                selector_id: 1,
                selector: Some(selector),
            }),
        };
        let request = SessionRequest {
            request_id: 1,
            command: Some(command),
        };
        commands.send(request).await.unwrap();
        let opened = within("a session", feeds.session(ReceiverStream::new(requests))).await;
        Self::Session {
            stream: opened.unwrap().into_inner(),
            _commands: commands,
        }
    }

    async fn next(&mut self) -> Result<Option<Event>, Status> {
        match self {
            Self::Subscribe(stream) => {
                let next = within("a response", stream.message()).await?;
                Ok(next.map(|response| response.event.unwrap()))
            }
            Self::Session { stream, .. } => loop {
                match within("a response", stream.message())
                    .await?
                    .map(|s| s.event.unwrap())
                {
                    Some(Said::Answer(answer)) => assert_eq!(answer.reason, ""),
                    Some(Said::Response(response)) => return Ok(response.event),
                    Some(Said::Ended(ended)) => panic!("{ended:?}"),
                    None => return Ok(None),
                }
            },
        }
    }

    /// Notes records, until there are so many or the stream ends.
    async fn read(&mut self, numbers: &mut Vec<u64>, until: usize) -> Result<Vec<Event>, Status> {
        let mut others = vec![];
        while numbers.len() < until {
            match self.next().await? {
                Some(Event::Records(batch)) => {
                    let records = batch.records.iter().map(|bytes| number_of(&stored(bytes)));
                    numbers.extend(records);
                }
                Some(event) => others.push(event),
                None => panic!("it ended by itself"),
            }
        }
        Ok(others)
    }

    /// Notes records to the end: the token that came last, and why it ended.
    async fn read_to_end(&mut self, numbers: &mut Vec<u64>) -> (String, Status) {
        let mut last = None;
        loop {
            match self.next().await {
                Ok(Some(event)) => {
                    if let Event::Records(batch) = &event {
                        let records = batch.records.iter();
                        numbers.extend(records.map(|bytes| number_of(&stored(bytes))));
                    }
                    last = Some(event);
                }
                Ok(None) => panic!("it ended by itself"),
                Err(status) => match last {
                    Some(Event::Reconnect(reconnect)) => return (reconnect.resume_token, status),
                    other => panic!("{status:?} after {other:?}"),
                },
            }
        }
    }
}

#[tokio::test]
async fn a_reader_goes_on_with_a_new_token_where_the_old_one_ended() {
    each(async |place, cause| read_on(false, place, cause).await).await;
}

#[tokio::test]
async fn a_session_goes_on_with_a_new_token_where_the_old_one_ended() {
    each(async |place, cause| read_on(true, place, cause).await).await;
}

async fn read_on(of_session: bool, place: Place, cause: Cause) {
    store(&place, 0..100).await;
    let brief = place.brief(cause).await;
    let mut reader = Reader::open(of_session, brief.feeds.clone(), None).await;
    let mut numbers = vec![];
    if cause == Cause::Revoked {
        reader.read(&mut numbers, 100).await.unwrap();
        store(&place, 100..200).await;
        brief.revoke().await;
    }
    // Heartbeats would go on for ever.
    let (token, status) = within("the end", reader.read_to_end(&mut numbers)).await;
    brief.check(&status);
    store(&place, place.tail().await..300).await;
    // The resume token is that of the principal, not of what it called itself by.
    let mut reader = Reader::open(of_session, place.me().await, Some(&token)).await;
    reader.read(&mut numbers, 300).await.unwrap();
    let expected: Vec<_> = (0..300).collect();
    assert_eq!(numbers, expected, "{cause:?}");
}

/// Sends batches of ten numbered records until the stream is gone.
async fn keep_sending<T>(batches: mpsc::Sender<T>, batch: impl Fn(u64) -> T) {
    for first in (1..).step_by(10) {
        if batches.send(batch(first)).await.is_err() {
            return;
        }
    }
}

fn ten(first: u64) -> Vec<bytes::Bytes> {
    (first..first + 10).map(|n| number("k", n)).collect()
}

/// What is stored, all of it.
async fn read_back(place: &Place) -> Vec<u64> {
    let mut reader = Reader::open(false, place.root(), None).await;
    let mut numbers = vec![];
    let until = usize::try_from(place.tail().await).unwrap();
    reader.read(&mut numbers, until).await.unwrap();
    numbers
}

#[tokio::test]
async fn an_upload_says_how_far_it_came_and_goes_on_from_there() {
    each(upload_until).await;
}

async fn upload_until(place: Place, cause: Cause) {
    let brief = place.brief(cause).await;
    let (batches, requests) = mpsc::channel(4);
    let sending = tokio::spawn(keep_sending(batches, |first| {
        numbered("f", "p", first, ten(first))
    }));
    let mut feeds = brief.feeds.clone();
    let uploading = tokio::spawn(async move {
        let answer = feeds.ingest(ReceiverStream::new(requests)).await;
        answer.unwrap_err()
    });
    if cause == Cause::Revoked {
        until("some records", async || place.tail().await > 50).await;
        brief.revoke().await;
    }
    let status = within("the end", uploading).await.unwrap();
    brief.check(&status);
    within("the sender", sending).await.unwrap();
    let through = progress(&status).unwrap();
    let (stored, through) = (through.stored, through.stored_through_sequence.unwrap_or(0));
    let expected: Vec<_> = (1..=through).collect();
    assert_eq!(read_back(&place).await, expected, "{cause:?}");
    assert_eq!(stored, through);
    let rest = vec![numbered("f", "p", through + 1, ten(through + 1))];
    let answer = upload(&mut place.me().await, rest).await.unwrap();
    assert_eq!((answer.stored, answer.duplicates), (10, 0));
}

fn hello() -> PublishRequest {
    let hello = PublishHello {
        feed: "f".into(),
        producer: "p".into(),
        instance: vec![7].into(),
        will: None,
    };
    PublishRequest {
        command: Some(Say::Hello(hello)),
    }
}

fn batch(first: u64) -> PublishRequest {
    let batch = PublishBatch {
        first_sequence: first,
        records: ten(first),
        ..PublishBatch::default()
    };
    PublishRequest {
        command: Some(Say::Batch(batch)),
    }
}

#[tokio::test]
async fn a_device_hears_of_all_that_is_durable_before_its_stream_ends() {
    each(async |place, cause| within("the end", publish_until(place, cause)).await).await;
}

async fn publish_until(place: Place, cause: Cause) {
    let brief = place.brief(cause).await;
    let (commands, requests) = mpsc::channel(16);
    commands.send(hello()).await.unwrap();
    // So many at the same time, which is less than a device may send without credit.
    let mut batches = (1..).step_by(10).map(batch);
    for batch in batches.by_ref().take(8) {
        commands.send(batch).await.unwrap();
    }
    let mut feeds = brief.feeds.clone();
    let opened = feeds.publish(ReceiverStream::new(requests));
    let mut answers = within("a device", opened).await.unwrap().into_inner();
    let (mut acked, mut is_revoked) = (0, cause != Cause::Revoked);
    let status = loop {
        match within("an answer", answers.message()).await {
            Ok(Some(answer)) => {
                if let Some(Told::Ack(ack)) = answer.event {
                    assert_eq!(ack.sequence, acked + 10);
                    acked = ack.sequence;
                    // It may be over already.
                    drop(commands.send(batches.next().unwrap()).await);
                }
            }
            Ok(None) => panic!("it ended by itself"),
            Err(status) => break status,
        }
        if !is_revoked && acked >= 50 {
            is_revoked = true;
            brief.revoke().await;
        }
    };
    brief.check(&status);
    // What was acknowledged is there, and nothing else is.
    let expected: Vec<_> = (1..=acked).collect();
    assert_eq!(read_back(&place).await, expected, "{cause:?}");
    let more = tokio_stream::iter(vec![hello()]);
    let welcome = place.me().await.publish(more).await.unwrap();
    let welcome = welcome.into_inner().message().await.unwrap().unwrap();
    let Some(Told::Welcome(welcome)) = welcome.event else {
        panic!("{welcome:?}");
    };
    let next = (acked > 0).then_some(acked + 1);
    assert_eq!(welcome.next_sequence, next, "{cause:?}");
}

/// So that only the deadline can end it.
#[tokio::test]
async fn a_unary_call_whose_message_does_not_come_is_answered_at_its_deadline() {
    let server = Server::start().await;
    let wire = Wire::to(server.address()).await;
    let unary = RPCS.iter().filter(|rpc| !rpc.is_stream());
    let calls = unary.map(async |rpc| {
        let started = Instant::now();
        let headers = vec![("grpc-timeout", "200m".to_owned())];
        let never = tokio_stream::pending();
        let (code, reason) = outcome(wire.clone(), rpc.path, never, headers).await;
        let came_to = (code, reason.as_str());
        let expected = (Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        assert_eq!(came_to, expected, "{}", rpc.name);
        assert!(started.elapsed() >= Duration::from_millis(200));
    });
    futures_util::future::join_all(calls).await;
}
