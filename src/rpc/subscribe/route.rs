//! Takes Subscribe in front of the generated service, which remains the specification: the same
//! responses, but as bytes that all subscribers share. The generated code would copy each message
//! for each of them.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use tokio_stream::StreamExt as _;
use tonic::{
    Request, Status, Streaming, body::Body, codec::Codec as _, metadata::MetadataMap,
    server::NamedService,
};
use tonic_prost::ProstCodec;
use tower::Service;

use super::{Outgoing, body::respond, open};
use crate::{
    layers::Call,
    proto::v1,
    rpc::{Context, MAX_MESSAGE_BYTES, request::is_compressed},
};

const PATH: &str = "/ringfeed.v1.FeedService/Subscribe";

type Codec = ProstCodec<v1::SubscribeResponse, v1::SubscribeRequest>;
type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

/// Answers Subscribe itself, and leaves the rest to `S`.
#[derive(Clone, Debug)]
pub struct SubscribeRoute<S> {
    context: Arc<Context>,
    generated: S,
}

impl<S> SubscribeRoute<S> {
    pub(in crate::rpc) fn new(context: Arc<Context>, generated: S) -> Self {
        Self { context, generated }
    }
}

impl<S: NamedService> NamedService for SubscribeRoute<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for SubscribeRoute<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        self.generated.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        if request.uri().path() != PATH || is_compressed(request.headers()) {
            return Box::pin(self.generated.call(request));
        }
        let context = Arc::clone(&self.context);
        Box::pin(async move { Ok(answer(&context, request).await) })
    }
}

async fn answer(context: &Arc<Context>, request: http::Request<Body>) -> http::Response<Body> {
    let request = match read(request).await {
        Ok(request) => request,
        Err(status) => return status.into_http(),
    };
    let call = Call::of(request.extensions());
    match open(context, request.into_inner(), call).await {
        Ok(subscription) => {
            let responses = subscription.into_stream();
            respond(responses.map(|next| next.map(Outgoing::message)))
        }
        Err(status) => status.into_http(),
    }
}

/// The one message of a request.
async fn read(request: http::Request<Body>) -> Result<Request<v1::SubscribeRequest>, Status> {
    let (parts, body) = request.into_parts();
    let decoder = Codec::default().decoder();
    let mut messages = Streaming::new_request(decoder, body, None, Some(MAX_MESSAGE_BYTES));
    let message = messages.message().await?;
    let message = message.ok_or_else(|| Status::internal("Missing request message."))?;
    // To its end: what follows is none of ours, but a body left unread resets the stream.
    messages.trailers().await?;
    let metadata = MetadataMap::from_headers(parts.headers);
    Ok(Request::from_parts(metadata, parts.extensions, message))
}
