//! Those who look on at a call until it is over. A layer leaves them in the call; one body around the
//! response, the outermost layer's, sees for all of them what passes and how it ends.

use std::{fmt, mem, sync::Arc};

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use tonic::{Code, Status};

use super::{Call, End, messages::Messages, watched::Watcher};
use crate::errors::{self, Reason, reason_of};

/// Sees how one call ends. What it holds for the call's time, its drop gives back.
pub(super) trait Witness: fmt::Debug + Send {
    fn ended(&mut self, _call: &Call, _end: &End) {}
}

/// Of one call.
#[derive(Debug, Default)]
pub(super) struct Witnesses(Mutex<Vec<Box<dyn Witness>>>);

impl Witnesses {
    pub(super) fn add(&self, witness: impl Witness + 'static) {
        self.0.lock().push(Box::new(witness));
    }

    /// The innermost hears of it first.
    fn dismiss(&self, call: &Call, end: &End) {
        let all = mem::take(&mut *self.0.lock());
        for mut witness in all.into_iter().rev() {
            witness.ended(call, end);
        }
    }
}

/// Looks on at a response. The call is over when it is dropped, however that comes about.
#[derive(Debug)]
pub(super) struct Watch {
    call: Arc<Call>,
    messages: Messages,
    /// `None` before the trailers.
    status: Option<(Code, Option<Reason>)>,
}

impl Watch {
    pub(super) fn new(call: Arc<Call>) -> Self {
        Self {
            call,
            messages: Messages::default(),
            status: None,
        }
    }

    pub(super) fn call(&self) -> &Call {
        &self.call
    }

    /// Of the response, or its trailers: where there is a status, it is there. It is completed.
    pub(super) fn headers(&mut self, headers: &mut HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.status = Some((status.code(), reason_of(&status)));
        }
        errors::complete(headers, &self.call.id);
    }
}

impl Watcher for Watch {
    fn span(&self) -> Option<&tracing::Span> {
        self.call.log_span()
    }

    fn data(&mut self, data: &Bytes) {
        let ended = self.messages.advance(data);
        self.call.count_sent(ended, data.len() as u64);
    }

    fn trailers(&mut self, trailers: &mut HeaderMap) {
        self.headers(trailers);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let end = End::of(&self.call, self.status);
        self.call.witnesses.dismiss(&self.call, &end);
    }
}

/// Looks on at what comes in.
#[derive(Debug)]
pub(super) struct Received {
    call: Arc<Call>,
    messages: Messages,
}

impl Received {
    pub(super) fn new(call: &Arc<Call>) -> Self {
        Self {
            call: Arc::clone(call),
            messages: Messages::default(),
        }
    }
}

impl Watcher for Received {
    fn data(&mut self, data: &Bytes) {
        let ended = self.messages.advance(data);
        self.call.count_received(ended, data.len() as u64);
    }
}
