//! A unary call is answered when its caller's deadline comes, whether or not the handler is done.
//! Streams end themselves, by `Call::over`.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use http::{Request, Response};
use tokio::time::timeout_at;
use tower::{Layer, Service};

use super::Call;
use crate::errors::{Answer, Reason};

#[derive(Clone, Copy, Debug, Default)]
pub struct DeadlineLayer;

#[derive(Clone, Debug)]
pub struct Deadline<S>(S);

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline(inner)
    }
}

impl<S> Service<Request<Body>> for Deadline<S>
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
        let deadline = call.deadline.filter(|_| !call.rpc.is_stream());
        let answered = self.0.call(request);
        match deadline {
            None => Box::pin(answered),
            Some(deadline) => Box::pin(async move {
                let answered = timeout_at(deadline, answered).await;
                answered.unwrap_or_else(|_elapsed| Ok(late()))
            }),
        }
    }
}

fn late() -> Response<Body> {
    let reason = Reason::DeadlineExceeded;
    let status = Answer::new(reason, reason.meaning()).status();
    status.into_http()
}
