//! Calls of any shape: bytes there, bytes back.

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use prost::Message as _;
use ringfeed::proto::v1::{IngestResponse, SessionResponse, session_response::Event};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use tonic_types::StatusExt as _;

use crate::harness::within;

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

/// Makes a call and reads its first message: its code, and the reason of what was refused.
pub(super) async fn outcome(
    channel: Channel,
    path: &str,
    message: Vec<u8>,
    headers: Vec<(&'static str, String)>,
) -> (Code, String) {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let mut request = Request::new(tokio_stream::once(message));
    for (name, value) in headers {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    let path_and_query: PathAndQuery = path.parse().unwrap();
    let first = async {
        let opened = grpc.streaming(request, path_and_query, Raw).await?;
        opened.into_inner().message().await
    };
    match within(path, first).await {
        Ok(first) => (Code::Ok, refused(path, first.unwrap_or_default())),
        Err(status) => {
            let info = status.get_details_error_info();
            let reason = info.map_or_else(|| format!("{status:?}"), |info| info.reason);
            (status.code(), reason)
        }
    }
}

/// Some answers say in their message that something was refused.
fn refused(path: &str, message: Bytes) -> String {
    if path.ends_with("/Ingest") {
        let answer = IngestResponse::decode(message).unwrap();
        let first = answer.refusals.into_iter().next();
        return first.map_or_else(String::new, |refusal| refusal.reason);
    }
    if path.ends_with("/Session") {
        let answer = SessionResponse::decode(message).unwrap();
        return match answer.event.unwrap() {
            Event::Answer(answer) => answer.reason,
            other => format!("{other:?}"),
        };
    }
    String::new()
}
