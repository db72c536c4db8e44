//! A selector of a stream: as it was asked for, and which feeds may still join.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use prost::Message as _;

use super::open::Who;
use crate::{
    hub::{Carried, End, Feed, Resume, Start, Wanted},
    model::{self, Cursor, FeedName, Globs},
    proto::v1,
    rpc::token::KeptFeed,
};

/// Feeds that left, and are remembered in case that they come back.
const MAX_GONE: usize = 64;

#[derive(Debug)]
pub(super) struct Chosen {
    id: u32,
    /// Encoded: it is seldom looked at.
    asked: Box<[u8]>,
    pub(super) globs: Option<Box<Globbed>>,
}

/// A selector whose feeds come and go.
#[derive(Debug)]
pub(super) struct Globbed {
    globs: Globs,
    exclude: Globs,
    /// Of each feed, but for its start.
    wanted: Wanted,
    /// Feeds that were deleted, and where they ended: what is created again in their place has
    /// another epoch, which is told first.
    gone: BTreeMap<FeedName, Cursor>,
}

impl Chosen {
    pub(super) fn new(id: u32, asked: &v1::Selector, globs: Option<Box<Globbed>>) -> Self {
        let asked = asked.encode_to_vec().into();
        Self { id, asked, globs }
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn asked(&self) -> v1::Selector {
        v1::Selector::decode(&*self.asked).unwrap_or_default()
    }

    pub(super) fn asked_len(&self) -> usize {
        self.asked.len()
    }

    pub(super) fn ask(&mut self, asked: &v1::Selector) {
        self.asked = asked.encode_to_vec().into();
    }

    /// Whether feeds may join that are not there yet.
    pub(super) fn may_grow(&self) -> bool {
        self.globs.as_deref().is_some_and(Globbed::may_grow)
    }
}

impl Globbed {
    pub(super) fn new(globs: Globs, exclude: Globs, wanted: Wanted) -> Self {
        Self {
            globs,
            exclude,
            wanted,
            gone: BTreeMap::new(),
        }
    }

    fn may_grow(&self) -> bool {
        match self.wanted.end {
            End::Never => true,
            // Of a feed that is created later everything comes after now.
            End::Now | End::Offset(_) => false,
            End::IngestTime(time) => model::now() < time,
        }
    }

    /// When it stops to grow, as nanoseconds since the Unix epoch.
    pub(super) fn ends_at(&self) -> Option<model::UnixNanos> {
        match self.wanted.end {
            End::IngestTime(time) => Some(time),
            End::Never | End::Now | End::Offset(_) => None,
        }
    }

    pub(super) fn wanted(&mut self) -> &mut Wanted {
        &mut self.wanted
    }

    pub(super) fn globs(&self) -> &Globs {
        &self.globs
    }

    /// The feeds it matches now, of those that the caller may follow.
    pub(super) fn matching(&self, who: &Who) -> Vec<Arc<Feed>> {
        let hub = &who.context.hub;
        let mut feeds = hub.matching_feeds(&self.globs, &self.exclude);
        feeds.retain(|feed| who.sees(feed));
        feeds
    }

    /// The feeds that are to join, and how: from their beginning.
    pub(super) fn newcomers(
        &self,
        who: &Who,
        there: &HashSet<&FeedName>,
    ) -> Vec<(Arc<Feed>, Wanted)> {
        if !self.may_grow() {
            return vec![];
        }
        let new = self.matching(who).into_iter();
        new.filter(|feed| !there.contains(feed.name()))
            .map(|feed| {
                let back = self.gone.get(feed.name());
                let start = back.map_or(Start::Offset(0), |cursor| Start::Cursor(*cursor));
                let wanted = Wanted {
                    start,
                    carried: Carried::default(),
                    ..self.wanted.clone()
                };
                (feed, wanted)
            })
            .collect()
    }

    pub(super) fn joined(&mut self, feed: &FeedName) {
        self.gone.remove(feed);
    }

    /// A feed was deleted when this was the next offset. Where the end is over, what is created in
    /// its place later does not join.
    pub(super) fn left(&mut self, feed: FeedName, cursor: Cursor) {
        if !self.may_grow() {
            return;
        }
        if self.gone.len() >= MAX_GONE && !self.gone.contains_key(&feed) {
            self.gone.pop_first();
        }
        self.gone.insert(feed, cursor);
    }

    /// The feeds that left, for a resume token.
    pub(super) fn gone(&self) -> impl Iterator<Item = KeptFeed> {
        self.gone.iter().map(|(feed, cursor)| {
            let resume = Resume {
                cursor: Some(*cursor),
                end: self.wanted.end,
                carried: Carried::default(),
            };
            KeptFeed::new(feed.as_str(), &resume)
        })
    }
}
