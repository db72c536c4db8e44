//! The context of a call: its request id, made where none came, goes into the response. It makes
//! the `Call` that all other layers and the handler share.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tower::{Layer, Service};
use uuid::Uuid;

use super::{Call, Peer, Rpc};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A longer id is no id.
const MAX_ID_BYTES: usize = 128;

#[derive(Clone, Debug, Default)]
pub struct RequestContextLayer;

#[derive(Clone, Debug)]
pub struct RequestContext<S>(S);

impl<S> Layer<S> for RequestContextLayer {
    type Service = RequestContext<S>;

    fn layer(&self, inner: S) -> RequestContext<S> {
        RequestContext(inner)
    }
}

impl<S> Service<Request<Body>> for RequestContext<S>
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

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut call = Call::new(
            Rpc::of_path(request.uri().path()),
            request_id(request.headers()),
        );
        call.peer = request.extensions().get::<Peer>().cloned();
        let id = HeaderValue::from_str(&call.id).ok();
        request.extensions_mut().insert(Arc::new(call));
        let answered = self.0.call(request);
        Box::pin(async move {
            let mut response = answered.await?;
            if let Some(id) = id {
                response.headers_mut().insert(REQUEST_ID, id);
            }
            Ok(response)
        })
    }
}

fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let given = given.filter(|id| (1..=MAX_ID_BYTES).contains(&id.len()));
    given.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}
