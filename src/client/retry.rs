//! When to try again, and after how long. One place, so that uploads and subscriptions agree.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::bearer::Bearer;
use crate::errors::{Reason, reason_of};

const FIRST: Duration = Duration::from_millis(50);
const MAX: Duration = Duration::from_secs(5);

/// What to do about a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Trying again changes nothing.
    Never,
    /// After a backoff.
    Backoff,
    /// The server says when.
    After(Duration),
}

/// How stubborn a stream is.
#[derive(Clone, Copy, Debug)]
pub struct RetryOptions {
    pub first: FirstConnect,
    /// Gives up when nothing moved for this long; `None`: never.
    pub give_up_after: Option<Duration>,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            first: FirstConnect::Fail,
            give_up_after: None,
        }
    }
}

/// What happens when the first attempt of all finds no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstConnect {
    /// It is an error: a wrong address should be said, not waited for.
    Fail,
    Retry,
}

/// Whether a call that failed with `status` may be made again. Transport errors come as Unknown,
/// Unavailable, Internal or Cancelled, so those are tried again; what a server refuses is not.
pub fn retry(status: &Status) -> Retry {
    let after = || status.get_details_retry_info()?.retry_delay;
    match status.code() {
        Code::Ok
        | Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::NotFound
        | Code::AlreadyExists
        | Code::Unimplemented
        | Code::OutOfRange
        | Code::DataLoss => Retry::Never,
        // Whoever took our name would be pushed out, and come back to push us out.
        Code::Aborted if is_fenced(status) => Retry::Never,
        // Without a time it is a limit that waiting does not lift.
        Code::ResourceExhausted => after().map_or(Retry::Never, Retry::After),
        Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable => after().map_or(Retry::Backoff, Retry::After),
    }
}

/// Whether no connection came about: the call has certainly not reached a server.
pub fn unreachable(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether the server was reached, did nothing, and says when it will: the caller is over its rate,
/// or there is no room at this moment.
pub fn is_over_limit(status: &Status) -> bool {
    status.code() == Code::ResourceExhausted && matches!(retry(status), Retry::After(_))
}

/// Whether another device or process has the producer's name now.
pub fn is_fenced(status: &Status) -> bool {
    let info = status.get_details_error_info();
    info.is_some_and(|info| info.reason == "PRODUCER_FENCED")
}

/// Whether the server does not let us know: a token for one thing need not be one for another.
pub(super) fn hidden(status: &Status) -> bool {
    matches!(status.code(), Code::PermissionDenied | Code::Unimplemented)
}

/// Exponential backoff with full jitter: between nothing and 50 ms, 100 ms, .. 5 s.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    attempt: u32,
}

impl Backoff {
    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        self.ceiling().mul_f64(share())
    }

    /// Something moved: begin anew.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    fn ceiling(&mut self) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.attempt.min(16)).min(MAX);
        self.attempt += 1;
        ceiling
    }

    /// The delay that `retry` asks for: a little jitter on top of the server's own time, so that
    /// those it told the same do not come back at once.
    pub(super) fn delay_for(&mut self, retry: Retry) -> Option<Duration> {
        match retry {
            Retry::Never => None,
            Retry::Backoff => Some(self.next_delay()),
            Retry::After(delay) => Some(delay + FIRST.mul_f64(share())),
        }
    }
}

/// Uniform in 0..1; without randomness, 1.
fn share() -> f64 {
    getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX))
}

/// Watches whether anything moves.
#[derive(Debug)]
pub(super) struct Patience {
    options: RetryOptions,
    backoff: Backoff,
    /// Endpoints that were not tried yet; none as soon as there was a connection.
    untried: usize,
    /// There was a connection once.
    started: bool,
    failing_since: Option<Instant>,
    bearer: Bearer,
    /// Of the token that the present call has, or an older one.
    token: u64,
}

impl Patience {
    pub(super) fn new(options: RetryOptions, endpoints: usize, bearer: Bearer) -> Self {
        Self {
            options,
            untried: endpoints,
            backoff: Backoff::default(),
            started: false,
            failing_since: None,
            token: bearer.generation(),
            bearer,
        }
    }

    /// Something moved.
    pub(super) fn progress(&mut self) {
        self.started = true;
        self.failing_since = None;
        self.backoff.reset();
    }

    /// A call failed: how long to wait before the next one; `None` when it makes no sense.
    pub(super) fn failed(&mut self, status: &Status, now: Instant) -> Option<Duration> {
        if status.code() == Code::Unauthenticated {
            return self.has_newer_token().then_some(Duration::ZERO);
        }
        self.started |= !unreachable(status);
        if !self.started && self.options.first == FirstConnect::Fail {
            self.untried = self.untried.saturating_sub(1);
            return (self.untried > 0).then_some(Duration::ZERO);
        }
        if reason_of(status) == Some(Reason::RateLimited) {
            // Our turn comes, however long it takes.
            self.failing_since = None;
            return self.backoff.delay_for(retry(status));
        }
        let since = *self.failing_since.get_or_insert(now);
        let tired = self.options.give_up_after;
        if tired.is_some_and(|limit| now.duration_since(since) >= limit) {
            return None;
        }
        self.backoff.delay_for(retry(status))
    }

    /// Whether the token was replaced since the call was made; true once for each token.
    fn has_newer_token(&mut self) -> bool {
        let before = std::mem::replace(&mut self.token, self.bearer.generation());
        before < self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::bearer::Token, errors::Answer};
    use tonic_types::{ErrorDetails, StatusExt};

    #[test]
    fn delays_grow_to_a_ceiling_and_begin_anew() {
        let mut backoff = Backoff::default();
        let ceilings: Vec<_> = (0..9).map(|_| backoff.ceiling().as_millis()).collect();
        assert_eq!(ceilings, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        for _ in 0..100 {
            backoff.reset();
            assert!(backoff.next_delay() <= FIRST);
        }
    }

    #[test]
    fn refusals_are_final_and_transport_errors_are_not() {
        assert_eq!(retry(&Status::invalid_argument("")), Retry::Never);
        assert_eq!(retry(&Status::permission_denied("")), Retry::Never);
        for code in [
            Code::Unknown,
            Code::Unavailable,
            Code::Internal,
            Code::Cancelled,
        ] {
            assert_eq!(retry(&Status::new(code, "")), Retry::Backoff, "{code:?}");
        }
        assert_eq!(retry(&Status::resource_exhausted("")), Retry::Never);
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(3)));
        let status = Status::with_error_details(Code::ResourceExhausted, "", details);
        assert_eq!(retry(&status), Retry::After(Duration::from_secs(3)));
    }

    #[test]
    fn whoever_was_fenced_does_not_come_back() {
        assert_eq!(retry(&Status::aborted("")), Retry::Backoff);
        let reason = |reason| ErrorDetails::with_error_info(reason, "ringfeed", []);
        let fenced = reason("PRODUCER_FENCED");
        let fenced = Status::with_error_details(Code::Aborted, "", fenced);
        assert_eq!(retry(&fenced), Retry::Never);
        let other = Status::with_error_details(Code::Aborted, "", reason("OTHER"));
        assert_eq!(retry(&other), Retry::Backoff);
    }

    #[test]
    fn whoever_is_over_its_rate_is_patient() {
        let options = RetryOptions {
            first: FirstConnect::Fail,
            give_up_after: Some(Duration::from_secs(60)),
        };
        let mut patience = Patience::new(options, 1, Bearer::none());
        let begin = Instant::now();
        let mut failed = |status: &Status, second| {
            let now = begin + Duration::from_secs(second);
            patience.failed(status, now)
        };
        let limited = Answer::new(Reason::RateLimited, "").retry_after(Duration::from_secs(40));
        let limited = limited.status();
        assert!(is_over_limit(&limited));
        for n in 0..10 {
            let delay = failed(&limited, n * 40).unwrap();
            let jitter = delay - Duration::from_secs(40);
            assert!(jitter <= FIRST, "{delay:?}");
        }
        // No room for long is another thing.
        let overloaded = Answer::new(Reason::Overloaded, "").status();
        assert!(is_over_limit(&overloaded));
        assert!(failed(&overloaded, 400).is_some());
        assert_eq!(failed(&overloaded, 460), None);
    }

    #[test]
    fn patience_ends_when_nothing_moves_for_long() {
        let options = RetryOptions {
            first: FirstConnect::Retry,
            give_up_after: Some(Duration::from_secs(60)),
        };
        let mut patience = Patience::new(options, 1, Bearer::none());
        let begin = Instant::now();
        let failed = |patience: &mut Patience, second| {
            let now = begin + Duration::from_secs(second);
            patience.failed(&Status::unavailable(""), now)
        };
        assert!(failed(&mut patience, 0).is_some());
        assert!(failed(&mut patience, 59).is_some());
        patience.progress();
        assert!(failed(&mut patience, 70).is_some());
        assert!(failed(&mut patience, 129).is_some());
        assert_eq!(failed(&mut patience, 130), None);
    }

    #[test]
    fn a_refused_token_is_tried_again_only_when_there_is_a_newer_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one").unwrap();
        let bearer = Bearer::of_file(file.path()).unwrap();
        let mut patience = Patience::new(RetryOptions::default(), 1, bearer);
        let expired = Answer::new(Reason::TokenExpired, "").status();
        let mut failed = || patience.failed(&expired, Instant::now());
        assert_eq!(failed(), None);
        for token in ["two", "six"] {
            std::fs::write(file.path(), token).unwrap();
            assert_eq!(failed(), Some(Duration::ZERO), "{token}");
            assert_eq!(failed(), None, "{token} was tried");
        }
        let fixed = Bearer::fixed(&Token::from("one".to_owned())).unwrap();
        let mut patience = Patience::new(RetryOptions::default(), 1, fixed);
        assert_eq!(patience.failed(&expired, Instant::now()), None);
    }
}
