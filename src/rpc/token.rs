//! Resume tokens: what a stream was asked for and where each of its feeds is, signed by the server.
//! A Subscribe and a Session read each other's.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message as _;
use tonic::Status;

use super::status;
use crate::{
    hub::{Carried, End, Resume},
    model::Cursor,
    proto::v1::{self, end::At},
};

const VERSION: &str = "rf2.";
const TAG_BYTES: usize = 16;

/// A stream as it can be resumed.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Token {
    /// As asked for, without selectors and token.
    #[prost(message, optional, tag = "1")]
    pub request: Option<v1::SubscribeRequest>,
    #[prost(message, repeated, tag = "2")]
    pub selectors: Vec<KeptSelector>,
}

/// A selector of a stream.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct KeptSelector {
    #[prost(uint32, tag = "1")]
    pub id: u32,
    /// As asked for.
    #[prost(message, optional, tag = "2")]
    pub asked: Option<v1::Selector>,
    #[prost(message, repeated, tag = "3")]
    pub feeds: Vec<KeptFeed>,
}

/// Where a selector is in one of its feeds.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct KeptFeed {
    #[prost(string, tag = "1")]
    pub feed: String,
    /// Absent: its snapshot was not complete, so it begins anew.
    #[prost(message, optional, tag = "2")]
    pub cursor: Option<KeptCursor>,
    /// Resolved.
    #[prost(message, optional, tag = "3")]
    pub end: Option<v1::End>,
    #[prost(sint64, optional, tag = "4")]
    pub bars_since: Option<i64>,
    #[prost(bool, tag = "5")]
    pub is_live: bool,
    #[prost(message, optional, tag = "6")]
    pub last_per_key: Option<KeptLast>,
    #[prost(bool, tag = "7")]
    pub is_elsewhere: bool,
}

/// The last so many records of each key before an offset, which are still being delivered.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct KeptLast {
    #[prost(uint32, tag = "1")]
    pub count: u32,
    #[prost(uint64, tag = "2")]
    pub until: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct KeptCursor {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(uint64, tag = "2")]
    pub offset: u64,
}

impl KeptFeed {
    pub(super) fn new(feed: &str, resume: &Resume) -> Self {
        let at = match resume.end {
            End::Never => None,
            End::Offset(offset) => Some(At::Offset(offset)),
            End::Now => Some(At::Now(v1::Now {})),
            End::IngestTime(time) => Some(At::IngestTimeUnixNanos(time)),
        };
        Self {
            feed: feed.into(),
            cursor: resume.cursor.map(|cursor| KeptCursor {
                epoch: cursor.epoch,
                offset: cursor.offset,
            }),
            end: at.map(|at| v1::End { at: Some(at) }),
            bars_since: resume.carried.bars_since,
            is_live: resume.carried.is_live,
            last_per_key: resume
                .carried
                .last_per_key
                .map(|(count, until)| KeptLast { count, until }),
            is_elsewhere: resume.carried.is_elsewhere,
        }
    }

    pub(super) fn resume(&self) -> Resume {
        let end = match self.end.as_ref().and_then(|end| end.at.as_ref()) {
            None => End::Never,
            Some(At::Offset(offset)) => End::Offset(*offset),
            Some(At::Now(_)) => End::Now,
            Some(At::IngestTimeUnixNanos(time)) => End::IngestTime(*time),
        };
        Resume {
            cursor: self.cursor.map(|cursor| Cursor {
                epoch: cursor.epoch,
                offset: cursor.offset,
            }),
            end,
            carried: Carried {
                bars_since: self.bars_since,
                is_live: self.is_live,
                last_per_key: self.last_per_key.map(|last| (last.count, last.until)),
                is_elsewhere: self.is_elsewhere,
            },
        }
    }
}

pub(super) fn issue(secret: &[u8; 32], token: &Token) -> String {
    let token = token.encode_to_vec();
    let bytes = [tag(secret, &token).as_slice(), &token].concat();
    format!("{VERSION}{}", URL_SAFE_NO_PAD.encode(bytes))
}

pub(super) fn read(secret: &[u8; 32], text: &str) -> Result<Token, Status> {
    let refused = || {
        let text = "was not issued by this server or was changed; subscribe with selectors";
        status::invalid_argument("resume_token", text)
    };
    let Some(text) = text.strip_prefix(VERSION) else {
        if text.starts_with("rf") {
            let text = "is of another version of the server; subscribe with selectors, from the cursors you have";
            return Err(status::invalid_argument("resume_token", text));
        }
        return Err(refused());
    };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_e| refused())?;
    let (claimed, token) = bytes.split_first_chunk::<TAG_BYTES>().ok_or_else(refused)?;
    // `blake3::Hash` compares in constant time; so does this.
    let differs = claimed
        .iter()
        .zip(tag(secret, token))
        .fold(0, |d, (a, b)| d | (a ^ b));
    if differs != 0 {
        return Err(refused());
    }
    Token::decode(token).map_err(|_e| refused())
}

/// Of the version as well: what one version signed must mean nothing to another.
fn tag(secret: &[u8; 32], token: &[u8]) -> [u8; TAG_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    hasher.update(VERSION.as_bytes());
    hasher.update(token);
    let hash = hasher.finalize();
    let (tag, _) = hash
        .as_bytes()
        .split_first_chunk()
        .unwrap_or((&[0; TAG_BYTES], &[]));
    *tag
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::Selector;

    fn kept(resume: &Resume) -> Token {
        let selector = Selector {
            feed_globs: vec!["stocks*".into()],
            ..Selector::default()
        };
        let selector = KeptSelector {
            id: 77,
            asked: Some(selector),
            feeds: vec![KeptFeed::new("stocks", resume)],
        };
        Token {
            request: None,
            selectors: vec![selector],
        }
    }

    const RESUME: Resume = Resume {
        cursor: Some(Cursor {
            epoch: 5,
            offset: 8,
        }),
        end: End::IngestTime(-4),
        carried: Carried {
            bars_since: Some(-1),
            is_live: true,
            last_per_key: Some((3, 1 << 40)),
            is_elsewhere: true,
        },
    };

    #[test]
    fn a_token_says_what_was_put_into_it() {
        let ends = [End::Never, End::Offset(0), End::Now, End::IngestTime(0)];
        for end in ends {
            let resume = Resume { end, ..RESUME };
            let read = read(&[7; 32], &issue(&[7; 32], &kept(&resume))).unwrap();
            assert_eq!(read, kept(&resume));
            assert_eq!(read.selectors[0].feeds[0].resume(), resume);
        }
        let anew = Resume {
            cursor: None,
            carried: Carried::default(),
            ..RESUME
        };
        assert_eq!(KeptFeed::new("f", &anew).resume(), anew);
    }

    #[test]
    fn a_changed_token_is_refused() {
        let token = issue(&[7; 32], &kept(&RESUME));
        assert!(read(&[8; 32], &token).is_err());
        assert!(read(&[7; 32], "").is_err());
        for at in VERSION.len()..token.len() - 1 {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(read(&[7; 32], &changed).is_err(), "byte {at}");
            assert!(read(&[7; 32], &token[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let token = issue(&[7; 32], &kept(&RESUME));
        let other = token.replacen("rf2.", "rf1.", 1);
        let refused = read(&[7; 32], &other).unwrap_err();
        assert!(refused.message().contains("another version"), "{refused}");
    }
}
