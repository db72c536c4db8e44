//! The tables of the settings that are about records: store, feeds, and limits of both; and the log.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{LogFormat, PrincipalConfig, RateConfig, Size, Time};
use crate::{hub::AutoCreate, model::Visibility, store::MAX_RECORD_BYTES};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Bytes of all rings together.
    pub max_total_bytes: Size,
    /// Bytes of blocks read lately that are kept in memory.
    pub cache_bytes: Size,
    /// Uploads are refused when less is left on the disk.
    pub reserve_bytes: Size,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeedsConfig {
    /// Bytes of a ring whose creator names none.
    pub ring_bytes: Size,
    pub visibility: Visibility,
    /// Absent: on loopback.
    pub auto_create: Option<AutoCreate>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    pub record_bytes: Size,
    pub key_bytes: Size,
    pub feeds: usize,
    pub keys_per_feed: usize,
    /// Bytes of a feed's last records; beyond it new keys are refused.
    pub latest_bytes_per_feed: Size,
    pub producers_per_feed: usize,
    /// Named cursors of subscribers.
    pub cursors_per_feed: usize,
    pub event_time_ahead: Time,
    pub window_bytes: Size,
    pub view_bytes: Size,
    pub pending_bytes: Size,
    /// Bytes that a device may have in flight in Publish.
    pub publish_window: Size,
    pub streams_per_connection: u32,
    /// Connections of all peers together.
    pub connections: usize,
    /// Open streams of all callers together.
    pub streams: usize,
    /// Bytes of messages that have not come in completely, of all calls together.
    pub incomplete_bytes: Size,
    /// Headers of one request.
    pub header_bytes: Size,
    pub handshake_timeout: Time,
    /// A connection that asks for nothing for so long from its beginning is closed.
    pub first_request_timeout: Time,
    /// Connections are asked to come back after this, give or take a tenth; absent: never.
    pub connection_max_age: Option<Time>,
    /// Of each principal.
    pub per_principal: RateConfig,
    /// Of each peer's address.
    pub per_peer: RateConfig,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub principals: Vec<PrincipalConfig>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    pub format: LogFormat,
    /// For instance `info` or `ringfeed=debug,h2=warn`.
    pub level: String,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            max_total_bytes: Size(10 << 30),
            cache_bytes: Size::mib(32),
            reserve_bytes: Size::mib(64),
        }
    }
}

impl Default for FeedsConfig {
    fn default() -> Self {
        Self {
            ring_bytes: Size::mib(256),
            visibility: Visibility::Durable,
            auto_create: None,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            record_bytes: Size(MAX_RECORD_BYTES as u64),
            key_bytes: Size(256),
            feeds: 1_000,
            keys_per_feed: 100_000,
            latest_bytes_per_feed: Size::mib(64),
            producers_per_feed: 10_000,
            cursors_per_feed: 10_000,
            event_time_ahead: Time(Duration::from_secs(24 * 3_600)),
            window_bytes: Size::mib(64),
            view_bytes: Size::mib(512),
            pending_bytes: Size::mib(32),
            publish_window: Size::mib(1),
            streams_per_connection: 10_000,
            connections: 10_000,
            streams: 10_000,
            incomplete_bytes: Size::mib(256),
            header_bytes: Size(16 << 10),
            handshake_timeout: Time(Duration::from_secs(10)),
            first_request_timeout: Time(Duration::from_secs(10)),
            connection_max_age: None,
            per_principal: RateConfig::default(),
            per_peer: RateConfig::default(),
            principals: vec![],
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Human,
            level: "info".into(),
        }
    }
}
