//! What passed of a call, one way.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Messages and their bytes, heads included.
#[derive(Debug, Default)]
pub struct Traffic {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Traffic {
    pub(super) fn add(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub fn messages(&self) -> u64 {
        self.messages.load(Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}
