//! Calls in process, on behalf of a request: they go through the layers as if the caller had made them.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use axum::{Router, body::Body, extract::Request, routing::future::RouteFuture};
use http::{HeaderMap, Response};
use tower::Service;

use crate::{
    layers::{CARRIED, Peer},
    proto::v1::{
        catalog_service_client::CatalogServiceClient, feed_service_client::FeedServiceClient,
    },
};

/// Makes calls in the name of one request: from its peer, with what its headers say of the caller.
#[derive(Clone, Debug)]
pub(super) struct Carrier {
    calls: Router,
    peer: Option<Peer>,
    headers: HeaderMap,
}

impl Carrier {
    pub(super) fn new(calls: Router, request: &Request) -> Self {
        let mut headers = HeaderMap::new();
        for name in CARRIED {
            for value in request.headers().get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        Self {
            calls,
            peer: request.extensions().get().cloned(),
            headers,
        }
    }

    pub(super) fn feeds(self) -> FeedServiceClient<Self> {
        // What this server sends itself has its bounds already.
        FeedServiceClient::new(self).max_decoding_message_size(usize::MAX)
    }

    pub(super) fn catalog(self) -> CatalogServiceClient<Self> {
        CatalogServiceClient::new(self).max_decoding_message_size(usize::MAX)
    }
}

impl Service<http::Request<tonic::body::Body>> for Carrier {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router is ready at any time.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: http::Request<tonic::body::Body>) -> Self::Future {
        let mut call = call.map(Body::new);
        call.headers_mut().extend(self.headers.clone());
        if let Some(peer) = &self.peer {
            call.extensions_mut().insert(peer.clone());
        }
        self.calls.call(call)
    }
}
