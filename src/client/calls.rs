//! What goes with every call: a request id of its own, the id of this process' session, and where
//! tracing is on, a span.

use std::{
    fmt,
    sync::LazyLock,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tonic::{
    Code, Status,
    body::Body,
    transport::{Channel, Error},
};
use tower::Service;
use uuid::Uuid;

use crate::{
    errors::code_name,
    layers::{Watched, Watcher},
    trace::{self, Called, Span},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SESSION_ID: HeaderName = HeaderName::from_static("x-session-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// One for all calls of this process.
static SESSION: LazyLock<String> = LazyLock::new(|| Uuid::now_v7().to_string());

/// A channel whose calls say which they are. Each attempt is a request of its own: what a server
/// says of one is not true of the next.
#[derive(Clone)]
pub struct Calls(Channel);

impl Calls {
    pub(super) fn new(channel: Channel) -> Self {
        Self(channel)
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Calls(..)")
    }
}

impl Service<Request<Body>> for Calls {
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Body>, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let id = Uuid::now_v7().to_string();
        let path = request.uri().path();
        tracing::debug!(path, request_id = id, session_id = *SESSION, "calling");
        let span = trace::client_call(Called {
            path,
            request_id: &id,
            session_id: Some(&SESSION),
            peer: None,
        });
        introduce(request.headers_mut(), &id, &span);
        let mut ending = Ending { span, code: None };
        let answered = self.0.call(request);
        Box::pin(async move {
            let response = answered
                .await
                .inspect_err(|_| ending.code = Some(Code::Unavailable))?;
            ending.head(response.headers());
            if ending.span.context().is_none() {
                return Ok(response);
            }
            Ok(response.map(|body| Body::new(Watched::new(body, ending))))
        })
    }
}

fn introduce(headers: &mut HeaderMap, id: &str, span: &Span) {
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(REQUEST_ID, id);
    set(SESSION_ID, &SESSION);
    if let Some(context) = span.context().cloned().or_else(trace::active) {
        set(TRACEPARENT, &trace::traceparent(&context));
        let state = context.trace_state().header();
        if !state.is_empty() {
            set(TRACESTATE, &state);
        }
    }
}

/// Says in the span how the call ended when it is dropped: without a status, it was left.
struct Ending {
    span: Span,
    code: Option<Code>,
}

impl Ending {
    fn head(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.code = Some(status.code());
        }
    }
}

impl Watcher for Ending {
    fn trailers(&mut self, trailers: &mut HeaderMap) {
        self.head(trailers);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        // Leaving a stream is no failure.
        let failed = !matches!(code, Code::Ok | Code::Cancelled);
        let failure = failed.then(|| code_name(code));
        self.span.set_code(code as i32, failure);
    }
}
