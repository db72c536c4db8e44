//! What passed of a call, one way: for its line in the log, and while it runs for the metrics.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::metrics::WayMetrics;

/// Messages and their bytes, heads included.
#[derive(Debug, Default)]
pub struct Traffic {
    messages: AtomicU64,
    bytes: AtomicU64,
    metrics: OnceLock<WayMetrics>,
}

impl Traffic {
    /// What passes from now on is counted there as well.
    pub(super) fn count_in(&self, metrics: &WayMetrics) {
        drop(self.metrics.set(metrics.clone()));
    }

    pub(super) fn add(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        if let Some(metrics) = self.metrics.get() {
            metrics.count(messages, bytes);
        }
    }

    pub fn messages(&self) -> u64 {
        self.messages.load(Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}
