//! Takes Ingest and Publish in front of the generated service, which remains the specification: the
//! same answers, but a message stays the bytes it came in. The generated code would take it apart.

use std::{
    convert::Infallible,
    future::{Ready, ready},
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
    server::{ClientStreamingService, Grpc, NamedService, StreamingService},
};
use tonic_prost::ProstEncoder;
use tower::Service;

use crate::{
    proto::v1,
    rpc::{MAX_MESSAGE_BYTES, Services, publish::Answers, request::is_compressed},
};

const INGEST: &str = "/ringfeed.v1.FeedService/Ingest";
const PUBLISH: &str = "/ringfeed.v1.FeedService/Publish";

/// Answers Ingest and Publish itself, and leaves the rest to `S`.
#[derive(Clone, Debug)]
pub struct UploadRoute<S> {
    services: Services,
    generated: S,
}

impl<S> UploadRoute<S> {
    pub(super) fn new(services: Services, generated: S) -> Self {
        Self {
            services,
            generated,
        }
    }
}

impl<S: NamedService> NamedService for UploadRoute<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for UploadRoute<S>
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
        let path = request.uri().path();
        if is_compressed(request.headers()) || ![INGEST, PUBLISH].contains(&path) {
            return Box::pin(self.generated.call(request));
        }
        let upload = Upload(self.services.clone());
        if path == INGEST {
            Box::pin(async move { Ok(grpc().client_streaming(upload, request).await) })
        } else {
            Box::pin(async move { Ok(grpc().streaming(upload, request).await) })
        }
    }
}

fn grpc<T: Message + 'static>() -> Grpc<Raw<T>> {
    Grpc::new(Raw(PhantomData)).apply_max_message_size_config(Some(MAX_MESSAGE_BYTES), None)
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

impl StreamingService<Bytes> for Upload {
    type Response = v1::PublishResponse;
    type ResponseStream = Answers;
    type Future = Ready<Result<Response<Answers>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        ready(Ok(Response::new(self.0.take_device(request))))
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
