//! Where a subscription starts and ends as people write it: on the command line, and in the addresses
//! of what is served without protobuf.

use std::str::FromStr;

use super::{
    convert::parse_time,
    v1::{self, end::At, start::From},
};

/// `--from`.
#[derive(Clone, Debug, PartialEq)]
pub struct FromPlace(pub From);

/// `--until`.
#[derive(Clone, Debug, PartialEq)]
pub struct Until(pub At);

/// What was written, and how to write it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlace {
    #[error(
        "{0:?} is no place to start from: write snapshot, earliest, new, cursor, an offset (812), last:10, or a time (2026-05-25T13:30:00Z, or ingest:2026-05-25T13:30:00Z)"
    )]
    Start(String),
    #[error(
        "{0:?} is no place to end at: write now, an offset (812), or a time of arrival (2026-05-25T13:30:00Z)"
    )]
    End(String),
}

impl FromStr for FromPlace {
    type Err = InvalidPlace;

    /// Reads `earliest`, `new`, `snapshot`, `cursor`, `last:N`, an offset, or a time in RFC 3339, which
    /// `ingest:` before it makes a time of arrival.
    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let time = |text: &str, clock: v1::Clock| {
            let unix_nanos = rfc3339(text)?;
            Some(From::Time(v1::TimeStart {
                unix_nanos,
                clock: clock.into(),
            }))
        };
        let from = match text {
            "earliest" => Some(From::Earliest(v1::Earliest {})),
            "new" => Some(From::New(v1::New {})),
            "snapshot" => Some(From::Snapshot(v1::SnapshotStart {})),
            "cursor" => Some(From::NamedCursor(v1::NamedCursor {})),
            _ => match text.split_once(':') {
                Some(("last", n)) => n.parse().ok().filter(|&n| n > 0).map(From::LastPerKey),
                Some(("ingest", at)) => time(at, v1::Clock::Ingest),
                _ if is_number(text) => text.parse().ok().map(From::Offset),
                _ => time(text, v1::Clock::Event),
            },
        };
        from.map(Self)
            .ok_or_else(|| InvalidPlace::Start(text.to_owned()))
    }
}

impl FromStr for Until {
    type Err = InvalidPlace;

    /// Reads `now`, an offset, or a time of arrival in RFC 3339.
    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let at = match text {
            "now" => Some(At::Now(v1::Now {})),
            _ if is_number(text) => text.parse().ok().map(At::Offset),
            _ => rfc3339(text).map(At::IngestTimeUnixNanos),
        };
        at.map(Self)
            .ok_or_else(|| InvalidPlace::End(text.to_owned()))
    }
}

/// Whether a name stands for several.
pub fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// Tells globs from names.
pub fn globs_and_names(texts: &[String]) -> (Vec<String>, Vec<String>) {
    texts.iter().cloned().partition(|text| is_glob(text))
}

/// Digits are an offset here, never nanoseconds.
fn rfc3339(text: &str) -> Option<i64> {
    let number = text.strip_prefix('-').is_some_and(is_number) || is_number(text);
    parse_time(text).ok().filter(|_| !number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Option<From> {
        text.parse().ok().map(|FromPlace(from)| from)
    }

    #[test]
    fn starts_are_words_offsets_times_or_counts() {
        assert_eq!(from("earliest"), Some(From::Earliest(v1::Earliest {})));
        assert_eq!(from("812"), Some(From::Offset(812)));
        assert_eq!(from("last:5"), Some(From::LastPerKey(5)));
        let time = |unix_nanos, clock: v1::Clock| {
            let clock = clock.into();
            Some(From::Time(v1::TimeStart { unix_nanos, clock }))
        };
        assert_eq!(
            from("1970-01-01T00:00:01Z"),
            time(1_000_000_000, v1::Clock::Event)
        );
        assert_eq!(
            from("ingest:1970-01-01T00:00:01+00:00"),
            time(1_000_000_000, v1::Clock::Ingest)
        );
        for bad in [
            "",
            "-1",
            "last:0",
            "last:x",
            "yesterday",
            "99999999999999999999",
        ] {
            assert_eq!(from(bad), None, "{bad}");
        }
    }

    #[test]
    fn ends_are_now_offsets_or_times() {
        let until = |text: &str| text.parse().ok().map(|Until(at)| at);
        assert_eq!(until("now"), Some(At::Now(v1::Now {})));
        assert_eq!(until("0"), Some(At::Offset(0)));
        assert_eq!(
            until("1970-01-01T00:00:00.5Z"),
            Some(At::IngestTimeUnixNanos(500_000_000))
        );
        assert_eq!(until("never"), None);
    }
}
