//! Calls through the services, bare or with everything around them, on one thread: so that what a
//! message allocates can be counted.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use bytes::{Buf as _, Bytes, BytesMut};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message;
use ringfeed::{
    hub::{Feed, Hub, HubOptions},
    layers::{
        AuthOptions, Authenticator, FeatureFlags, LoadLimits, NewToken, Peer, RateLimits, Rates,
        Security, TokenFile,
    },
    proto::v1::{
        self, publish_request::Command, publish_response, session_request, session_response,
        start::From, subscribe_response,
    },
    rpc::{Context, Services},
    server::Around,
    store::MemoryEngine,
};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, yield_now},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::ServiceExt as _;

use super::{append, records};

/// Records of a message.
const RECORDS: usize = 10;
const INGEST: &str = "/ringfeed.v1.FeedService/Ingest";
const PUBLISH: &str = "/ringfeed.v1.FeedService/Publish";
const SUBSCRIBE: &str = "/ringfeed.v1.FeedService/Subscribe";
const SESSION: &str = "/ringfeed.v1.FeedService/Session";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Layers {
    Off,
    On,
}

pub(crate) struct Bed {
    hub: Arc<Hub>,
    feed: Arc<Feed>,
    router: Router,
    bearer: String,
}

impl Bed {
    pub(crate) async fn new(layers: Layers) -> Self {
        let hub = Hub::open(Arc::new(MemoryEngine::new()), HubOptions::default()).unwrap();
        let name = "stocks".parse().unwrap();
        let feed = hub.create_feed(name, None, None).await.unwrap();
        let services = Services::new(Context {
            hub: Arc::clone(&hub),
            heartbeat: Duration::from_secs(600),
            publish_window: 1 << 20,
            stopping: CancellationToken::new(),
        });
        let routes = Routes::new(services.feed_service());
        let bare = routes.prepare().into_axum_router();
        let token = NewToken::make("me".into(), vec!["*:stocks".into()], None, None).unwrap();
        Self {
            hub,
            feed,
            bearer: format!("Bearer {}", token.text.reveal()),
            router: match layers {
                Layers::Off => bare,
                Layers::On => around(token).wrap(bare),
            },
        }
    }

    /// With so many messages on their way.
    fn call(&self, path: &str, messages: usize) -> Call {
        let (say, said) = mpsc::channel::<Bytes>(messages);
        // Each message comes alone, as it does from a device.
        let frames = ReceiverStream::new(said).then(|message| async {
            yield_now().await;
            Ok::<_, std::convert::Infallible>(Frame::data(message))
        });
        let mut request = http::Request::post(path)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", &self.bearer)
            .body(Body::new(StreamBody::new(frames)))
            .unwrap();
        request.extensions_mut().insert(Peer {
            address: "127.0.0.1:1".parse().unwrap(),
            security: Security::Plaintext,
            certificate: None,
            leaving: CancellationToken::new(),
            places: ringfeed::layers::Places::default(),
        });
        Call {
            say: Some(say),
            answered: Some(tokio::spawn(self.router.clone().oneshot(request))),
            body: Body::empty(),
            buffer: BytesMut::new(),
        }
    }

    /// What a follower is sent next.
    async fn append(&self) -> usize {
        append(&self.hub, &self.feed, &records(RECORDS)).await;
        RECORDS
    }

    pub(crate) async fn ingest(&self) -> Ingest {
        let message = v1::IngestRequest {
            feed: "stocks".into(),
            records: records(RECORDS).into_iter().map(Bytes::from).collect(),
            ..v1::IngestRequest::default()
        };
        Ingest {
            call: self.call(INGEST, 1),
            message: framed(&message),
        }
    }

    pub(crate) async fn publish(&self) -> Publish {
        let hello = Command::Hello(v1::PublishHello {
            feed: "stocks".into(),
            producer: "p".into(),
            instance: Bytes::from_static(b"instance"),
            will: None,
        });
        let mut publish = Publish {
            call: self.call(PUBLISH, 1),
            records: records(RECORDS).into_iter().map(Bytes::from).collect(),
            next: 1,
        };
        publish.say(hello).await;
        let welcome = publish.call.next::<v1::PublishResponse>().await;
        let welcomed = matches!(welcome.event, Some(publish_response::Event::Welcome(_)));
        assert!(welcomed, "{welcome:?}");
        publish
    }

    pub(crate) async fn subscribe(&self) -> Follow<'_> {
        let request = v1::SubscribeRequest {
            selectors: vec![selector()],
            ..v1::SubscribeRequest::default()
        };
        let mut call = self.call(SUBSCRIBE, 1);
        call.send(framed(&request)).await;
        call.say = None;
        Follow {
            bed: self,
            call,
            of: |call| Box::pin(async { received(&call.next().await) }),
        }
    }

    pub(crate) async fn session(&self) -> Follow<'_> {
        let commands = [
            session_request::Command::Hello(v1::SessionHello::default()),
            session_request::Command::Set(v1::SetSelector {
                selector_id: 0,
                selector: Some(selector()),
            }),
        ];
        let mut call = self.call(SESSION, 2);
        for (request_id, command) in (1..).zip(commands) {
            let command = Some(command);
            let request = v1::SessionRequest {
                request_id,
                command,
            };
            call.send(framed(&request)).await;
        }
        Follow {
            bed: self,
            call,
            of: |call| {
                Box::pin(async {
                    match call.next::<v1::SessionResponse>().await.event {
                        Some(session_response::Event::Response(response)) => received(&response),
                        Some(session_response::Event::Answer(answer)) => {
                            assert_eq!(answer.reason, "");
                            0
                        }
                        other => panic!("{other:?}"),
                    }
                })
            },
        }
    }
}

/// Everything on, and limits that are never reached.
fn around(token: NewToken) -> Around {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens.toml");
    std::fs::write(&file, "").unwrap();
    TokenFile::edit(&file, |tokens| {
        tokens.tokens = vec![token.entry];
        Ok(())
    })
    .unwrap();
    let rates = Rates {
        calls_per_second: 1_000_000,
        records_per_second: 1_000_000_000,
        bytes_per_second: 1 << 40,
        streams: 1_000,
        connections: 1_000_000,
    };
    let authenticator = Authenticator::new(AuthOptions {
        token_file: Some(file),
        ..AuthOptions::default()
    });
    Around {
        authenticator: Arc::new(authenticator.unwrap()),
        flags: FeatureFlags::default(),
        trusted: Arc::new(|_peer| false),
        load: LoadLimits {
            streams: 1_000,
            incomplete_bytes: 1 << 30,
        },
        rates: RateLimits {
            per_principal: rates.clone(),
            per_peer: rates,
            principals: vec![],
        },
    }
}

fn selector() -> v1::Selector {
    v1::Selector {
        feed: "stocks".into(),
        start: Some(v1::Start {
            from: Some(From::Earliest(v1::Earliest {})),
        }),
        ..v1::Selector::default()
    }
}

fn framed(message: &impl Message) -> Bytes {
    let bytes = message.encode_to_vec();
    let len = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[0], &len[..], &bytes].concat().into()
}

/// How many records a response has.
fn received(response: &v1::SubscribeResponse) -> usize {
    match &response.event {
        Some(subscribe_response::Event::Records(batch)) => batch.records.len(),
        Some(subscribe_response::Event::CaughtUp(_) | subscribe_response::Event::Narrowed(_)) => 0,
        other => panic!("{other:?}"),
    }
}

struct Call {
    say: Option<mpsc::Sender<Bytes>>,
    answered: Option<JoinHandle<Result<http::Response<Body>, std::convert::Infallible>>>,
    body: Body,
    buffer: BytesMut,
}

impl Call {
    async fn send(&mut self, message: Bytes) {
        self.say.as_ref().unwrap().send(message).await.unwrap();
    }

    async fn next<T: Message + Default>(&mut self) -> T {
        if let Some(answered) = self.answered.take() {
            let response = answered.await.unwrap().unwrap();
            let status = tonic::Status::from_header_map(response.headers());
            assert!(status.is_none(), "{status:?}");
            self.body = response.into_body();
        }
        loop {
            if let Some(len) = self.buffer.get(1..5) {
                let len = u32::from_be_bytes(len.try_into().unwrap()) as usize;
                if self.buffer.len() >= 5 + len {
                    self.buffer.advance(5);
                    return T::decode(self.buffer.split_to(len).freeze()).unwrap();
                }
            }
            let frame = self.body.frame().await.expect("it goes on").unwrap();
            let data = frame.into_data().expect("it goes on");
            self.buffer.extend_from_slice(&data);
        }
    }
}

pub(crate) struct Ingest {
    call: Call,
    message: Bytes,
}

impl Ingest {
    pub(crate) async fn go(&mut self, messages: usize) {
        for _ in 0..messages {
            self.call.send(self.message.clone()).await;
        }
    }

    /// All of it was stored.
    pub(crate) async fn end(mut self, messages: usize) {
        self.call.say = None;
        let summary = self.call.next::<v1::IngestResponse>().await;
        assert_eq!(summary.stored, (messages * RECORDS) as u64);
    }
}

pub(crate) struct Publish {
    call: Call,
    records: Vec<Bytes>,
    next: u64,
}

impl Publish {
    async fn say(&mut self, command: Command) -> u64 {
        let request = v1::PublishRequest {
            command: Some(command),
        };
        self.call.send(framed(&request)).await;
        request.encoded_len() as u64
    }

    /// Waits for each ack and its credit.
    pub(crate) async fn go(&mut self, messages: usize) {
        for _ in 0..messages {
            let first_sequence = self.next;
            self.next += RECORDS as u64;
            let records = self.records.clone();
            let batch = v1::PublishBatch {
                first_sequence,
                records,
                ..v1::PublishBatch::default()
            };
            let sent = self.say(Command::Batch(batch)).await;
            let mut answers = VecDeque::with_capacity(2);
            while answers.len() < 2 {
                let answer = self.call.next::<v1::PublishResponse>().await;
                answers.push_back(answer.event.unwrap());
            }
            let (ack, credit) = (answers.pop_front(), answers.pop_front());
            assert!(
                matches!(ack, Some(publish_response::Event::Ack(_))),
                "{ack:?}"
            );
            let granted = publish_response::Event::Credit(v1::PublishCredit { bytes: sent });
            assert_eq!(credit, Some(granted));
        }
    }
}

type Received<'a> = std::pin::Pin<Box<dyn Future<Output = usize> + 'a>>;

pub(crate) struct Follow<'a> {
    bed: &'a Bed,
    call: Call,
    /// Records of the next response.
    of: for<'c> fn(&'c mut Call) -> Received<'c>,
}

impl Follow<'_> {
    /// Appends a batch at a time, and waits for it.
    pub(crate) async fn go(&mut self, messages: usize) {
        for _ in 0..messages {
            let mut missing = self.bed.append().await;
            while missing > 0 {
                missing -= (self.of)(&mut self.call).await;
            }
        }
    }
}
