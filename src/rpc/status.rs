//! What errors of the hub are to a caller: a reason of the table in `errors`, a sentence that says
//! what to do, and `google.rpc` details a program can read. Every match is exhaustive.

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::pb;

use crate::{
    errors::{Answer, Reason},
    hub::{AppendError, CatalogError, FollowError, SequenceError},
    proto::{
        v1,
        wire::{Invalid, Reason as RecordReason},
    },
    store::StoreError,
};

/// A request field that cannot be taken as it is.
pub fn invalid_argument(field: &str, message: &str) -> Status {
    Answer::new(Reason::InvalidArgument, format!("{field}: {message}"))
        .field(field, message)
        .status()
}

/// A device sent more than it was granted.
pub fn credit_exceeded(in_flight: u64, window: u64) -> Status {
    let message = format!(
        "{in_flight} bytes are in flight and {window} may be: wait for the credit that comes with each ack, and send smaller batches"
    );
    precondition(Reason::CreditExceeded, "credit", message)
}

pub fn stopping() -> Status {
    let message = "the server is stopping; connect again";
    Answer::new(Reason::Stopping, message).status()
}

pub fn catalog(error: &CatalogError) -> Status {
    let message = error.to_string();
    let of_feed = |reason, name: &str| {
        let answer = Answer::new(reason, message.as_str());
        answer.resource("feed", name).status()
    };
    match error {
        CatalogError::InvalidName(_) => invalid_argument("feed", &message),
        CatalogError::InvalidGlob { .. } => invalid_argument("glob", &message),
        CatalogError::UnknownFeed { name } => of_feed(Reason::UnknownFeed, name.as_str()),
        CatalogError::FeedExists { name } => of_feed(Reason::FeedExists, name.as_str()),
        CatalogError::UnknownProducer { feed, .. } => {
            of_feed(Reason::UnknownProducer, feed.as_str())
        }
        CatalogError::UnknownCursor { feed, .. } => of_feed(Reason::UnknownCursor, feed.as_str()),
        CatalogError::CursorLimit { .. } => quota(Reason::CursorLimit, "named cursors", message),
        CatalogError::CursorBeyond { .. } => invalid_argument("cursor.offset", &message),
        CatalogError::CursorEpoch { .. } => {
            precondition(Reason::EpochChanged, "cursor.epoch", message)
        }
        CatalogError::CursorNotStored { .. } => plain(Reason::StoreFailed, message),
        CatalogError::FeedLimit { .. } => quota(Reason::FeedLimit, "feeds", message),
        CatalogError::NoRoom { .. } => quota(Reason::NoRoom, "ring bytes", message),
        CatalogError::Stopping => stopping(),
        CatalogError::Store(error) => store(error),
    }
}

pub fn append(error: &AppendError) -> Status {
    let message = error.to_string();
    match error {
        AppendError::Sequence(error) => sequence(error, message),
        AppendError::Atomic { index, invalid } => refused(*index, invalid, message),
        AppendError::ProducerLimit { .. } => quota(Reason::ProducerLimit, "producers", message),
        AppendError::FeedDeleted => plain(Reason::FeedDeleted, message),
        AppendError::Fenced => plain(Reason::ProducerFenced, message),
        AppendError::Overloaded { .. } => plain(Reason::Overloaded, message),
        AppendError::Stopping => stopping(),
        AppendError::Store { disk_full, .. } if *disk_full => {
            quota(Reason::DiskFull, "disk", message)
        }
        AppendError::Store { .. } => plain(Reason::StoreFailed, message),
    }
}

pub fn follow(error: &FollowError) -> Status {
    match error {
        FollowError::FeedDeleted { .. } => plain(Reason::FeedDeleted, error.to_string()),
        FollowError::ViewsFull => plain(Reason::ViewsFull, error.to_string()),
        FollowError::ViewTooLarge { .. } => {
            quota(Reason::ViewTooLarge, "bytes of a view", error.to_string())
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
    quota(Reason::TooManyFeeds, "feeds of a stream", message)
}

/// A session has as many selectors as it may have.
pub fn too_many_selectors(limit: usize) -> Status {
    let message =
        format!("a session has at most {limit} selectors; remove one, or open another session");
    quota(Reason::SelectorLimit, "selectors of a session", message)
}

/// A subscriber that fell behind further than it wanted to.
pub fn too_slow() -> Status {
    let message = "the subscriber is behind further than its slow policy allows; go on with the resume token when it can keep up";
    plain(Reason::SlowSubscriber, message)
}

/// A selector that a session does not have.
pub fn unknown_selector(id: u32) -> Status {
    let message = format!("the session has no selector {id}; set it first");
    plain(Reason::UnknownSelector, message)
}

fn sequence(error: &SequenceError, message: String) -> Status {
    let answer = |reason| Answer::new(reason, message.as_str()).precondition("producer");
    match error {
        SequenceError::Gap { expected, .. } => answer(Reason::SequenceGap)
            .fact("expected", expected)
            .status(),
        SequenceError::Reused { sequence } => answer(Reason::SequenceReused)
            .fact("sequence", sequence)
            .status(),
        SequenceError::BeforeStart { start } => {
            answer(Reason::SequenceReused).fact("start", start).status()
        }
        SequenceError::OutOfRange => invalid_argument("first_sequence", &message),
    }
}

fn refused(index: usize, invalid: &Invalid, message: String) -> Status {
    let field = format!("records[{index}].{}", invalid.field);
    let kind = if invalid.reason == RecordReason::KeyNotAllowed {
        Reason::PermissionDenied
    } else {
        Reason::InvalidArgument
    };
    Answer::of_record(kind, invalid.reason.code(), message)
        .field(&field, &invalid.message)
        .status()
}

/// Something has to be done first.
pub fn precondition(reason: Reason, subject: &str, message: impl Into<String>) -> Status {
    Answer::new(reason, message).precondition(subject).status()
}

fn quota(reason: Reason, subject: &str, message: impl Into<String>) -> Status {
    let answer = Answer::new(reason, message);
    let what = reason.meaning();
    answer.quota(subject, what).status()
}

fn plain(reason: Reason, message: impl Into<String>) -> Status {
    Answer::new(reason, message).status()
}

fn store(error: &StoreError) -> Status {
    let message = error.to_string();
    match error {
        StoreError::DiskFull { .. } => quota(Reason::DiskFull, "disk", message),
        StoreError::RingTooSmall { .. } => invalid_argument("retention.max_bytes", &message),
        StoreError::Resizing => plain(Reason::Resizing, message),
        StoreError::ReadTimeout { .. } => plain(Reason::ReadTimeout, message),
        StoreError::Damaged { .. } => plain(Reason::Damaged, message),
        StoreError::Io { .. }
        | StoreError::Locked { .. }
        | StoreError::Stopped { .. }
        | StoreError::NewerFormat { .. }
        | StoreError::OlderFormat { .. }
        | StoreError::RecordTooLarge { .. } => plain(Reason::StoreFailed, message),
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
        return quota(Reason::MessageTooLarge, "message bytes", text);
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
