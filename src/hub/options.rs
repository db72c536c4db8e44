//! What bounds the hub; documented with their defaults in `ringfeed.example.toml`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Retention, Visibility};

/// Whether an upload to a feed that is not there creates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoCreate {
    Yes,
    No,
}

#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Retention of a feed that names none.
    pub retention: Retention,
    pub visibility: Visibility,
    pub auto_create: AutoCreate,
    /// Bytes of all rings together.
    pub max_total_bytes: u64,
    pub max_feeds: usize,
    pub max_keys_per_feed: usize,
    /// Bytes of a feed's last records, which are kept in memory; beyond it new keys are refused.
    pub max_latest_bytes_per_feed: usize,
    pub max_producers_per_feed: usize,
    /// Named cursors of subscribers.
    pub max_cursors_per_feed: usize,
    /// Bytes of a key.
    pub max_key_bytes: usize,
    /// Bytes of a record as sent.
    pub max_record_bytes: usize,
    /// How far ahead of the server's clock an event time may be.
    pub max_event_time_ahead: Duration,
    /// Bytes of the newest records kept in memory for followers.
    pub window_bytes: usize,
    /// Bytes that snapshots being sent and the state of bars may take.
    pub view_bytes: usize,
    /// Bytes of uploads that may wait for the disk.
    pub max_pending_bytes: usize,
    /// How long an upload waits for its share of them.
    pub max_pending_wait: Duration,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            retention: Retention {
                max_bytes: 256 << 20,
                max_age: None,
            },
            visibility: Visibility::Durable,
            auto_create: AutoCreate::Yes,
            max_total_bytes: 10 << 30,
            max_feeds: 1_000,
            max_keys_per_feed: 100_000,
            max_latest_bytes_per_feed: 64 << 20,
            max_producers_per_feed: 10_000,
            max_cursors_per_feed: 10_000,
            max_key_bytes: 256,
            max_record_bytes: crate::store::MAX_RECORD_BYTES,
            max_event_time_ahead: Duration::from_secs(24 * 3_600),
            window_bytes: 64 << 20,
            view_bytes: 512 << 20,
            max_pending_bytes: 32 << 20,
            max_pending_wait: Duration::from_secs(30),
        }
    }
}
