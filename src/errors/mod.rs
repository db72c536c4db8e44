//! The one table of what can go wrong with a call: a stable reason, its status code, and what a
//! caller can do. Layers and calls both answer from it; docs/errors.md is the same table for people,
//! and a test keeps both equal. How errors of the hub map to it is in `rpc/status`.

mod answer;
mod complete;

use std::time::Duration;

use tonic::Code;

pub use self::{
    answer::{Answer, DOMAIN, reason_of},
    complete::complete,
};

/// Whether a call may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Not as it is: something has to change first.
    Changed,
    /// After the time in RetryInfo.
    After(Duration),
    /// With a backoff.
    Backoff,
    /// From where it was: streams go on with their resume token, uploads with their next sequence.
    Resume,
}

/// Why a call failed. The names are part of the API: they may be added to, and do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    InvalidArgument,
    MessageTooLarge,
    Unimplemented,
    NoCredentials,
    InvalidToken,
    TokenExpired,
    TokenRevoked,
    KeysUnavailable,
    PermissionDenied,
    HostNotAllowed,
    RateLimited,
    StreamLimit,
    Overloaded,
    UnknownFeed,
    FeedExists,
    FeedDeleted,
    FeedLimit,
    NoRoom,
    DiskFull,
    Resizing,
    UnknownProducer,
    ProducerLimit,
    ProducerFenced,
    SequenceGap,
    SequenceReused,
    CreditExceeded,
    UnknownCursor,
    CursorLimit,
    EpochChanged,
    TooManyFeeds,
    SelectorLimit,
    UnknownSelector,
    HelloTooLate,
    SlowSubscriber,
    ViewsFull,
    ViewTooLarge,
    ReadTimeout,
    Damaged,
    StoreFailed,
    Stopping,
    DeadlineExceeded,
    Internal,
}

const SOON: Duration = Duration::from_secs(1);

impl Reason {
    pub const ALL: [Self; 42] = [
        Self::InvalidArgument,
        Self::MessageTooLarge,
        Self::Unimplemented,
        Self::NoCredentials,
        Self::InvalidToken,
        Self::TokenExpired,
        Self::TokenRevoked,
        Self::KeysUnavailable,
        Self::PermissionDenied,
        Self::HostNotAllowed,
        Self::RateLimited,
        Self::StreamLimit,
        Self::Overloaded,
        Self::UnknownFeed,
        Self::FeedExists,
        Self::FeedDeleted,
        Self::FeedLimit,
        Self::NoRoom,
        Self::DiskFull,
        Self::Resizing,
        Self::UnknownProducer,
        Self::ProducerLimit,
        Self::ProducerFenced,
        Self::SequenceGap,
        Self::SequenceReused,
        Self::CreditExceeded,
        Self::UnknownCursor,
        Self::CursorLimit,
        Self::EpochChanged,
        Self::TooManyFeeds,
        Self::SelectorLimit,
        Self::UnknownSelector,
        Self::HelloTooLate,
        Self::SlowSubscriber,
        Self::ViewsFull,
        Self::ViewTooLarge,
        Self::ReadTimeout,
        Self::Damaged,
        Self::StoreFailed,
        Self::Stopping,
        Self::DeadlineExceeded,
        Self::Internal,
    ];

    /// As it stands in `ErrorInfo.reason`.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    pub const fn code(self) -> Code {
        self.row().1
    }

    pub const fn again(self) -> Again {
        self.row().2
    }

    /// One sentence for people: what happened.
    pub const fn meaning(self) -> &'static str {
        self.row().3
    }

    #[rustfmt::skip]
    const fn row(self) -> (&'static str, Code, Again, &'static str) {
        use Again::{After, Backoff, Changed, Resume};
        match self {
            Self::InvalidArgument => ("INVALID_ARGUMENT", Code::InvalidArgument, Changed, "A field of the request cannot be taken; BadRequest names it."),
            Self::MessageTooLarge => ("MESSAGE_TOO_LARGE", Code::ResourceExhausted, Changed, "A message is over 1 MiB; send smaller batches."),
            Self::Unimplemented => ("UNIMPLEMENTED", Code::Unimplemented, Changed, "This server does not have that call, or that compression."),
            Self::NoCredentials => ("NO_CREDENTIALS", Code::Unauthenticated, Changed, "The server wants to know who calls: send a token or a client certificate."),
            Self::InvalidToken => ("INVALID_TOKEN", Code::Unauthenticated, Changed, "The token, certificate or forwarded identity is not one that the server accepts."),
            Self::TokenExpired => ("TOKEN_EXPIRED", Code::Unauthenticated, Changed, "The token expired, perhaps while a stream was open; go on with a new one from the resume token."),
            Self::TokenRevoked => ("TOKEN_REVOKED", Code::Unauthenticated, Changed, "The token was taken back while a stream was open."),
            Self::KeysUnavailable => ("KEYS_UNAVAILABLE", Code::Unavailable, After(SOON), "The keys that tokens are checked with cannot be fetched at this moment."),
            Self::PermissionDenied => ("PERMISSION_DENIED", Code::PermissionDenied, Changed, "The caller's scopes do not allow this; ErrorInfo names action, feed and, where it matters, key."),
            Self::HostNotAllowed => ("HOST_NOT_ALLOWED", Code::PermissionDenied, Changed, "The host that was asked for is none of this server's; add it to allowed_hosts."),
            Self::RateLimited => ("RATE_LIMITED", Code::ResourceExhausted, After(SOON), "More than the caller's rate; QuotaFailure names the quota, RetryInfo says when there is room."),
            Self::StreamLimit => ("STREAM_LIMIT", Code::ResourceExhausted, After(SOON), "As many streams are open as may be; QuotaFailure says of whom."),
            Self::Overloaded => ("OVERLOADED", Code::ResourceExhausted, After(SOON), "The server has no room for more at this moment."),
            Self::UnknownFeed => ("UNKNOWN_FEED", Code::NotFound, Changed, "There is no feed of this name."),
            Self::FeedExists => ("FEED_EXISTS", Code::AlreadyExists, Changed, "There is a feed of this name."),
            Self::FeedDeleted => ("FEED_DELETED", Code::NotFound, Changed, "The feed was deleted while the call went on."),
            Self::FeedLimit => ("FEED_LIMIT", Code::ResourceExhausted, Changed, "The server has as many feeds as it may have."),
            Self::NoRoom => ("NO_ROOM", Code::ResourceExhausted, Changed, "The ring does not fit beside the others; make it smaller or raise store.max_total_bytes."),
            Self::DiskFull => ("DISK_FULL", Code::ResourceExhausted, Changed, "The server's disk is full."),
            Self::Resizing => ("RESIZING", Code::FailedPrecondition, After(SOON), "The ring is being resized."),
            Self::UnknownProducer => ("UNKNOWN_PRODUCER", Code::NotFound, Changed, "This principal's producer of that name is not known in the feed."),
            Self::ProducerLimit => ("PRODUCER_LIMIT", Code::ResourceExhausted, Changed, "The feed has as many producers as it may have."),
            Self::ProducerFenced => ("PRODUCER_FENCED", Code::Aborted, Changed, "A newer upload has the producer's name."),
            Self::SequenceGap => ("SEQUENCE_GAP", Code::FailedPrecondition, Changed, "Records of this producer are missing; ErrorInfo says which sequence is expected."),
            Self::SequenceReused => ("SEQUENCE_REUSED", Code::FailedPrecondition, Changed, "A sequence was used before for another record."),
            Self::CreditExceeded => ("CREDIT_EXCEEDED", Code::FailedPrecondition, Changed, "The device sent more than it was granted."),
            Self::UnknownCursor => ("UNKNOWN_CURSOR", Code::NotFound, Changed, "This principal has no such named cursor in the feed."),
            Self::CursorLimit => ("CURSOR_LIMIT", Code::ResourceExhausted, Changed, "The feed has as many named cursors as it may have."),
            Self::EpochChanged => ("EPOCH_CHANGED", Code::FailedPrecondition, Changed, "The place is of another life of the feed."),
            Self::TooManyFeeds => ("TOO_MANY_FEEDS", Code::ResourceExhausted, Changed, "The selectors of one stream match too many feeds."),
            Self::SelectorLimit => ("SELECTOR_LIMIT", Code::ResourceExhausted, Changed, "The session has as many selectors as it may have."),
            Self::UnknownSelector => ("UNKNOWN_SELECTOR", Code::NotFound, Changed, "The session has no selector of this number."),
            Self::HelloTooLate => ("HELLO_TOO_LATE", Code::FailedPrecondition, Changed, "A session says hello before it sets selectors."),
            Self::SlowSubscriber => ("SLOW_SUBSCRIBER", Code::Aborted, Resume, "The subscriber fell behind further than its slow policy allows."),
            Self::ViewsFull => ("VIEWS_FULL", Code::ResourceExhausted, After(SOON), "Snapshots and bars of all subscribers have used up their memory."),
            Self::ViewTooLarge => ("VIEW_TOO_LARGE", Code::ResourceExhausted, Changed, "The view would need more memory than one may have."),
            Self::ReadTimeout => ("READ_TIMEOUT", Code::Unavailable, Resume, "The disk did not answer in time."),
            Self::Damaged => ("DAMAGED", Code::DataLoss, Changed, "What is stored there cannot be read."),
            Self::StoreFailed => ("STORE_FAILED", Code::Unavailable, Backoff, "The store failed; the server says why in its log."),
            Self::Stopping => ("STOPPING", Code::Unavailable, After(SOON), "The server is stopping, or the connection is at its end; connect again."),
            Self::DeadlineExceeded => ("DEADLINE_EXCEEDED", Code::DeadlineExceeded, Resume, "The caller's deadline passed."),
            Self::Internal => ("INTERNAL", Code::Internal, Backoff, "A defect of the server, or of what lies between; the log has the request id."),
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// A code as gRPC writes it.
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_reason_is_listed_once_and_found_by_its_name() {
        let all = BTreeSet::from(Reason::ALL);
        assert_eq!(all.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(Reason::from_name(reason.name()), Some(reason));
        }
    }
}
