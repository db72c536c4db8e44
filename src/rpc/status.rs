//! The only table from errors to statuses: a code, a sentence that says what to do, and
//! `google.rpc` details a program can read. Every match is exhaustive.

use std::{collections::HashMap, time::Duration};

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _, pb};

use crate::{
    hub::{AppendError, CatalogError, FollowError, SequenceError},
    proto::{v1, wire::Invalid},
    store::StoreError,
};

/// The domain of `ErrorInfo.reason`.
pub const DOMAIN: &str = "ringfeed";
/// A larger status does not reach all clients: HTTP/2 peers bound headers at 16 KiB.
const MAX_MESSAGE_BYTES: usize = 1_024;
const RETRY_SOON: Duration = Duration::from_secs(1);

/// A status with a stable reason and details.
fn status(code: Code, reason: &str, message: &str, details: ErrorDetails) -> Status {
    with_facts(code, reason, message, details, HashMap::new())
}

fn with_facts(
    code: Code,
    reason: &str,
    message: &str,
    mut details: ErrorDetails,
    facts: HashMap<String, String>,
) -> Status {
    let end = message.floor_char_boundary(MAX_MESSAGE_BYTES);
    let message = message.get(..end).unwrap_or(message);
    details.set_error_info(reason, DOMAIN, facts);
    Status::with_error_details(code, message, details)
}

/// A request field that cannot be taken as it is.
pub fn invalid_argument(field: &str, message: &str) -> Status {
    let details = ErrorDetails::with_bad_request_violation(field, message);
    status(
        Code::InvalidArgument,
        "INVALID_ARGUMENT",
        &format!("{field}: {message}"),
        details,
    )
}

/// A device sent more than it was granted.
pub fn credit_exceeded(in_flight: u64, window: u64) -> Status {
    let message = format!(
        "{in_flight} bytes are in flight and {window} may be: wait for the credit that comes with each ack, and send smaller batches"
    );
    let details = ErrorDetails::with_precondition_failure_violation(
        "CREDIT_EXCEEDED",
        "credit",
        message.as_str(),
    );
    status(
        Code::FailedPrecondition,
        "CREDIT_EXCEEDED",
        &message,
        details,
    )
}

/// Part of the API that this version does not have yet.
pub fn stopping() -> Status {
    let details = ErrorDetails::with_retry_info(Some(RETRY_SOON));
    status(
        Code::Unavailable,
        "STOPPING",
        "the server is stopping; connect again",
        details,
    )
}

pub fn catalog(error: &CatalogError) -> Status {
    let message = error.to_string();
    let resource = |name: &str| {
        let mut details = ErrorDetails::new();
        details.set_resource_info("feed", name, "", message.as_str());
        details
    };
    match error {
        CatalogError::InvalidName(_) => invalid_argument("feed", &message),
        CatalogError::InvalidGlob { .. } => invalid_argument("glob", &message),
        CatalogError::UnknownFeed { name } => status(
            Code::NotFound,
            "UNKNOWN_FEED",
            &message,
            resource(name.as_str()),
        ),
        CatalogError::FeedExists { name } => status(
            Code::AlreadyExists,
            "FEED_EXISTS",
            &message,
            resource(name.as_str()),
        ),
        CatalogError::UnknownProducer { feed, .. } => status(
            Code::NotFound,
            "UNKNOWN_PRODUCER",
            &message,
            resource(feed.as_str()),
        ),
        CatalogError::UnknownCursor { feed, .. } => status(
            Code::NotFound,
            "UNKNOWN_CURSOR",
            &message,
            resource(feed.as_str()),
        ),
        CatalogError::CursorLimit { .. } => quota("CURSOR_LIMIT", "named cursors", &message),
        CatalogError::CursorBeyond { .. } => invalid_argument("cursor.offset", &message),
        CatalogError::CursorEpoch { .. } => precondition("EPOCH_CHANGED", "cursor.epoch", &message),
        CatalogError::CursorNotStored { .. } => status(
            Code::Unavailable,
            "STORE_FAILED",
            &message,
            ErrorDetails::new(),
        ),
        CatalogError::FeedLimit { .. } => quota("FEED_LIMIT", "feeds", &message),
        CatalogError::NoRoom { .. } => quota("NO_ROOM", "ring bytes", &message),
        CatalogError::Stopping => stopping(),
        CatalogError::Store(error) => store(error),
    }
}

pub fn append(error: &AppendError) -> Status {
    let message = error.to_string();
    match error {
        AppendError::Sequence(error) => sequence(error, &message),
        AppendError::Atomic { index, invalid } => refused(*index, invalid, &message),
        AppendError::ProducerLimit { .. } => quota("PRODUCER_LIMIT", "producers", &message),
        AppendError::FeedDeleted => status(
            Code::NotFound,
            "FEED_DELETED",
            &message,
            ErrorDetails::new(),
        ),
        AppendError::Fenced => status(
            Code::Aborted,
            "PRODUCER_FENCED",
            &message,
            ErrorDetails::new(),
        ),
        AppendError::Overloaded { .. } => {
            let details = ErrorDetails::with_retry_info(Some(RETRY_SOON));
            status(Code::ResourceExhausted, "OVERLOADED", &message, details)
        }
        AppendError::Stopping => stopping(),
        AppendError::Store {
            disk_full: true, ..
        } => quota("DISK_FULL", "disk", &message),
        AppendError::Store {
            disk_full: false, ..
        } => status(
            Code::Unavailable,
            "STORE_FAILED",
            &message,
            ErrorDetails::new(),
        ),
    }
}

pub fn follow(error: &FollowError) -> Status {
    match error {
        FollowError::FeedDeleted { .. } => status(
            Code::NotFound,
            "FEED_DELETED",
            &error.to_string(),
            ErrorDetails::new(),
        ),
        FollowError::ViewsFull => {
            let details = ErrorDetails::with_retry_info(Some(RETRY_SOON));
            let message = error.to_string();
            status(Code::ResourceExhausted, "VIEWS_FULL", &message, details)
        }
        FollowError::ViewTooLarge { .. } => {
            quota("VIEW_TOO_LARGE", "bytes of a view", &error.to_string())
        }
        FollowError::Stopping => stopping(),
        FollowError::Store(error) => store(error),
    }
}

/// A selector took in too many feeds.
pub fn too_many_feeds(limit: usize) -> Status {
    let message = format!(
        "a stream follows at most {limit} feeds; match fewer of them, or use several streams"
    );
    quota("TOO_MANY_FEEDS", "feeds of a stream", &message)
}

/// A session has as many selectors as it may have.
pub fn too_many_selectors(limit: usize) -> Status {
    let message =
        format!("a session has at most {limit} selectors; remove one, or open another session");
    quota("SELECTOR_LIMIT", "selectors of a session", &message)
}

/// A subscriber that fell behind further than it wanted to.
pub fn too_slow() -> Status {
    status(
        Code::Aborted,
        "SLOW_SUBSCRIBER",
        "the subscriber is behind further than its slow policy allows; go on with the resume token when it can keep up",
        ErrorDetails::new(),
    )
}

/// A selector that a session does not have.
pub fn unknown_selector(id: u32) -> Status {
    let message = format!("the session has no selector {id}; set it first");
    status(
        Code::NotFound,
        "UNKNOWN_SELECTOR",
        &message,
        ErrorDetails::new(),
    )
}

fn sequence(error: &SequenceError, message: &str) -> Status {
    let precondition = |reason: &str, facts: HashMap<String, String>| {
        let details =
            ErrorDetails::with_precondition_failure_violation(reason, "producer", message);
        with_facts(Code::FailedPrecondition, reason, message, details, facts)
    };
    match error {
        SequenceError::Gap { expected, .. } => precondition(
            "SEQUENCE_GAP",
            HashMap::from([("expected".into(), expected.to_string())]),
        ),
        SequenceError::Reused { sequence } => precondition(
            "SEQUENCE_REUSED",
            HashMap::from([("sequence".into(), sequence.to_string())]),
        ),
        SequenceError::BeforeStart { start } => precondition(
            "SEQUENCE_REUSED",
            HashMap::from([("start".into(), start.to_string())]),
        ),
        SequenceError::OutOfRange => invalid_argument("first_sequence", message),
    }
}

fn refused(index: usize, invalid: &Invalid, message: &str) -> Status {
    let field = format!("records[{index}].{}", invalid.field);
    let details = ErrorDetails::with_bad_request_violation(field, invalid.message.as_str());
    status(
        Code::InvalidArgument,
        invalid.reason.code(),
        message,
        details,
    )
}

/// Something has to be done first.
pub fn precondition(reason: &str, subject: &str, message: &str) -> Status {
    let details = ErrorDetails::with_precondition_failure_violation(reason, subject, message);
    status(Code::FailedPrecondition, reason, message, details)
}

fn quota(reason: &str, subject: &str, message: &str) -> Status {
    let details = ErrorDetails::with_quota_failure_violation(subject, message);
    status(Code::ResourceExhausted, reason, message, details)
}

fn store(error: &StoreError) -> Status {
    let message = error.to_string();
    let plain = |code, reason| status(code, reason, &message, ErrorDetails::new());
    match error {
        StoreError::DiskFull { .. } => quota("DISK_FULL", "disk", &message),
        StoreError::RingTooSmall { .. } => invalid_argument("retention.max_bytes", &message),
        StoreError::Resizing => {
            let details = ErrorDetails::with_retry_info(Some(RETRY_SOON));
            status(Code::FailedPrecondition, "RESIZING", &message, details)
        }
        StoreError::ReadTimeout { .. } => plain(Code::Unavailable, "READ_TIMEOUT"),
        StoreError::Damaged { .. } => plain(Code::DataLoss, "DAMAGED"),
        StoreError::Io { .. }
        | StoreError::Locked { .. }
        | StoreError::Stopped { .. }
        | StoreError::NewerFormat { .. }
        | StoreError::OlderFormat { .. }
        | StoreError::RecordTooLarge { .. } => plain(Code::Unavailable, "STORE_FAILED"),
    }
}

/// Adds how far an upload came to its failure.
pub fn with_progress(failure: &Status, progress: &v1::IngestProgress) -> Status {
    let mut details = pb::Status::decode(failure.details()).unwrap_or_default();
    details.code = i32::from(failure.code());
    details.message = failure.message().to_owned();
    details.details.push(prost_types::Any {
        type_url: "type.googleapis.com/ringfeed.v1.IngestProgress".into(),
        value: progress.encode_to_vec(),
    });
    let bytes = details.encode_to_vec().into();
    Status::with_details(failure.code(), failure.message(), bytes)
}

/// What tonic answers to a message it cannot take, in the terms of this API.
pub fn of_request(status: Status) -> Status {
    if status.code() == Code::OutOfRange {
        let text = "a message is at most 1 MiB; send smaller batches";
        return quota("MESSAGE_TOO_LARGE", "message bytes", text);
    }
    if status.code() == Code::Internal && status.message().contains("decode") {
        return not_protobuf();
    }
    status
}

/// A message that is none.
pub fn not_protobuf() -> Status {
    let text = "is not a valid protobuf message; use this server's proto files";
    invalid_argument("message", text)
}
