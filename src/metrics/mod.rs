//! Every metric as a verb. Labels come from closed sets: feed, reason, engine, rpc, code; never
//! a peer or a subscriber. Imports nothing of ringfeed.

mod described;

use std::{sync::LazyLock, time::Duration};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use self::described::BUSY_SECONDS;
pub use self::described::describe;

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
    slowest_lag_seconds: Gauge,
    eviction_eta: Gauge,
    stale_keys: Gauge,
    last_source_delay: Gauge,
    // Of all feeds together: a thousand feeds' buckets would be most of the scrape.
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
            slowest_lag_seconds: gauge("ringfeed_slowest_subscriber_lag_seconds"),
            eviction_eta: gauge("ringfeed_time_to_eviction_seconds"),
            stale_keys: gauge("ringfeed_keys_stale"),
            last_source_delay: gauge("ringfeed_last_source_delay_seconds"),
            append_to_ack: histogram!("ringfeed_append_to_ack_seconds"),
            append_to_send: histogram!("ringfeed_append_to_send_seconds"),
            source_delay: histogram!("ringfeed_source_delay_seconds"),
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

    /// A batch that was refused as a whole.
    pub fn count_refused_batch(&self, reason: &'static str) {
        let feed = self.feed.clone();
        counter!("ringfeed_refused_batches_total", "feed" => feed, "reason" => reason).increment(1);
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

    pub fn set_stale_keys(&self, keys: usize) {
        self.stale_keys.set(keys as f64);
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
    pub fn set_slowest(&self, lag_records: u64, lag: Duration, eviction_eta: Option<Duration>) {
        self.slowest_lag.set(lag_records as f64);
        self.slowest_lag_seconds.set(lag.as_secs_f64());
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
        self.last_source_delay.set(nanos as f64 / 1e9);
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

/// What of a bounded amount of memory is taken.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub bytes: usize,
    pub max_bytes: usize,
}

pub fn set_window(window: Taken) {
    gauge!("ringfeed_window_bytes").set(window.bytes as f64);
    gauge!("ringfeed_window_max_bytes").set(window.max_bytes as f64);
}

/// Uploads that wait for the disk.
pub fn set_pending(pending: Taken) {
    gauge!("ringfeed_pending_bytes").set(pending.bytes as f64);
    gauge!("ringfeed_pending_max_bytes").set(pending.max_bytes as f64);
}

/// Snapshots that are being sent, and the state of bars.
pub fn set_views(views: Taken) {
    gauge!("ringfeed_view_bytes").set(views.bytes as f64);
    gauge!("ringfeed_view_max_bytes").set(views.max_bytes as f64);
}

pub fn set_free_disk(bytes: u64) {
    gauge!("ringfeed_disk_free_bytes").set(bytes as f64);
}

/// What has to stay free for uploads to be taken.
pub fn set_disk_reserve(bytes: u64) {
    gauge!("ringfeed_disk_reserve_bytes").set(bytes as f64);
}

pub fn set_block_io(read: u64, written: u64) {
    counter!("ringfeed_block_read_bytes_total").absolute(read);
    counter!("ringfeed_block_written_bytes_total").absolute(written);
}

/// What is counted of one call's messages one way, as they pass.
#[derive(Clone)]
pub struct WayMetrics {
    messages: Counter,
    bytes: Counter,
}

/// What is counted of one kind of call; made once, so that the hot path looks nothing up.
#[derive(Clone)]
pub struct RpcMetrics {
    rpc: &'static str,
    started: Counter,
    open: Gauge,
    seconds: Histogram,
    received: WayMetrics,
    sent: WayMetrics,
}

impl std::fmt::Debug for WayMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WayMetrics").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for RpcMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RpcMetrics")
            .field("rpc", &self.rpc)
            .finish_non_exhaustive()
    }
}

impl WayMetrics {
    /// Bytes with the heads of messages.
    pub fn count(&self, messages: u64, bytes: u64) {
        self.messages.increment(messages);
        self.bytes.increment(bytes);
    }
}

impl RpcMetrics {
    pub fn new(rpc: &'static str) -> Self {
        Self {
            rpc,
            started: counter!("ringfeed_rpc_started_total", "rpc" => rpc),
            open: gauge!("ringfeed_streams_open", "rpc" => rpc),
            seconds: histogram!("ringfeed_rpc_seconds", "rpc" => rpc),
            received: WayMetrics {
                messages: counter!("ringfeed_rpc_received_messages_total", "rpc" => rpc),
                bytes: counter!("ringfeed_rpc_received_bytes_total", "rpc" => rpc),
            },
            sent: WayMetrics {
                messages: counter!("ringfeed_rpc_sent_messages_total", "rpc" => rpc),
                bytes: counter!("ringfeed_rpc_sent_bytes_total", "rpc" => rpc),
            },
        }
    }

    pub fn received(&self) -> &WayMetrics {
        &self.received
    }

    pub fn sent(&self) -> &WayMetrics {
        &self.sent
    }

    pub fn count_started(&self) {
        self.started.increment(1);
    }

    pub fn observe_handled(&self, code: &'static str, took: Duration) {
        counter!("ringfeed_rpc_handled_total", "rpc" => self.rpc, "code" => code).increment(1);
        self.seconds.record(took.as_secs_f64());
    }

    pub fn add_open_stream(&self) {
        self.open.increment(1);
    }

    /// `reason`: `done`, `client_gone`, `server_stop`, `deadline`, `slow`, `token_expired`,
    /// `fenced` or `error`.
    pub fn count_stream_ended(&self, reason: &'static str) {
        self.open.decrement(1);
        counter!("ringfeed_streams_ended_total", "rpc" => self.rpc, "reason" => reason)
            .increment(1);
    }
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

/// `quota`: `calls`, `records`, `bytes`, `streams` or `connections`.
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

/// The async runtime's threads and what waits for them.
#[derive(Clone, Copy, Debug)]
pub struct RuntimeFigures {
    pub workers: usize,
    pub tasks: usize,
    pub queued_tasks: usize,
    /// Of all workers together, since the start.
    pub busy: Duration,
}

/// Sets the gauges; answers the rest as text of the scrape, for the recorder's counters have no
/// fractions.
#[must_use]
pub fn set_runtime(runtime: RuntimeFigures) -> String {
    gauge!("ringfeed_tokio_workers").set(runtime.workers as f64);
    gauge!("ringfeed_tokio_tasks").set(runtime.tasks as f64);
    gauge!("ringfeed_tokio_queued_tasks").set(runtime.queued_tasks as f64);
    let (name, help) = BUSY_SECONDS;
    let busy = runtime.busy.as_secs_f64();
    format!("# HELP {name} {help}\n# TYPE {name} counter\n{name} {busy}\n")
}
