//! What callers say of their calls in headers. Whatever is malformed counts as not said: a call
//! does not fail because of it.

mod baggage;
mod trace_context;

use std::time::Duration;

use http::{HeaderMap, HeaderName, header};
use uuid::Uuid;

pub(super) use self::{baggage::baggage, trace_context::trace_context};

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("x-session-id");
pub(super) const USER_ID: HeaderName = HeaderName::from_static("x-user-id");
pub(super) const FLAGS: HeaderName = HeaderName::from_static("x-feature-flags");
pub(super) const FLAGS_IGNORED: HeaderName = HeaderName::from_static("x-feature-flags-ignored");
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// <https://www.w3.org/TR/trace-context-2/>: which span the call was.
pub(super) const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");
pub(super) const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// All that a request says of who makes it and in which context. Whoever makes calls on behalf of a
/// request gives them these.
pub const CARRIED: [HeaderName; 10] = [
    header::AUTHORIZATION,
    header::USER_AGENT,
    HeaderName::from_static("x-forwarded-client-cert"),
    REQUEST_ID,
    SESSION_ID,
    USER_ID,
    FLAGS,
    TRACEPARENT,
    TRACESTATE,
    BAGGAGE,
];

/// A longer id is none.
const MAX_ID_BYTES: usize = 128;
const MAX_FLAGS: usize = 16;
const MAX_FLAG_BYTES: usize = 64;

/// The request's id; made where none came.
pub(super) fn request_id(headers: &HeaderMap) -> Box<str> {
    id(headers, &REQUEST_ID).unwrap_or_else(|| Uuid::now_v7().to_string().into())
}

/// Printable ASCII without spaces, sent once.
pub(super) fn id(headers: &HeaderMap, name: &HeaderName) -> Option<Box<str>> {
    let text = only(headers, name)?;
    let fits = (1..=MAX_ID_BYTES).contains(&text.len());
    (fits && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.into())
}

/// The flags that are asked for, each once.
pub(super) fn flags(headers: &HeaderMap) -> Vec<Box<str>> {
    let texts = headers.get_all(FLAGS).into_iter();
    let mut flags: Vec<Box<str>> = vec![];
    for flag in texts
        .filter_map(|text| text.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(str::trim)
    {
        let fits = (1..=MAX_FLAG_BYTES).contains(&flag.len());
        let is_new = !flags.iter().any(|known| **known == *flag);
        if fits && is_new && flag.bytes().all(|byte| byte.is_ascii_graphic()) {
            flags.push(flag.into());
        }
    }
    flags.truncate(MAX_FLAGS);
    flags
}

/// For how long the caller waits: at most eight digits, and a unit.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = only(headers, &TIMEOUT)?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3_600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// The value of a header that came once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.to_str().ok())?
}

/// The members of a list that may be spread over several headers.
fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Vec<&'a str>> {
    let mut members = vec![];
    for value in headers.get_all(name) {
        let texts = value.to_str().ok()?.split(',');
        members.extend(texts.map(|text| text.trim_matches([' ', '\t'])));
    }
    Some(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn an_id_is_taken_or_made() {
        fn id_of(lines: &[(&'static str, &str)]) -> Box<str> {
            request_id(&headers(lines))
        }
        fn made(lines: &[(&'static str, &str)]) -> usize {
            let id = Uuid::parse_str(&id_of(lines)).unwrap();
            id.get_version_num()
        }
        assert_eq!(*id_of(&[("x-request-id", "abc-1")]), *"abc-1");
        assert_eq!(made(&[]), 7);
        made(&[("x-request-id", "")]);
        made(&[("x-request-id", "a b")]);
        made(&[("x-request-id", "a\tb")]);
        made(&[("x-request-id", &"x".repeat(129))]);
        made(&[("x-request-id", "a"), ("x-request-id", "b")]);
        assert_eq!(id_of(&[("x-request-id", &"x".repeat(128))]).len(), 128);
    }

    #[test]
    fn flags_are_a_list_without_repeats_and_bounded() {
        let list = flags(&headers(&[
            ("x-feature-flags", "a, b,,a"),
            ("x-feature-flags", "c"),
        ]));
        assert_eq!(list, ["a", "b", "c"].map(Box::from));
        let many: Vec<_> = (0..100).map(|n| n.to_string()).collect();
        let list = flags(&headers(&[("x-feature-flags", &many.join(","))]));
        assert_eq!(list.len(), MAX_FLAGS);
    }

    #[test]
    fn a_timeout_has_digits_and_a_unit() {
        let of = |text: &str| timeout(&headers(&[("grpc-timeout", text)]));
        assert_eq!(of("2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(of("3M"), Some(Duration::from_secs(180)));
        assert_eq!(of("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("7u"), Some(Duration::from_micros(7)));
        assert_eq!(of("0n"), Some(Duration::ZERO));
        for bad in [
            "",
            "S",
            "1",
            "123456789S",
            "-1S",
            "1.5S",
            "1s",
            "1 S",
            "+1S",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
