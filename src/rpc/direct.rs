//! Calls that do not go through the generated decoder: their messages stay the bytes they came in.
//! Everything else goes to the generated service, which stays the specification of these too.

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
    codec::{
        BufferSettings, Codec, CompressionEncoding, DecodeBuf, Decoder, EnabledCompressionEncodings,
    },
    server::{ClientStreamingService, Grpc, NamedService},
};
use tonic_prost::ProstEncoder;
use tower::Service;

use super::{MAX_MESSAGE_BYTES, Services};
use crate::proto::v1::{self, feed_service_server::FeedServiceServer};

const INGEST: &str = "/ringfeed.v1.FeedService/Ingest";

/// `FeedService` as it is served.
#[derive(Clone, Debug)]
pub struct DirectFeedService {
    services: Services,
    generated: FeedServiceServer<Services>,
}

impl DirectFeedService {
    pub(super) fn new(services: Services, generated: FeedServiceServer<Services>) -> Self {
        Self {
            services,
            generated,
        }
    }
}

impl NamedService for DirectFeedService {
    const NAME: &'static str = <FeedServiceServer<Services> as NamedService>::NAME;
}

impl Service<http::Request<Body>> for DirectFeedService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Poller<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() == INGEST {
            let upload = Upload(self.services.clone());
            return Box::pin(async move { Ok(grpc().client_streaming(upload, request).await) });
        }
        self.generated.call(request)
    }
}

fn grpc<T: Message + 'static>() -> Grpc<Raw<T>> {
    let mut accepted = EnabledCompressionEncodings::default();
    accepted.enable(CompressionEncoding::Gzip);
    accepted.enable(CompressionEncoding::Zstd);
    Grpc::new(Raw(PhantomData))
        .apply_compression_config(accepted, EnabledCompressionEncodings::default())
        .apply_max_message_size_config(Some(MAX_MESSAGE_BYTES), None)
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
