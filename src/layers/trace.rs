//! A span for each call: in the log always, so that each line says which call it is of; and where
//! tracing is on, a span of the caller's trace.

use std::{future::Future, sync::Arc};

use tower::Layer;
use tracing::{Instrument as _, field};

use super::{
    Call, End,
    shape::{Answered, Answering, Course, OnCourse},
    witness::Witness,
};
use crate::{
    errors::code_name,
    trace::{self, Called, Source, Span},
};

#[derive(Clone, Copy, Debug, Default)]
pub struct TraceLayer;

impl<S> Layer<S> for TraceLayer {
    type Service = OnCourse<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        let course = *self;
        OnCourse { inner, course }
    }
}

impl Course for TraceLayer {
    fn run<F>(&self, call: Arc<Call>, go: impl FnOnce() -> F) -> Answering
    where
        F: Future<Output = Answered> + Send + 'static,
    {
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
            call.watch(Traced(span));
        }
        let span = call.logged_in(log_span(&call));
        Box::pin(span.in_scope(go).instrument(span.clone()))
    }
}

#[derive(Debug)]
struct Traced(Span);

impl Witness for Traced {
    fn ended(&mut self, call: &Call, end: &End) {
        // What the caller did wrong is no failure of this span.
        let failure = end.is_fault().then(|| code_name(end.code));
        self.0.set_code(end.code as i32, failure);
        let (received, sent) = (&call.received, &call.sent);
        self.0.set_messages(received.messages(), sent.messages());
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
