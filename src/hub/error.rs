//! What the hub answers when it does not do what it was asked.

use crate::{
    errors::Reason,
    hub::SequenceError,
    model::{Epoch, FeedName, InvalidFeedName, InvalidGlob, Offset},
    proto::wire::Invalid,
    store::StoreError,
};

/// Of feeds and what the catalogue knows of them.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("{0}")]
    InvalidName(#[from] InvalidFeedName),
    #[error("there is no feed \"{name}\"; create it or look at the list of feeds")]
    UnknownFeed { name: FeedName },
    #[error("there is a feed \"{name}\" already; update it or choose another name")]
    FeedExists { name: FeedName },
    #[error("there are {limit} feeds, which is the limit; delete one first")]
    FeedLimit { limit: usize },
    #[error(
        "a ring of {asked} bytes does not fit: {left} bytes are left for rings; choose a smaller one, trim or delete a feed, or raise store.max_total_bytes"
    )]
    NoRoom { asked: u64, left: u64 },
    #[error("feed \"{feed}\" knows no producer \"{producer}\"")]
    UnknownProducer { feed: FeedName, producer: String },
    #[error("feed \"{feed}\" has no cursor of a subscriber \"{subscriber}\"")]
    UnknownCursor { feed: FeedName, subscriber: String },
    #[error(
        "the feed has {limit} named cursors, which is the limit; delete some, use names again, or raise limits.cursors_per_feed"
    )]
    CursorLimit { limit: usize },
    #[error(
        "offset {offset} is beyond the feed's next offset, {next}; acknowledge what was received"
    )]
    CursorBeyond { offset: Offset, next: Offset },
    #[error(
        "epoch {epoch} is not the feed's: it was created anew with epoch {present}; acknowledge what was received of that"
    )]
    CursorEpoch { epoch: Epoch, present: Epoch },
    #[error("the cursor was not stored: {cause}")]
    CursorNotStored { cause: String },
    #[error(transparent)]
    InvalidGlob(#[from] InvalidGlob),
    #[error("the server is stopping; try again in a moment")]
    Stopping,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Of one batch. Nothing of it was stored.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    #[error("record {index} of an ATOMIC batch is refused, so none is stored: {invalid}")]
    Atomic { index: usize, invalid: Invalid },
    #[error("the feed knows {limit} producers, which is the limit")]
    ProducerLimit { limit: usize },
    #[error("the feed was deleted")]
    FeedDeleted,
    #[error(
        "another device or process uploads under this producer's name now, so this one was stopped; give each of them a name of its own, and do not connect this one again before the other has ended"
    )]
    Fenced,
    #[error("the server could not keep up for {seconds} s; send this batch again later")]
    Overloaded { seconds: u64 },
    #[error("the server is stopping; connect again")]
    Stopping,
    #[error("{cause}")]
    Store { cause: String, disk_full: bool },
}

impl AppendError {
    /// Its reason in the metrics: the one a caller is told.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Sequence(SequenceError::Gap { .. }) => Reason::SequenceGap.name(),
            Self::Sequence(SequenceError::Reused { .. } | SequenceError::BeforeStart { .. }) => {
                Reason::SequenceReused.name()
            }
            Self::Sequence(SequenceError::OutOfRange) => Reason::InvalidArgument.name(),
            Self::Atomic { invalid, .. } => invalid.reason.code(),
            Self::ProducerLimit { .. } => Reason::ProducerLimit.name(),
            Self::FeedDeleted => Reason::FeedDeleted.name(),
            Self::Fenced => Reason::ProducerFenced.name(),
            Self::Overloaded { .. } => Reason::Overloaded.name(),
            Self::Stopping => Reason::Stopping.name(),
            Self::Store {
                disk_full: true, ..
            } => Reason::DiskFull.name(),
            Self::Store {
                disk_full: false, ..
            } => Reason::StoreFailed.name(),
        }
    }
}

/// Of following a feed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error("feed \"{feed}\" was deleted")]
    FeedDeleted { feed: FeedName },
    #[error(
        "snapshots and bars of other subscribers take all of limits.view_bytes; try again in a moment, or raise it"
    )]
    ViewsFull,
    #[error(
        "the bars in progress take {bytes} bytes, the limit is {limit}; follow fewer keys in a selector"
    )]
    ViewTooLarge { bytes: usize, limit: usize },
    #[error("the server is stopping; connect again")]
    Stopping,
    #[error(transparent)]
    Store(#[from] StoreError),
}
