//! The hot window: the newest chunks of all feeds, and the messages made of them, shared with
//! every follower, bounded in bytes together.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::RwLock;

use super::views::{Cache, Hot};
use crate::{
    model::{FeedId, Offset, Span},
    trace::{MAX_SOURCES, Source},
};

/// What a chunk costs beside its records.
const CHUNK_OVERHEAD: usize = 256;
/// And for each record: where it starts, its key, and its place in an index by key.
const RECORD_OVERHEAD: usize = 16;
/// One part in so many of the window is for messages made of it, and as much for messages read
/// from disk.
const VIEWS_SHARE: usize = 8;

#[derive(Debug)]
pub(crate) struct Window {
    max_bytes: usize,
    inner: RwLock<Inner>,
    /// Messages of what is in the window.
    pub hot: Cache,
    /// Messages of what is not.
    pub cold: Cache,
}

#[derive(Debug, Default)]
struct Inner {
    feeds: HashMap<FeedId, VecDeque<Arc<Hot>>>,
    /// Whose chunk is the oldest, and so on.
    order: VecDeque<FeedId>,
    bytes: usize,
}

impl Window {
    pub(crate) fn new(max_bytes: usize) -> Self {
        let views = max_bytes / VIEWS_SHARE;
        Self {
            max_bytes: max_bytes - 2 * views,
            inner: RwLock::default(),
            hot: Cache::new(views),
            cold: Cache::new(views),
        }
    }

    /// Adds what was just appended to a feed.
    pub(crate) fn push(&self, feed: FeedId, hot: Hot) {
        let hot = Arc::new(hot);
        let mut inner = self.inner.write();
        inner.bytes += cost(&hot);
        inner.feeds.entry(feed).or_default().push_back(hot);
        inner.order.push_back(feed);
        while inner.bytes > self.max_bytes && inner.drop_oldest() {}
    }

    /// The chunks of `feed` from the one that holds `from`, as far as they join up, until one is
    /// `enough`.
    pub(crate) fn run(
        &self,
        feed: FeedId,
        from: Offset,
        mut enough: impl FnMut(&Hot) -> bool,
    ) -> Vec<Arc<Hot>> {
        let inner = self.inner.read();
        let Some(chunks) = inner.feeds.get(&feed) else {
            return vec![];
        };
        let first = chunks.partition_point(|hot| hot.span().to <= from);
        let mut at = from;
        let mut run = vec![];
        for hot in chunks.range(first..) {
            if !hot.span().contains(at) {
                break;
            }
            at = hot.span().to;
            run.push(Arc::clone(hot));
            if enough(hot) {
                break;
            }
        }
        run
    }

    /// Whether a record is in it.
    pub(crate) fn has(&self, feed: FeedId, offset: Offset) -> bool {
        !self.run(feed, offset, |_| true).is_empty()
    }

    /// The calls that brought the records of `span`, as far as they are traced; a few of them.
    pub(crate) fn sources(&self, feed: FeedId, span: Span) -> Vec<Arc<Source>> {
        let mut sources: Vec<Arc<Source>> = vec![];
        for hot in self.run(feed, span.from, |hot| hot.span().to >= span.to) {
            for source in hot.sources() {
                let known = sources.iter().any(|known| Arc::ptr_eq(known, source));
                if !known && sources.len() < MAX_SOURCES {
                    sources.push(Arc::clone(source));
                }
            }
        }
        sources
    }

    /// Forgets a feed.
    pub(crate) fn remove(&self, feed: FeedId) {
        let mut inner = self.inner.write();
        let gone = inner.feeds.remove(&feed).unwrap_or_default();
        inner.bytes -= gone.iter().map(|hot| cost(hot)).sum::<usize>();
        inner.order.retain(|other| *other != feed);
    }

    /// Bytes of chunks and messages.
    pub(crate) fn bytes(&self) -> usize {
        self.inner.read().bytes + self.hot.bytes() + self.cold.bytes()
    }
}

impl Inner {
    fn drop_oldest(&mut self) -> bool {
        let Some(feed) = self.order.pop_front() else {
            return false;
        };
        if let Some(hot) = self.feeds.get_mut(&feed).and_then(VecDeque::pop_front) {
            self.bytes -= cost(&hot);
        }
        true
    }
}

fn cost(hot: &Hot) -> usize {
    hot.chunk.body_len() + hot.chunk.len() * RECORD_OVERHEAD + CHUNK_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Chunk, Frames, NewRecord};

    fn chunk(base: Offset, count: usize) -> Chunk {
        let record = NewRecord {
            bytes: vec![7; 100].into(),
            event_time: 0,
        };
        Frames::of(&vec![record; count]).seal(base, 0).0
    }

    #[test]
    fn the_newest_chunks_stay_within_the_bound() {
        let window = Window::new(15_000);
        for n in 0..100 {
            let hot = Hot::new(chunk(u64::from(n / 3) * 5, 5), None);
            window.push(FeedId(n % 3), hot);
            assert!(window.bytes() <= 15_000);
        }
        assert!(!window.has(FeedId(0), 0));
        let last = window.run(FeedId(0), 33 * 5 - 1, |_| false);
        let spans: Vec<_> = last.iter().map(|hot| hot.span()).collect();
        assert_eq!(spans, [Span::new(160, 165), Span::new(165, 170)]);
        let first = window.run(FeedId(0), 33 * 5 - 1, |_| true);
        assert_eq!(first.len(), 1);
        assert!(!window.has(FeedId(0), 170));
        for feed in 0..3 {
            window.remove(FeedId(feed));
        }
        assert_eq!(window.bytes(), 0);
    }
}
