//! The operators' port: Prometheus, liveness, readiness, and the level of the log.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;

use super::{log::LogLevel, prometheus};
use crate::{hub::Hub, model::FeedName};

/// Whether the server takes calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub(super) fn set(&self, ready: Ready) {
        self.0.store(ready == Ready::Yes, Relaxed);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    Yes,
    No,
}

type Scraped = (PrometheusHandle, Arc<Hub>);

pub(super) fn router(scraped: Scraped, ready: Readiness, log_level: Option<LogLevel>) -> Router {
    let scrape = get(|State((metrics, hub)): State<Scraped>| async move {
        let kind = [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )];
        (kind, prometheus::render(&metrics, |feed| has(&hub, feed)))
    });
    Router::new()
        .route("/metrics", scrape.with_state(scraped))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz).with_state(ready))
        .route(
            "/log-level",
            get(tell_level).put(set_level).with_state(log_level),
        )
}

async fn tell_level(State(level): State<Option<LogLevel>>) -> impl IntoResponse {
    match level {
        Some(level) => (StatusCode::OK, format!("{}\n", level.get())),
        None => (StatusCode::NOT_FOUND, String::new()),
    }
}

/// Only from this machine, and not from a web page on it: neither the page's own origin nor a name
/// that it had resolved to this address gets here.
async fn set_level(
    State(level): State<Option<LogLevel>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    wanted: String,
) -> impl IntoResponse {
    if !peer.ip().to_canonical().is_loopback() || headers.contains_key(header::ORIGIN) {
        let text = "the log level is changed from the server's own machine only\n";
        return (StatusCode::FORBIDDEN, text.to_owned());
    }
    let Some(level) = level else {
        return (StatusCode::NOT_FOUND, String::new());
    };
    match level.set(wanted.trim()) {
        Ok(()) => (StatusCode::OK, format!("{}\n", level.get())),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

fn has(hub: &Hub, feed: &str) -> bool {
    feed.parse::<FeedName>()
        .is_ok_and(|name| hub.feed(&name).is_ok())
}

async fn readyz(State(ready): State<Readiness>) -> impl IntoResponse {
    if ready.0.load(Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n")
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tower::ServiceExt as _;

    use super::*;
    use crate::{hub::HubOptions, store::MemoryEngine};

    #[tokio::test]
    async fn the_log_level_is_changed_from_this_machine_only() {
        let hub = Hub::open(Arc::new(MemoryEngine::new()), HubOptions::default()).unwrap();
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let router = router((metrics, hub), Readiness::default(), None);
        // There is no log here to change.
        for (peer, expected) in [
            ("127.0.0.1:7", StatusCode::NOT_FOUND),
            ("[::ffff:127.0.0.1]:7", StatusCode::NOT_FOUND),
            ("10.0.0.1:7", StatusCode::FORBIDDEN),
            ("[2001:db8::1]:7", StatusCode::FORBIDDEN),
        ] {
            let mut put = Request::put("/log-level")
                .body(Body::from("debug"))
                .unwrap();
            let address: SocketAddr = peer.parse().unwrap();
            put.extensions_mut().insert(ConnectInfo(address));
            let answer = router.clone().oneshot(put).await.unwrap();
            assert_eq!(answer.status(), expected, "{peer}");
        }
    }
}
