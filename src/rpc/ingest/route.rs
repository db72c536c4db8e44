//! Takes Ingest in front of the generated service, which remains the specification: the same
//! answers, but a message stays the bytes it came in. The generated code would take it apart.

use std::{
    convert::Infallible,
    marker::PhantomData,
    task::{Context as Poller, Poll},
};

use bytes::{Buf as _, Bytes};
use futures_util::future::BoxFuture;
use prost::Message;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
    server::{ClientStreamingService, Grpc, NamedService},
};
use tonic_prost::ProstEncoder;
use tower::Service;

use crate::{
    proto::v1,
    rpc::{MAX_MESSAGE_BYTES, Services, request::is_compressed},
};

const PATH: &str = "/ringfeed.v1.FeedService/Ingest";

/// Answers Ingest itself, and leaves the rest to `S`.
#[derive(Clone, Debug)]
pub struct IngestRoute<S> {
    services: Services,
    generated: S,
}

impl<S> IngestRoute<S> {
    pub(in crate::rpc) fn new(services: Services, generated: S) -> Self {
        Self {
            services,
            generated,
        }
    }
}

impl<S: NamedService> NamedService for IngestRoute<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for IngestRoute<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), Infallible>> {
        self.generated.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != PATH || is_compressed(request.headers()) {
            return Box::pin(self.generated.call(request));
        }
        let upload = Upload(self.services.clone());
        let mut grpc = Grpc::new(Raw(PhantomData))
            .apply_max_message_size_config(Some(MAX_MESSAGE_BYTES), None);
        Box::pin(async move { Ok(grpc.client_streaming(upload, request).await) })
    }
}

struct Upload(Services);

impl ClientStreamingService<Bytes> for Upload {
    type Response = v1::IngestResponse;
    type Future = BoxFuture<'static, Result<Response<Self::Response>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let services = self.0.clone();
        Box::pin(async move { services.take_upload(request).await })
    }
}

/// Takes messages as bytes and answers with `T`.
#[derive(Debug)]
struct Raw<T>(PhantomData<T>);

impl<T: Message + 'static> Codec for Raw<T> {
    type Encode = T;
    type Decode = Bytes;
    type Encoder = ProstEncoder<T>;
    type Decoder = Whole;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Whole
    }
}

/// Hands each message out as a slice of what was received.
#[derive(Debug)]
struct Whole;

impl Decoder for Whole {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}
