//! Counting calls: a unary call by its result, a stream by how it ended. A stream that is dropped
//! was left by its client.

use std::{future::Future, time::Instant};

use tonic::{Response, Status};

use crate::metrics;

/// Runs and counts a unary call.
pub(super) async fn unary<T>(
    rpc: &'static str,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<Response<T>, Status> {
    let start = Instant::now();
    metrics::count_rpc_started(rpc);
    let result = call.await;
    metrics::observe_rpc_handled(rpc, code_name(result.as_ref().err()), start.elapsed());
    result.map(Response::new)
}

/// An open stream.
#[derive(Debug)]
pub(super) struct StreamGuard {
    rpc: &'static str,
    start: Instant,
    code: &'static str,
    reason: &'static str,
}

impl StreamGuard {
    pub(super) fn open(rpc: &'static str) -> Self {
        metrics::count_rpc_started(rpc);
        metrics::add_open_stream(rpc);
        Self {
            rpc,
            start: Instant::now(),
            code: "CANCELLED",
            reason: "client_gone",
        }
    }

    /// Ends it by the call's result.
    pub(super) fn end(mut self, error: Option<&Status>) {
        self.set(error);
    }

    pub(super) fn set(&mut self, error: Option<&Status>) {
        self.code = code_name(error);
        self.reason = if error.is_some() { "error" } else { "done" };
    }

    /// The server ends it, because it stops.
    pub(super) fn stopped(&mut self) {
        self.code = code_name(None);
        self.reason = "server_stop";
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        metrics::count_stream_ended(self.rpc, self.reason);
        metrics::observe_rpc_handled(self.rpc, self.code, self.start.elapsed());
    }
}

fn code_name(error: Option<&Status>) -> &'static str {
    use tonic::Code;
    match error.map_or(Code::Ok, Status::code) {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
