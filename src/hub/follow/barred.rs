//! A follower of BARS: bars that are complete, and those in progress where they are wanted, with
//! the offsets that they settle.
//!
//! It begins with a table of its own, as history is read at its own pace. At the tail it shares one
//! with all who want the same bars of the same keys: the table sees each record once, moves a few
//! times a second, and what is sent is made once for all who have seen the same.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{Step, reader::Reader};
use crate::{
    hub::{
        BarsFidelity, Carried, End, FollowError, Visible,
        bar_feed::{self, BarFeed, Source},
        bar_views::{PACE, Shared, Update, Wish},
        bars::Seen,
        views::View,
    },
    model::{Offset, UnixNanos},
};

#[derive(Debug)]
pub(super) struct Barred {
    wanted: BarsFidelity,
    table: Table,
    /// What of the table was made into messages for it.
    seen: Seen,
    /// Bars that were in progress then begin at this time or later.
    seen_since: Option<UnixNanos>,
    /// The same of what was returned, where it resumes.
    open_since: Option<UnixNanos>,
    ready: VecDeque<View>,
    /// When a bar may be complete by the clock.
    due: Option<UnixNanos>,
    /// It has seen all there is, so it waits.
    next_look: Option<Instant>,
}

#[derive(Debug)]
enum Table {
    /// Not begun.
    None,
    Own(BarFeed),
    Shared(Arc<Shared>),
}

impl Barred {
    pub(super) fn new(wanted: BarsFidelity, reader: &Reader, carried: Carried) -> Self {
        Self {
            wanted,
            table: Table::None,
            seen: Seen::before(reader.cursor()),
            seen_since: carried.bars_since,
            open_since: carried.bars_since,
            ready: VecDeque::new(),
            due: None,
            next_look: None,
        }
    }

    pub(super) fn wanted(&self) -> BarsFidelity {
        self.wanted
    }

    pub(super) fn open_since(&self) -> Option<UnixNanos> {
        self.open_since
    }

    pub(super) fn is_between(&self) -> bool {
        self.ready.is_empty()
    }

    pub(super) async fn next(&mut self, reader: &mut Reader) -> Result<Step, FollowError> {
        reader.resolve_end_in_time().await?;
        let visible = reader.look()?;
        loop {
            if let Some(view) = self.ready.front() {
                // What was passed before is this one's own, and the message is everybody's.
                if view.covers.from > reader.cursor()
                    && let Some(passed) = reader.settle_passed()
                {
                    return Ok(Step::Records(passed));
                }
            }
            if let Some(view) = self.ready.pop_front() {
                reader.settled(view.covers.to);
                if self.ready.is_empty() {
                    self.open_since = self.seen_since;
                }
                return Ok(Step::Bars(view));
            }
            if reader.has_gap() {
                return reader.next_before(visible, reader.passed()).await;
            }
            let limit = reader.limit(visible.bounds.tail);
            let moved = match &self.table {
                Table::None => self.begin(reader),
                Table::Own(_) => self.own(reader, limit, visible).await?,
                Table::Shared(_) => self.shared(reader).await?,
            };
            match moved {
                Moved::On => {}
                Moved::Nothing => return reader.next_before(visible, reader.passed()).await,
                Moved::Gap => {
                    // What the table knows lies before the gap.
                    self.table = Table::None;
                    if let Some(gap) = reader.gap_here(visible).await? {
                        return Ok(gap);
                    }
                }
            }
        }
    }

    fn begin(&mut self, reader: &Reader) -> Moved {
        self.seen = Seen::before(reader.passed());
        self.table = Table::Own(BarFeed::begin(
            source(reader),
            self.wanted.interval,
            reader.passed(),
            self.open_since,
        ));
        Moved::On
    }

    /// Moves its own table a piece on; at the tail it becomes one that is shared.
    async fn own(
        &mut self,
        reader: &mut Reader,
        limit: Offset,
        visible: Visible,
    ) -> Result<Moved, FollowError> {
        let Table::Own(feed) = &mut self.table else {
            return Ok(Moved::On);
        };
        if feed.advance(limit).await?.is_some() {
            let update = self.update_own(reader).await?;
            let moved = self.take(update, reader);
            let is_told = matches!(moved, Moved::Nothing);
            return Ok(if is_told { Moved::Gap } else { moved });
        }
        let Table::Own(feed) = &mut self.table else {
            return Ok(Moved::On);
        };
        let table = feed.table().await?;
        let at_limit = table.position().next() >= limit;
        let is_end = at_limit && reader.end() == End::Offset(limit);
        if is_end {
            table.close_until(bar_feed::clock_at_end());
        } else if at_limit {
            table.close_until(bar_feed::clock());
        }
        let update = self.update_own(reader).await?;
        let moved = self.take(update, reader);
        if at_limit {
            self.next_look = Some(Instant::now() + PACE);
        }
        let ends = !matches!(reader.end(), End::Never);
        if at_limit && limit == visible.bounds.tail && !ends {
            self.share(reader).await?;
        }
        Ok(if at_limit { moved } else { Moved::On })
    }

    async fn update_own(&mut self, reader: &Reader) -> Result<Update, FollowError> {
        let wish = self.wish(reader);
        let Table::Own(feed) = &mut self.table else {
            return Err(FollowError::Stopping);
        };
        let table = feed.table().await?;
        let update = wish.update(table, reader.feed());
        table.release(update.seen);
        Ok(update)
    }

    /// At the tail: goes on with the table of others, or lets others go on with its own.
    async fn share(&mut self, reader: &Reader) -> Result<(), FollowError> {
        let views = &reader.feed().bar_views;
        let key = (self.wanted.interval, reader.filter_id());
        let as_others_count = Seen::before(self.seen.next());
        let shared = views.find(key, as_others_count, self.seen_since).await?;
        if let Some(shared) = shared {
            self.table = Table::Shared(shared);
            self.seen = as_others_count;
        } else if let Table::Own(feed) = std::mem::replace(&mut self.table, Table::None) {
            self.table = Table::Shared(views.share(key, feed));
        }
        Ok(())
    }

    async fn shared(&mut self, reader: &mut Reader) -> Result<Moved, FollowError> {
        let Table::Shared(shared) = &self.table else {
            return Ok(Moved::On);
        };
        let shared = Arc::clone(shared);
        let Some((update, next_look)) = shared.look(self.wish(reader), self.seen_since).await?
        else {
            // It is too far behind, or there is a gap: it goes on by itself.
            self.table = Table::None;
            return Ok(Moved::On);
        };
        self.next_look = Some(next_look);
        Ok(self.take(update, reader))
    }

    fn wish(&self, reader: &Reader) -> Wish {
        Wish {
            seen: self.seen,
            open_bars: self.wanted.open_bars,
            selector: reader.selector(),
        }
    }

    /// Takes over what it is sent next.
    fn take(&mut self, update: Update, reader: &mut Reader) -> Moved {
        self.seen = update.seen;
        self.seen_since = update.open_since;
        self.due = update.due;
        if update.views.is_empty() {
            self.open_since = update.open_since;
            reader.pass(update.seen.next());
            return Moved::Nothing;
        }
        self.ready.extend(update.views.iter().cloned());
        Moved::On
    }

    /// Waits for records or the clock, and then until the table moves again.
    pub(super) async fn wait(&mut self, reader: &mut Reader) {
        let due = self.due.map(|due| Instant::now() + bar_feed::until(due));
        if reader.feed().bounds().tail <= self.seen.next() {
            tokio::select! {
                () = reader.wait() => {}
                () = sleep_until(due.unwrap_or_else(far)), if due.is_some() => {}
            }
        }
        if let Some(next) = self.next_look {
            sleep_until(next).await;
        }
    }
}

/// Whether there is something to be sent.
enum Moved {
    /// Look again.
    On,
    Nothing,
    /// A gap is where it stands.
    Gap,
}

fn source(reader: &Reader) -> Source {
    Source {
        hub: Arc::clone(reader.hub()),
        feed: Arc::clone(reader.feed()),
        filter: reader.filter().cloned(),
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3_600)
}
