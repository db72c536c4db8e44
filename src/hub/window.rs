//! The hot window: the newest chunks of all feeds, shared with every follower, bounded in bytes.

use std::collections::{HashMap, VecDeque};

use parking_lot::RwLock;

use crate::model::{Chunk, FeedId, Offset, Span};

/// What a chunk costs beside its records.
const CHUNK_OVERHEAD: usize = 256;

#[derive(Debug)]
pub(crate) struct Window {
    max_bytes: usize,
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    feeds: HashMap<FeedId, VecDeque<Chunk>>,
    /// Whose chunk is the oldest, and so on.
    order: VecDeque<FeedId>,
    bytes: usize,
}

impl Window {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            inner: RwLock::default(),
        }
    }

    /// Adds what was just appended to a feed.
    pub(crate) fn push(&self, feed: FeedId, chunk: Chunk) {
        let mut inner = self.inner.write();
        inner.bytes += cost(&chunk);
        inner.feeds.entry(feed).or_default().push_back(chunk);
        inner.order.push_back(feed);
        while inner.bytes > self.max_bytes && inner.drop_oldest() {}
    }

    /// The chunk of `feed` that holds `offset`, from there on.
    pub(crate) fn get(&self, feed: FeedId, offset: Offset) -> Option<Chunk> {
        let inner = self.inner.read();
        let chunks = inner.feeds.get(&feed)?;
        let at = chunks.partition_point(|chunk| chunk.span().to <= offset);
        let chunk = chunks.get(at)?;
        chunk
            .span()
            .contains(offset)
            .then(|| chunk.slice(Span::new(offset, chunk.span().to)))
    }

    /// Forgets a feed.
    pub(crate) fn remove(&self, feed: FeedId) {
        let mut inner = self.inner.write();
        let gone = inner.feeds.remove(&feed).unwrap_or_default();
        inner.bytes -= gone.iter().map(cost).sum::<usize>();
        inner.order.retain(|other| *other != feed);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.inner.read().bytes
    }
}

impl Inner {
    fn drop_oldest(&mut self) -> bool {
        let Some(feed) = self.order.pop_front() else {
            return false;
        };
        if let Some(chunk) = self.feeds.get_mut(&feed).and_then(VecDeque::pop_front) {
            self.bytes -= cost(&chunk);
        }
        true
    }
}

fn cost(chunk: &Chunk) -> usize {
    chunk.body_len() + chunk.len() * size_of::<u32>() + CHUNK_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Frames, NewRecord};

    fn chunk(base: Offset, count: usize) -> Chunk {
        let record = NewRecord {
            bytes: vec![7; 100].into(),
            event_time: 0,
        };
        Frames::of(&vec![record; count]).seal(base, 0).0
    }

    #[test]
    fn the_newest_chunks_stay_within_the_bound() {
        let window = Window::new(10_000);
        for n in 0..100 {
            window.push(FeedId(n % 3), chunk(u64::from(n / 3) * 5, 5));
            assert!(window.bytes() <= 10_000);
        }
        assert!(window.get(FeedId(0), 0).is_none());
        let last = window.get(FeedId(0), 33 * 5 + 2).unwrap();
        assert_eq!(last.span(), Span::new(167, 170));
        assert!(window.get(FeedId(0), 170).is_none());
        for feed in 0..3 {
            window.remove(FeedId(feed));
        }
        assert_eq!(window.bytes(), 0);
    }
}
