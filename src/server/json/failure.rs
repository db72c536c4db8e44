//! Errors of calls as HTTP statuses with a JSON body.

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::text;
use crate::errors::code_name;

pub(super) fn response(status: &Status) -> Response {
    let mut response = Body::from(text(&body(status))).into_response();
    *response.status_mut() = http_status(status.code());
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    if status.code() == Code::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    let details = status.get_error_details();
    if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    let request = details.request_info().map(|info| info.request_id.as_str());
    if let Some(id) = request.and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert("x-request-id", id);
    }
    response
}

/// `{"error": {"status", "reason", "message", ..}}`: what a program needs of a status and its details.
pub(super) fn body(status: &Status) -> Value {
    let details = status.get_error_details();
    let mut error = Map::new();
    let mut set = |name: &str, value: Value| error.insert(name.to_owned(), value);
    set("status", code_name(status.code()).into());
    if let Some(info) = details.error_info() {
        set("reason", info.reason.as_str().into());
    }
    set("message", status.message().into());
    if let Some(info) = details
        .error_info()
        .filter(|info| !info.metadata.is_empty())
    {
        set("metadata", json!(info.metadata));
    }
    if let Some(violations) = details.bad_request().map(|bad| &bad.field_violations) {
        let field = |v: &tonic_types::FieldViolation| json!({"field": v.field, "description": v.description});
        set("fields", violations.iter().map(field).collect());
    }
    if let Some(violations) = details.quota_failure().map(|quota| &quota.violations) {
        let quota = |v: &tonic_types::QuotaViolation| json!({"subject": v.subject, "description": v.description});
        set("quotas", violations.iter().map(quota).collect());
    }
    if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
        set("retry_after_seconds", delay.as_secs_f64().into());
    }
    if let Some(request) = details.request_info() {
        set("request_id", request.request_id.as_str().into());
    }
    json!({ "error": error })
}

/// As google.rpc.Code says it.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable | Code::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
