//! What one uploader sends: records encoded once, of which only the event time changes from one
//! to the next. It says which record is the n-th, so that a verifier knows what has to come.

use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use prost::Message as _;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    model::{FRAME_TAG, UnixNanos},
    proto::v1,
};

/// Two digits and a point in front of each key say which uploader sent it.
pub(super) const PREFIX_LEN: usize = 3;
pub(super) const MAX_STREAMS: usize = 64;
const KEY_TAG: u8 = 1 << 3 | 2;
const EVENT_TIME_TAG: u8 = 2 << 3 | 1;
const GRPC_PREFIX_LEN: usize = 5;
const NANOS: u64 = 1_000_000_000;

/// The hash of everything up to here, from the one before and the next record.
pub(super) fn roll(hash: u64, record: &[u8]) -> u64 {
    xxh3_64_with_seed(record, hash)
}

/// Event times that rise strictly, and so number the records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub start: UnixNanos,
    pub per_second: u64,
}

impl Clock {
    /// A nanosecond apart: for uploads that know no time.
    pub(super) fn counting(start: UnixNanos) -> Self {
        let per_second = NANOS;
        Self { start, per_second }
    }

    /// The time of record `n`.
    pub(super) fn time(self, n: u64) -> UnixNanos {
        let elapsed = match self.per_second {
            NANOS => n,
            per_second => n.saturating_mul(NANOS) / per_second,
        };
        self.start.saturating_add_unsigned(elapsed)
    }

    /// How many records are due at `now`.
    pub(super) fn due(self, now: UnixNanos) -> u64 {
        let elapsed = u128::try_from(now.saturating_sub(self.start)).unwrap_or(0);
        let due = elapsed * u128::from(self.per_second) / u128::from(NANOS);
        u64::try_from(due).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// The records of one uploader, framed one after the other; after the last comes the first.
#[derive(Debug)]
pub(super) struct Pool {
    bytes: Vec<u8>,
    spots: Vec<Spot>,
    /// Names of the keys, in the order they come first.
    keys: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Spot {
    frame: usize,
    record: usize,
    /// Where the eight bytes of the event time are.
    time: usize,
    end: usize,
    key: usize,
}

impl Pool {
    pub(super) fn new(stream: usize, records: &[v1::Record]) -> Self {
        let mut pool = Self {
            bytes: Vec::new(),
            spots: Vec::with_capacity(records.len()),
            keys: Vec::new(),
        };
        let mut known = std::collections::HashMap::new();
        for record in records {
            let name = format!("{stream:02}.{}", record.key);
            let key = *known.entry(name.clone()).or_insert_with(|| {
                pool.keys.push(name.clone());
                pool.keys.len() - 1
            });
            pool.push(key, &name, record);
        }
        pool
    }

    fn push(&mut self, key: usize, name: &str, record: &v1::Record) {
        let record = v1::Record {
            key: name.to_owned(),
            event_time_unix_nanos: Some(0),
            ..record.clone()
        };
        let frame = self.bytes.len();
        self.bytes.push(FRAME_TAG);
        let encoded = record.encode_to_vec();
        prost::encoding::encode_varint(encoded.len() as u64, &mut self.bytes);
        let start = self.bytes.len();
        let own = event_time_at(&encoded).unwrap_or(0);
        self.bytes.extend_from_slice(&encoded);
        let (time, end) = (start + own, self.bytes.len());
        self.spots.push(Spot {
            frame,
            record: start,
            time,
            end,
            key,
        });
    }

    pub(super) fn keys(&self) -> &[String] {
        &self.keys
    }

    pub(super) fn len(&self) -> u64 {
        self.spots.len() as u64
    }

    /// Bytes of a record as sent, on average.
    pub(super) fn record_bytes(&self) -> u64 {
        let bytes: usize = self.spots.iter().map(|spot| spot.end - spot.record).sum();
        bytes as u64 / self.len().max(1)
    }

    fn spot(&self, n: u64) -> Spot {
        let index = usize::try_from(n % self.len().max(1)).unwrap_or(0);
        self.spots.get(index).copied().unwrap_or_default()
    }

    fn slice(&self, from: usize, to: usize) -> &[u8] {
        self.bytes.get(from..to).unwrap_or_default()
    }
}

/// Where the bytes of the event time are in a record whose first field is a short key.
pub(super) fn event_time_at(record: &[u8]) -> Option<usize> {
    let [KEY_TAG, len, ..] = record else {
        return None;
    };
    let tag = 2 + usize::from(*len);
    (*len < 0x80 && record.get(tag) == Some(&EVENT_TIME_TAG)).then_some(tag + 1)
}

/// Keys of an uploader that somebody asks for.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    /// How many of the records before this one in the pool are selected.
    before: Vec<u64>,
}

impl Selection {
    pub(super) fn new(pool: &Pool, wanted: impl Fn(usize) -> bool) -> Self {
        let mut before = vec![0];
        let mut sum = 0;
        for spot in &pool.spots {
            sum += u64::from(wanted(spot.key));
            before.push(sum);
        }
        Self { before }
    }

    /// How many of the first `n` records are selected.
    pub(super) fn count(&self, n: u64) -> u64 {
        let len = (self.before.len() - 1).max(1) as u64;
        let whole = self.before.last().copied().unwrap_or(0);
        n / len * whole + self.before_in_pool(n % len)
    }

    pub(super) fn contains(&self, n: u64) -> bool {
        self.count(n + 1) > self.count(n)
    }

    fn before_in_pool(&self, n: u64) -> u64 {
        let index = usize::try_from(n).unwrap_or(usize::MAX);
        self.before.get(index).copied().unwrap_or(0)
    }
}

/// What an uploader sends, message by message.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub feed: String,
    /// Names the uploader; then records are numbered.
    pub producer: Option<String>,
    pub pool: Arc<Pool>,
    pub clock: Clock,
}

impl Load {
    /// Appends the gRPC message of records `from..from + count` of an upload that begins at 0.
    pub(super) fn message(&self, from: u64, count: u64, out: &mut BytesMut) {
        let mut head = v1::IngestRequest {
            first_sequence: self.producer.as_ref().map_or(0, |_| from + 1),
            ..Default::default()
        };
        // Later messages leave them out: as before.
        if from == 0 {
            head.feed.clone_from(&self.feed);
            head.producer = self.producer.clone().unwrap_or_default();
        }
        self.framed(&head, from, count, out);
    }

    /// Appends the gRPC message of record `n` in an upload of its own.
    pub(super) fn lone(&self, n: u64, out: &mut BytesMut) {
        let head = v1::IngestRequest {
            feed: self.feed.clone(),
            ..Default::default()
        };
        self.framed(&head, n, 1, out);
    }

    fn framed(&self, head: &v1::IngestRequest, from: u64, count: u64, out: &mut BytesMut) {
        let start = out.len();
        out.put_bytes(0, GRPC_PREFIX_LEN);
        head.encode_raw(out);
        self.records(from, from + count, out);
        let len = u32::try_from(out.len() - start - GRPC_PREFIX_LEN).unwrap_or(u32::MAX);
        if let Some(prefix) = out.get_mut(start + 1..start + GRPC_PREFIX_LEN) {
            prefix.copy_from_slice(&len.to_be_bytes());
        }
    }

    /// Frames of the records `from..to`, copied in runs, then given their times.
    fn records(&self, mut from: u64, to: u64, out: &mut BytesMut) {
        let len = self.pool.len().max(1);
        while from < to {
            let run = (to - from).min(len - from % len);
            let first = self.pool.spot(from);
            let last = self.pool.spot(from + run - 1);
            let base = out.len();
            out.put_slice(self.pool.slice(first.frame, last.end));
            for n in from..from + run {
                let at = base + self.pool.spot(n).time - first.frame;
                if let Some(time) = out.get_mut(at..at + 8) {
                    time.copy_from_slice(&self.clock.time(n).to_le_bytes());
                }
            }
            from += run;
        }
    }

    /// Record `n` as sent.
    pub(super) fn record(&self, n: u64, out: &mut Vec<u8>) {
        let spot = self.pool.spot(n);
        out.clear();
        out.extend_from_slice(self.pool.slice(spot.record, spot.end));
        let at = spot.time - spot.record;
        if let Some(time) = out.get_mut(at..at + 8) {
            time.copy_from_slice(&self.clock.time(n).to_le_bytes());
        }
    }

    /// The rolling hash over the selected ones of the first `records`.
    pub(super) fn hash(&self, records: u64, selection: Option<&Selection>) -> u64 {
        let mut record = Vec::new();
        let mut hash = 0;
        for n in (0..records).filter(|n| selection.is_none_or(|s| s.contains(*n))) {
            self.record(n, &mut record);
            hash = roll(hash, &record);
        }
        hash
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::bench::payload::{PayloadArg, made_up};

    pub(in crate::cli::bench) fn load(stream: usize) -> Load {
        let records = made_up(PayloadArg::Quote, 4, 10);
        Load {
            feed: "bench".to_owned(),
            producer: None,
            pool: Arc::new(Pool::new(stream, &records)),
            clock: Clock::counting(1_000),
        }
    }

    #[test]
    fn a_message_is_what_prost_makes_of_the_same_records() {
        let load = Load {
            producer: Some("p".to_owned()),
            ..load(3)
        };
        // Over the end of the pool, twice.
        for (from, count) in [(0, 3), (7, 25)] {
            let mut bytes = BytesMut::new();
            load.message(from, count, &mut bytes);
            let message = v1::IngestRequest::decode(&bytes[GRPC_PREFIX_LEN..]).unwrap();
            assert_eq!(message.records.len() as u64, count);
            assert_eq!(message.first_sequence, from + 1);
            assert_eq!(message.feed, if from == 0 { "bench" } else { "" });
            let mut expected = Vec::new();
            for (n, record) in (from..).zip(message.records) {
                load.record(n, &mut expected);
                assert_eq!(record, expected);
                let decoded = v1::Record::decode(record).unwrap();
                assert_eq!(decoded.event_time_unix_nanos, Some(1_000 + n as i64));
                assert!(decoded.key.starts_with("03.KEY"));
            }
        }
    }

    #[test]
    fn made_up_records_have_the_size_of_real_ones() {
        for payload in [PayloadArg::Quote, PayloadArg::Trade, PayloadArg::Bar] {
            let pool = Pool::new(0, &made_up(payload, 10, 100));
            let bytes = pool.record_bytes();
            assert!((60..=140).contains(&bytes), "{payload:?}: {bytes}");
        }
    }

    #[test]
    fn a_selection_counts_over_the_end_of_the_pool() {
        let load = load(0);
        // Keys 0..4 in turn over ten records: key 1 is at 1, 5 and 9.
        let selection = Selection::new(&load.pool, |key| key == 1);
        let slow = |n: u64| (0..n).filter(|i| [1, 5, 9].contains(&(i % 10))).count() as u64;
        for n in 0..50 {
            assert_eq!(selection.count(n), slow(n), "{n}");
        }
        assert!(selection.contains(15) && !selection.contains(16));
    }

    #[test]
    fn times_are_due_when_they_come() {
        let clock = Clock {
            start: 500,
            per_second: 10_000,
        };
        assert_eq!(clock.time(3), 300_500);
        assert_eq!(clock.due(300_499), 3);
        assert_eq!(clock.due(300_500), 4);
    }
}
