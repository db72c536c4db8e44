//! Every call × every caller gives exactly the answer that the table says. A call without an entry
//! fails, so a new one needs its line.

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use prost::Message as _;
use ringfeed::{
    layers::{Moment, NewToken, RPCS, TokenFile},
    proto::v1,
};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use tonic_types::StatusExt as _;

use crate::harness::{MIB, Setup, feed_exists, number, within};

/// Who calls, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    NoToken,
    BadToken,
    Expired,
    WrongFeed,
    WrongKey,
    Right,
}

const CASES: [Case; 6] = [
    Case::NoToken,
    Case::BadToken,
    Case::Expired,
    Case::WrongFeed,
    Case::WrongKey,
    Case::Right,
];

/// What a call does in the end: "OK", or the stable reason.
const OK: &str = "OK";
const DENIED: &str = "PERMISSION_DENIED";
const KEY: &str = "KEY_NOT_ALLOWED";

/// A call: what is sent for a feed and key, and the answers to a wrong feed, a wrong key, and to
/// whoever may.
struct Row {
    name: &'static str,
    ask: fn(&str, &str) -> Vec<u8>,
    wrong_feed: &'static str,
    wrong_key: &'static str,
    right: &'static str,
}

const fn row(
    name: &'static str,
    ask: fn(&str, &str) -> Vec<u8>,
    [wrong_feed, wrong_key, right]: [&'static str; 3],
) -> Row {
    Row {
        name,
        ask,
        wrong_feed,
        wrong_key,
        right,
    }
}

#[rustfmt::skip]
fn table() -> Vec<Row> {
    vec![
        row("Ingest", |f, k| v1::IngestRequest { feed: f.into(), records: vec![number(k, 1)], ..Default::default() }.encode_to_vec(), [DENIED, KEY, OK]),
        row("Publish", |f, k| v1::PublishRequest { command: Some(hello(f, k)) }.encode_to_vec(), [DENIED, DENIED, OK]),
        row("Subscribe", |f, k| v1::SubscribeRequest { selectors: vec![selector(f, k)], ..Default::default() }.encode_to_vec(), [DENIED, DENIED, OK]),
        row("Session", |f, k| session(f, k).encode_to_vec(), [DENIED, DENIED, OK]),
        row("GetLatest", |f, k| v1::GetLatestRequest { feed: f.into(), keys: vec![k.into()], ..Default::default() }.encode_to_vec(), [DENIED, DENIED, OK]),
        row("AcknowledgeCursor", |f, _| acknowledge(f).encode_to_vec(), [DENIED, OK, OK]),
        row("CreateFeed", |f, _| v1::CreateFeedRequest { name: f.into(), ..Default::default() }.encode_to_vec(), [DENIED, DENIED, "FEED_EXISTS"]),
        row("GetFeed", |f, _| v1::GetFeedRequest { name: f.into() }.encode_to_vec(), [DENIED, OK, OK]),
        row("ListFeeds", |_, _| v1::ListFeedsRequest::default().encode_to_vec(), [OK, OK, OK]),
        row("UpdateFeed", |f, _| v1::UpdateFeedRequest { name: f.into(), ..Default::default() }.encode_to_vec(), [DENIED, DENIED, OK]),
        row("TrimFeed", |f, _| v1::TrimFeedRequest { name: f.into(), before_offset: 0 }.encode_to_vec(), [DENIED, DENIED, OK]),
        // Of one that is not there: the others still need theirs.
        row("DeleteFeed", |f, _| v1::DeleteFeedRequest { name: format!("{f}.gone") }.encode_to_vec(), [DENIED, DENIED, "UNKNOWN_FEED"]),
        row("ListKeys", |f, _| v1::ListKeysRequest { feed: f.into(), ..Default::default() }.encode_to_vec(), [DENIED, OK, OK]),
        row("SetKeyInfo", |f, k| describe(f, k).encode_to_vec(), [DENIED, DENIED, OK]),
        row("DeleteKeys", |f, k| v1::DeleteKeysRequest { feed: f.into(), keys: vec![k.into()] }.encode_to_vec(), [DENIED, DENIED, OK]),
        row("GetProducer", |f, _| v1::GetProducerRequest { feed: f.into(), producer: "p".into() }.encode_to_vec(), [DENIED, "UNKNOWN_PRODUCER", "UNKNOWN_PRODUCER"]),
        row("ListProducers", |f, _| v1::ListProducersRequest { feed: f.into(), ..Default::default() }.encode_to_vec(), [DENIED, OK, OK]),
        row("ListSubscribers", |f, _| v1::ListSubscribersRequest { feed: f.into(), ..Default::default() }.encode_to_vec(), [DENIED, OK, OK]),
        row("DeleteCursor", |f, _| v1::DeleteCursorRequest { feed: f.into(), subscriber: "none".into() }.encode_to_vec(), [DENIED, "UNKNOWN_CURSOR", "UNKNOWN_CURSOR"]),
        row("HealthCheck", |_, _| vec![], [OK, OK, OK]),
        row("HealthWatch", |_, _| vec![], [OK, OK, OK]),
        // `list_services`, field 7.
        row("Reflection", |_, _| vec![7 << 3 | 2, 0], [OK, OK, OK]),
    ]
}

fn hello(feed: &str, key: &str) -> v1::publish_request::Command {
    let status = v1::Status {
        state: "offline".into(),
        ..v1::Status::default()
    };
    v1::publish_request::Command::Hello(v1::PublishHello {
        feed: feed.into(),
        producer: "device".into(),
        instance: vec![1].into(),
        will: Some(v1::Will {
            key: key.into(),
            status: Some(status),
            ..v1::Will::default()
        }),
    })
}

fn selector(feed: &str, key: &str) -> v1::Selector {
    v1::Selector {
        feed: feed.into(),
        keys: vec![key.into()],
        ..v1::Selector::default()
    }
}

fn session(feed: &str, key: &str) -> v1::SessionRequest {
    let set = v1::SetSelector {
        selector_id: 1,
        selector: Some(selector(feed, key)),
    };
    v1::SessionRequest {
        request_id: 1,
        command: Some(v1::session_request::Command::Set(set)),
    }
}

fn acknowledge(feed: &str) -> v1::AcknowledgeCursorRequest {
    v1::AcknowledgeCursorRequest {
        subscriber: "s".into(),
        cursor: Some(v1::Cursor {
            feed: feed.into(),
            epoch: 0,
            offset: 0,
        }),
    }
}

fn describe(feed: &str, key: &str) -> v1::SetKeyInfoRequest {
    v1::SetKeyInfoRequest {
        feed: feed.into(),
        scope: Some(v1::set_key_info_request::Scope::Key(key.into())),
        info: None,
    }
}

/// Messages as bytes, both ways: one driver for calls of every shape.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}

/// Makes a call and reads its first message; what it came to.
async fn outcome(channel: &Channel, path: &str, message: Vec<u8>, token: Option<&str>) -> String {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let mut request = Request::new(tokio_stream::once(message));
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let path_and_query: PathAndQuery = path.parse().unwrap();
    let first = async {
        let opened = grpc.streaming(request, path_and_query, Raw).await?;
        opened.into_inner().message().await
    };
    match within(path, first).await {
        Ok(first) => said(path, first.unwrap_or_default()),
        Err(status) => {
            let info = status.get_details_error_info();
            let reason = info.map_or_else(|| format!("{status:?}"), |info| info.reason);
            let known = ringfeed::errors::Reason::from_name(&reason);
            let code = known.map(ringfeed::errors::Reason::code);
            assert_eq!(code, Some(status.code()), "{path}: {reason}");
            reason
        }
    }
}

/// Some answers say in their message that something was refused.
fn said(path: &str, message: Bytes) -> String {
    let refused = if path.ends_with("/Ingest") {
        let answer = v1::IngestResponse::decode(message).unwrap();
        answer
            .refusals
            .first()
            .map(|refusal| refusal.reason.clone())
    } else if path.ends_with("/Session") {
        match v1::SessionResponse::decode(message).unwrap().event {
            Some(v1::session_response::Event::Answer(answer)) => {
                Some(answer.reason).filter(|reason| !reason.is_empty())
            }
            _ => None,
        }
    } else {
        None
    };
    refused.unwrap_or_else(|| OK.into())
}

/// Tokens by case.
struct Tokens {
    right: String,
    keyed: String,
    expired: String,
}

fn tokens(setup: &Setup) -> (Tokens, std::path::PathBuf) {
    let make = |name: &str, scopes: &[&str], expires: Option<Moment>| {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        NewToken::make(name.into(), scopes, expires, None).unwrap()
    };
    let own = [
        "ingest:own:k",
        "subscribe:own:k",
        "observe:own",
        "admin:own*",
    ];
    let keyed = [
        "ingest:own:k",
        "subscribe:own:k",
        "observe:own:k",
        "admin:own*:k",
    ];
    let past = Some(Moment(jiff::Timestamp::UNIX_EPOCH));
    let made = [
        make("right", &own, None),
        make("keyed", &keyed, None),
        make("expired", &["*:*"], past),
    ];
    let file = setup.home().join("tokens.toml");
    let text = made.iter().map(|token| token.text.reveal());
    let [right, keyed, expired] = text.collect::<Vec<_>>().try_into().unwrap();
    std::fs::write(&file, "").unwrap();
    TokenFile::edit(&file, |file| {
        file.tokens = made.into_iter().map(|token| token.entry).collect();
        Ok(())
    })
    .unwrap();
    let tokens = Tokens {
        right,
        keyed,
        expired,
    };
    (tokens, file)
}

#[tokio::test]
async fn each_call_answers_each_caller_as_the_table_says() {
    let setup = Setup::new();
    // Its feeds are there before anybody has to say who it is.
    let open = setup.start().await;
    for feed in ["own", "foreign"] {
        feed_exists(&mut open.catalog().await, feed, MIB).await;
    }
    let setup = open.sigterm().await;
    let (tokens, file) = tokens(&setup);
    let server = setup.with("auth__token_file", file.display()).start().await;
    let channel = server.channel().await;
    let table = table();
    for rpc in &RPCS {
        let row = table.iter().find(|row| row.name == rpc.name);
        let row = row.unwrap_or_else(|| panic!("{} is not in the table", rpc.name));
        let anybody = rpc.needs == ringfeed::layers::Needs::Nothing;
        for case in CASES {
            let (token, feed, key, expected) = match case {
                Case::NoToken => (None, "own", "k", "NO_CREDENTIALS"),
                Case::BadToken => (Some("rf_0_0"), "own", "k", "INVALID_TOKEN"),
                Case::Expired => (Some(tokens.expired.as_str()), "own", "k", "TOKEN_EXPIRED"),
                Case::WrongFeed => (Some(&*tokens.right), "foreign", "k", row.wrong_feed),
                Case::WrongKey => (Some(&*tokens.keyed), "own", "other", row.wrong_key),
                Case::Right => (Some(&*tokens.right), "own", "k", row.right),
            };
            let expected = if anybody { OK } else { expected };
            let message = (row.ask)(feed, key);
            let came_to = outcome(&channel, rpc.path, message, token).await;
            assert_eq!(came_to, expected, "{} with {case:?}", rpc.name);
        }
    }
    assert_eq!(table.len(), RPCS.len(), "a line of no call");
}
