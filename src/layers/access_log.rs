//! One line in the log for each call that ended: never a token, never a payload.

use std::sync::Arc;

use axum::body::Body;
use http::Request;
use tonic::Status;
use tower::Layer;

use super::{
    Call, End,
    rpc::Noise,
    shape::{Gate, Gated},
    witness::Witness,
};
use crate::errors::{Reason, code_name};

#[derive(Clone, Copy, Debug, Default)]
pub struct AccessLogLayer;

#[derive(Debug)]
struct Line;

impl<S> Layer<S> for AccessLogLayer {
    type Service = Gated<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        let gate = *self;
        Gated { inner, gate }
    }
}

impl Gate for AccessLogLayer {
    fn admit(&self, call: &Arc<Call>, request: Request<Body>) -> Result<Request<Body>, Status> {
        call.watch(Line);
        Ok(request)
    }
}

/// The level of a line has to be known when the program is compiled; its fields are the same.
macro_rules! line {
    ($level:ident, $call:expr, $end:expr) => {
        tracing::$level!(
            parent: None,
            rpc = $call.rpc.name,
            code = code_name($end.code),
            reason = $end.reason.map(Reason::name),
            ended_by = $end.by.name(),
            seconds = $end.took.as_secs_f64(),
            received_messages = $call.received.messages(),
            received_bytes = $call.received.bytes(),
            sent_messages = $call.sent.messages(),
            sent_bytes = $call.sent.bytes(),
            principal = $call.identified().map(|caller| &*caller.principal),
            peer = $call.peer.as_ref().map(|peer| tracing::field::display(peer.address)),
            request_id = &*$call.id,
            trace_id = $call.span().map(|span| tracing::field::display(span.trace_id())),
            session_id = $call.told.session.as_deref(),
            user_id = $call.told.user.as_deref(),
            "call ended"
        )
    };
}

impl Witness for Line {
    fn ended(&mut self, call: &Call, end: &End) {
        if end.is_fault() {
            line!(warn, call, end);
        } else if call.rpc.noise() == Noise::Probe {
            line!(debug, call, end);
        } else {
            line!(info, call, end);
        }
    }
}
