//! Feeds without protobuf: JSON for `curl`, scripts and Grafana, and server-sent events for
//! `new EventSource(..)`. Each answer is made of a gRPC call that this server makes to itself in
//! process, on behalf of whoever asks: so tokens, limits, log, metrics and errors are those of calls
//! ([`carrier`]). docs/http.md has the addresses; what records look like is in `proto/json`.
//!
//! ```text
//! GET -> asked (address -> request) -> carrier -> layers -> rpc -> latest | bars | live -> body
//! ```

mod asked;
mod bars;
mod carrier;
mod catalog;
mod failure;
mod latest;
mod live;
mod place;
#[cfg(test)]
mod tests;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tonic::{Status, metadata::MetadataMap};

use self::{asked::Asked, carrier::Carrier};

/// What of a call's answer goes on to whoever asked.
const TOLD: [&str; 4] = [
    "x-request-id",
    "traceresponse",
    "x-feature-flags",
    "x-feature-flags-ignored",
];

const EVENTS: &str = "text/event-stream";

/// The addresses below `/v1`, answered by `calls`: the services with all that is around them.
pub(super) fn router(calls: Router) -> Router {
    Router::new()
        .route("/v1/feeds", get(feeds))
        .route("/v1/feeds/{feed}", get(feed))
        .route("/v1/feeds/{feed}/keys", get(keys))
        .route("/v1/feeds/{feed}/latest", get(latest))
        .route("/v1/feeds/{feed}/bars", get(bars))
        .route("/v1/feeds/{feed}/live", get(live))
        .with_state(calls)
}

async fn feeds(State(calls): State<Router>, request: Request) -> Response {
    let carrier = Carrier::new(calls, &request);
    answer(catalog::feeds(carrier, Asked::of(request.uri())).await)
}

async fn feed(State(calls): State<Router>, Path(feed): Path<String>, request: Request) -> Response {
    let carrier = Carrier::new(calls, &request);
    answer(catalog::feed(carrier, feed, Asked::of(request.uri())).await)
}

async fn keys(State(calls): State<Router>, Path(feed): Path<String>, request: Request) -> Response {
    let carrier = Carrier::new(calls, &request);
    answer(catalog::keys(carrier, feed, Asked::of(request.uri())).await)
}

async fn latest(
    State(calls): State<Router>,
    Path(feed): Path<String>,
    request: Request,
) -> Response {
    let carrier = Carrier::new(calls, &request);
    answer(latest::latest(carrier, feed, Asked::of(request.uri())).await)
}

async fn bars(State(calls): State<Router>, Path(feed): Path<String>, request: Request) -> Response {
    let carrier = Carrier::new(calls, &request);
    answer(bars::bars(carrier, feed, Asked::of(request.uri())).await)
}

async fn live(State(calls): State<Router>, Path(feed): Path<String>, request: Request) -> Response {
    let carrier = Carrier::new(calls, &request);
    let asked = Asked::of(request.uri());
    answer(live::live(carrier, feed, asked, request.headers()).await)
}

/// A body and what to say of it.
struct Answer {
    content_type: &'static str,
    metadata: MetadataMap,
    body: Body,
}

impl Answer {
    fn json(metadata: MetadataMap, body: impl Into<Body>) -> Self {
        Self {
            content_type: "application/json",
            metadata,
            body: body.into(),
        }
    }
}

fn answer(result: Result<Answer, Status>) -> Response {
    let mut response = match result {
        Ok(answer) => {
            let mut response = answer.body.into_response();
            let headers = response.headers_mut();
            let content_type = HeaderValue::from_static(answer.content_type);
            headers.insert(header::CONTENT_TYPE, content_type);
            headers.extend(told(answer.metadata));
            response
        }
        Err(status) => failure::response(&status),
    };
    let always = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Pages of other origins read it by CORS or not at all.
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    let headers = response.headers_mut();
    if headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == EVENTS)
    {
        // Else nginx keeps events back until it has some KiB of them.
        let no = HeaderValue::from_static("no");
        headers.insert(HeaderName::from_static("x-accel-buffering"), no);
    }
    headers.extend(always.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

fn told(metadata: MetadataMap) -> HeaderMap {
    let mut headers = metadata.into_headers();
    TOLD.into_iter()
        .filter_map(|name| {
            let value = headers.remove(name)?;
            Some((HeaderName::from_static(name), value))
        })
        .collect()
}

/// JSON text as a piece of a body.
fn text(value: &serde_json::Value) -> Bytes {
    value.to_string().into()
}
