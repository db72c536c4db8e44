//! One feed as it runs: its ring, what followers may see of it, and what is derived from it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard, RwLock};

use super::{
    bar_views::BarViews,
    conflate::Conflations,
    cursors::Cursors,
    info::Infos,
    keys::{KeyIds, KeyTable, SeenMeta},
    producers::Producers,
    rate::Rate,
    snapshot::Snapshots,
    stale::Silences,
    tail::{Life, Tail},
    timeline::Timeline,
    views::Filters,
    wills::Wills,
};
use crate::{
    metrics::{FeedMetrics, RingFigures},
    model::{Bounds, Chunk, Epoch, FeedId, FeedName, FeedSpec, Offset, UnixNanos, Visibility},
    store::Ring,
};

/// How fast a feed takes records in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FeedRates {
    pub records_per_second: f64,
    pub bytes_per_second: f64,
}

#[derive(Debug)]
pub struct Feed {
    pub(super) ring: Arc<dyn Ring>,
    pub(super) metrics: FeedMetrics,
    /// The key filters that followers have in use.
    pub(super) filters: Filters,
    pub(super) conflations: Conflations,
    pub(super) bar_views: BarViews,
    pub(super) snapshots: Snapshots,
    pub(super) cursors: Cursors,
    id: FeedId,
    name: FeedName,
    epoch: Epoch,
    spec: RwLock<FeedSpec>,
    key_ids: Arc<KeyIds>,
    tail: Arc<Tail>,
    state: Mutex<FeedState>,
}

/// What is derived from the records, as far as they are visible.
#[derive(Debug)]
pub(super) struct FeedState {
    pub keys: KeyTable,
    pub producers: Producers,
    pub wills: Wills,
    pub infos: Infos,
    pub silences: Silences,
    /// The records before it are in `keys`.
    pub seen_to: Offset,
    /// Bytes appended since keys and marks were last saved.
    pub unsaved_bytes: u64,
    pub last_append: Option<UnixNanos>,
    timeline: Timeline,
    /// No record comes in before this: clocks step back, rings do not.
    ingest_floor: UnixNanos,
    records: Rate,
    bytes: Rate,
}

impl Feed {
    pub(super) fn new(spec: FeedSpec, ring: Arc<dyn Ring>) -> Self {
        let now = Instant::now();
        let bounds = ring.bounds();
        let state = FeedState {
            keys: KeyTable::default(),
            producers: Producers::default(),
            wills: Wills::default(),
            infos: Infos::default(),
            silences: Silences::default(),
            seen_to: bounds.tail,
            unsaved_bytes: 0,
            last_append: ring.last_ingest_time(),
            timeline: Timeline::default(),
            ingest_floor: ring.last_ingest_time().unwrap_or(UnixNanos::MIN),
            records: Rate::new(now),
            bytes: Rate::new(now),
        };
        let feed = Self {
            metrics: FeedMetrics::new(spec.name.as_str()),
            filters: Filters::default(),
            conflations: Conflations::default(),
            bar_views: BarViews::default(),
            snapshots: Snapshots::default(),
            cursors: Cursors::default(),
            id: spec.id,
            name: spec.name.clone(),
            epoch: spec.epoch,
            tail: Tail::new(bounds),
            spec: RwLock::new(spec),
            ring,
            key_ids: Arc::clone(state.keys.ids()),
            state: Mutex::new(state),
        };
        feed.publish(bounds);
        feed
    }

    pub fn id(&self) -> FeedId {
        self.id
    }

    pub fn name(&self) -> &FeedName {
        &self.name
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub fn spec(&self) -> FeedSpec {
        self.spec.read().clone()
    }

    pub fn visibility(&self) -> Visibility {
        self.spec.read().visibility
    }

    /// What can be read now.
    pub fn bounds(&self) -> Bounds {
        self.tail.now().bounds
    }

    /// What is visible of it, to be watched.
    pub(super) fn tail(&self) -> &Arc<Tail> {
        &self.tail
    }

    pub fn is_deleted(&self) -> bool {
        self.tail.now().life == Life::Deleted
    }

    pub fn metrics(&self) -> &FeedMetrics {
        &self.metrics
    }

    pub fn rates(&self) -> FeedRates {
        let now = Instant::now();
        let state = self.state.lock();
        FeedRates {
            records_per_second: state.records.get(now),
            bytes_per_second: state.bytes.get(now),
        }
    }

    /// About when what is at `offset` came in; `None`: not known since the server started.
    pub(super) fn came_in(&self, offset: Offset) -> Option<UnixNanos> {
        self.state.lock().timeline.at(offset)
    }

    /// How long a full ring lasts at the present rate.
    pub fn ring_duration(&self) -> Option<Duration> {
        let bytes_per_second = self.rates().bytes_per_second;
        if bytes_per_second < 0.01 {
            return None;
        }
        Duration::try_from_secs_f64(self.ring.max_bytes() as f64 / bytes_per_second).ok()
    }

    /// When, at the present rates, eviction reaches `offset`; `None`: not in sight. A reader that
    /// moves on at `read_rate` records per second is reached later, or never.
    pub fn eviction_eta(&self, offset: Offset, read_rate: f64) -> Option<Duration> {
        let bounds = self.bounds();
        let written = self.rates().records_per_second;
        let approach = written - read_rate;
        let held = bounds.tail.saturating_sub(bounds.head);
        if approach < 0.01 || held == 0 || bounds.bytes == 0 {
            return None;
        }
        let capacity = held as f64 * self.ring.max_bytes() as f64 / bounds.bytes as f64;
        let left = (capacity - bounds.tail.saturating_sub(offset) as f64).max(0.0);
        Duration::try_from_secs_f64(left / approach).ok()
    }

    /// The numbers of its keys, without waiting for who changes them.
    pub(super) fn key_ids(&self) -> &KeyIds {
        &self.key_ids
    }

    pub(super) fn state(&self) -> MutexGuard<'_, FeedState> {
        self.state.lock()
    }

    pub(super) fn change_spec(&self, change: impl FnOnce(&mut FeedSpec)) -> FeedSpec {
        let mut spec = self.spec.write();
        change(&mut spec);
        spec.clone()
    }

    /// Shows followers where the ring stands.
    pub(super) fn publish(&self, bounds: Bounds) {
        let before = self.tail.now().bounds;
        self.metrics
            .count_evicted(bounds.head.saturating_sub(before.head));
        self.metrics.set_ring(RingFigures {
            oldest: bounds.head,
            next: bounds.tail,
            bytes: bounds.bytes,
            max_bytes: self.ring.max_bytes(),
        });
        self.tail.publish(bounds);
    }

    /// Shows what a flush evicted behind records that were shown before it.
    pub(super) fn publish_head(&self) {
        let before = self.tail.now().bounds;
        let bounds = self.ring.bounds();
        let evicted = bounds.head.saturating_sub(before.head);
        if evicted > 0 {
            self.metrics.count_evicted(evicted);
            self.tail.raise(bounds.head, bounds.bytes);
        }
    }

    pub(super) fn mark_deleted(&self) {
        self.tail.mark_deleted();
    }

    /// The ingest time of what comes in at `now`.
    pub(super) fn next_ingest_time(&self, now: UnixNanos) -> UnixNanos {
        let mut state = self.state.lock();
        state.ingest_floor = state.ingest_floor.max(now);
        state.ingest_floor
    }

    /// Takes appended records into latest and the rates. They become visible with `publish`.
    pub(super) fn see(&self, chunk: &Chunk, metas: &[SeenMeta], ingest_time: UnixNanos) {
        let mut state = self.state.lock();
        state.keys.see(chunk, metas);
        let (now, bytes) = (Instant::now(), chunk.body_len() as u64);
        state.seen_to = chunk.span().to;
        state.unsaved_bytes += bytes;
        state.last_append = Some(ingest_time);
        state.timeline.note(chunk.span().from, ingest_time);
        state.records.add(chunk.len() as u64, now);
        state.bytes.add(bytes, now);
        drop(state);
        self.metrics.count_appended(chunk.len() as u64, bytes);
        self.metrics.set_last_append(ingest_time);
        if let Some(meta) = metas.last() {
            self.metrics
                .observe_source_delay(ingest_time.saturating_sub(meta.event_time));
        }
    }
}
