//! Counting calls: begun, ended by code, how long, how many messages and bytes; streams by why they
//! ended. One that is dropped before its trailers was left by its client.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::{
    Call,
    messages::Messages,
    watched::{Watched, Watcher},
};
use crate::{
    errors::{Reason, code_name, reason_of},
    metrics,
};

#[derive(Clone, Debug, Default)]
pub struct RpcMetricsLayer;

#[derive(Clone, Debug)]
pub struct RpcMetrics<S>(S);

impl<S> Layer<S> for RpcMetricsLayer {
    type Service = RpcMetrics<S>;

    fn layer(&self, inner: S) -> RpcMetrics<S> {
        RpcMetrics(inner)
    }
}

impl<S> Service<Request<Body>> for RpcMetrics<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = Call::of(request.extensions());
        let mut ending = Ending::open(Arc::clone(&call));
        let request = request.map(|body| {
            let messages = Messages::default();
            Body::new(Watched::new(body, Received { call, messages }))
        });
        let answered = self.0.call(request);
        Box::pin(async move {
            let response = answered.await?;
            ending.head(response.headers());
            Ok(response.map(|body| Body::new(Watched::new(body, ending))))
        })
    }
}

#[derive(Debug)]
struct Received {
    call: Arc<Call>,
    messages: Messages,
}

impl Watcher for Received {
    fn data(&mut self, data: &Bytes) {
        let ended = self.messages.advance(data);
        self.call.received.add(ended, data.len() as u64);
    }
}

/// Counts the end of a call when it is dropped.
#[derive(Debug)]
struct Ending {
    call: Arc<Call>,
    messages: Messages,
    /// `None` before the trailers.
    code: Option<Code>,
    reason: Option<Reason>,
}

impl Ending {
    fn open(call: Arc<Call>) -> Self {
        metrics::count_rpc_started(call.rpc.name);
        if call.rpc.is_stream() {
            metrics::add_open_stream(call.rpc.name);
        }
        Self {
            call,
            messages: Messages::default(),
            code: None,
            reason: None,
        }
    }

    /// A response without a body has its status in front.
    fn head(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.code = Some(status.code());
            self.reason = reason_of(&status);
        }
    }

    fn ended_by(&self) -> &'static str {
        let why = self.reason.or(self.call.was_cut());
        match (why, self.code) {
            (Some(Reason::SlowSubscriber), _) => "slow",
            (Some(Reason::TokenExpired | Reason::TokenRevoked), _) => "token_expired",
            (Some(Reason::ProducerFenced), _) => "fenced",
            (Some(Reason::DeadlineExceeded), _) => "deadline",
            (Some(Reason::Stopping), _) => "server_stop",
            (_, None) => "client_gone",
            _ if self.call.was_stopped() => "server_stop",
            (_, Some(Code::Ok)) => "done",
            (_, Some(_)) => "error",
        }
    }
}

impl Watcher for Ending {
    fn data(&mut self, data: &Bytes) {
        let ended = self.messages.advance(data);
        self.call.sent.add(ended, data.len() as u64);
    }

    fn trailers(&mut self, trailers: &mut HeaderMap) {
        self.head(trailers);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let rpc = self.call.rpc;
        let cut = self.call.was_cut().map(Reason::code);
        let code = self.code.or(cut).unwrap_or(Code::Cancelled);
        if rpc.is_stream() {
            metrics::count_stream_ended(rpc.name, self.ended_by());
        }
        metrics::observe_rpc_handled(rpc.name, code_name(code), self.call.started.elapsed());
        let (received, sent) = (&self.call.received, &self.call.sent);
        metrics::count_rpc_messages(rpc.name, received.messages(), sent.messages());
        metrics::count_rpc_bytes(rpc.name, received.bytes(), sent.bytes());
    }
}
