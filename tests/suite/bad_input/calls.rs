//! Calls that are refused as a whole: code, reason, field; and the server goes on.

use std::fmt::Debug;

use bytes::{BufMut as _, Bytes};
use prost::Message as _;
use ringfeed::proto::v1::{
    self, Cursor, IngestRequest, IngestResponse, Selector, Start, SubscribeRequest, start::From,
};
use tonic::{
    Code, Request, Status,
    codec::{Codec, EncodeBuf, Encoder},
};
use tonic_prost::{ProstCodec, ProstDecoder};

use crate::harness::{
    Follow, Server, exact, number, numbered, one, plain, progress, read_to_now, reason, upload,
    vector, violated_field,
};

/// Sends bytes as if they were a message.
#[derive(Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = IngestResponse;
    type Encoder = Self;
    type Decoder = ProstDecoder<IngestResponse>;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<IngestRequest, IngestResponse>::default().decoder()
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&message);
        Ok(())
    }
}

async fn ingest_raw(server: &Server, messages: Vec<Bytes>) -> Result<IngestResponse, Status> {
    let mut grpc = tonic::client::Grpc::new(server.channel().await);
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/ringfeed.v1.FeedService/Ingest");
    let request = Request::new(tokio_stream::iter(messages));
    let answer = grpc.client_streaming(request, path, Raw).await;
    Ok(answer?.into_inner())
}

fn refused<T: Debug>(answer: Result<T, Status>, code: Code, why: &str, field: &str) {
    let status = answer.unwrap_err();
    assert_eq!(
        (status.code(), &*reason(&status)),
        (code, why),
        "{status:?}"
    );
    assert!(status.message().len() < 1_100);
    if !field.is_empty() {
        assert_eq!(violated_field(&status), field);
    }
}

fn invalid<T: Debug>(answer: Result<T, Status>, field: &str) {
    refused(answer, Code::InvalidArgument, "INVALID_ARGUMENT", field);
}

#[tokio::test]
async fn uploads_that_make_no_sense_are_refused_by_field() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let one_record = || vec![number("k", 0)];
    for name in [
        "Upper",
        "-x",
        ".x",
        "a b",
        "a/b",
        "\u{e9}",
        "a\0",
        &"a".repeat(129),
    ] {
        invalid(
            upload(&mut feeds, vec![plain(name, one_record())]).await,
            "feed",
        );
    }
    invalid(
        upload(&mut feeds, vec![plain("", one_record())]).await,
        "feed",
    );
    let long = "p".repeat(129);
    let message = numbered("f", &long, 1, one_record());
    invalid(upload(&mut feeds, vec![message]).await, "producer");
    let message = numbered("f", "p", 0, one_record());
    invalid(upload(&mut feeds, vec![message]).await, "first_sequence");
    let message = numbered("f", "", 1, one_record());
    invalid(upload(&mut feeds, vec![message]).await, "producer");
    let message = IngestRequest {
        mode: 9,
        ..plain("f", one_record())
    };
    invalid(upload(&mut feeds, vec![message]).await, "mode");
    assert_eq!(read_to_now(&mut feeds, "f").await.records.len(), 0);
    // And nothing at all is nothing wrong.
    let nothing = upload(&mut feeds, vec![]).await.unwrap();
    assert_eq!(exact(&nothing), (0, 0, 0));
    let empty = upload(&mut feeds, vec![plain("f", vec![])]).await.unwrap();
    assert_eq!(exact(&empty), (0, 0, 0));
}

#[tokio::test]
async fn a_broken_message_ends_its_upload_and_what_came_before_is_kept() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let good: Bytes = numbered("f", "p", 1, vec![number("k", 0), number("k", 1)])
        .encode_to_vec()
        .into();
    for broken in [
        Bytes::from_static(b"\xff\xff\xff\xff"),
        good.slice(..good.len() - 1),
        Bytes::from_static(b"\x0a\x02\xff\xfe"),
        Bytes::from_static(b"\x08\x01"),
    ] {
        let answer = ingest_raw(&server, vec![good.clone(), broken]).await;
        let how_far = progress(answer.as_ref().unwrap_err()).unwrap();
        assert_eq!(how_far.stored_through_sequence, Some(2));
        invalid(answer, "message");
    }
    // A field this version does not know is skipped in a message; a record is stricter.
    let newer: Bytes = [&good[..], b"\xf8\x3f\x01"].concat().into();
    let again = ingest_raw(&server, vec![newer]).await.unwrap();
    assert_eq!(exact(&again), (0, 2, 0));

    let large = plain("f", (0..140).map(|n| vector("k", n, 1_000)).collect());
    assert!(large.encoded_len() > 1 << 20);
    let answer = upload(&mut feeds, vec![large]).await;
    refused(answer, Code::ResourceExhausted, "MESSAGE_TOO_LARGE", "");
    assert_eq!(read_to_now(&mut feeds, "f").await.records.len(), 2);
}

async fn subscribe(server: &Server, request: SubscribeRequest) -> Result<Follow, Status> {
    Follow::open(&mut server.feeds().await, request).await
}

#[tokio::test]
async fn subscriptions_that_make_no_sense_are_refused_by_field() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    upload(&mut feeds, vec![plain("f", vec![number("k", 0)])])
        .await
        .unwrap();
    let new = || From::New(v1::New {});
    let unknown = subscribe(&server, one("unheard-of", new(), None)).await;
    refused(unknown, Code::NotFound, "UNKNOWN_FEED", "");
    for name in ["", "Upper", "a b"] {
        let asked = subscribe(&server, one(name, new(), None)).await;
        invalid(asked, "selectors[0].feed");
    }
    let foreign = From::Cursor(Cursor {
        feed: "g".into(),
        ..Cursor::default()
    });
    for start in [
        Some(foreign),
        None,
        Some(From::LastPerKey(0)),
        Some(From::LastPerKey(10_001)),
        Some(From::Time(v1::TimeStart {
            unix_nanos: 0,
            clock: 9,
        })),
    ] {
        let mut request = one("f", new(), None);
        request.selectors[0].start = Some(Start { from: start });
        invalid(subscribe(&server, request).await, "selectors[0].start");
    }
    let selectors = |count| SubscribeRequest {
        selectors: vec![one("f", new(), None).selectors.remove(0); count],
        ..SubscribeRequest::default()
    };
    invalid(subscribe(&server, selectors(0)).await, "selectors");
    invalid(subscribe(&server, selectors(65)).await, "selectors");
    assert!(subscribe(&server, selectors(64)).await.is_ok());
    let mut many = one("f", new(), None);
    many.selectors[0].keys = (0..10_001).map(|n| n.to_string()).collect();
    invalid(subscribe(&server, many).await, "selectors[0].keys");
    for (seconds, nanos) in [(0, 50_000_000), (-1, 0), (3_601, 0), (1, -1), (1, i32::MAX)] {
        let request = SubscribeRequest {
            heartbeat_interval: Some(prost_types::Duration { seconds, nanos }),
            ..one("f", new(), None)
        };
        invalid(subscribe(&server, request).await, "heartbeat_interval");
    }
    let request = SubscribeRequest {
        subscriber: "s".repeat(129),
        ..one("f", new(), None)
    };
    invalid(subscribe(&server, request).await, "subscriber");
    let globbed = Selector {
        key_globs: vec!["ok*".into(), "bad[".into()],
        ..one("f", new(), None).selectors.remove(0)
    };
    let request = SubscribeRequest {
        selectors: vec![globbed],
        ..SubscribeRequest::default()
    };
    let answer = subscribe(&server, request).await;
    invalid(answer, "selectors[0].key_globs[1]");
}

#[tokio::test]
async fn a_token_that_was_changed_is_refused() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    upload(&mut feeds, vec![plain("f", vec![number("k", 0)])])
        .await
        .unwrap();
    let mut follow = Follow::feed(&mut feeds, "f", From::Offset(0)).await;
    follow.read_until(|l| !l[0].caught_up.is_empty()).await;
    let token = follow.ledger().caught_up[0].resume_token.clone();
    let with = |token: &str| SubscribeRequest {
        resume_token: token.into(),
        ..SubscribeRequest::default()
    };
    assert!(subscribe(&server, with(&token)).await.is_ok());
    let mut tampered = token.clone();
    let last = tampered.pop().unwrap();
    tampered.push(if last == 'A' { 'Q' } else { 'A' });
    let cut = &token[..token.len() - 4];
    let longer = format!("{token}AAAA");
    for bad in [
        &*tampered,
        cut,
        &*longer,
        "rf1.",
        "rf2.AAAA",
        "x",
        "rf1.\u{e9}",
    ] {
        invalid(subscribe(&server, with(bad)).await, "resume_token");
    }
    let both = SubscribeRequest {
        resume_token: token.clone(),
        ..one("f", From::Offset(0), None)
    };
    invalid(subscribe(&server, both).await, "selectors");
    // A token of another server's data.
    let other = Server::start().await;
    let mut feeds = other.feeds().await;
    upload(&mut feeds, vec![plain("f", vec![number("k", 0)])])
        .await
        .unwrap();
    invalid(subscribe(&other, with(&token)).await, "resume_token");
}
