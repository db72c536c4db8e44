//! Named cursors: how far a subscriber has processed a feed. Durable when they are acknowledged; all
//! that are acknowledged within a moment share one flush.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use super::{CatalogError, Feed, Hub, commit::Writer};
use crate::{
    model::{self, Cursor, FeedId, Principal, UnixNanos},
    store::{Engine, Space, StoreError},
};

/// From the beginning of one flush of cursors to the next at the least: committing waits for it.
const BETWEEN_FLUSHES: Duration = Duration::from_millis(50);

/// Whose cursor: names belong to their principal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CursorKey {
    pub principal: Principal,
    pub subscriber: Arc<str>,
}

/// What was acknowledged, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedCursor {
    pub cursor: Cursor,
    pub time: UnixNanos,
}

/// The named cursors of one feed.
#[derive(Debug, Default)]
pub(super) struct Cursors(Mutex<BTreeMap<CursorKey, Entry>>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    newest: NamedCursor,
    /// What is on disk.
    durable: Option<NamedCursor>,
}

/// What waits for the next flush of cursors, of all feeds.
#[derive(Debug, Default)]
pub(super) struct CursorDesk(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    changes: Changes,
    replies: Vec<oneshot::Sender<Result<(), String>>>,
    /// Somebody sees to it.
    flushing: bool,
    last_flush: Option<Instant>,
}

/// Whose, and the cursor, or `None` to forget it.
type Change = ((FeedId, CursorKey), (Arc<Feed>, Option<NamedCursor>));
type Changes = HashMap<(FeedId, CursorKey), (Arc<Feed>, Option<NamedCursor>)>;

/// Resolves when it is durable.
pub type Acknowledged = BoxFuture<'static, Result<(), CatalogError>>;

impl Cursors {
    pub(super) fn find(&self, key: &CursorKey) -> Option<NamedCursor> {
        self.0.lock().get(key)?.durable
    }

    pub(super) fn all(&self) -> Vec<(CursorKey, NamedCursor)> {
        let entries = self.0.lock();
        let durable = |(key, entry): (&CursorKey, &Entry)| Some((key.clone(), entry.durable?));
        entries.iter().filter_map(durable).collect()
    }

    /// Takes a cursor if it moves the subscriber's forward. Whether it has still to be written.
    fn advance(
        &self,
        key: &CursorKey,
        new: NamedCursor,
        limit: usize,
    ) -> Result<Advance, CatalogError> {
        let mut entries = self.0.lock();
        if let Some(entry) = entries.get_mut(key) {
            let old = entry.newest.cursor;
            if old.epoch == new.cursor.epoch && old.offset >= new.cursor.offset {
                let written = entry.durable.is_some_and(|durable| durable.cursor == old);
                return Ok(if written {
                    Advance::Nothing
                } else {
                    Advance::Coming
                });
            }
            entry.newest = new;
            return Ok(Advance::Write);
        }
        if entries.len() >= limit {
            return Err(CatalogError::CursorLimit { limit });
        }
        let (newest, durable) = (new, None);
        entries.insert(key.clone(), Entry { newest, durable });
        Ok(Advance::Write)
    }

    fn written(&self, key: &CursorKey, cursor: NamedCursor) {
        if let Some(entry) = self.0.lock().get_mut(key) {
            entry.durable = Some(cursor);
        }
    }
}

/// What has to be done for an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Advance {
    /// It says less than what is durable.
    Nothing,
    /// What it says is on its way.
    Coming,
    Write,
}

impl Hub {
    /// Notes that a subscriber has processed a feed up to `cursor`; epoch 0 is the present one. What
    /// is returned waits until that is durable.
    pub fn acknowledge(
        self: &Arc<Self>,
        feed: &Arc<Feed>,
        key: CursorKey,
        cursor: Cursor,
    ) -> Result<Acknowledged, CatalogError> {
        let cursor = self.acknowledgeable(feed, cursor)?;
        let new = NamedCursor {
            cursor,
            time: model::now(),
        };
        let limit = self.options.max_cursors_per_feed;
        let change = match feed.cursors.advance(&key, new, limit)? {
            Advance::Nothing => return Ok(std::future::ready(Ok(())).boxed()),
            Advance::Coming => None,
            Advance::Write => Some(((feed.id(), key), (Arc::clone(feed), Some(new)))),
        };
        Ok(self.write_cursor(feed, change))
    }

    /// A cursor that may be acknowledged, its epoch filled in.
    pub fn acknowledgeable(&self, feed: &Feed, cursor: Cursor) -> Result<Cursor, CatalogError> {
        let (present, next) = (feed.epoch(), feed.bounds().tail);
        if cursor.epoch != 0 && cursor.epoch != present {
            return Err(CatalogError::CursorEpoch {
                epoch: cursor.epoch,
                present,
            });
        }
        if cursor.offset > next {
            return Err(CatalogError::CursorBeyond {
                offset: cursor.offset,
                next,
            });
        }
        Ok(Cursor {
            epoch: present,
            ..cursor
        })
    }

    /// The durable cursor of a subscriber.
    pub fn named_cursor(&self, feed: &Feed, key: &CursorKey) -> Option<NamedCursor> {
        feed.cursors.find(key)
    }

    /// Forgets a cursor; durable when it returns.
    pub async fn delete_cursor(
        self: &Arc<Self>,
        feed: &Arc<Feed>,
        key: CursorKey,
    ) -> Result<(), CatalogError> {
        if feed.cursors.0.lock().remove(&key).is_none() {
            return Err(CatalogError::UnknownCursor {
                feed: feed.name().clone(),
                subscriber: key.subscriber.to_string(),
            });
        }
        let change = ((feed.id(), key), (Arc::clone(feed), None));
        self.write_cursor(feed, Some(change)).await
    }

    fn write_cursor(self: &Arc<Self>, feed: &Arc<Feed>, change: Option<Change>) -> Acknowledged {
        let (reply, answer) = oneshot::channel();
        let mut waiting = self.cursor_desk.0.lock();
        waiting.changes.extend(change);
        waiting.replies.push(reply);
        if !std::mem::replace(&mut waiting.flushing, true) {
            tokio::spawn(Arc::clone(self).flush_cursors());
        }
        drop(waiting);
        let feed = Arc::clone(feed);
        async move {
            match answer.await {
                Ok(Ok(())) if feed.is_deleted() => Err(CatalogError::UnknownFeed {
                    name: feed.name().clone(),
                }),
                Ok(Ok(())) => Ok(()),
                Ok(Err(cause)) => Err(CatalogError::CursorNotStored { cause }),
                Err(_closed) => Err(CatalogError::Stopping),
            }
        }
        .boxed()
    }

    /// Flushes what waits, again and again, until nothing does.
    async fn flush_cursors(self: Arc<Self>) {
        loop {
            let last = self.cursor_desk.0.lock().last_flush;
            if let Some(last) = last {
                sleep_until(last + BETWEEN_FLUSHES).await;
            }
            let (changes, replies) = {
                let mut waiting = self.cursor_desk.0.lock();
                waiting.last_flush = Some(Instant::now());
                waiting.flushing = !waiting.replies.is_empty();
                if !waiting.flushing {
                    return;
                }
                (
                    std::mem::take(&mut waiting.changes),
                    std::mem::take(&mut waiting.replies),
                )
            };
            let written = self.admin(move |writer| write(writer, &changes)).await;
            let result = match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            for reply in replies {
                // Whoever asked may be gone.
                drop(reply.send(result.clone()));
            }
        }
    }
}

fn write(writer: &Writer, changes: &Changes) -> Result<(), StoreError> {
    // What a feed had is gone with it, and must not come back.
    let present: Vec<_> = changes
        .iter()
        .filter(|(_, (feed, _))| !feed.is_deleted())
        .collect();
    if present.is_empty() {
        return Ok(());
    }
    for ((feed, key), (_, cursor)) in &present {
        let value = cursor.map(|cursor| to_bytes(&cursor));
        let value = value.as_ref().map(<[u8; 24]>::as_slice);
        writer
            .engine
            .put(Space::Cursors, &disk_key(*feed, key), value)?;
    }
    writer.flush()?;
    for ((_, key), (feed, cursor)) in present {
        if let Some(cursor) = cursor {
            feed.cursors.written(key, *cursor);
        }
    }
    Ok(())
}

/// Reads a feed's named cursors.
pub(super) fn load(engine: &dyn Engine, feed: &Feed) -> Result<(), StoreError> {
    let damaged = || StoreError::Damaged {
        what: "a named cursor".into(),
        detail: "it does not parse".into(),
    };
    let mut entries = feed.cursors.0.lock();
    for (key, value) in engine.scan(Space::Cursors, &feed.id().0.to_be_bytes())? {
        let key = parse_key(&key).ok_or_else(damaged)?;
        let newest = from_bytes(&value).ok_or_else(damaged)?;
        let durable = Some(newest);
        entries.insert(key, Entry { newest, durable });
    }
    Ok(())
}

/// Removes a feed's named cursors.
pub(super) fn delete(engine: &dyn Engine, feed: FeedId) -> Result<(), StoreError> {
    for (key, _) in engine.scan(Space::Cursors, &feed.0.to_be_bytes())? {
        engine.put(Space::Cursors, &key, None)?;
    }
    Ok(())
}

/// feed ++ bytes of the principal ++ principal ++ subscriber.
fn disk_key(feed: FeedId, key: &CursorKey) -> Vec<u8> {
    let principal = key.principal.as_bytes();
    let len = u32::try_from(principal.len()).unwrap_or(u32::MAX);
    [
        feed.0.to_be_bytes().as_slice(),
        &len.to_be_bytes(),
        principal,
        key.subscriber.as_bytes(),
    ]
    .concat()
}

fn parse_key(bytes: &[u8]) -> Option<CursorKey> {
    let (_feed, rest) = bytes.split_first_chunk::<4>()?;
    let (len, rest) = rest.split_first_chunk()?;
    let len = u32::from_be_bytes(*len) as usize;
    let (principal, subscriber) = rest.split_at_checked(len)?;
    Some(CursorKey {
        principal: std::str::from_utf8(principal).ok()?.into(),
        subscriber: std::str::from_utf8(subscriber).ok()?.into(),
    })
}

/// epoch ++ offset ++ time.
fn to_bytes(cursor: &NamedCursor) -> [u8; 24] {
    let mut bytes = [0; 24];
    let (epoch, rest) = bytes.split_at_mut(8);
    let (offset, time) = rest.split_at_mut(8);
    epoch.copy_from_slice(&cursor.cursor.epoch.to_be_bytes());
    offset.copy_from_slice(&cursor.cursor.offset.to_be_bytes());
    time.copy_from_slice(&cursor.time.to_be_bytes());
    bytes
}

fn from_bytes(bytes: &[u8]) -> Option<NamedCursor> {
    let (epoch, rest) = bytes.split_first_chunk()?;
    let (offset, time) = rest.split_first_chunk()?;
    Some(NamedCursor {
        cursor: Cursor {
            epoch: u64::from_be_bytes(*epoch),
            offset: u64::from_be_bytes(*offset),
        },
        time: i64::from_be_bytes(time.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_was_written(
            feed in any::<u32>(), principal in ".{0,40}", subscriber in ".{0,40}",
            epoch in any::<u64>(), offset in any::<u64>(), time in any::<i64>(),
        ) {
            let key = CursorKey {
                principal: principal.as_str().into(),
                subscriber: subscriber.as_str().into(),
            };
            let bytes = disk_key(FeedId(feed), &key);
            prop_assert!(bytes.starts_with(&feed.to_be_bytes()));
            prop_assert_eq!(parse_key(&bytes), Some(key));
            let cursor = NamedCursor { cursor: Cursor { epoch, offset }, time };
            prop_assert_eq!(from_bytes(&to_bytes(&cursor)), Some(cursor));
        }
    }
}
