//! A unary call is answered when its caller's deadline comes, whether or not the handler is done.
//! Streams end themselves, by `Call::over`.

use std::{future::Future, sync::Arc};

use axum::body::Body;
use http::Response;
use tokio::time::timeout_at;
use tower::Layer;

use super::{
    Call,
    shape::{Answered, Answering, Course, OnCourse},
};
use crate::errors::{Answer, Reason};

#[derive(Clone, Copy, Debug, Default)]
pub struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = OnCourse<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        let course = *self;
        OnCourse { inner, course }
    }
}

impl Course for DeadlineLayer {
    fn run<F>(&self, call: Arc<Call>, go: impl FnOnce() -> F) -> Answering
    where
        F: Future<Output = Answered> + Send + 'static,
    {
        let deadline = call.deadline.filter(|_| !call.rpc.is_stream());
        let answered = go();
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
