//! How a call ended, for those who look on: metrics, log and spans say the same.

use std::time::Duration;

use tonic::Code;

use super::Call;
use crate::errors::Reason;

#[derive(Clone, Copy, Debug)]
pub struct End {
    pub code: Code,
    /// Of the table; an error may have none.
    pub reason: Option<Reason>,
    pub by: EndedBy,
    pub took: Duration,
}

/// Whose doing an end was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndedBy {
    Done,
    /// There was no status yet when the call was dropped.
    ClientGone,
    ServerStop,
    Deadline,
    Slow,
    TokenExpired,
    Fenced,
    Error,
}

impl EndedBy {
    pub const ALL: [Self; 8] = [
        Self::Done,
        Self::ClientGone,
        Self::ServerStop,
        Self::Deadline,
        Self::Slow,
        Self::TokenExpired,
        Self::Fenced,
        Self::Error,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::ClientGone => "client_gone",
            Self::ServerStop => "server_stop",
            Self::Deadline => "deadline",
            Self::Slow => "slow",
            Self::TokenExpired => "token_expired",
            Self::Fenced => "fenced",
            Self::Error => "error",
        }
    }
}

impl End {
    /// `status`: what went out, if anything did.
    pub(super) fn of(call: &Call, status: Option<(Code, Option<Reason>)>) -> Self {
        // A client that did not take its end had none of the status.
        let cut = call.was_cut().map(|reason| (reason.code(), Some(reason)));
        let status = status.or(cut);
        let (code, reason) = status.unwrap_or((Code::Cancelled, None));
        let by = match (status, reason) {
            (None, _) if call.is_late() => EndedBy::Deadline,
            (None, _) => EndedBy::ClientGone,
            (_, Some(Reason::SlowSubscriber)) => EndedBy::Slow,
            (_, Some(Reason::TokenExpired | Reason::TokenRevoked)) => EndedBy::TokenExpired,
            (_, Some(Reason::ProducerFenced)) => EndedBy::Fenced,
            (_, Some(Reason::DeadlineExceeded)) => EndedBy::Deadline,
            (_, Some(Reason::Stopping)) => EndedBy::ServerStop,
            _ if call.was_stopped() => EndedBy::ServerStop,
            _ if code == Code::Ok => EndedBy::Done,
            _ => EndedBy::Error,
        };
        Self {
            code,
            reason,
            by,
            took: call.started.elapsed(),
        }
    }

    /// Whether the server is to blame.
    pub fn is_fault(&self) -> bool {
        match self.code {
            Code::Internal | Code::Unknown | Code::DataLoss => true,
            Code::Unavailable => !matches!(self.reason, Some(Reason::Stopping)),
            Code::Ok
            | Code::Cancelled
            | Code::InvalidArgument
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => false,
        }
    }
}
