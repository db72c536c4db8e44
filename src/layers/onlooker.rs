//! What layers have in common that only look on: they see a call begin, its bytes pass, and its end,
//! however it comes about.

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
use tower::Service;

use super::{
    Call, End,
    watched::{Watched, Watcher},
};
use crate::errors::{Reason, reason_of};

/// Makes a `Witness` for each call.
pub(super) trait Onlooker: Clone + Send + 'static {
    type Witness: Witness;

    fn witness(&self, call: &Arc<Call>) -> Self::Witness;
}

/// Sees one call.
pub(super) trait Witness: Send + Unpin + 'static {
    /// May look on at what comes in.
    fn request(&mut self, _call: &Arc<Call>, request: Request<Body>) -> Request<Body> {
        request
    }

    fn sent(&mut self, _call: &Call, _data: &Bytes) {}

    fn ended(&mut self, call: &Call, end: &End);
}

#[derive(Clone, Debug)]
pub struct Onlooking<S, O> {
    pub(super) inner: S,
    pub(super) onlooker: O,
}

impl<S, O> Service<Request<Body>> for Onlooking<S, O>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
    O: Onlooker,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = Call::of(request.extensions());
        let mut witness = self.onlooker.witness(&call);
        let request = witness.request(&call, request);
        let mut ending = Ending {
            call,
            witness,
            status: None,
        };
        let answered = self.inner.call(request);
        Box::pin(async move {
            let response = answered.await?;
            ending.head(response.headers());
            Ok(response.map(|body| Body::new(Watched::new(body, ending))))
        })
    }
}

/// Tells the witness of the end when it is dropped.
struct Ending<W: Witness> {
    call: Arc<Call>,
    witness: W,
    /// `None` before the trailers.
    status: Option<(Code, Option<Reason>)>,
}

impl<W: Witness> Ending<W> {
    /// A response without a body has its status in front.
    fn head(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.status = Some((status.code(), reason_of(&status)));
        }
    }
}

impl<W: Witness> Watcher for Ending<W> {
    fn data(&mut self, data: &Bytes) {
        self.witness.sent(&self.call, data);
    }

    fn trailers(&mut self, trailers: &mut HeaderMap) {
        self.head(trailers);
    }
}

impl<W: Witness> Drop for Ending<W> {
    fn drop(&mut self) {
        // The innermost is dropped first; the others say the same.
        let end = self.call.end(End::of(&self.call, self.status));
        self.witness.ended(&self.call, end);
    }
}
