//! Exit codes, and errors in one line that say what to do.

use std::{
    fmt,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::anyhow;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::output::escaped;
use crate::client::unreachable;

/// Shown below every `--help`.
pub(super) const EXIT_CODES: &str = "Exit codes: 0 done · 1 failed · 2 wrong usage or input · \
    3 done in part: some rows were refused · 130 interrupted before the end";

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// Some rows were refused.
    Partly,
    Interrupted,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::Partly => Self::from(3),
            Outcome::Interrupted => Self::from(130),
        }
    }
}

/// The command line or the input is wrong: exit code 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Usage(String);

impl Usage {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Says something on stderr that is no output. Nobody may be listening.
pub(super) fn note(text: &str) {
    writeln!(io::stderr().lock(), "ringfeed: {}", escaped(text)).ok();
}

/// Says the error on stderr, and gives its exit code. Whoever closes our output has seen enough:
/// that is no error.
pub(super) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    note(&one_line(error));
    ExitCode::from(if error.chain().any(|cause| cause.is::<Usage>()) {
        2
    } else {
        1
    })
}

pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// The chain of causes, each once.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !line.contains(&cause) {
            let separator = if line.is_empty() { "" } else { ": " };
            line = format!("{line}{separator}{cause}");
        }
    }
    line.replace('\n', " ")
}

/// A server's refusal for people: what it says, its stable reason, and what to do.
pub(super) fn explain(status: &Status, endpoint: &str) -> anyhow::Error {
    if unreachable(status) {
        return anyhow!(
            "cannot reach {endpoint}{}: start a server with `ringfeed serve` or pass --endpoint",
            cause(status)
        );
    }
    let info = status.get_details_error_info();
    let reason = info.map(|info| info.reason).unwrap_or_default();
    let code = format!("{:?}", status.code());
    let shown = if reason.is_empty() { &code } else { &reason };
    let message = status.message();
    let hint = hint(&reason, status.code()).map_or_else(String::new, |hint| format!(": {hint}"));
    // Where the server's log says more.
    let request = status.get_details_request_info();
    let request = request.map_or_else(String::new, |r| format!(" (request {})", r.request_id));
    anyhow!("{message} ({shown}){hint}{request}")
}

/// The innermost cause: "Connection refused", a name that cannot be resolved, a bad certificate.
fn cause(status: &Status) -> String {
    let mut innermost: &dyn std::error::Error = status;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    match innermost.downcast_ref::<io::Error>() {
        Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => String::new(),
        _ => format!(" ({innermost})"),
    }
}

fn hint(reason: &str, code: Code) -> Option<&'static str> {
    match (reason, code) {
        ("SEQUENCE_REUSED", _) => Some(
            "this producer sent other content under this number before; if that is meant (the file was changed), upload it with --producer NEW_NAME",
        ),
        ("SEQUENCE_GAP", _) => {
            Some("records before these were never sent by this producer; send them first")
        }
        ("SLOW_SUBSCRIBER", _) => {
            Some("read faster, ask for less (--key, --conflate), or let --slow be jump or conflate")
        }
        (_, Code::Unauthenticated) => Some("pass --token or --token-file, or set RINGFEED_TOKEN"),
        ("UNKNOWN_FEED", _) => Some("`ringfeed feeds list` shows them"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_without_repeats() {
        let error = anyhow!("no such file").context("cannot read x: no such file");
        assert_eq!(one_line(&error), "cannot read x: no such file");
        assert_eq!(one_line(&anyhow!("a\nb")), "a b");
        let error = anyhow!("inner").context("outer");
        assert_eq!(one_line(&error), "outer: inner");
    }

    #[test]
    fn a_closed_output_is_success() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_broken_pipe(&error.context("cannot print")));
        assert!(!is_broken_pipe(&anyhow!("x")));
    }

    #[test]
    fn a_refusal_says_reason_and_remedy() {
        let text = explain(&Status::unauthenticated("no token"), "http://x").to_string();
        assert_eq!(
            text,
            "no token (Unauthenticated): pass --token or --token-file, or set RINGFEED_TOKEN"
        );
        let mut headers = http::HeaderMap::new();
        let status = Status::not_found("no such feed");
        status.add_header(&mut headers).unwrap();
        crate::errors::complete(&mut headers, "0190");
        let status = Status::from_header_map(&headers).unwrap();
        assert_eq!(
            explain(&status, "http://x").to_string(),
            "no such feed (NOT_FOUND) (request 0190)"
        );
    }
}
