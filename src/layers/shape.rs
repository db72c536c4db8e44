//! The two shapes that most layers have: one lets a call in or refuses it, the other says how it
//! runs.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use futures_util::future::Either;
use http::{Request, Response};
use tonic::Status;
use tower::Service;

use super::Call;

pub(super) type Answered = Result<Response<Body>, Infallible>;
pub(super) type Answering = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// Lets calls in.
pub trait Gate {
    /// The request as it goes on; or why it does not.
    fn admit(&self, call: &Arc<Call>, request: Request<Body>) -> Result<Request<Body>, Status>;
}

#[derive(Clone, Debug)]
pub struct Gated<S, G> {
    pub(super) inner: S,
    pub(super) gate: G,
}

impl<S, G> Service<Request<Body>> for Gated<S, G>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    G: Gate,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Answered>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = Call::of(request.extensions());
        match self.gate.admit(&call, request) {
            Ok(request) => Either::Left(self.inner.call(request)),
            Err(refused) => Either::Right(ready(Ok(refused.into_http()))),
        }
    }
}

/// Says how calls run.
pub trait Course {
    /// `go` lets the call go on.
    fn run<F>(&self, call: Arc<Call>, go: impl FnOnce() -> F) -> Answering
    where
        F: Future<Output = Answered> + Send + 'static;
}

#[derive(Clone, Debug)]
pub struct OnCourse<S, C> {
    pub(super) inner: S,
    pub(super) course: C,
}

impl<S, C> Service<Request<Body>> for OnCourse<S, C>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
    C: Course,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        let call = Call::of(request.extensions());
        self.course.run(call, || self.inner.call(request))
    }
}
