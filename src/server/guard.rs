//! What a browser could be made to do, refused before any call or page: requests for a host that is
//! not ours, requests of foreign pages. And what paths that lead nowhere answer.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};

use super::{config::Config, hosts::Hosts, origins::Origins};
use crate::{
    errors::{Answer, Reason},
    metrics,
};

#[derive(Debug)]
struct Guard {
    hosts: Hosts,
    origins: Origins,
}

/// Around everything of the gRPC port.
pub(super) fn around(router: Router, config: &Config) -> Router {
    let guard = Guard {
        hosts: Hosts::new(config.listen, &config.allowed_hosts),
        origins: Origins::new(&config.cors_origins),
    };
    let check = middleware::from_fn_with_state(Arc::new(guard), check);
    router.fallback(nowhere).layer(check)
}

/// Around the operators' port: names are for clients, so it only knows those of its address.
pub(super) fn around_admin(router: Router, config: &Config) -> Router {
    let guard = Guard {
        hosts: Hosts::new(config.metrics_listen, &[]),
        origins: Origins::new(&[]),
    };
    router.layer(middleware::from_fn_with_state(Arc::new(guard), check))
}

async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let (uri, headers) = (request.uri(), request.headers());
    if !guard.hosts.allow(uri, headers) {
        metrics::count_request_refused("host");
        let text = "the host that was asked for is none of this server's; allowed_hosts lists them";
        return refused(headers, Reason::HostNotAllowed, text);
    }
    if !guard.origins.allow(uri, headers) {
        metrics::count_request_refused("origin");
        // A browser: it has no use for a status of gRPC that it may not read.
        let text = "pages of that origin may not call here; cors_origins lists those that may";
        return plain(StatusCode::FORBIDDEN, text);
    }
    next.run(request).await
}

fn refused(headers: &HeaderMap, reason: Reason, text: &'static str) -> Response {
    match grpc_kind(headers) {
        Some(kind) => in_grpc(kind, reason, text),
        None => plain(StatusCode::FORBIDDEN, text),
    }
}

/// A path of no call and no page.
async fn nowhere(request: Request) -> Response {
    metrics::count_request_refused("path");
    match grpc_kind(request.headers()) {
        Some(kind) => in_grpc(
            kind,
            Reason::Unimplemented,
            "this server has no such service; is the client of another version?",
        ),
        None => plain(StatusCode::NOT_FOUND, "there is no such page"),
    }
}

/// The content type of a gRPC request, which its answer has as well.
fn grpc_kind(headers: &HeaderMap) -> Option<HeaderValue> {
    let kind = headers.get(header::CONTENT_TYPE)?;
    kind.as_bytes()
        .starts_with(b"application/grpc")
        .then(|| kind.clone())
}

/// A response without a body: the status is in its headers, where gRPC and gRPC-Web look for it.
fn in_grpc(kind: HeaderValue, reason: Reason, text: &str) -> Response {
    let status = Answer::new(reason, text).status();
    let mut response = status.into_http::<Body>();
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let headers = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, format!("{text}\n")).into_response()
}
