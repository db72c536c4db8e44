//! What each metric means, as the scrape says it; docs/metrics.md is the same for readers.

use metrics::{describe_counter, describe_gauge, describe_histogram};

/// Gives each metric its help text in the scrape.
pub fn describe() {
    for &(name, text) in COUNTERS {
        describe_counter!(name, text);
    }
    for &(name, text) in GAUGES {
        describe_gauge!(name, text);
    }
    for &(name, text) in HISTOGRAMS {
        describe_histogram!(name, text);
    }
    // A share needs both, also before the first of one.
    super::WINDOW_HITS.increment(0);
    super::WINDOW_MISSES.increment(0);
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
    ("ringfeed_refused_batches_total", "Batches refused as a whole, by reason."),
    ("ringfeed_gaps_total", "Gaps told to subscribers, by reason."),
    ("ringfeed_window_hits_total", "Reads answered from memory."),
    ("ringfeed_window_misses_total", "Reads answered from the store."),
    ("ringfeed_views_computed_total", "Messages of records made for subscribers."),
    ("ringfeed_views_shared_total", "Messages of records taken as another subscriber had them made."),
    ("ringfeed_block_read_bytes_total", "Bytes of blocks read from the store."),
    ("ringfeed_block_written_bytes_total", "Bytes of blocks written to the store."),
    ("ringfeed_rpc_started_total", "Calls begun."),
    ("ringfeed_rpc_handled_total", "Calls ended, by code."),
    ("ringfeed_rpc_received_messages_total", "Messages received, as they pass."),
    ("ringfeed_rpc_sent_messages_total", "Messages sent, as they pass."),
    ("ringfeed_rpc_received_bytes_total", "Bytes received, as they pass."),
    ("ringfeed_rpc_sent_bytes_total", "Bytes sent, as they pass."),
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
    ("ringfeed_slowest_subscriber_lag_seconds", "Age of the newest record that the slowest subscriber has; 0: it has all."),
    ("ringfeed_keys_stale", "Keys that were silent for three times their expected interval."),
    ("ringfeed_last_source_delay_seconds", "Ingest time less event time of the newest record."),
    ("ringfeed_time_to_eviction_seconds", "Until eviction reaches a subscriber; +Inf: not in sight."),
    ("ringfeed_window_bytes", "Bytes of records kept in memory."),
    ("ringfeed_window_max_bytes", "Bytes of records that may be kept in memory."),
    ("ringfeed_pending_bytes", "Bytes of uploads that wait for the disk."),
    ("ringfeed_pending_max_bytes", "Bytes of uploads that may wait for the disk."),
    ("ringfeed_view_bytes", "Bytes of snapshots being sent and of bars in progress."),
    ("ringfeed_view_max_bytes", "Bytes that snapshots and bars may take."),
    ("ringfeed_disk_reserve_bytes", "Uploads are refused when less is left on the disk."),
    ("ringfeed_disk_free_bytes", "Bytes left on the disk of the data directory."),
    ("ringfeed_streams_open", "Open streams."),
    ("ringfeed_tokio_workers", "Threads of the async runtime."),
    ("ringfeed_tokio_tasks", "Tasks that are alive in the async runtime."),
    ("ringfeed_tokio_queued_tasks", "Tasks that wait for a thread of the async runtime."),
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

/// Written by hand: the recorder's counters have no fractions.
pub(super) const BUSY_SECONDS: (&str, &str) = (
    "ringfeed_tokio_busy_seconds_total",
    "Seconds in which threads of the async runtime were at work.",
);
