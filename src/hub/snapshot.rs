//! SNAPSHOT: the latest record of each wanted key and kind as of one offset, as messages. Taken of
//! what the feed keeps in memory anyway, in one piece, so that what follows begins exactly there;
//! no record of the ring is read.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

use super::{
    Feed, FollowError, Hub,
    keys::LatestBy,
    views::{ALL, Filter, FilterId, MAX_BYTES, Origin, View},
};
use crate::{
    model::{FRAME_TAG, Offset, Span},
    proto::message::SnapshotHead,
};

/// One that was just taken is good for whoever comes with the same wish: a crowd that reconnects.
const GOOD_FOR: Duration = Duration::from_millis(200);
const MAX_KEPT: usize = 64;
/// What a record costs beside its bytes.
const FRAME_OVERHEAD: usize = 4;

#[derive(Debug)]
pub(super) struct Snapshot {
    pub as_of: Offset,
    pages: Vec<View>,
    /// Its bytes, of those that all snapshots may have.
    _permit: OwnedSemaphorePermit,
}

/// The snapshots of a feed that are in use.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    kept: Mutex<VecDeque<Kept>>,
    /// One is taken at a time.
    taking: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Kept {
    filter: FilterId,
    selector: u32,
    taken: Instant,
    snapshot: Weak<Snapshot>,
}

impl Snapshot {
    pub(super) fn page(&self, index: usize) -> Option<View> {
        self.pages.get(index).cloned()
    }
}

impl Snapshots {
    fn find(&self, filter: FilterId, selector: u32) -> Option<Arc<Snapshot>> {
        let kept = self.kept.lock();
        let good = kept.iter().rev().find(|kept| {
            (kept.filter, kept.selector) == (filter, selector) && kept.taken.elapsed() < GOOD_FOR
        });
        good?.snapshot.upgrade()
    }

    fn keep(&self, filter: FilterId, selector: u32, snapshot: &Arc<Snapshot>) {
        let mut kept = self.kept.lock();
        kept.retain(|kept| kept.taken.elapsed() < GOOD_FOR);
        if kept.len() >= MAX_KEPT {
            kept.pop_front();
        }
        kept.push_back(Kept {
            filter,
            selector,
            taken: Instant::now(),
            snapshot: Arc::downgrade(snapshot),
        });
    }
}

/// Takes a snapshot, or shares one that was just taken.
pub(super) async fn take(
    hub: &Arc<Hub>,
    feed: &Arc<Feed>,
    filter: Option<&Arc<Filter>>,
    selector: u32,
) -> Result<Arc<Snapshot>, FollowError> {
    let id = filter.map_or(ALL, |filter| filter.id);
    let _turn = feed.snapshots.taking.lock().await;
    if let Some(shared) = feed.snapshots.find(id, selector) {
        return Ok(shared);
    }
    let (budget, feed_read, filter) = (
        Arc::clone(&hub.view_bytes),
        Arc::clone(feed),
        filter.cloned(),
    );
    let taken = spawn_blocking(move || {
        let latest = Latest::copy(&feed_read, filter.as_deref());
        latest.into_snapshot(&feed_read, selector, &budget)
    });
    let taken = Arc::new(taken.await.map_err(|_stopped| FollowError::Stopping)??);
    feed.snapshots.keep(id, selector, &taken);
    Ok(taken)
}

/// Records copied out of the feed's state, framed, a page's worth to a piece.
struct Latest {
    as_of: Offset,
    pages: Vec<(u32, Vec<u8>)>,
}

impl Latest {
    /// Short work under the feed's lock: one copy of each record, and nothing else.
    fn copy(feed: &Feed, filter: Option<&Filter>) -> Self {
        let state = feed.state();
        let mut latest = Self {
            as_of: state.seen_to,
            pages: vec![],
        };
        let mut add = |entry: &super::keys::KeyEntry| {
            let lasts = entry
                .lasts()
                .filter_map(|(_, l)| l.get(LatestBy::EventTime));
            lasts.for_each(|last| latest.add(&last.bytes));
        };
        match filter.and_then(Filter::few_names) {
            Some(names) => {
                let entries = names.iter().filter_map(|name| state.keys.get(name));
                entries.for_each(&mut add);
            }
            None => {
                let wanted = |name: &str| filter.is_none_or(|filter| filter.wants(name));
                let entries = state.keys.known().filter(|entry| wanted(&entry.name));
                entries.for_each(&mut add);
            }
        }
        latest
    }

    fn add(&mut self, record: &[u8]) {
        let fits = |page: &Vec<u8>| page.len() + record.len() + FRAME_OVERHEAD <= MAX_BYTES;
        if !self.pages.last().is_some_and(|(_, page)| fits(page)) {
            let room = (record.len() + FRAME_OVERHEAD).max(MAX_BYTES);
            self.pages.push((0, Vec::with_capacity(room)));
        }
        if let Some((count, page)) = self.pages.last_mut() {
            *count += 1;
            page.push(FRAME_TAG);
            prost::encoding::encode_varint(record.len() as u64, page);
            page.extend_from_slice(record);
        }
    }

    fn into_snapshot(
        self,
        feed: &Feed,
        selector: u32,
        budget: &Arc<Semaphore>,
    ) -> Result<Snapshot, FollowError> {
        let bytes: usize = self.pages.iter().map(|(_, page)| page.len()).sum();
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let permit = Arc::clone(budget).try_acquire_many_owned(permits);
        let permit = permit.map_err(|_full| FollowError::ViewsFull)?;
        let as_of = self.as_of;
        let head = SnapshotHead {
            selector,
            feed: feed.name().as_str(),
            epoch: feed.epoch(),
            as_of,
        };
        let pages = self.pages.into_iter().map(|(count, frames)| View {
            covers: Span::new(as_of, as_of),
            count,
            last_ingest: None,
            origin: Origin::Window,
            message: head.around(frames.len(), [frames.as_slice()].into_iter()),
        });
        Ok(Snapshot {
            as_of,
            pages: pages.collect(),
            _permit: permit,
        })
    }
}
