//! The words of ringfeed as pure values. No I/O; every other room may use them.

mod chunk;
mod cursor;
mod decimal;
mod feed;
mod frames;
mod glob;
mod mark;
mod scope;
mod time;

pub use chunk::{Chunk, FRAME_TAG, INGEST_TIME_TAG, OFFSET_TAG, SERVER_FIELDS_LEN};
pub use cursor::{Bounds, Cursor, Epoch, Gap, GapReason, Offset, Span};
pub use decimal::{DecimalOutOfRange, DecimalParts};
pub use feed::{FeedId, FeedName, FeedSpec, InvalidFeedName, Retention, Visibility};
pub use frames::{Frames, NewRecord};
pub use glob::{Globs, InvalidGlob, compile_glob};
pub use mark::{MarkNote, MarkRun, Principal, ProducerName};
pub use scope::{Action, InvalidScope, Keys, Scopes};
pub use time::{UnixNanos, now};

/// The payload kinds of a record, in wire order. Latest and conflation are per (key, kind).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PayloadKind {
    Quote,
    Trade,
    Bar,
    Reading,
    Status,
}

impl PayloadKind {
    pub const ALL: [Self; 5] = [
        Self::Quote,
        Self::Trade,
        Self::Bar,
        Self::Reading,
        Self::Status,
    ];

    /// The field's name in `Record`, which is also its name to users.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quote => "quote",
            Self::Trade => "trade",
            Self::Bar => "bar",
            Self::Reading => "reading",
            Self::Status => "status",
        }
    }

    /// The field's number in `Record`; a stable code on disk as well.
    pub fn number(self) -> u8 {
        match self {
            Self::Quote => 3,
            Self::Trade => 4,
            Self::Bar => 5,
            Self::Reading => 6,
            Self::Status => 7,
        }
    }

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}
