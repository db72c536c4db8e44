//! Brings a feed's records to a table of bars: from memory where they are, else from the ring, a
//! piece at a time, away from the runtime's threads.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinHandle, spawn_blocking},
};

use super::{
    Feed, FollowError, Hub,
    bars::{BarTable, GRACE, History, TooLarge},
    start::each_record,
    views::{Filter, Hot},
};
use crate::{
    model::{self, Gap, Offset, Span, UnixNanos},
    proto::wire,
    store::{Clock, Read, StoreError},
};

/// What one table may take.
const MAX_TABLE_BYTES: usize = 64 << 20;
/// Granted of the bytes of all views at a time.
const GRANT_BYTES: usize = 64 << 10;
/// Read and looked at before the caller hears of it.
const PIECE_BYTES: usize = 8 << 20;
/// So many changes are sent before there are more: a vector changes as many bars as it has channels,
/// and no bar is dropped that was not sent.
const PIECE_CHANGES: u64 = 32_768;
const READ_BYTES: usize = 1 << 20;
/// So many records in memory are looked at on the thread that asks.
const INLINE: u64 = 4_096;
/// Chunks of one piece.
const MAX_CHUNKS: usize = 4_096;
/// A record that was stamped is visible after so long, nearly always: one that takes longer may
/// come for a bar that is complete, and makes a revision.
const UNDER_WAY: Duration = Duration::from_millis(500);

/// Which records a table is of.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub hub: Arc<Hub>,
    pub feed: Arc<Feed>,
    pub filter: Option<Arc<Filter>>,
}

/// A table, and what is being done with it. Safe to cancel: work under way goes on, and whoever
/// comes next waits for it.
#[derive(Debug)]
pub(super) struct BarFeed {
    source: Source,
    /// `None` while it is worked at.
    table: Option<Box<BarTable>>,
    work: Option<JoinHandle<Result<Worked, FollowError>>>,
    budget: Budget,
}

#[derive(Debug)]
struct Worked {
    table: Box<BarTable>,
    gap: Option<Gap>,
}

/// What a table takes of the bytes of all views.
#[derive(Debug)]
struct Budget {
    all: Arc<Semaphore>,
    granted: Option<OwnedSemaphorePermit>,
}

impl BarFeed {
    /// A table of the records from `cursor` on; bars that begin at or after `since`, or that are in
    /// progress at the cursor, have the records before it as well.
    pub(super) fn begin(
        source: Source,
        interval: Duration,
        cursor: Offset,
        since: Option<UnixNanos>,
    ) -> Self {
        let budget = Budget {
            all: Arc::clone(&source.hub.view_bytes),
            granted: None,
        };
        let from = source.clone();
        let work = spawn_blocking(move || from.begin(interval, cursor, since));
        Self {
            source,
            table: None,
            work: Some(work),
            budget,
        }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// Work at it failed: whoever saw that was told, and there is no table any more.
    pub(super) fn is_lost(&self) -> bool {
        self.table.is_none() && self.work.is_none()
    }

    /// The table, when nobody works at it.
    pub(super) async fn table(&mut self) -> Result<&mut BarTable, FollowError> {
        self.finish().await?;
        self.table.as_deref_mut().ok_or(FollowError::Stopping)
    }

    /// Brings the table a piece further, at most up to `to`. A gap begins where it stands, when one
    /// is returned.
    pub(super) async fn advance(&mut self, to: Offset) -> Result<Option<Gap>, FollowError> {
        if let Some(gap) = self.finish().await? {
            return Ok(Some(gap));
        }
        let Some(mut table) = self.table.take() else {
            return Err(FollowError::Stopping);
        };
        let span = Span::new(table.position().next(), to);
        if span.is_empty() {
            self.table = Some(table);
            return Ok(None);
        }
        let hot = self.source.hot(span);
        let in_memory = hot.last().is_some_and(|last| last.span().to >= to);
        if in_memory && span.len() <= INLINE {
            let seen = self.source.see_hot(&mut table, &hot, span);
            self.table = Some(table);
            seen?;
            if !self.table().await?.is_missing() {
                return self.settle().map(|()| None);
            }
            return Box::pin(self.refill()).await;
        }
        let source = self.source.clone();
        self.work = Some(spawn_blocking(move || {
            let gap = if hot.is_empty() {
                source.see_ring(&mut table, span)?
            } else {
                source.see_hot(&mut table, &hot, span)?;
                None
            };
            source.refill(&mut table)?;
            Ok(Worked { table, gap })
        }));
        self.finish().await
    }

    async fn refill(&mut self) -> Result<Option<Gap>, FollowError> {
        if let Some(mut table) = self.table.take() {
            let source = self.source.clone();
            self.work = Some(spawn_blocking(move || {
                source.refill(&mut table)?;
                Ok(Worked { table, gap: None })
            }));
        }
        self.finish().await
    }

    /// Waits for work that is under way.
    async fn finish(&mut self) -> Result<Option<Gap>, FollowError> {
        let Some(work) = &mut self.work else {
            return Ok(None);
        };
        let worked = work.await;
        self.work = None;
        let Worked { table, gap } = worked.map_err(|_stopped| FollowError::Stopping)??;
        self.table = Some(table);
        self.settle()?;
        Ok(gap)
    }

    fn settle(&mut self) -> Result<(), FollowError> {
        let bytes = self.table.as_deref().map_or(0, BarTable::bytes);
        self.budget.fit(bytes)
    }
}

impl Budget {
    fn fit(&mut self, bytes: usize) -> Result<(), FollowError> {
        let wanted = bytes.div_ceil(GRANT_BYTES) * GRANT_BYTES;
        let has = self.granted.as_ref().map_or(0, |g| g.num_permits());
        if wanted > has {
            let more = u32::try_from(wanted - has).unwrap_or(u32::MAX);
            let more = Arc::clone(&self.all).try_acquire_many_owned(more);
            let more = more.map_err(|_full| FollowError::ViewsFull)?;
            match &mut self.granted {
                Some(granted) => granted.merge(more),
                None => self.granted = Some(more),
            }
        } else if let Some(granted) = &mut self.granted {
            drop(granted.split(has - wanted));
        }
        Ok(())
    }
}

impl From<TooLarge> for FollowError {
    fn from(too_large: TooLarge) -> Self {
        Self::ViewTooLarge {
            bytes: too_large.bytes,
            limit: too_large.max_bytes,
        }
    }
}

impl Source {
    fn begin(
        &self,
        interval: Duration,
        cursor: Offset,
        since: Option<UnixNanos>,
    ) -> Result<Worked, FollowError> {
        let ring = &self.feed.ring;
        let head = ring.bounds().head;
        let nanos = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX);
        let current = self.event_time_before(cursor)?;
        let current = current.map(|time| floor(time, nanos));
        let whole_from = since.into_iter().chain(current).min();
        let first = match whole_from {
            Some(time) => ring
                .seek(Clock::Event, time)?
                .clamp(head.min(cursor), cursor),
            None => cursor,
        };
        let partial_before = self.partial_before(nanos)?;
        let whole_from = match whole_from {
            // Nothing is before it, any more.
            _ if first <= head => UnixNanos::MIN,
            Some(time) => time,
            None => UnixNanos::MAX,
        };
        let history = History {
            first,
            whole_from,
            partial_before,
        };
        let mut table = Box::new(BarTable::new(interval, MAX_TABLE_BYTES, history));
        // Nobody has to be sent what lies before the cursor.
        self.each(Span::new(first, cursor), |offset, record| {
            table.see(offset, record)?;
            table.release(table.position());
            Ok(())
        })?;
        table.passed(cursor);
        Ok(Worked { table, gap: None })
    }

    /// The event time of the last record before an offset, where it can be read.
    fn event_time_before(&self, offset: Offset) -> Result<Option<UnixNanos>, StoreError> {
        let Some(last) = offset.checked_sub(1) else {
            return Ok(None);
        };
        Ok(match self.feed.ring.read(last, 1)? {
            Read::Records(chunk) => {
                let found = chunk.records().next();
                found.and_then(|(_, record)| Some(wire::stored(&record)?.event_time))
            }
            Read::Gap(_) | Read::AtTail => None,
        })
    }

    fn hot(&self, span: Span) -> Vec<Arc<Hot>> {
        // What was trimmed may still be in memory.
        if span.from < self.feed.bounds().head {
            return vec![];
        }
        let (mut chunks, mut bytes) = (0, 0);
        self.hub.window.run(self.feed.id(), span.from, |hot| {
            chunks += 1;
            bytes += hot.chunk.body_len();
            chunks == MAX_CHUNKS || bytes >= PIECE_BYTES || hot.span().to >= span.to
        })
    }

    fn see_hot(
        &self,
        table: &mut BarTable,
        hot: &[Arc<Hot>],
        span: Span,
    ) -> Result<(), FollowError> {
        let before = table.changes();
        for hot in hot {
            if table.changes() - before >= PIECE_CHANGES {
                break;
            }
            let from = table.position().next();
            let part = Span::new(from, span.to.min(hot.span().to));
            hot.each_wanted(
                &self.feed,
                self.filter.as_deref(),
                part,
                |offset, record| table.see(offset, record),
            )?;
            table.passed(part.to);
        }
        Ok(())
    }

    fn see_ring(&self, table: &mut BarTable, span: Span) -> Result<Option<Gap>, FollowError> {
        let (mut bytes, before) = (0, table.changes());
        while bytes < PIECE_BYTES && table.changes() - before < PIECE_CHANGES {
            let at = table.position().next();
            if at >= span.to {
                break;
            }
            match self.feed.ring.read(at, READ_BYTES)? {
                Read::Records(chunk) => {
                    let chunk = chunk.slice(Span::new(at, span.to));
                    bytes += chunk.body_len();
                    for (offset, record) in chunk.records() {
                        if self.wants(&record) {
                            table.see(offset, &record)?;
                        }
                    }
                    table.passed(chunk.span().to);
                }
                Read::Gap(gap) if bytes == 0 => return Ok(Some(gap)),
                Read::Gap(_) | Read::AtTail => break,
            }
        }
        Ok(None)
    }

    /// Reads the ring for bars that records came for and that the table does not have.
    fn refill(&self, table: &mut BarTable) -> Result<(), FollowError> {
        let Some(mut refill) = table.take_missing() else {
            return Ok(());
        };
        let head = self.feed.bounds().head;
        let from = self.feed.ring.seek(Clock::Event, refill.since())?;
        let to = table.position().next();
        self.each(Span::new(from.max(head), to), |offset, record| {
            refill.see(offset, record)
        })?;
        // What was evicted meanwhile counts as well.
        let partial_before = self.partial_before(table.interval())?;
        table.refill(refill, partial_before)?;
        Ok(())
    }

    /// Bars that start before this may have lost records: what was evicted is thought to have
    /// happened before what is the oldest now.
    fn partial_before(&self, interval: UnixNanos) -> Result<UnixNanos, StoreError> {
        let head = self.feed.ring.bounds().head;
        Ok(match self.event_time_before(head + 1)? {
            Some(oldest) if head > 0 => floor(oldest, interval).saturating_add(interval),
            Some(_) | None => UnixNanos::MIN,
        })
    }

    fn each(
        &self,
        span: Span,
        mut see: impl FnMut(Offset, &[u8]) -> Result<(), TooLarge>,
    ) -> Result<(), FollowError> {
        let mut failed = Ok(());
        each_record(&self.feed, span, |offset, record| {
            if failed.is_ok() && self.wants(record) {
                failed = see(offset, record);
            }
        })?;
        Ok(failed?)
    }

    fn wants(&self, record: &[u8]) -> bool {
        let filter = self.filter.as_deref();
        filter.is_none_or(|filter| filter.wants(wire::key_of(record)))
    }
}

/// The start of the bar that a time lies in.
fn floor(time: UnixNanos, interval: UnixNanos) -> UnixNanos {
    time.div_euclid(interval).saturating_mul(interval)
}

/// The clock by which bars are complete at the tail.
pub(super) fn clock() -> UnixNanos {
    let under_way = i64::try_from(UNDER_WAY.as_nanos()).unwrap_or(i64::MAX);
    model::now().saturating_sub(under_way)
}

/// The clock where a follower ends: nothing is waited for, so what has passed is complete.
pub(super) fn clock_at_end() -> UnixNanos {
    let grace = i64::try_from(GRACE.as_nanos()).unwrap_or(i64::MAX);
    model::now().saturating_add(grace)
}

/// How long it is until that clock shows `time`.
pub(super) fn until(time: UnixNanos) -> Duration {
    Duration::from_nanos(time.saturating_sub(clock()).max(0).unsigned_abs())
}
