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
