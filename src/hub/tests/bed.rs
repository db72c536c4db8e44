//! A hub over a memory engine whose flush can be held back and whose appends can fail.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
    mpsc,
};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use prost::Message as _;
use tokio::sync::watch;

use crate::{
    hub::{
        Ack, AppendError, Batch, Feed, Follower, Hub, HubOptions, KeyFilter, Mode, Pending,
        ProducerKey, Step, Wanted,
    },
    hub::{End, Start},
    model::{self, Bounds, Chunk, FeedId, Gap, GapReason, Offset, Span, UnixNanos, Visibility},
    proto::v1,
    store::{
        Append, Clock, Engine, Io, MemoryEngine, Read, Ring, RingSpec, Space, StoreError,
        StoredBlock,
    },
};

/// What the test decides of the engine.
#[derive(Debug)]
pub(super) struct Control {
    /// Flushes beyond so many wait.
    free: Mutex<u64>,
    released: Condvar,
    /// Flushes that were begun.
    begun: watch::Sender<u64>,
    /// Bytes of records that were appended.
    appended: watch::Sender<u64>,
    disk_full: AtomicBool,
    /// The next read waits for its end, and finds damage.
    damage: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Control {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::new(u64::MAX),
            released: Condvar::new(),
            begun: watch::Sender::new(0),
            appended: watch::Sender::new(0),
            disk_full: AtomicBool::new(false),
            damage: Mutex::new(None),
        })
    }

    /// Flushes that are not begun yet will wait.
    pub(super) fn hold(&self) {
        *self.free.lock() = *self.begun.borrow();
    }

    pub(super) fn release(&self) {
        *self.free.lock() = u64::MAX;
        self.released.notify_all();
    }

    /// Lets one flush more end; those after it wait.
    pub(super) fn release_one(&self) {
        *self.free.lock() += 1;
        self.released.notify_all();
    }

    pub(super) fn set_disk_full(&self, full: bool) {
        self.disk_full.store(full, SeqCst);
    }

    /// The next read waits until the answer is dropped, and finds everything damaged.
    pub(super) fn damage(&self) -> mpsc::Sender<()> {
        let (end, ended) = mpsc::channel();
        *self.damage.lock() = Some(ended);
        end
    }

    /// Flushes begun so far.
    pub(super) fn flushes(&self) -> watch::Receiver<u64> {
        self.begun.subscribe()
    }

    /// Bytes appended so far, flushed or not.
    pub(super) fn appended(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }
}

#[derive(Debug)]
struct TestEngine {
    inner: Arc<MemoryEngine>,
    control: Arc<Control>,
}

#[derive(Debug)]
struct TestRing {
    inner: Arc<dyn Ring>,
    control: Arc<Control>,
}

impl Engine for TestEngine {
    fn name(&self) -> &'static str {
        "test"
    }
    fn open_ring(&self, spec: RingSpec) -> Result<Arc<dyn Ring>, StoreError> {
        Ok(Arc::new(TestRing {
            inner: self.inner.open_ring(spec)?,
            control: Arc::clone(&self.control),
        }))
    }
    fn delete_ring(&self, feed: FeedId) -> Result<(), StoreError> {
        self.inner.delete_ring(feed)
    }
    fn put(&self, space: Space, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        self.inner.put(space, key, value)
    }
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(space, key)
    }
    fn scan(&self, space: Space, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        self.inner.scan(space, prefix)
    }
    fn flush(&self) -> Result<(), StoreError> {
        let mut free = self.control.free.lock();
        let mut number = 0;
        self.control.begun.send_modify(|begun| {
            *begun += 1;
            number = *begun;
        });
        while number > *free {
            self.control.released.wait(&mut free);
        }
        drop(free);
        self.inner.flush()
    }
    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.inner.free_bytes()
    }
    fn io(&self) -> Io {
        self.inner.io()
    }
    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

impl Ring for TestRing {
    fn bounds(&self) -> Bounds {
        self.inner.bounds()
    }
    fn last_ingest_time(&self) -> Option<UnixNanos> {
        self.inner.last_ingest_time()
    }
    fn max_bytes(&self) -> u64 {
        self.inner.max_bytes()
    }
    fn append(&self, append: Append<'_>) -> Result<Chunk, StoreError> {
        if self.control.disk_full.load(SeqCst) {
            return Err(StoreError::DiskFull { path: "/".into() });
        }
        let chunk = self.inner.append(append)?;
        let bytes = chunk.body_len() as u64;
        self.control.appended.send_modify(|sum| *sum += bytes);
        Ok(chunk)
    }
    fn read(&self, from: Offset, max_bytes: usize) -> Result<Read, StoreError> {
        let damage = self.control.damage.lock().take();
        if let Some(end) = damage {
            end.recv().ok();
            return Ok(Read::Gap(Gap {
                span: Span::new(from, self.inner.bounds().tail),
                count: None,
                reason: GapReason::Corrupt,
            }));
        }
        self.inner.read(from, max_bytes)
    }
    fn replay(&self, from: Offset, visit: &mut dyn FnMut(StoredBlock)) -> Result<(), StoreError> {
        self.inner.replay(from, visit)
    }
    fn seek(&self, clock: Clock, time: UnixNanos) -> Result<Offset, StoreError> {
        self.inner.seek(clock, time)
    }
    fn trim(&self, before: Offset) -> Result<Bounds, StoreError> {
        self.inner.trim(before)
    }
    fn expire(&self, time: UnixNanos) -> Result<Bounds, StoreError> {
        self.inner.expire(time)
    }
    fn set_visibility(&self, visibility: Visibility) -> Result<(), StoreError> {
        self.inner.set_visibility(visibility)
    }
    fn resize(&self, max_bytes: u64) -> Result<Bounds, StoreError> {
        self.inner.resize(max_bytes)
    }
}

/// A hub with one feed.
pub(super) struct Bed {
    engine: Arc<MemoryEngine>,
    pub control: Arc<Control>,
    pub hub: Arc<Hub>,
    pub feed: Arc<Feed>,
}

impl Bed {
    pub(super) async fn new(visibility: Visibility) -> Self {
        let (hub, control, engine) = open(MemoryEngine::new());
        let name = "f".parse().unwrap();
        let feed = hub.create_feed(name, None, Some(visibility)).await.unwrap();
        Self {
            engine,
            control,
            hub,
            feed,
        }
    }

    /// What a power cut leaves.
    pub(super) fn cut_power(self) -> Self {
        let (hub, control, engine) = open(self.engine.reopen());
        let feed = hub.feed(&"f".parse().unwrap()).unwrap();
        Self {
            engine,
            control,
            hub,
            feed,
        }
    }

    /// Hands numbered records in; the values are the sequences, the content says `content`.
    pub(super) async fn send(
        &self,
        key: &ProducerKey,
        first: u64,
        count: u64,
        mode: Mode,
    ) -> Pending {
        let records = (first..first + count).map(|n| record(&key.producer, n));
        self.send_records(Some((key.clone(), first)), records.collect(), mode)
            .await
    }

    pub(super) async fn send_records(
        &self,
        producer: Option<(ProducerKey, u64)>,
        records: Vec<Bytes>,
        mode: Mode,
    ) -> Pending {
        let now = model::now();
        let mut batch = Batch::new(producer, mode, records.len(), 0);
        let limits = self.hub.limits(now);
        batch.check(&self.feed, records.iter().map(|r| &r[..]), &limits, now);
        self.hub.append(&self.feed, batch).await.unwrap()
    }

    pub(super) async fn store(&self, key: &ProducerKey, first: u64, count: u64) -> Stored {
        let pending = self.send(key, first, count, Mode::StoreValid).await;
        pending
            .ack()
            .await
            .map(|ack: Ack| (ack.stored, ack.duplicates))
    }

    /// A follower of everything.
    pub(super) async fn follow(&self, start: Start, end: End) -> Follower {
        self.follow_keys(KeyFilter::default(), start, end).await
    }

    pub(super) async fn follow_keys(&self, filter: KeyFilter, start: Start, end: End) -> Follower {
        let wanted = Wanted {
            selector: 0,
            filter,
            start,
            end,
            ..Wanted::default()
        };
        self.hub.follow(&self.feed, wanted).await.unwrap()
    }

    /// Keys of the records that a new follower sees, up to the tail.
    pub(super) async fn visible(&self) -> Vec<u64> {
        let mut follower = self.follow(Start::Earliest, End::Now).await;
        let mut offsets = vec![];
        loop {
            match follower.next().await.unwrap() {
                Step::Records(view) => offsets.extend(view.covers.from..view.covers.to),
                Step::AtTail | Step::Ended => return offsets,
                _ => {}
            }
        }
    }
}

pub(super) type Stored = Result<(u64, u64), AppendError>;

fn open(engine: MemoryEngine) -> (Arc<Hub>, Arc<Control>, Arc<MemoryEngine>) {
    let engine = Arc::new(engine);
    let control = Control::new();
    let test = TestEngine {
        inner: Arc::clone(&engine),
        control: Arc::clone(&control),
    };
    let hub = Hub::open(Arc::new(test), HubOptions::default()).unwrap();
    (hub, control, engine)
}

pub(super) fn producer(principal: &str, name: &str) -> ProducerKey {
    ProducerKey {
        producer: name.into(),
        principal: principal.into(),
    }
}

pub(super) fn record(key: &str, n: u64) -> Bytes {
    let value = v1::reading::Value::Number(n as f64);
    let reading = v1::Reading {
        value: Some(value),
        ..v1::Reading::default()
    };
    let record = v1::Record {
        key: key.into(),
        event_time_unix_nanos: Some(0),
        payload: Some(v1::record::Payload::Reading(reading)),
        ..v1::Record::default()
    };
    record.encode_to_vec().into()
}
