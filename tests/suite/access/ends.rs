//! How streams end whose caller is none any more, or whose deadline passes: what is ready comes,
//! then where to go on, then why; what was acknowledged stays, what was not is not claimed.

use std::time::{Duration, SystemTime};

use ringfeed::{
    layers::Validity,
    proto::v1::{
        Earliest, PublishBatch, PublishHello, PublishRequest, SessionHello, SessionRequest,
        SessionResponse, SetSelector, SubscribeRequest, SubscribeResponse,
        publish_request::Command as Say, publish_response::Event as Told, session_request::Command,
        session_response::Event as Said, start::From, subscribe_response::Event,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use super::{Bed, Feeds, of_feed, upload};
use crate::harness::{number, number_of, numbered, plain, progress, reason, stored, until, within};

const SCOPES: &[&str] = &["subscribe:f", "ingest:f"];

/// What ends a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Revoked,
    Expired,
    Deadline,
}

const CAUSES: [Cause; 3] = [Cause::Revoked, Cause::Expired, Cause::Deadline];

impl Cause {
    /// A client of "me" whose streams end soon; by a revocation when it is cancelled.
    fn client(self, bed: &Bed) -> (Feeds, CancellationToken) {
        let soon = Duration::from_millis(300);
        match self {
            Self::Revoked => {
                let revoked = bed.knows_until("me", SCOPES);
                (bed.feeds("me"), revoked)
            }
            Self::Expired => {
                let validity = Validity {
                    expires: Some(SystemTime::now() + soon),
                    revoked: None,
                };
                bed.knows_for("me", SCOPES, validity);
                (bed.feeds("me"), CancellationToken::new())
            }
            Self::Deadline => {
                bed.knows("me", SCOPES);
                (bed.feeds_within("me", soon), CancellationToken::new())
            }
        }
    }

    #[track_caller]
    fn check(self, status: &Status) {
        let expected = match self {
            Self::Revoked => (Code::Unauthenticated, "TOKEN_REVOKED"),
            Self::Expired => (Code::Unauthenticated, "TOKEN_EXPIRED"),
            Self::Deadline => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        };
        assert_eq!((status.code(), reason(status).as_str()), expected);
    }
}

async fn store(bed: &Bed, numbers: std::ops::Range<u64>) {
    let records = numbers.map(|n| number("k", n)).collect();
    upload(&mut bed.feeds("root"), vec![plain("f", records)])
        .await
        .unwrap();
}

fn tail(bed: &Bed) -> u64 {
    bed.hub.feed(&"f".parse().unwrap()).unwrap().bounds().tail
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
    for (cause, of_session) in CAUSES.into_iter().flat_map(|c| [(c, false), (c, true)]) {
        let bed = Bed::with(&["f"]).await;
        store(&bed, 0..100).await;
        let (feeds, revoked) = cause.client(&bed);
        let mut reader = Reader::open(of_session, feeds, None).await;
        let mut numbers = vec![];
        if cause == Cause::Revoked {
            reader.read(&mut numbers, 100).await.unwrap();
            store(&bed, 100..200).await;
            revoked.cancel();
        }
        let (token, status) = reader.read_to_end(&mut numbers).await;
        cause.check(&status);
        store(&bed, tail(&bed)..300).await;
        // The token is that of the principal, not of what it called itself by.
        bed.knows("me", SCOPES);
        let mut reader = Reader::open(of_session, bed.feeds("me"), Some(&token)).await;
        reader.read(&mut numbers, 300).await.unwrap();
        let expected: Vec<_> = (0..300).collect();
        assert_eq!(numbers, expected, "{cause:?} of a session: {of_session}");
    }
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
async fn read_back(bed: &Bed) -> Vec<u64> {
    let mut reader = Reader::open(false, bed.feeds("root"), None).await;
    let mut numbers = vec![];
    let until = usize::try_from(tail(bed)).unwrap();
    reader.read(&mut numbers, until).await.unwrap();
    numbers
}

#[tokio::test]
async fn an_upload_says_how_far_it_came_and_goes_on_from_there() {
    for cause in CAUSES {
        let bed = Bed::with(&["f"]).await;
        let (mut feeds, revoked) = cause.client(&bed);
        let (batches, requests) = mpsc::channel(4);
        let sending = tokio::spawn(keep_sending(batches, |first| {
            numbered("f", "p", first, ten(first))
        }));
        let uploading = tokio::spawn(async move {
            let answer = feeds.ingest(ReceiverStream::new(requests)).await;
            answer.unwrap_err()
        });
        if cause == Cause::Revoked {
            until("some records", async || tail(&bed) > 50).await;
            revoked.cancel();
        }
        let status = within("the end", uploading).await.unwrap();
        cause.check(&status);
        within("the sender", sending).await.unwrap();
        let through = progress(&status).unwrap();
        let (stored, through) = (through.stored, through.stored_through_sequence.unwrap_or(0));
        let expected: Vec<_> = (1..=through).collect();
        assert_eq!(read_back(&bed).await, expected, "{cause:?}");
        assert_eq!(stored, through);
        bed.knows("me", SCOPES);
        let rest = vec![numbered("f", "p", through + 1, ten(through + 1))];
        let answer = upload(&mut bed.feeds("me"), rest).await.unwrap();
        assert_eq!((answer.stored, answer.duplicates), (10, 0));
    }
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
    for cause in CAUSES {
        let bed = Bed::with(&["f"]).await;
        let (mut feeds, revoked) = cause.client(&bed);
        let (commands, requests) = mpsc::channel(4);
        commands.send(hello()).await.unwrap();
        let opened = feeds.publish(ReceiverStream::new(requests));
        let mut answers = within("a device", opened).await.unwrap().into_inner();
        let sending = tokio::spawn(keep_sending(commands, batch));
        let mut acked = 0;
        let status = loop {
            match within("an answer", answers.message()).await {
                Ok(Some(answer)) => {
                    if let Some(Told::Ack(ack)) = answer.event {
                        assert_eq!(ack.sequence, acked + 10);
                        acked = ack.sequence;
                    }
                }
                Ok(None) => panic!("it ended by itself"),
                Err(status) => break status,
            }
            if cause == Cause::Revoked && acked >= 50 {
                revoked.cancel();
            }
        };
        cause.check(&status);
        drop(answers);
        within("the sender", sending).await.unwrap();
        // What was acknowledged is there, and nothing else is.
        let expected: Vec<_> = (1..=acked).collect();
        assert_eq!(read_back(&bed).await, expected, "{cause:?}");
        bed.knows("me", SCOPES);
        let more = tokio_stream::iter(vec![hello()]);
        let welcome = bed.feeds("me").publish(more).await.unwrap();
        let welcome = welcome.into_inner().message().await.unwrap().unwrap();
        let Some(Told::Welcome(welcome)) = welcome.event else {
            panic!("{welcome:?}");
        };
        let next = (acked > 0).then_some(acked + 1);
        assert_eq!(welcome.next_sequence, next, "{cause:?}");
    }
}
