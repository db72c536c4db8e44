//! A span for each call: in the log always, so that each line says which call it is of; and where
//! tracing is on, a span of the caller's trace.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use http::{HeaderName, HeaderValue, Request, Response};
use tower::{Layer, Service};
use tracing::{Instrument as _, field};

use super::{
    Call, End,
    onlooker::{Onlooker, Onlooking, Witness},
    watched::Within,
};
use crate::{
    errors::code_name,
    trace::{self, Called, Source, Span},
};

/// <https://www.w3.org/TR/trace-context-2/>: which span the call was.
const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");

#[derive(Clone, Copy, Debug, Default)]
pub struct TraceLayer;

/// Runs a call within its span of the log.
#[derive(Clone, Debug)]
pub struct InSpan<S>(S);

impl<S> Layer<S> for TraceLayer {
    type Service = Onlooking<InSpan<S>, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        Onlooking {
            inner: InSpan(inner),
            onlooker: *self,
        }
    }
}

impl Onlooker for TraceLayer {
    type Witness = Traced;

    fn witness(&self, call: &Arc<Call>) -> Traced {
        let parent = call.told.parent.as_ref();
        let called = Called {
            path: call.rpc.path,
            request_id: &call.id,
            session_id: call.told.session.as_deref(),
            peer: call.peer.as_ref().map(|peer| peer.address),
        };
        let span = trace::server_call(parent, called);
        if let Some(context) = span.context() {
            call.traced(context.clone(), Source::new(&span, parent));
        }
        Traced(span)
    }
}

#[derive(Debug)]
pub(super) struct Traced(Span);

impl Witness for Traced {
    fn ended(&mut self, call: &Call, end: &End) {
        // What the caller did wrong is no failure of this span.
        let failure = end.is_fault().then(|| code_name(end.code));
        self.0.set_code(end.code as i32, failure);
        let (received, sent) = (&call.received, &call.sent);
        self.0.set_messages(received.messages(), sent.messages());
    }
}

impl<S> Service<Request<Body>> for InSpan<S>
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
        let span = log_span(&call);
        let entered = span.enter();
        let answered = self.0.call(request).instrument(span.clone());
        drop(entered);
        Box::pin(async move {
            let response = answered.await?;
            let mut response = response.map(|body| Body::new(Within::new(body, span)));
            if let Some(value) = traceresponse(&call) {
                response.headers_mut().insert(TRACERESPONSE, value);
            }
            Ok(response)
        })
    }
}

/// At the highest level, so that it is there for every line that is.
fn log_span(call: &Call) -> tracing::Span {
    tracing::error_span!(
        parent: None,
        "call",
        rpc = call.rpc.name,
        request_id = &*call.id,
        trace_id = call.span().map(|span| field::display(span.trace_id())),
        session_id = call.told.session.as_deref(),
    )
}

fn traceresponse(call: &Call) -> Option<HeaderValue> {
    trace::is_on().then_some(())?;
    HeaderValue::from_str(&trace::traceparent(call.span()?)).ok()
}
