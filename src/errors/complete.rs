//! The last that is done to a status: whoever made it, it names its reason and its request, and it
//! stays below 4 KiB.

use http::{HeaderMap, HeaderName};
use prost::Message as _;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb;

use super::{DOMAIN, Reason, answer::shorten, code_name};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The domain of a reason that is only the name of its code.
const CODES: &str = "grpc.io";
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
const REQUEST_INFO: &str = "type.googleapis.com/google.rpc.RequestInfo";
/// Of a status in headers, the names of the headers included.
const MAX_BYTES: usize = 4_000;
const MAX_SHORT_MESSAGE_BYTES: usize = 128;

/// Completes the status in headers or trailers, if there is one and it is an error.
pub fn complete(headers: &mut HeaderMap, request_id: &str) {
    if headers.get(GRPC_STATUS).is_none_or(|code| code == "0") {
        return;
    }
    let Some(status) = Status::from_header_map(headers) else {
        return;
    };
    let completed = completed(&status, request_id);
    if let Err(unwritable) = completed.add_header(headers) {
        tracing::error!(%unwritable, "a status does not fit into headers");
    }
}

fn completed(status: &Status, request_id: &str) -> Status {
    let mut details = pb::Status::decode(status.details()).unwrap_or_default();
    details.code = i32::from(status.code());
    details.message = status.message().to_owned();
    let has = |details: &pb::Status, url: &str| details.details.iter().any(|d| d.type_url == url);
    if !has(&details, ERROR_INFO) {
        details
            .details
            .insert(0, any(&error_info(status), ERROR_INFO));
    }
    if !has(&details, REQUEST_INFO) {
        let id = pb::RequestInfo {
            request_id: request_id.into(),
            serving_data: String::new(),
        };
        details.details.push(any(&id, REQUEST_INFO));
    }
    fit(&mut details);
    let bytes = details.encode_to_vec().into();
    Status::with_details(status.code(), details.message, bytes)
}

/// What can be said of a status whose maker said no more than its code.
fn error_info(status: &Status) -> pb::ErrorInfo {
    let (reason, domain) = match Reason::of_bare(status) {
        Some(reason) => (reason.name(), DOMAIN),
        None => (code_name(status.code()), CODES),
    };
    pb::ErrorInfo {
        reason: reason.into(),
        domain: domain.into(),
        ..pb::ErrorInfo::default()
    }
}

impl Reason {
    /// The reason of a status that libraries made: only where its code leaves no doubt.
    fn of_bare(status: &Status) -> Option<Self> {
        match status.code() {
            Code::OutOfRange if status.message().contains("message length too large") => {
                Some(Self::MessageTooLarge)
            }
            Code::Unimplemented => Some(Self::Unimplemented),
            Code::DeadlineExceeded => Some(Self::DeadlineExceeded),
            Code::InvalidArgument => Some(Self::InvalidArgument),
            Code::Internal | Code::Unknown => Some(Self::Internal),
            Code::Ok
            | Code::Cancelled
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unauthenticated => None,
        }
    }
}

/// Leaves out what is least needed until it fits: explanations before reason, time and request.
fn fit(details: &mut pb::Status) {
    let kept = [ERROR_INFO, RETRY_INFO, REQUEST_INFO];
    while header_bytes(details) > MAX_BYTES {
        let spare = |detail: &Any| !kept.contains(&&*detail.type_url);
        match details.details.iter().rposition(spare) {
            Some(at) => drop(details.details.remove(at)),
            None if details.message.len() > MAX_SHORT_MESSAGE_BYTES => {
                details.message = shorten(&details.message, MAX_SHORT_MESSAGE_BYTES).to_owned();
            }
            None => return,
        }
    }
}

/// With every byte of the message escaped, in the worst case.
fn header_bytes(details: &pb::Status) -> usize {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b' ';
    let message = details.message.bytes();
    let message: usize = message.map(|byte| if plain(byte) { 1 } else { 3 }).sum();
    message + details.encoded_len().div_ceil(3) * 4 + 64
}

fn any(message: &impl prost::Message, url: &str) -> Any {
    Any {
        type_url: url.into(),
        value: message.encode_to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;
    use crate::errors::Answer;

    fn retry(details: &ErrorDetails) -> Option<Duration> {
        details.retry_info()?.retry_delay
    }

    fn through(status: &Status) -> (Status, usize) {
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        headers.insert("x-other", "stays".parse().unwrap());
        complete(&mut headers, &"r".repeat(128));
        assert_eq!(headers["x-other"], "stays");
        let bytes = headers.iter().map(|(n, v)| n.as_str().len() + v.len());
        (Status::from_header_map(&headers).unwrap(), bytes.sum())
    }

    #[test]
    fn every_error_names_its_reason_and_its_request() {
        let whole = Answer::new(Reason::RateLimited, "slowly")
            .quota("calls", "too many")
            .fact("a", 1)
            .status();
        let bare = |code| Status::new(code, "text");
        for (status, reason, domain) in [
            (whole, "RATE_LIMITED", DOMAIN),
            (bare(Code::Unimplemented), "UNIMPLEMENTED", DOMAIN),
            (bare(Code::Internal), "INTERNAL", DOMAIN),
            (bare(Code::NotFound), "NOT_FOUND", CODES),
            (
                Status::with_details(Code::Aborted, "", "garbage".into()),
                "ABORTED",
                CODES,
            ),
        ] {
            let (completed, _) = through(&status);
            assert_eq!(completed.code(), status.code());
            assert_eq!(completed.message(), status.message());
            let before = status.get_error_details();
            let after = completed.get_error_details();
            let info = after.error_info().unwrap();
            assert_eq!((&*info.reason, &*info.domain), (reason, domain));
            assert_eq!(after.request_info().unwrap().request_id, "r".repeat(128));
            assert_eq!(retry(&after), retry(&before));
            assert_eq!(
                after.quota_failure().is_some(),
                before.quota_failure().is_some()
            );
            // What is complete stays as it is.
            assert_eq!(through(&completed).0.details(), completed.details());
        }
    }

    #[test]
    fn success_is_left_alone() {
        let mut headers = HeaderMap::new();
        Status::ok("").add_header(&mut headers).unwrap();
        let before = headers.clone();
        complete(&mut headers, "id");
        assert_eq!(headers, before);
    }

    #[test]
    fn what_is_too_long_loses_its_explanations_first() {
        let long = "ä".repeat(100_000);
        let full = Answer::new(Reason::RateLimited, &long)
            .field(&long, &long)
            .field(&long, &long)
            .quota(&long, &long)
            .precondition(&long)
            .resource("feed", &long)
            .fact("key", &long)
            .status();
        let huge = Status::new(Code::Internal, &long[..20_000]);
        for status in [full, huge] {
            let (completed, bytes) = through(&status);
            assert!(bytes < 4_096, "{bytes}");
            let details = completed.get_error_details();
            assert!(details.request_info().is_some() && details.error_info().is_some());
            assert_eq!(retry(&details), retry(&status.get_error_details()));
        }
    }
}
