//! A place in a feed as the `id` of an event has it: `EPOCH.OFFSET`, the next offset to come.

use std::{fmt, str::FromStr};

use crate::proto::v1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) epoch: u64,
    pub(super) offset: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no id of an event of this stream")]
pub(super) struct InvalidPlace(String);

impl Place {
    pub(super) fn cursor(self, feed: &str) -> v1::Cursor {
        v1::Cursor {
            feed: feed.to_owned(),
            epoch: self.epoch,
            offset: self.offset,
        }
    }
}

impl From<&v1::Cursor> for Place {
    fn from(cursor: &v1::Cursor) -> Self {
        Self {
            epoch: cursor.epoch,
            offset: cursor.offset,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.offset)
    }
}

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let parse = || {
            let (epoch, offset) = text.split_once('.')?;
            let plain = digits(epoch) && digits(offset);
            let place = Self {
                epoch: epoch.parse().ok()?,
                offset: offset.parse().ok()?,
            };
            (plain && place.epoch > 0).then_some(place)
        };
        parse().ok_or_else(|| InvalidPlace(text.to_owned()))
    }
}
