//! The operators' port: Prometheus, liveness, readiness.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;

use super::prometheus;
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

pub(super) fn router(metrics: PrometheusHandle, hub: Arc<Hub>, ready: Readiness) -> Router {
    let scrape = get(|State((metrics, hub)): State<Scraped>| async move {
        let kind = [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )];
        (kind, prometheus::render(&metrics, |feed| has(&hub, feed)))
    });
    Router::new()
        .route("/metrics", scrape.with_state((metrics, hub)))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz).with_state(ready))
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
