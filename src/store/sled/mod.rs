//! The embedded engine: fixed slots in objects of a pinned sled, overwritten in place.
//!
//! ```text
//! DIR/FORMAT · LOCK · bad-slots · sled/     one database for all feeds; objects:
//!   block    feed · generation · slot -> a block     overwriting a slot is eviction
//!   note     flush -> what blocks grew by in it       until they go into their slots
//!   heads    feed -> the ring's state                and entries of catalog, marks, latest, cursors
//! ```
//! A ring has more slots than blocks it keeps: what is written between two flushes goes where
//! nothing readable lies, so the head moves with a flush and never comes back after a crash.

mod append;
mod check;
mod core;
mod desk;
mod directory;
mod format;
mod guard;
mod index;
mod keys;
mod logs;
mod objects;
mod options;
mod read;
mod recover;
mod retain;
mod ring;
mod seam;
mod session;
mod state;
mod suspects;
mod tails;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use check::{BadBlock, CheckReport, RingReport, check};
pub use logs::LogReport;
pub use options::SledOptions;

use crate::model::FeedId;

use self::core::Core;

use super::{Engine, Entry, Io, Ring, RingSpec, Space, StoreError};

/// All feeds in one data directory.
#[derive(Debug)]
pub struct SledEngine {
    core: Arc<Core>,
}

impl SledEngine {
    /// Opens a data directory, or makes one. `Locked` when another process has it.
    pub fn open(options: SledOptions) -> Result<Self, StoreError> {
        let core = Arc::new(Core::open(options)?);
        Ok(Self { core })
    }
}

impl Drop for SledEngine {
    /// The rings know the core, and the core its rings: here the circle is broken.
    fn drop(&mut self) {
        self.core.forget_rings();
    }
}

impl Engine for SledEngine {
    fn name(&self) -> &'static str {
        "sled"
    }

    fn open_ring(&self, spec: RingSpec) -> Result<Arc<dyn Ring>, StoreError> {
        let ring = Core::open_ring(&self.core, spec)?;
        Ok(ring)
    }

    fn delete_ring(&self, feed: FeedId) -> Result<(), StoreError> {
        self.core.delete_ring(feed)
    }

    fn put(&self, space: Space, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        self.core.put(space, key, value)
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.core.seam.get(space, key)
    }

    fn scan(&self, space: Space, prefix: &[u8]) -> Result<Vec<Entry>, StoreError> {
        self.core.seam.scan(space, prefix)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.core.flush()
    }

    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.core.free_bytes().map(Some)
    }

    fn io(&self) -> Io {
        self.core.seam.io()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.core.close()
    }
}
