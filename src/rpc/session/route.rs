//! Takes Session in front of the generated service, which remains the specification: the same
//! answers, but what other subscribers get as well is shared with them.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use bytes::Bytes;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Status, Streaming, body::Body, codec::Codec as _, server::NamedService};
use tonic_prost::ProstCodec;
use tower::Service;

use super::{Said, Session};
use crate::{
    layers::Call,
    proto::v1,
    rpc::{Context, MAX_MESSAGE_BYTES, request::is_compressed, subscribe::respond},
};

const PATH: &str = "/ringfeed.v1.FeedService/Session";

type Codec = ProstCodec<v1::SessionResponse, v1::SessionRequest>;
type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

/// Answers Session itself, and leaves the rest to `S`.
#[derive(Clone, Debug)]
pub struct SessionRoute<S> {
    context: Arc<Context>,
    generated: S,
}

impl<S> SessionRoute<S> {
    pub(in crate::rpc) fn new(context: Arc<Context>, generated: S) -> Self {
        Self { context, generated }
    }
}

impl<S: NamedService> NamedService for SessionRoute<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for SessionRoute<S>
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
        let answer = answer(&self.context, request);
        Box::pin(std::future::ready(Ok(answer)))
    }
}

fn answer(context: &Arc<Context>, request: http::Request<Body>) -> http::Response<Body> {
    let (parts, body) = request.into_parts();
    let call = Call::of(&parts.extensions);
    let decoder = Codec::default().decoder();
    let requests = Streaming::new_request(decoder, body, None, Some(MAX_MESSAGE_BYTES));
    match Session::new(context, call, requests) {
        Ok(session) => respond(pieces(session.into_stream())),
        Err(status) => status.into_http(),
    }
}

fn pieces(
    said: impl Stream<Item = Result<Said, Status>> + Send,
) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    async_stream::try_stream! {
        tokio::pin!(said);
        while let Some(next) = said.next().await {
            let (first, second) = next?.pieces();
            yield first;
            if let Some(second) = second {
                yield second;
            }
        }
    }
}
