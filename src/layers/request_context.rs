//! The context of a call: who sent it for whom, in which trace, and until when. It makes the `Call`
//! that all other layers and the handler share, and says in every response and error which request
//! it answers.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tower::{Layer, Service};

use super::{
    Call, FeatureFlags, Peer, Rpc, Told, headers,
    shape::Answering,
    watched::Watched,
    witness::{Received, Watch},
};
use crate::trace;

/// Whether a peer is a proxy whose word for others is taken.
pub type Trusted = Arc<dyn Fn(&Peer) -> bool + Send + Sync>;

#[derive(Clone)]
pub struct RequestContextLayer {
    flags: FeatureFlags,
    trusted: Trusted,
}

#[derive(Clone, Debug)]
pub struct RequestContext<S> {
    inner: S,
    layer: RequestContextLayer,
}

impl RequestContextLayer {
    pub fn new(flags: FeatureFlags, trusted: Trusted) -> Self {
        Self { flags, trusted }
    }

    fn call(&self, request: &Request<Body>) -> Call {
        let sent = request.headers();
        let rpc = Rpc::of_path(request.uri().path());
        let mut call = Call::new(rpc, headers::request_id(sent));
        call.peer = request.extensions().get::<Peer>().cloned();
        let trusted = call.peer.as_ref().is_some_and(|peer| (self.trusted)(peer));
        let user = trusted.then(|| headers::id(sent, &headers::USER_ID));
        call.told = Told {
            session: headers::id(sent, &headers::SESSION_ID),
            user: user.flatten(),
            parent: headers::trace_context(sent),
            baggage: headers::baggage(sent),
            flags: headers::flags(sent),
            known_flags: self.flags.clone(),
        };
        let now = tokio::time::Instant::now();
        call.deadline = headers::timeout(sent).and_then(|timeout| now.checked_add(timeout));
        call
    }
}

impl fmt::Debug for RequestContextLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestContextLayer")
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for RequestContextLayer {
    type Service = RequestContext<S>;

    fn layer(&self, inner: S) -> RequestContext<S> {
        let layer = self.clone();
        RequestContext { inner, layer }
    }
}

impl<S> Service<Request<Body>> for RequestContext<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        let call = Arc::new(self.layer.call(&request));
        let mut request = request.map(|body| Body::new(Watched::new(body, Received::new(&call))));
        request.extensions_mut().insert(Arc::clone(&call));
        let mut watch = Watch::new(call);
        let answered = self.inner.call(request);
        Box::pin(async move {
            let mut response = answered.await?;
            let sent = response.headers_mut();
            watch.headers(sent);
            watch.call().say(sent);
            Ok(response.map(|body| Body::new(Watched::new(body, watch))))
        })
    }
}

impl Call {
    /// What of its context the caller is told.
    fn say(&self, to: &mut HeaderMap) {
        set(to, headers::REQUEST_ID, Some(&self.id));
        set(to, headers::SESSION_ID, self.told.session.as_deref());
        if !self.told.flags.is_empty() && self.identified().is_some() {
            let flags = self.flags();
            set(to, headers::FLAGS, list(&flags.set).as_deref());
            set(to, headers::FLAGS_IGNORED, list(&flags.ignored).as_deref());
        }
        if let Some(span) = self.span().filter(|_| trace::is_on()) {
            set(to, headers::TRACERESPONSE, Some(&trace::traceparent(span)));
        }
    }

    /// The context as it goes with a request that this server makes because of the call.
    pub fn pass_on(&self, to: &mut HeaderMap) {
        set(to, headers::REQUEST_ID, Some(&self.id));
        set(to, headers::SESSION_ID, self.told.session.as_deref());
        set(to, headers::USER_ID, self.told.user.as_deref());
        set(to, headers::BAGGAGE, self.told.baggage.as_deref());
        set(to, headers::FLAGS, list(&self.flags().set).as_deref());
        if let Some(span) = self.span() {
            set(to, headers::TRACEPARENT, Some(&trace::traceparent(span)));
            let state = span.trace_state().header();
            set(
                to,
                headers::TRACESTATE,
                Some(&*state).filter(|s| !s.is_empty()),
            );
        }
    }
}

fn list(flags: &[Box<str>]) -> Option<String> {
    (!flags.is_empty()).then(|| flags.join(","))
}

fn set(to: &mut HeaderMap, name: HeaderName, value: Option<&str>) {
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        to.insert(name, value);
    }
}
