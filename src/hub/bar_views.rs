//! Tables of bars that the followers of a feed share, and the messages made of them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Feed, FollowError, OpenBars,
    bar_feed::{self, BarFeed},
    bars::{BarTable, Seen},
    views::{FilterId, MAX_BYTES, Origin, View},
};
use crate::{
    model::{Span, UnixNanos},
    proto::message::BarsHead,
};

/// A table moves at most so often: who wants bars in progress gets them as often.
pub(super) const PACE: Duration = Duration::from_millis(200);
/// Updates that are kept for others.
const MAX_UPDATES: usize = 16;

/// The shared tables of a feed by interval and filter.
#[derive(Debug, Default)]
pub(super) struct BarViews {
    tables: Mutex<HashMap<(Duration, FilterId), Weak<Shared>>>,
    /// Updates that were made, for tests.
    pub computed: Arc<AtomicU64>,
}

/// A table at the tail.
#[derive(Debug)]
pub(super) struct Shared {
    live: tokio::sync::Mutex<Live>,
    computed: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Live {
    feed: BarFeed,
    moved: Instant,
    /// Its ring has a gap where it stands, so nobody goes on with it.
    is_at_gap: bool,
    updates: VecDeque<(Wish, Update)>,
}

/// What a follower has, and what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub seen: Seen,
    pub open_bars: OpenBars,
    pub selector: u32,
}

/// What brings a follower up to where a table is.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub seen: Seen,
    pub open_since: Option<UnixNanos>,
    pub due: Option<UnixNanos>,
    pub views: Arc<[View]>,
}

impl BarViews {
    /// The table that others share, if there is one that serves who has `seen` so much, when bars
    /// from `since` on were in progress.
    pub(super) async fn find(
        &self,
        key: (Duration, FilterId),
        seen: Seen,
        since: Option<UnixNanos>,
    ) -> Result<Option<Arc<Shared>>, FollowError> {
        let known = self.tables.lock().get(&key).and_then(Weak::upgrade);
        match known {
            Some(shared) if shared.serves(seen, since).await? => Ok(Some(shared)),
            Some(_) | None => Ok(None),
        }
    }

    /// Shares a table from now on.
    pub(super) fn share(&self, key: (Duration, FilterId), feed: BarFeed) -> Arc<Shared> {
        let shared = Arc::new(Shared {
            live: tokio::sync::Mutex::new(Live {
                feed,
                moved: Instant::now(),
                is_at_gap: false,
                updates: VecDeque::new(),
            }),
            computed: Arc::clone(&self.computed),
        });
        let mut tables = self.tables.lock();
        tables.retain(|_, shared| shared.strong_count() > 0);
        tables.insert(key, Arc::downgrade(&shared));
        shared
    }
}

impl Shared {
    async fn serves(&self, seen: Seen, since: Option<UnixNanos>) -> Result<bool, FollowError> {
        let mut live = self.live.lock().await;
        if live.is_of_no_use() {
            return Ok(false);
        }
        let table = live.feed.table().await?;
        Ok(table.serves(seen) && since.is_none_or(|since| table.knows_from(since)))
    }

    /// Moves the table to the tail if it is time, and gives what `wish` has not seen, and when to
    /// look again; to whom it is, bars from `since` on are in progress. `None`: it cannot be served
    /// from here.
    pub(super) async fn look(
        &self,
        wish: Wish,
        since: Option<UnixNanos>,
    ) -> Result<Option<(Update, Instant)>, FollowError> {
        let mut live = self.live.lock().await;
        if live.moved.elapsed() >= PACE && !live.is_of_no_use() {
            live.advance().await?;
        }
        let next_look = live.moved + PACE;
        if live.is_of_no_use() {
            return Ok(None);
        }
        let feed = Arc::clone(&live.feed.source().feed);
        let table = live.feed.table().await?;
        let position = table.position();
        if wish.seen.next() > position.next() || wish.seen == position {
            // A table that is behind does not know what is in progress there.
            let nothing = Update {
                open_since: since,
                ..wish.at(wish.seen, table)
            };
            return Ok(Some((nothing, next_look)));
        }
        if !table.serves(wish.seen) {
            return Ok(None);
        }
        let known = live.updates.iter().rev();
        let mut known = known.filter(|(made, update)| *made == wish && update.seen == position);
        if let Some((_, update)) = known.next() {
            return Ok(Some((update.clone(), next_look)));
        }
        let update = wish.update(live.feed.table().await?, &feed);
        self.computed.fetch_add(1, Relaxed);
        if live.updates.len() >= MAX_UPDATES {
            live.updates.pop_front();
        }
        live.updates.push_back((wish, update.clone()));
        Ok(Some((update, next_look)))
    }
}

impl Live {
    /// Whoever shares it goes on by itself.
    fn is_of_no_use(&self) -> bool {
        self.is_at_gap || self.feed.is_lost()
    }

    /// Brings the table to the tail.
    async fn advance(&mut self) -> Result<(), FollowError> {
        let feed = Arc::clone(&self.feed.source().feed);
        loop {
            let tail = feed.bounds().tail;
            if self.feed.advance(tail).await?.is_some() {
                self.is_at_gap = true;
                return Ok(());
            }
            let table = self.feed.table().await?;
            if table.position().next() >= tail {
                table.close_until(bar_feed::clock());
                // Who is so far behind that it is dropped goes on by itself.
                table.release(table.position());
                self.moved = Instant::now();
                return Ok(());
            }
        }
    }
}

impl Wish {
    /// What the table has that was not seen.
    pub(super) fn update(self, table: &mut BarTable, feed: &Feed) -> Update {
        let seen = table.position();
        let head = BarsHead {
            selector: self.selector,
            feed: feed.name().as_str(),
            epoch: feed.epoch(),
            covers: Span::new(self.seen.next(), seen.next()),
        };
        let messages = head.messages(MAX_BYTES, table.changed_since(self.seen, self.open_bars));
        let views = messages.into_iter().map(|(covers, count, message)| View {
            covers,
            count,
            last_ingest: None,
            origin: Origin::Window,
            message,
        });
        Update {
            views: views.collect(),
            ..self.at(seen, table)
        }
    }

    fn at(self, seen: Seen, table: &BarTable) -> Update {
        Update {
            seen,
            open_since: table.open_since(seen),
            due: table.next_due(),
            views: Arc::new([]),
        }
    }
}
