//! An error on its way to a caller: a status with `google.rpc` details, below 4 KiB.

use std::{collections::HashMap, time::Duration};

use prost::Message as _;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _, pb};

use super::{Again, Reason};

/// The domain of `ErrorInfo.reason`.
pub const DOMAIN: &str = "ringfeed";
/// A larger status does not reach all clients: HTTP/2 peers bound headers at 16 KiB.
const MAX_MESSAGE_BYTES: usize = 400;
/// Each text in details; they are few.
const MAX_DETAIL_BYTES: usize = 128;
/// The longest key.
const MAX_FACT_BYTES: usize = 256;

/// A status in the making.
#[derive(Debug)]
pub struct Answer {
    reason: Reason,
    /// Where the reason is that of a refused record.
    named: Option<&'static str>,
    message: String,
    details: ErrorDetails,
    facts: HashMap<String, String>,
}

impl Answer {
    /// `message` says what is wrong and what to do; RetryInfo comes with the reason.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        let mut details = ErrorDetails::new();
        if let Again::After(time) = reason.again() {
            details.set_retry_info(Some(time));
        }
        Self {
            reason,
            named: None,
            message: message.into(),
            details,
            facts: HashMap::new(),
        }
    }

    /// An upload that was refused because of one record, whose reason is its own; the code is that
    /// of `kind`.
    pub fn of_record(kind: Reason, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            named: Some(reason),
            ..Self::new(kind, message)
        }
    }

    /// BadRequest: the field, by its path, and what is wrong with it.
    #[must_use]
    pub fn field(mut self, field: &str, what: &str) -> Self {
        self.details
            .add_bad_request_violation(cut(field), cut(what));
        self
    }

    /// QuotaFailure: of whom or what, and how much it is.
    #[must_use]
    pub fn quota(mut self, subject: &str, what: &str) -> Self {
        self.details
            .add_quota_failure_violation(cut(subject), cut(what));
        self
    }

    /// PreconditionFailure: of what.
    #[must_use]
    pub fn precondition(mut self, subject: &str) -> Self {
        let (kind, what) = (self.reason.name(), cut(&self.message));
        self.details
            .add_precondition_failure_violation(kind, cut(subject), what);
        self
    }

    /// ResourceInfo: the kind and name of what it is about.
    #[must_use]
    pub fn resource(mut self, kind: &str, name: &str) -> Self {
        let what = cut(&self.message);
        self.details.set_resource_info(kind, cut(name), "", what);
        self
    }

    /// RetryInfo: when it is worth trying again.
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Self {
        self.details.set_retry_info(Some(time));
        self
    }

    /// ErrorInfo.metadata.
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl ToString) -> Self {
        let value = value.to_string();
        let value = shorten(&value, MAX_FACT_BYTES).to_owned();
        self.facts.insert(name.into(), value);
        self
    }

    pub fn status(mut self) -> Status {
        let name = self.named.unwrap_or_else(|| self.reason.name());
        self.details.set_error_info(name, DOMAIN, self.facts);
        let message = shorten(&self.message, MAX_MESSAGE_BYTES);
        Status::with_error_details(self.reason.code(), message, self.details)
    }
}

impl From<Answer> for Status {
    fn from(answer: Answer) -> Self {
        answer.status()
    }
}

/// The reason in a status of this server.
pub fn reason_of(status: &Status) -> Option<Reason> {
    // Without details nothing is decoded: most statuses have none.
    if status.details().is_empty() || pb::Status::decode(status.details()).is_err() {
        return None;
    }
    let info = status.get_details_error_info()?;
    (info.domain == DOMAIN).then(|| Reason::from_name(&info.reason))?
}

fn cut(text: &str) -> String {
    shorten(text, MAX_DETAIL_BYTES).to_owned()
}

pub(super) fn shorten(text: &str, bytes: usize) -> &str {
    let end = text.floor_char_boundary(bytes);
    text.get(..end).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_stays_below_4_kib_whatever_it_says() {
        let long = "ä".repeat(100_000);
        let status = Answer::new(Reason::RateLimited, &long)
            .field(&long, &long)
            .quota(&long, &long)
            .precondition(&long)
            .resource("feed", &long)
            .fact("key", &long)
            .status();
        assert_eq!(reason_of(&status), Some(Reason::RateLimited));
        let mut headers = http::HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        let bytes: usize = headers
            .iter()
            .map(|(n, v)| n.as_str().len() + v.len())
            .sum();
        assert!(bytes < 4_096, "{bytes}");
    }
}
