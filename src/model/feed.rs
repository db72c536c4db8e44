//! Feeds: their names, and what the catalogue keeps of each.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Epoch, UnixNanos};

const MAX_NAME_BYTES: usize = 128;

/// Numbers a feed on disk; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FeedId(pub u32);

/// 1 to 128 of `a-z 0-9 . _ -`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct FeedName(Arc<str>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a feed name is 1 to 128 of a-z 0-9 . _ - and begins with a letter or digit, for instance \"stocks.daily\""
)]
pub struct InvalidFeedName;

impl FeedName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FeedName {
    type Err = InvalidFeedName;

    fn from_str(name: &str) -> Result<Self, InvalidFeedName> {
        let word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let good = (1..=MAX_NAME_BYTES).contains(&name.len())
            && name.as_bytes().first().is_some_and(word)
            && name
                .bytes()
                .all(|b| word(&b) || matches!(b, b'.' | b'_' | b'-'));
        good.then(|| Self(name.into())).ok_or(InvalidFeedName)
    }
}

impl TryFrom<String> for FeedName {
    type Error = InvalidFeedName;

    fn try_from(name: String) -> Result<Self, InvalidFeedName> {
        name.parse()
    }
}

impl fmt::Display for FeedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// When records become visible to followers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// After their flush.
    #[default]
    Durable,
    /// At once; an unclean stop may lose records that were seen, and says so by a gap.
    Immediate,
}

/// How much a feed keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Bytes of the ring on disk.
    pub max_bytes: u64,
    /// Greatest age by ingest time.
    pub max_age: Option<Duration>,
}

/// A feed as the catalogue keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedSpec {
    pub id: FeedId,
    pub name: FeedName,
    pub epoch: Epoch,
    pub retention: Retention,
    pub visibility: Visibility,
    pub created: UnixNanos,
}
