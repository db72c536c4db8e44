//! A collector of spans that throws them away: what they cost the server is measured, and nothing
//! behind it.

use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use axum::{Router, body::Body, extract::State};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use tokio::{net::TcpListener, task::JoinHandle};

/// Takes whatever is exported over gRPC, until it is dropped.
#[derive(Debug)]
pub(super) struct Collector {
    pub endpoint: String,
    exported: Arc<AtomicU64>,
    serving: JoinHandle<io::Result<()>>,
}

impl Collector {
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let exported = Arc::new(AtomicU64::new(0));
        let router = Router::new()
            .fallback(take)
            .with_state(Arc::clone(&exported));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            endpoint,
            exported,
            serving,
        })
    }

    /// Bytes of spans that came in.
    pub(super) fn exported(&self) -> u64 {
        self.exported.load(Relaxed)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Answers a call with an empty message and OK.
async fn take(
    State(exported): State<Arc<AtomicU64>>,
    request: Request<Body>,
) -> Result<Response<Body>, StatusCode> {
    let spans = request.into_body().collect().await;
    let spans = spans.map_err(|_broken| StatusCode::BAD_REQUEST)?.to_bytes();
    exported.fetch_add(spans.len() as u64, Relaxed);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let message = Full::new(Bytes::from_static(&[0; 5]));
    let body = message.with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(Body::new(body));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    Ok(response)
}
