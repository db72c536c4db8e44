//! The way out: a follower holds a cursor, reads up to the tail, and waits for it to move. Live
//! is reading near the tail; there is no queue of records, so there is nothing to overflow.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{End, Feed, FollowError, Hub, Life, Visible, start::Selection};
use crate::{
    metrics,
    model::{self, Chunk, Cursor, Epoch, Gap, Offset, Span, UnixNanos},
    proto::wire,
    store::{Read, StoreError},
};

/// Bytes of records in one step: a response of at most 256 KiB with its head.
const STEP_BYTES: usize = 255 * 1024;
/// Records passed before a filtered follower hears that it moved.
const STEP_RECORDS: u64 = 100_000;
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// What a follower comes upon next.
#[derive(Debug)]
pub enum Step {
    Records(Settled),
    Gap {
        /// The epoch the gap's offsets belong to.
        epoch: Epoch,
        gap: Gap,
        /// What can be read now, in the feed's present epoch.
        oldest: Offset,
    },
    /// Everything visible was seen: `wait`, then ask again.
    AtTail,
    /// The end that was asked for.
    Ended,
}

/// Records, and the offsets that they and the selection settle.
#[derive(Debug)]
pub struct Settled {
    pub covers: Span,
    pub records: Vec<Bytes>,
    /// Bytes of the records as they lie in a response.
    pub bytes: usize,
    /// When the last record passed came in.
    pub last_ingest: Option<UnixNanos>,
    pub origin: Origin,
}

/// Where records were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Window,
    Ring,
}

/// Follows one feed from one place.
#[derive(Debug)]
pub struct Follower {
    hub: Arc<Hub>,
    feed: Arc<Feed>,
    visible: watch::Receiver<Visible>,
    selection: Selection,
    cursor: Offset,
    end: End,
    gaps: VecDeque<(Epoch, Gap)>,
}

impl Follower {
    pub(super) fn new(
        hub: Arc<Hub>,
        feed: Arc<Feed>,
        selection: Selection,
        cursor: Offset,
        end: End,
        gap: Option<(Epoch, Gap)>,
    ) -> Self {
        let visible = feed.watch();
        Self {
            hub,
            feed,
            visible,
            selection,
            cursor,
            end,
            gaps: gap.into_iter().collect(),
        }
    }

    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// The next offset it will look at.
    pub fn cursor(&self) -> Offset {
        self.cursor
    }

    /// From where it can be resumed: what was returned is settled, a gap still to be told is not.
    pub fn resume_at(&self) -> Cursor {
        match self.gaps.front() {
            Some((epoch, gap)) => Cursor {
                epoch: *epoch,
                offset: gap.span.from,
            },
            None => Cursor {
                epoch: self.feed.epoch(),
                offset: self.cursor,
            },
        }
    }

    /// Where it ends: resolved, so that it can be resumed.
    pub fn end(&self) -> End {
        self.end
    }

    /// What comes next. Safe to cancel: the cursor moves only with what is returned.
    pub async fn next(&mut self) -> Result<Step, FollowError> {
        let visible = *self.visible.borrow_and_update();
        if visible.life == Life::Deleted {
            return Err(FollowError::FeedDeleted {
                feed: self.feed.name().clone(),
            });
        }
        if let Some((epoch, gap)) = self.gaps.pop_front() {
            return Ok(self.gap(epoch, gap));
        }
        let mut settled = Settled {
            covers: Span::new(self.cursor, self.cursor),
            records: vec![],
            bytes: 0,
            last_ingest: None,
            origin: Origin::Window,
        };
        loop {
            let at = settled.covers.to;
            let limit = self.limit(visible.bounds.tail);
            let unfilled = settled.bytes < STEP_BYTES && settled.covers.len() < STEP_RECORDS;
            if at >= limit || !unfilled {
                return Ok(self.settle(settled, visible));
            }
            match self.read(at, visible, STEP_BYTES - settled.bytes).await? {
                (Read::Records(chunk), origin) => {
                    let chunk = chunk.slice(Span::new(at, limit));
                    // A read gives at least one record, however large.
                    let full = settled.bytes + chunk.body_len() > STEP_BYTES;
                    if full && !settled.records.is_empty() {
                        return Ok(self.settle(settled, visible));
                    }
                    settled.origin = origin;
                    self.take(&mut settled, &chunk, limit);
                }
                (Read::Gap(_), _) if !settled.covers.is_empty() => {
                    return Ok(self.settle(settled, visible));
                }
                (Read::Gap(gap), _) => {
                    let gap = gap.before(limit);
                    self.cursor = gap.span.to;
                    return Ok(self.gap(self.feed.epoch(), gap));
                }
                (Read::AtTail, _) => return Ok(self.settle(settled, visible)),
            }
        }
    }

    /// Waits until there may be more to come upon.
    pub async fn wait(&mut self) {
        let changed = self.visible.changed();
        match self.end {
            End::IngestTime(time) => {
                let left = time.saturating_sub(model::now()).max(1_000_000);
                let left = Duration::from_nanos(left.unsigned_abs());
                tokio::select! {
                    _ = changed => {}
                    () = sleep(left) => {}
                }
            }
            End::Never | End::Offset(_) | End::Now => drop(changed.await),
        }
    }

    /// The first offset that is not for this follower, as far as it can be known.
    fn limit(&self, tail: Offset) -> Offset {
        match self.end {
            End::Offset(end) => end.min(tail),
            End::Never | End::Now | End::IngestTime(_) => tail,
        }
    }

    fn take(&mut self, settled: &mut Settled, chunk: &Chunk, limit: Offset) {
        let chunk = self.before_end(chunk);
        let ended = matches!(self.end, End::Offset(end) if end <= chunk.span().to);
        for (offset, bytes) in chunk.records() {
            settled.last_ingest = Some(wire::ingest_time(&bytes));
            if self.selection.takes(offset, &bytes) {
                settled.bytes += Chunk::framed_len(bytes.len());
                settled.records.push(bytes);
            }
        }
        let to = if ended {
            chunk.span().to.min(limit)
        } else {
            chunk.span().to
        };
        settled.covers.to = to.max(settled.covers.to);
    }

    /// Cuts what came in after the end, which becomes an offset then.
    fn before_end(&mut self, chunk: &Chunk) -> Chunk {
        let End::IngestTime(time) = self.end else {
            return chunk.clone();
        };
        let beyond = chunk
            .records()
            .find(|(_, bytes)| wire::ingest_time(bytes) >= time);
        let Some((offset, _)) = beyond else {
            return chunk.clone();
        };
        self.end = End::Offset(offset);
        chunk.slice(Span::new(chunk.span().from, offset))
    }

    fn settle(&mut self, settled: Settled, visible: Visible) -> Step {
        if !settled.covers.is_empty() {
            self.cursor = settled.covers.to;
            return Step::Records(settled);
        }
        let ended = match self.end {
            End::Offset(end) => self.cursor >= end,
            End::IngestTime(time) => self.cursor >= visible.bounds.tail && model::now() >= time,
            End::Never | End::Now => false,
        };
        if ended { Step::Ended } else { Step::AtTail }
    }

    fn gap(&self, epoch: Epoch, gap: Gap) -> Step {
        self.feed.metrics().count_gap(gap.reason.label());
        Step::Gap {
            epoch,
            gap,
            oldest: self.feed.bounds().head,
        }
    }

    async fn read(
        &self,
        at: Offset,
        visible: Visible,
        max_bytes: usize,
    ) -> Result<(Read, Origin), FollowError> {
        if at >= visible.bounds.head
            && let Some(chunk) = self.hub.window.get(self.feed.id(), at)
        {
            metrics::count_window_hit();
            return Ok((Read::Records(chunk.prefix(max_bytes)), Origin::Window));
        }
        metrics::count_window_miss();
        let ring = Arc::clone(&self.feed.ring);
        let read = read_blocking(move || ring.read(at, max_bytes)).await?;
        Ok((read, Origin::Ring))
    }
}

/// Reads away from the runtime's threads, and not for ever: a damaged store may never answer.
pub(super) async fn read_blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, FollowError> {
    let seconds = READ_TIMEOUT.as_secs();
    let late = || FollowError::Store(StoreError::ReadTimeout { seconds });
    match timeout(READ_TIMEOUT, spawn_blocking(read)).await {
        Ok(Ok(read)) => Ok(read?),
        Ok(Err(_)) | Err(_) => Err(late()),
    }
}
