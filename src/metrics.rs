//! Every metric as a verb. Labels come from closed sets: feed, reason, engine, rpc, code; never
//! a peer or a subscriber. Imports nothing of ringfeed.

use std::{sync::LazyLock, time::Duration};

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

/// What is counted of one feed; made once, so that the hot path looks nothing up.
#[derive(Clone)]
pub struct FeedMetrics {
    feed: String,
    appended_records: Counter,
    appended_bytes: Counter,
    sent_records: Counter,
    sent_bytes: Counter,
    duplicates: Counter,
    evicted: Counter,
    oldest: Gauge,
    next: Gauge,
    ring_bytes: Gauge,
    ring_max_bytes: Gauge,
    last_append: Gauge,
    keys: Gauge,
    producers: Gauge,
    subscribers: Gauge,
    stalled: Gauge,
    slowest_lag: Gauge,
    eviction_eta: Gauge,
    append_to_ack: Histogram,
    append_to_send: Histogram,
    source_delay: Histogram,
}

impl std::fmt::Debug for FeedMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FeedMetrics")
            .field("feed", &self.feed)
            .finish_non_exhaustive()
    }
}

/// Where a ring stands.
#[derive(Clone, Copy, Debug)]
pub struct RingFigures {
    pub oldest: u64,
    pub next: u64,
    pub bytes: u64,
    pub max_bytes: u64,
}

impl FeedMetrics {
    pub fn new(feed: &str) -> Self {
        let name = feed.to_owned();
        let counter = |metric: &'static str| counter!(metric, "feed" => name.clone());
        let gauge = |metric: &'static str| gauge!(metric, "feed" => name.clone());
        let histogram = |metric: &'static str| histogram!(metric, "feed" => name.clone());
        Self {
            feed: name.clone(),
            appended_records: counter("ringfeed_appended_records_total"),
            appended_bytes: counter("ringfeed_appended_bytes_total"),
            sent_records: counter("ringfeed_sent_records_total"),
            sent_bytes: counter("ringfeed_sent_bytes_total"),
            duplicates: counter("ringfeed_duplicate_records_total"),
            evicted: counter("ringfeed_evicted_records_total"),
            oldest: gauge("ringfeed_oldest_offset"),
            next: gauge("ringfeed_next_offset"),
            ring_bytes: gauge("ringfeed_ring_bytes"),
            ring_max_bytes: gauge("ringfeed_ring_max_bytes"),
            last_append: gauge("ringfeed_last_append_timestamp_seconds"),
            keys: gauge("ringfeed_keys"),
            producers: gauge("ringfeed_producers_connected"),
            subscribers: gauge("ringfeed_subscribers"),
            stalled: gauge("ringfeed_subscribers_stalled"),
            slowest_lag: gauge("ringfeed_slowest_subscriber_lag_records"),
            eviction_eta: gauge("ringfeed_time_to_eviction_seconds"),
            append_to_ack: histogram("ringfeed_append_to_ack_seconds"),
            append_to_send: histogram("ringfeed_append_to_send_seconds"),
            source_delay: histogram("ringfeed_source_delay_seconds"),
        }
    }

    pub fn count_appended(&self, records: u64, bytes: u64) {
        self.appended_records.increment(records);
        self.appended_bytes.increment(bytes);
    }

    pub fn count_sent(&self, records: u64, bytes: u64) {
        self.sent_records.increment(records);
        self.sent_bytes.increment(bytes);
    }

    pub fn count_duplicates(&self, records: u64) {
        self.duplicates.increment(records);
    }

    pub fn count_evicted(&self, records: u64) {
        self.evicted.increment(records);
    }

    pub fn count_refused(&self, reason: &'static str, records: u64) {
        let feed = self.feed.clone();
        counter!("ringfeed_refused_records_total", "feed" => feed, "reason" => reason)
            .increment(records);
    }

    pub fn count_gap(&self, reason: &'static str) {
        let feed = self.feed.clone();
        counter!("ringfeed_gaps_total", "feed" => feed, "reason" => reason).increment(1);
    }

    pub fn set_ring(&self, ring: RingFigures) {
        self.oldest.set(ring.oldest as f64);
        self.next.set(ring.next as f64);
        self.ring_bytes.set(ring.bytes as f64);
        self.ring_max_bytes.set(ring.max_bytes as f64);
    }

    pub fn set_last_append(&self, unix_nanos: i64) {
        self.last_append.set(unix_nanos as f64 / 1e9);
    }

    pub fn set_keys(&self, keys: usize) {
        self.keys.set(keys as f64);
    }

    pub fn set_producers_connected(&self, producers: u64) {
        self.producers.set(producers as f64);
    }

    pub fn set_subscribers(&self, subscribers: u64) {
        self.subscribers.set(subscribers as f64);
    }

    pub fn set_stalled(&self, subscribers: u64) {
        self.stalled.set(subscribers as f64);
    }

    /// `None`: eviction is not in sight of any subscriber.
    pub fn set_slowest(&self, lag_records: u64, eviction_eta: Option<Duration>) {
        self.slowest_lag.set(lag_records as f64);
        self.eviction_eta
            .set(eviction_eta.map_or(f64::INFINITY, |eta| eta.as_secs_f64()));
    }

    pub fn observe_append_to_ack(&self, took: Duration) {
        self.append_to_ack.record(took.as_secs_f64());
    }

    pub fn observe_append_to_send(&self, nanos: i64) {
        self.append_to_send.record(nanos.max(0) as f64 / 1e9);
    }

    /// Ingest time less event time; below 0 when the source's clock is ahead.
    pub fn observe_source_delay(&self, nanos: i64) {
        self.source_delay.record(nanos as f64 / 1e9);
    }
}

/// Messages made for followers; made once, so that the hot path looks nothing up.
#[derive(Clone)]
pub struct ViewMetrics {
    computed: Counter,
    shared: Counter,
}

impl std::fmt::Debug for ViewMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ViewMetrics").finish_non_exhaustive()
    }
}

impl ViewMetrics {
    #[expect(clippy::new_without_default, reason = "it registers the metrics")]
    pub fn new() -> Self {
        Self {
            computed: counter!("ringfeed_views_computed_total"),
            shared: counter!("ringfeed_views_shared_total"),
        }
    }

    pub fn count_computed(&self) {
        self.computed.increment(1);
    }

    pub fn count_shared(&self) {
        self.shared.increment(1);
    }
}

pub fn observe_flush(took: Duration) {
    histogram!("ringfeed_flush_seconds").record(took.as_secs_f64());
}

/// Looked up once: each is counted for each message to each subscriber.
static WINDOW_HITS: LazyLock<Counter> = LazyLock::new(|| counter!("ringfeed_window_hits_total"));
static WINDOW_MISSES: LazyLock<Counter> =
    LazyLock::new(|| counter!("ringfeed_window_misses_total"));

pub fn count_window_hit() {
    WINDOW_HITS.increment(1);
}

pub fn count_window_miss() {
    WINDOW_MISSES.increment(1);
}

pub fn set_window_bytes(bytes: usize) {
    gauge!("ringfeed_window_bytes").set(bytes as f64);
}

pub fn set_free_disk(bytes: u64) {
    gauge!("ringfeed_disk_free_bytes").set(bytes as f64);
}

pub fn set_block_io(read: u64, written: u64) {
    counter!("ringfeed_block_read_bytes_total").absolute(read);
    counter!("ringfeed_block_written_bytes_total").absolute(written);
}

pub fn count_rpc_started(rpc: &'static str) {
    counter!("ringfeed_rpc_started_total", "rpc" => rpc).increment(1);
}

pub fn observe_rpc_handled(rpc: &'static str, code: &'static str, took: Duration) {
    counter!("ringfeed_rpc_handled_total", "rpc" => rpc, "code" => code).increment(1);
    histogram!("ringfeed_rpc_seconds", "rpc" => rpc).record(took.as_secs_f64());
}

pub fn add_open_stream(rpc: &'static str) {
    gauge!("ringfeed_streams_open", "rpc" => rpc).increment(1);
}

/// Of a call that ended, whatever its code.
pub fn count_rpc_messages(rpc: &'static str, received: u64, sent: u64) {
    counter!("ringfeed_rpc_received_messages_total", "rpc" => rpc).increment(received);
    counter!("ringfeed_rpc_sent_messages_total", "rpc" => rpc).increment(sent);
}

/// Of a call that ended, with the heads of its messages.
pub fn count_rpc_bytes(rpc: &'static str, received: u64, sent: u64) {
    counter!("ringfeed_rpc_received_bytes_total", "rpc" => rpc).increment(received);
    counter!("ringfeed_rpc_sent_bytes_total", "rpc" => rpc).increment(sent);
}

/// `reason`: `done`, `client_gone`, `server_stop`, `deadline`, `slow`, `token_expired`, `fenced` or
/// `error`.
pub fn count_stream_ended(rpc: &'static str, reason: &'static str) {
    gauge!("ringfeed_streams_open", "rpc" => rpc).decrement(1);
    counter!("ringfeed_streams_ended_total", "rpc" => rpc, "reason" => reason).increment(1);
}

/// `security`: `plaintext` or `tls`.
pub fn add_connection(security: &'static str) {
    gauge!("ringfeed_connections", "security" => security).increment(1);
}

pub fn remove_connection(security: &'static str) {
    gauge!("ringfeed_connections", "security" => security).decrement(1);
}

/// A connection that was closed before it was of use. `reason`: `connections`, `per_peer`,
/// `crowded`, `handshake_timeout`, `first_request_timeout` or `accept`.
pub fn count_connection_refused(reason: &'static str) {
    counter!("ringfeed_connections_refused_total", "reason" => reason).increment(1);
}

/// `reason`: `aged`, `protocol`, `cut`.
pub fn count_connection_ended(reason: &'static str) {
    counter!("ringfeed_connections_ended_total", "reason" => reason).increment(1);
}

pub fn count_handshake_failure() {
    counter!("ringfeed_tls_handshake_failures_total").increment(1);
}

/// `result`: `ok` or `failed`.
pub fn count_tls_reload(result: &'static str) {
    counter!("ringfeed_tls_reloads_total", "result" => result).increment(1);
}

/// A request that came to no call and no page. `reason`: `host`, `origin` or `path`.
pub fn count_request_refused(reason: &'static str) {
    counter!("ringfeed_requests_refused_total", "reason" => reason).increment(1);
}

/// `reason` is of a closed set: `layers/authenticate/refusal`.
pub fn count_auth_failure(reason: &'static str) {
    counter!("ringfeed_auth_failures_total", "reason" => reason).increment(1);
}

/// Of tokens or keys that changed; `result`: `ok` or `failed`.
pub fn count_auth_reload(source: &'static str, result: &'static str) {
    counter!("ringfeed_auth_reloads_total", "source" => source, "result" => result).increment(1);
}

/// `quota`: `calls`, `records`, `bytes` or `streams`.
pub fn count_rate_limited(quota: &'static str) {
    counter!("ringfeed_rate_limited_total", "quota" => quota).increment(1);
}

/// `what`: `streams` or `incomplete_bytes`.
pub fn count_overloaded(what: &'static str) {
    counter!("ringfeed_overloaded_total", "what" => what).increment(1);
}

/// Looked up once: it moves with each piece of a large message.
static INCOMPLETE_BYTES: LazyLock<Gauge> = LazyLock::new(|| gauge!("ringfeed_incomplete_bytes"));

pub fn move_incomplete_bytes(from: u64, to: u64) {
    INCOMPLETE_BYTES.increment(to as f64 - from as f64);
}

pub fn set_build_info(version: &'static str, engine: &'static str) {
    gauge!("ringfeed_build_info", "version" => version, "engine" => engine).set(1);
}

/// Gives each metric its help text in the scrape.
pub fn describe() {
    for (name, text) in COUNTERS {
        describe_counter!(*name, *text);
    }
    for (name, text) in GAUGES {
        describe_gauge!(*name, *text);
    }
    for (name, text) in HISTOGRAMS {
        describe_histogram!(*name, *text);
    }
}

#[rustfmt::skip]
const COUNTERS: &[(&str, &str)] = &[
    ("ringfeed_appended_records_total", "Records stored."),
    ("ringfeed_appended_bytes_total", "Bytes of the records stored."),
    ("ringfeed_sent_records_total", "Records handed to subscribers."),
    ("ringfeed_sent_bytes_total", "Bytes of the records handed to subscribers."),
    ("ringfeed_duplicate_records_total", "Records sent again by their producer and dropped."),
    ("ringfeed_evicted_records_total", "Records overwritten by retention."),
    ("ringfeed_refused_records_total", "Invalid records, by reason."),
    ("ringfeed_gaps_total", "Gaps told to subscribers, by reason."),
    ("ringfeed_window_hits_total", "Reads answered from memory."),
    ("ringfeed_window_misses_total", "Reads answered from the store."),
    ("ringfeed_views_computed_total", "Messages of records made for subscribers."),
    ("ringfeed_views_shared_total", "Messages of records taken as another subscriber had them made."),
    ("ringfeed_block_read_bytes_total", "Bytes of blocks read from the store."),
    ("ringfeed_block_written_bytes_total", "Bytes of blocks written to the store."),
    ("ringfeed_rpc_started_total", "Calls begun."),
    ("ringfeed_rpc_handled_total", "Calls ended, by code."),
    ("ringfeed_rpc_received_messages_total", "Messages received, counted when their call ends."),
    ("ringfeed_rpc_sent_messages_total", "Messages sent, counted when their call ends."),
    ("ringfeed_rpc_received_bytes_total", "Bytes received, counted when their call ends."),
    ("ringfeed_rpc_sent_bytes_total", "Bytes sent, counted when their call ends."),
    ("ringfeed_streams_ended_total", "Streams ended, by reason."),
    ("ringfeed_connections_refused_total", "Connections closed before they were of use, by reason."),
    ("ringfeed_connections_ended_total", "Connections ended by the server, by reason."),
    ("ringfeed_tls_handshake_failures_total", "TLS handshakes that failed."),
    ("ringfeed_tls_reloads_total", "Changes of the certificate files, by result."),
    ("ringfeed_requests_refused_total", "Requests that came to no call and no page, by reason."),
    ("ringfeed_auth_failures_total", "Callers that could not show who they are, by reason."),
    ("ringfeed_auth_reloads_total", "Changed tokens and keys, by where they come from and whether they could be taken."),
    ("ringfeed_rate_limited_total", "Calls, streams and batches that were over a quota of their principal or address, by quota."),
    ("ringfeed_overloaded_total", "Calls refused because the server as a whole had no room, by what of."),
];

#[rustfmt::skip]
const GAUGES: &[(&str, &str)] = &[
    ("ringfeed_oldest_offset", "Oldest offset that can be read."),
    ("ringfeed_next_offset", "One beyond the newest offset."),
    ("ringfeed_ring_bytes", "Bytes in the ring."),
    ("ringfeed_ring_max_bytes", "Size of the ring in bytes."),
    ("ringfeed_last_append_timestamp_seconds", "When a record was last stored, Unix time."),
    ("ringfeed_keys", "Keys seen."),
    ("ringfeed_producers_connected", "Producers with an open upload."),
    ("ringfeed_subscribers", "Open subscriptions."),
    ("ringfeed_subscribers_stalled", "Subscriptions that are behind and took nothing for 10 s."),
    ("ringfeed_slowest_subscriber_lag_records", "Records the slowest subscriber is behind."),
    ("ringfeed_time_to_eviction_seconds", "Until eviction reaches a subscriber; +Inf: not in sight."),
    ("ringfeed_window_bytes", "Bytes of records kept in memory."),
    ("ringfeed_disk_free_bytes", "Bytes left on the disk of the data directory."),
    ("ringfeed_streams_open", "Open streams."),
    ("ringfeed_connections", "Open connections."),
    ("ringfeed_incomplete_bytes", "Bytes of messages that have not come in completely."),
    ("ringfeed_build_info", "Version and engine of the server."),
];

#[rustfmt::skip]
const HISTOGRAMS: &[(&str, &str)] = &[
    ("ringfeed_append_to_ack_seconds", "From taking a batch in to its acknowledgement."),
    ("ringfeed_append_to_send_seconds", "From taking a record in to handing it to a subscriber."),
    ("ringfeed_source_delay_seconds", "Ingest time less event time; below 0: the source's clock is ahead."),
    ("ringfeed_flush_seconds", "One flush of the store."),
    ("ringfeed_rpc_seconds", "Duration of a call or stream."),
];
