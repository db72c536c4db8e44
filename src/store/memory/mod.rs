//! The reference engine: the contract in its plainest form, for tests and `--engine memory`.

mod ring;

use std::{collections::BTreeMap, fmt, sync::Arc};

use parking_lot::Mutex;

use crate::model::{Bounds, Chunk, FeedId, Offset, UnixNanos, Visibility};

use super::{
    Append, Clock, Engine, Entry, Io, Read, Ring, RingSpec, Space, StoreError, StoredBlock,
    block::{Packed, Packer},
};
use ring::RingData;

/// Rings and maps in memory. `reopen` shows what a restart would have left of them.
#[derive(Default)]
pub struct MemoryEngine {
    inner: Arc<Mutex<Inner>>,
}

/// Space, key, and the value before.
type Undo = (&'static str, Vec<u8>, Option<Vec<u8>>);
type Small = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

#[derive(Default)]
struct Inner {
    rings: BTreeMap<FeedId, Arc<RingData>>,
    small: Small,
    /// The rings as of the last flush: copies are made only of those written to since.
    durable: BTreeMap<FeedId, Arc<RingData>>,
    /// What small entries were before they were written since the last flush.
    undo: Vec<Undo>,
    io: Io,
    closed: bool,
}

impl MemoryEngine {
    pub fn new() -> Self {
        Self::default()
    }

    /// A new engine with what the last flush of this one made durable, as after a restart; a clean
    /// one when this was closed.
    pub fn reopen(&self) -> Self {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let mut small = inner.small.clone();
        for (space, key, old) in inner.undo.iter().rev() {
            match old {
                Some(old) => small.insert((space, key.clone()), old.clone()),
                None => small.remove(&(*space, key.clone())),
            };
        }
        let mut rings = inner.durable.clone();
        for ring in rings.values_mut() {
            Arc::make_mut(ring).recover();
        }
        let durable = rings.clone();
        Self {
            inner: Arc::new(Mutex::new(Inner {
                rings,
                small,
                durable,
                ..Inner::default()
            })),
        }
    }
}

impl Inner {
    fn check(&self) -> Result<(), StoreError> {
        if self.closed {
            let cause = "the store was closed".to_owned();
            return Err(StoreError::Stopped { cause });
        }
        Ok(())
    }

    fn put(&mut self, space: Space, key: &[u8], value: Option<&[u8]>) {
        let place = (space.name(), key.to_vec());
        let old = match value {
            Some(value) => self.small.insert(place, value.to_vec()),
            None => self.small.remove(&place),
        };
        self.undo.push((space.name(), key.to_vec(), old));
    }

    fn flush(&mut self) {
        for ring in self.rings.values_mut() {
            if ring.is_unsettled() {
                Arc::make_mut(ring).settle();
            }
        }
        self.durable = self.rings.clone();
        self.undo.clear();
    }

    fn ring(&self, feed: FeedId) -> Result<&RingData, StoreError> {
        self.rings.get(&feed).map(|r| &**r).ok_or_else(deleted)
    }

    fn ring_mut(&mut self, feed: FeedId) -> Result<&mut RingData, StoreError> {
        self.check()?;
        let ring = self.rings.get_mut(&feed).ok_or_else(deleted)?;
        Ok(Arc::make_mut(ring))
    }

    fn append(&mut self, feed: FeedId, append: Append<'_>) -> Result<Chunk, StoreError> {
        append.check()?;
        let ring = self.ring_mut(feed)?;
        let Append {
            records,
            ingest_time,
            marks,
            unit,
        } = append;
        let (chunk, event_times) = records.seal(ring.tail(), ingest_time);
        if chunk.is_empty() {
            return Ok(chunk);
        }
        if ring.reserve(chunk.span().to) {
            self.flush();
        }
        let mut block = self.ring_mut(feed)?.open_block(ingest_time);
        let mut packer = Packer::new(&chunk, &event_times, marks, ingest_time, unit);
        loop {
            if self.ring(feed)?.must_flush_before(block.number) {
                self.flush();
            }
            let packed = packer.fill(&mut block);
            let next = block.next();
            self.io.block_bytes_written += block.body.len() as u64;
            self.ring_mut(feed)?.store(block);
            if packed == Packed::All {
                return Ok(chunk);
            }
            block = next;
        }
    }
}

fn deleted() -> StoreError {
    let cause = "the ring was deleted".to_owned();
    StoreError::Stopped { cause }
}

impl Engine for MemoryEngine {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn open_ring(&self, spec: RingSpec) -> Result<Arc<dyn Ring>, StoreError> {
        let mut inner = self.inner.lock();
        inner.check()?;
        match inner.rings.get_mut(&spec.feed) {
            Some(ring) => Arc::make_mut(ring).set_visibility(spec.visibility),
            None => {
                let ring = Arc::new(RingData::new(spec)?);
                inner.rings.insert(spec.feed, ring);
            }
        }
        Ok(Arc::new(MemoryRing {
            feed: spec.feed,
            inner: Arc::clone(&self.inner),
        }))
    }

    fn delete_ring(&self, feed: FeedId) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        inner.check()?;
        inner.rings.remove(&feed);
        Ok(())
    }

    fn put(&self, space: Space, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        inner.check()?;
        inner.put(space, key, value);
        Ok(())
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let place = (space.name(), key.to_vec());
        Ok(self.inner.lock().small.get(&place).cloned())
    }

    fn scan(&self, space: Space, prefix: &[u8]) -> Result<Vec<Entry>, StoreError> {
        let inner = self.inner.lock();
        let from = (space.name(), prefix.to_vec());
        let found = inner
            .small
            .range(from..)
            .take_while(|((name, key), _)| *name == space.name() && key.starts_with(prefix))
            .map(|((_, key), value)| (key.clone(), value.clone()));
        Ok(found.collect())
    }

    fn flush(&self) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        inner.check()?;
        inner.flush();
        Ok(())
    }

    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    fn io(&self) -> Io {
        self.inner.lock().io
    }

    fn close(&self) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        inner.check()?;
        for ring in inner.rings.values_mut() {
            Arc::make_mut(ring).reserved = None;
        }
        inner.flush();
        inner.closed = true;
        Ok(())
    }
}

struct MemoryRing {
    feed: FeedId,
    inner: Arc<Mutex<Inner>>,
}

impl MemoryRing {
    fn see<T>(&self, look: impl FnOnce(&RingData) -> T) -> Result<T, StoreError> {
        self.inner.lock().ring(self.feed).map(look)
    }

    fn change(
        &self,
        change: impl FnOnce(&mut RingData) -> Result<(), StoreError>,
    ) -> Result<Bounds, StoreError> {
        let mut inner = self.inner.lock();
        let ring = inner.ring_mut(self.feed)?;
        change(ring)?;
        Ok(ring.bounds())
    }
}

impl Ring for MemoryRing {
    fn bounds(&self) -> Bounds {
        self.see(RingData::bounds).unwrap_or_default()
    }

    fn last_ingest_time(&self) -> Option<UnixNanos> {
        self.see(RingData::last_ingest_time).ok().flatten()
    }

    fn max_bytes(&self) -> u64 {
        self.see(|ring| ring.max_bytes).unwrap_or_default()
    }

    fn append(&self, append: Append<'_>) -> Result<Chunk, StoreError> {
        self.inner.lock().append(self.feed, append)
    }

    fn read(&self, from: Offset, max_bytes: usize) -> Result<Read, StoreError> {
        let mut inner = self.inner.lock();
        let read = inner.ring(self.feed)?.read(from, max_bytes);
        if let Read::Records(chunk) = &read {
            inner.io.block_bytes_read += chunk.body_len() as u64;
        }
        Ok(read)
    }

    fn replay(&self, from: Offset, visit: &mut dyn FnMut(StoredBlock)) -> Result<(), StoreError> {
        let blocks = self.see(|ring| ring.blocks_from(from))?;
        for block in blocks {
            visit(block);
        }
        Ok(())
    }

    fn seek(&self, clock: Clock, time: UnixNanos) -> Result<Offset, StoreError> {
        self.see(|ring| ring.seek(clock, time))
    }

    fn trim(&self, before: Offset) -> Result<Bounds, StoreError> {
        self.change(|ring| {
            ring.trim(before);
            Ok(())
        })
    }

    fn expire(&self, time: UnixNanos) -> Result<Bounds, StoreError> {
        self.change(|ring| {
            ring.expire(time);
            Ok(())
        })
    }

    fn set_visibility(&self, visibility: Visibility) -> Result<(), StoreError> {
        self.change(|ring| {
            ring.set_visibility(visibility);
            Ok(())
        })?;
        Ok(())
    }

    fn resize(&self, max_bytes: u64) -> Result<Bounds, StoreError> {
        self.change(|ring| ring.resize(max_bytes))
    }
}

impl fmt::Debug for MemoryEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryEngine").finish_non_exhaustive()
    }
}

impl fmt::Debug for MemoryRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRing")
            .field("feed", &self.feed)
            .finish_non_exhaustive()
    }
}
