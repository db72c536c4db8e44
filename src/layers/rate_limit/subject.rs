//! Whose rates: a principal or a peer's address, with a bucket for each of them.

use std::{
    fmt,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use super::{Rates, bucket::Bucket};

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Calls,
    Records,
    Bytes,
    Streams,
    Connections,
}

#[derive(Debug)]
pub(super) struct Subject {
    /// `principal pi17` or `address 10.0.0.7`.
    name: Box<str>,
    calls: Option<Bucket>,
    records: Option<Bucket>,
    bytes: Option<Bucket>,
    /// 0: as many as it wants.
    max_streams: u32,
    streams: AtomicU32,
    /// 0: as many as it wants.
    max_connections: u32,
    connections: AtomicU32,
}

impl Limit {
    /// The value of the metric's label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Records => "records",
            Self::Bytes => "bytes",
            Self::Streams => "streams",
            Self::Connections => "connections",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Calls => "calls per second",
            Self::Records => "records per second",
            Self::Bytes => "bytes per second",
            Self::Streams => "open streams",
            Self::Connections => "connections",
        })
    }
}

impl Subject {
    pub(super) fn new(name: String, rates: &Rates) -> Self {
        Self {
            name: name.into(),
            calls: Bucket::new(rates.calls_per_second.into()),
            records: Bucket::new(rates.records_per_second.into()),
            bytes: Bucket::new(rates.bytes_per_second),
            max_streams: rates.streams,
            streams: AtomicU32::new(0),
            max_connections: rates.connections,
            connections: AtomicU32::new(0),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How much of it is allowed.
    pub(super) fn allowed(&self, limit: Limit) -> u64 {
        let rate = || self.bucket(limit).map_or(0, Bucket::per_second);
        match limit {
            Limit::Streams => self.max_streams.into(),
            Limit::Connections => self.max_connections.into(),
            Limit::Calls | Limit::Records | Limit::Bytes => rate(),
        }
    }

    pub(super) fn take(&self, limit: Limit, count: u64) -> Result<(), Duration> {
        self.bucket(limit).map_or(Ok(()), |rate| rate.take(count))
    }

    pub(super) fn give_back(&self, limit: Limit, count: u64) {
        if let Some(rate) = self.bucket(limit) {
            rate.give_back(count);
        }
    }

    pub(super) fn owe(&self, limit: Limit, count: u64) -> Duration {
        let owed = self.bucket(limit).map(|rate| rate.owe(count));
        owed.unwrap_or_default()
    }

    /// Whether there was room for one more stream. It has to be closed.
    pub(super) fn open_stream(&self) -> bool {
        is_room(&self.streams, self.max_streams)
    }

    pub(super) fn close_stream(&self) {
        self.streams.fetch_sub(1, Relaxed);
    }

    pub(super) fn has_connections(&self) -> bool {
        self.max_connections > 0
    }

    /// Whether there was room for one more connection. It has to be closed.
    pub(super) fn open_connection(&self) -> bool {
        is_room(&self.connections, self.max_connections)
    }

    pub(super) fn close_connection(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// Whether forgetting it changes nothing, where nobody holds it.
    pub(super) fn is_idle(&self) -> bool {
        let mut rates = [&self.calls, &self.records, &self.bytes].into_iter();
        rates.all(|rate| rate.as_ref().is_none_or(Bucket::is_full))
    }

    fn bucket(&self, limit: Limit) -> Option<&Bucket> {
        match limit {
            Limit::Calls => self.calls.as_ref(),
            Limit::Records => self.records.as_ref(),
            Limit::Bytes => self.bytes.as_ref(),
            Limit::Streams | Limit::Connections => None,
        }
    }
}

/// Takes a place where there is one.
fn is_room(taken: &AtomicU32, max: u32) -> bool {
    let room = |open: u32| (max == 0 || open < max).then_some(open.saturating_add(1));
    taken.fetch_update(Relaxed, Relaxed, room).is_ok()
}
