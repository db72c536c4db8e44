//! `traceparent` and `tracestate`: <https://www.w3.org/TR/trace-context/>.

use std::collections::HashSet;

use http::HeaderMap;
use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};

use super::{TRACEPARENT, TRACESTATE, members, only};
use crate::trace::SpanContext;

/// `00-` 32 digits `-` 16 digits `-` 2 digits.
const LEN: usize = 55;
const MAX_MEMBERS: usize = 32;
const MAX_PART_BYTES: usize = 256;

/// The span that the call is below.
pub(in crate::layers) fn trace_context(headers: &HeaderMap) -> Option<SpanContext> {
    let (trace, span, flags) = parent(only(headers, &TRACEPARENT)?)?;
    // A state that is malformed is dropped, and the parent stays.
    let state = state(headers).unwrap_or_default();
    Some(SpanContext::new(trace, span, flags, true, state))
}

fn parent(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let (known, more) = text.split_at_checked(LEN)?;
    let mut parts = known.split('-');
    let mut next = |len| {
        parts
            .next()
            .filter(|part| part.len() == len && is_hex(part))
    };
    let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
    let later = match version {
        "00" => more.is_empty(),
        "ff" => false,
        _ => more.is_empty() || more.starts_with('-'),
    };
    let trace = TraceId::from_hex(trace).ok()?;
    let span = SpanId::from_hex(span).ok()?;
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let valid = later && trace != TraceId::INVALID && span != SpanId::INVALID;
    valid.then_some((trace, span, flags))
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn state(headers: &HeaderMap) -> Option<TraceState> {
    let mut seen = HashSet::new();
    let mut pairs = vec![];
    for member in members(headers, &TRACESTATE)? {
        if member.is_empty() {
            continue;
        }
        let (key, value) = member.split_once('=')?;
        if !is_key(key) || !is_value(value) || !seen.insert(key) {
            return None;
        }
        pairs.push((key, value));
    }
    (pairs.len() <= MAX_MEMBERS).then_some(())?;
    TraceState::from_key_value(pairs).ok()
}

fn is_key(key: &str) -> bool {
    let first = key.bytes().next();
    let begins = first.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let within =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
    begins && key.len() <= MAX_PART_BYTES && key.bytes().all(within)
}

fn is_value(value: &str) -> bool {
    let within = |byte: u8| (0x20..=0x7e).contains(&byte) && byte != b'=' && byte != b',';
    let ends = value.bytes().last().is_some_and(|byte| byte != b' ');
    ends && value.len() <= MAX_PART_BYTES && value.bytes().all(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn read(parents: &[&str], states: &[&str]) -> Option<SpanContext> {
        let mut headers = HeaderMap::new();
        for parent in parents {
            headers.append(TRACEPARENT, parent.parse().unwrap());
        }
        for state in states {
            headers.append(TRACESTATE, state.parse().unwrap());
        }
        trace_context(&headers)
    }

    #[test]
    fn a_parent_is_read_as_the_specification_says() {
        let context = read(&[GOOD], &[]).unwrap();
        assert_eq!(
            context.trace_id().to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(context.span_id().to_string(), "b7ad6b7169203331");
        assert!(context.is_sampled() && context.is_remote());
        assert!(
            !read(&[&GOOD.replace("-01", "-00")], &[])
                .unwrap()
                .is_sampled()
        );
        // Other flags mean nothing yet.
        assert!(
            !read(&[&GOOD.replace("-01", "-fe")], &[])
                .unwrap()
                .is_sampled()
        );
        assert!(read(&[&GOOD.replace("00-0", "cc-0")], &[]).is_some());
        let later = format!("{}-what-comes", GOOD.replace("00-0", "cc-0"));
        assert!(read(&[&later], &[]).is_some());
    }

    #[test]
    fn a_malformed_parent_is_none() {
        let all_zero = |part: &str| GOOD.replace(part, &"0".repeat(part.len()));
        let bad = [
            String::new(),
            GOOD.to_uppercase(),
            format!("{GOOD}-"),
            format!("{GOOD}x"),
            GOOD[1..].to_owned(),
            GOOD.replace("00-0", "ff-0"),
            GOOD.replace("00-0", "0g-0"),
            format!("{}x", GOOD.replace("00-0", "cc-0")),
            GOOD.replace('-', "_"),
            all_zero("0af7651916cd43dd8448eb211c80319c"),
            all_zero("b7ad6b7169203331"),
            GOOD.replace("b7ad6b7169203331", "b7ad6b716920333é"),
        ];
        for text in bad {
            assert_eq!(read(&[&text], &[]), None, "{text}");
        }
        assert_eq!(read(&[GOOD, GOOD], &[]), None);
        assert_eq!(read(&[], &["a=1"]), None);
    }

    #[test]
    fn a_state_is_kept_whole_or_dropped() {
        let state = |states: &[&str]| read(&[GOOD], states).unwrap().trace_state().header();
        assert_eq!(state(&["a=1, t1@x=b c,", "*=2"]), "");
        assert_eq!(state(&["a=1 ,\tt1@x=b c,", "k*=2"]), "a=1,t1@x=b c,k*=2");
        for bad in ["A=1", "a", "a=", "a=1,a=2", "a=1=2", "a=é", "=1"] {
            assert_eq!(state(&[bad]), "", "{bad}");
        }
        let many: Vec<_> = (0..33).map(|n| format!("k{n}=v")).collect();
        assert_eq!(state(&[&many.join(",")]), "");
        assert_ne!(state(&[&many[..32].join(",")]), "");
    }
}
