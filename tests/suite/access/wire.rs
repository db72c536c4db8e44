//! A connection that leaves it to the server to end a call at its deadline; tonic's would do so
//! itself.

use std::{
    net::SocketAddr,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{Request, Response, Uri, uri::Scheme};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::body::Body;
use tower::Service;

#[derive(Clone, Debug)]
pub(super) struct Wire {
    address: SocketAddr,
    requests: SendRequest<Body>,
}

impl Wire {
    pub(super) async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let shaken = handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (requests, connection) = shaken.await.unwrap();
        tokio::spawn(connection);
        Self { address, requests }
    }
}

impl Service<Request<Body>> for Wire {
    type Response = Response<Body>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, hyper::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.requests.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let mut uri = parts.uri.into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.address.to_string().parse().unwrap());
        parts.uri = Uri::from_parts(uri).unwrap();
        let answered = self.requests.send_request(Request::from_parts(parts, body));
        Box::pin(async move { Ok(answered.await?.map(Body::new)) })
    }
}
