//! What is derived from records, on disk: it outlives the ring and makes opening short.
//!
//! A *save* writes the keys' last records and the producers' marks that changed, and up to which
//! offset they hold. After a crash the blocks from there on are read again. A save is due before
//! a quarter of the ring was written, so nothing unsaved is ever overwritten. It is made between
//! commits: a mark must never be on disk before the records it speaks of.

use super::{
    Feed,
    feed::FeedState,
    info::InfoScope,
    keys::{KeyId, KeyLimits, SeenMeta},
    last_page::{self, Saved},
    producers::ProducerState,
    wills,
};
use crate::{
    model::{self, FeedId, Offset, PayloadKind, Span},
    proto::{v1::KeyInfo, wire},
    store::{Engine, Space, StoreError},
};

const SAVE_AFTER_BYTES: u64 = 8 << 20;
/// A save costs about as much as this for each changed page of keys; it must stay a small part of
/// what was written.
const DIRTY_PAGE_BYTES: u64 = 128 << 10;

/// Saves when enough was written since the last time.
pub(super) fn if_due(engine: &dyn Engine, feed: &Feed) -> Result<(), StoreError> {
    let mut state = feed.state();
    let wanted = SAVE_AFTER_BYTES.max(state.keys.dirty_len() as u64 * DIRTY_PAGE_BYTES);
    if state.unsaved_bytes < wanted.min(feed.ring.max_bytes() / 4) {
        return Ok(());
    }
    everything(engine, feed.id(), &mut state)
}

/// Saves all that changed.
pub(super) fn now(engine: &dyn Engine, feed: &Feed) -> Result<(), StoreError> {
    everything(engine, feed.id(), &mut feed.state())
}

fn everything(engine: &dyn Engine, feed: FeedId, state: &mut FeedState) -> Result<(), StoreError> {
    state.keys.take_dirty(|page, value| {
        let key = last_page::key(feed, page);
        engine.put(Space::Latest, &key, value.as_deref())
    })?;
    state
        .producers
        .take_dirty(|id, producer| put_mark(engine, feed, id, producer))?;
    engine.put(
        Space::Latest,
        &last_page::seen_key(feed),
        Some(&state.seen_to.to_be_bytes()),
    )?;
    state.unsaved_bytes = 0;
    Ok(())
}

/// Saves one producer as it is now.
pub(super) fn mark(engine: &dyn Engine, feed: &Feed, id: u32) -> Result<(), StoreError> {
    feed.state()
        .producers
        .peek(id)
        .map_or(Ok(()), |now| put_mark(engine, feed.id(), id, now))
}

/// Saves a producer.
pub(super) fn put_mark(
    engine: &dyn Engine,
    feed: FeedId,
    id: u32,
    producer: &ProducerState,
) -> Result<(), StoreError> {
    let value = serde_json::to_vec(producer).map_err(|e| damaged("a producer's mark", &e))?;
    engine.put(Space::Marks, &mark_key(feed, id), Some(&value))
}

/// Reads what was saved, then the blocks written since.
pub(super) fn load(engine: &dyn Engine, feed: &Feed) -> Result<(), StoreError> {
    let mut state = feed.state();
    let prefix = feed.id().0.to_be_bytes();
    let mut saved_to = 0;
    for (key, value) in engine.scan(Space::Latest, &prefix)? {
        match last_page::read(&key, &value) {
            Some(Saved::Page(lasts)) => lasts.into_iter().for_each(|last| state.keys.load(last)),
            Some(Saved::SeenTo(offset)) => saved_to = offset,
            None => return Err(damaged("saved last records", &"they do not parse")),
        }
    }
    for (_, value) in engine.scan(Space::Marks, &prefix)? {
        let producer =
            serde_json::from_slice(&value).map_err(|e| damaged("a producer's mark", &e))?;
        state.producers.load(producer);
    }
    for (key, value) in engine.scan(Space::Catalog, &info_prefix(feed.id()))? {
        let scope = key.get(5..).and_then(InfoScope::from_bytes);
        let info = <KeyInfo as prost::Message>::decode(value.as_slice());
        if let (Some(scope), Ok(info)) = (scope, info) {
            drop(state.infos.set(&scope, Some(info)));
        }
    }
    let now = model::now();
    for (_, value) in engine.scan(Space::Catalog, &wills::prefix(feed.id()))? {
        let kept = state.wills.load(&value, now);
        kept.map_err(|e| damaged("a will", &e))?;
    }
    replay(feed, &mut state, saved_to)
}

fn replay(feed: &Feed, state: &mut FeedState, saved_to: Offset) -> Result<(), StoreError> {
    let from = saved_to.max(feed.ring.bounds().head);
    feed.ring.replay(from, &mut |block| {
        let chunk = block.records.slice(Span::new(from, Offset::MAX));
        let mut seen_at = 0;
        let mut metas = Vec::with_capacity(chunk.len());
        for (_, bytes) in chunk.records() {
            let stored = wire::stored(&bytes);
            let key = stored.and_then(|s| state.keys.intern(s.key, KeyLimits::NONE));
            metas.push(SeenMeta {
                key: key.unwrap_or(KeyId::MAX),
                kind: stored.map_or(PayloadKind::Status, |s| s.kind),
                event_time: stored.map_or(0, |s| s.event_time),
            });
            seen_at = stored.map_or(seen_at, |s| s.ingest_time);
        }
        state.keys.see(&chunk, &metas);
        for note in &block.marks {
            state.producers.catch_up(note, seen_at);
        }
    })?;
    state.seen_to = feed.ring.bounds().tail;
    Ok(())
}

/// Removes all that a feed has beside its ring.
pub(super) fn delete(engine: &dyn Engine, feed: FeedId) -> Result<(), StoreError> {
    let prefix = feed.0.to_be_bytes();
    let small = [
        (Space::Latest, prefix.to_vec()),
        (Space::Marks, prefix.to_vec()),
        (Space::Catalog, info_prefix(feed)),
        (Space::Catalog, wills::prefix(feed)),
    ];
    for (space, prefix) in small {
        for (key, _) in engine.scan(space, &prefix)? {
            engine.put(space, &key, None)?;
        }
    }
    Ok(())
}

/// `i` ++ feed ++ scope.
pub(super) fn info_key(feed: FeedId, scope: &InfoScope) -> Vec<u8> {
    [info_prefix(feed), scope.to_bytes()].concat()
}

fn info_prefix(feed: FeedId) -> Vec<u8> {
    [b"i".as_slice(), &feed.0.to_be_bytes()].concat()
}

/// feed ++ producer.
fn mark_key(feed: FeedId, producer: u32) -> Vec<u8> {
    [feed.0.to_be_bytes(), producer.to_be_bytes()].concat()
}

fn damaged(what: &str, detail: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged {
        what: what.into(),
        detail: detail.to_string(),
    }
}
