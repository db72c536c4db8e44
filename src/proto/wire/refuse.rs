//! Why a record is refused: a field, a stable reason, and a sentence that says what to do.

use crate::model::UnixNanos;

/// Why, as a stable code for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    Malformed,
    UnknownField,
    RepeatedField,
    SecondPayload,
    Missing,
    TooLong,
    TooMany,
    NotUtf8,
    NotFinite,
    OutOfRange,
    TimeAhead,
    /// The feed has as many keys as it may.
    KeyLimit,
    /// Whoever uploads it may not write this key.
    KeyNotAllowed,
}

impl Reason {
    pub const ALL: [Self; 13] = [
        Self::Malformed,
        Self::UnknownField,
        Self::RepeatedField,
        Self::SecondPayload,
        Self::Missing,
        Self::TooLong,
        Self::TooMany,
        Self::NotUtf8,
        Self::NotFinite,
        Self::OutOfRange,
        Self::TimeAhead,
        Self::KeyLimit,
        Self::KeyNotAllowed,
    ];

    /// One sentence for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Malformed => "The bytes are no valid protobuf.",
            Self::UnknownField => "A field is not in this server's record.proto.",
            Self::RepeatedField => "A field that may be there once is there again.",
            Self::SecondPayload => "More than one payload is set; send one record for each.",
            Self::Missing => "A field that is needed is missing or empty.",
            Self::TooLong => {
                "A text, a list of bytes or the record itself is longer than it may be."
            }
            Self::TooMany => "A list has more entries than it may have.",
            Self::NotUtf8 => "A text is not UTF-8.",
            Self::NotFinite => "A number is NaN or infinite.",
            Self::OutOfRange => "A value is outside of what its field can hold or may say.",
            Self::TimeAhead => {
                "The event time is further ahead of the server's clock than limits.event_time_ahead."
            }
            Self::KeyLimit => "The key is new, and the feed takes no new keys.",
            Self::KeyNotAllowed => "The caller's scopes do not allow it to write this key.",
        }
    }

    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "MALFORMED",
            Self::UnknownField => "UNKNOWN_FIELD",
            Self::RepeatedField => "REPEATED_FIELD",
            Self::SecondPayload => "SECOND_PAYLOAD",
            Self::Missing => "MISSING",
            Self::TooLong => "TOO_LONG",
            Self::TooMany => "TOO_MANY",
            Self::NotUtf8 => "NOT_UTF8",
            Self::NotFinite => "NOT_FINITE",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::TimeAhead => "TIME_AHEAD",
            Self::KeyLimit => "KEY_LIMIT",
            Self::KeyNotAllowed => "KEY_NOT_ALLOWED",
        }
    }
}

/// How the scan hands a refusal up: it is one word wide, as a valid record needs none.
pub(super) type Refused = Box<Invalid>;

/// A rule that a record breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// Path of the field, for instance `reading.number`.
    pub field: &'static str,
    pub reason: Reason,
    /// What is wrong and what to do.
    pub message: String,
}

#[cold]
fn invalid(field: &'static str, reason: Reason, message: String) -> Refused {
    Box::new(Invalid {
        field,
        reason,
        message,
    })
}

#[cold]
pub(super) fn malformed(field: &'static str, what: &str) -> Refused {
    invalid(
        field,
        Reason::Malformed,
        format!("not valid protobuf: {what}"),
    )
}

#[cold]
pub(super) fn unknown(message: &'static str, number: u32) -> Refused {
    let text = format!("field {number} is not known here; use this server's record.proto");
    invalid(message, Reason::UnknownField, text)
}

#[cold]
pub(super) fn repeated(field: &'static str) -> Refused {
    invalid(
        field,
        Reason::RepeatedField,
        "is there more than once; send it once".into(),
    )
}

#[cold]
pub(super) fn second(field: &'static str) -> Refused {
    let text = "more than one case is set; send one record for each".into();
    invalid(field, Reason::SecondPayload, text)
}

#[cold]
pub(super) fn missing(field: &'static str, advice: &str) -> Refused {
    invalid(
        field,
        Reason::Missing,
        format!("is missing or empty; {advice}"),
    )
}

#[cold]
pub(super) fn too_long(field: &'static str, len: usize, limit: usize) -> Refused {
    invalid(
        field,
        Reason::TooLong,
        format!("is {len} bytes, the limit is {limit}"),
    )
}

#[cold]
pub(super) fn too_many(field: &'static str, limit: usize) -> Refused {
    invalid(
        field,
        Reason::TooMany,
        format!("has more than {limit} entries"),
    )
}

#[cold]
pub(super) fn not_utf8(field: &'static str) -> Refused {
    invalid(field, Reason::NotUtf8, "is not UTF-8 text".into())
}

#[cold]
pub(super) fn not_finite(field: &'static str, value: f64) -> Refused {
    let text = format!("is {value}; send a missing value as quality BAD without a value");
    invalid(field, Reason::NotFinite, text)
}

#[cold]
pub(super) fn out_of_range(field: &'static str, message: &str) -> Refused {
    invalid(field, Reason::OutOfRange, message.into())
}

#[cold]
pub(super) fn no_choice(field: &'static str, value: u64) -> Refused {
    let text = format!("{value} is not a value of this enum");
    invalid(field, Reason::OutOfRange, text)
}

#[cold]
pub(super) fn time_ahead(field: &'static str, time: UnixNanos, limit: UnixNanos) -> Refused {
    let ahead = time.saturating_sub(limit) / 1_000_000_000;
    let text = format!(
        "{time} is {ahead} s beyond what is allowed; check the clock and that it is nanoseconds"
    );
    invalid(field, Reason::TimeAhead, text)
}
