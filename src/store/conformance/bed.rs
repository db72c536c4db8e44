//! An engine under test that can be stopped, cleanly or not, and opened again; and short words
//! for what the tests do with it.

use std::{fs, path::Path, sync::Arc};

use tempfile::TempDir;

use crate::{
    model::{
        Bounds, FeedId, Frames, Gap, GapReason, MarkNote, MarkRun, NewRecord, Offset, UnixNanos,
        Visibility,
    },
    store::{
        Append, Engine, MemoryEngine, Read, Ring, RingSpec, Unit,
        sled::{SledEngine, SledOptions},
    },
};

pub(in crate::store) const MIB: u64 = 1 << 20;
pub(in crate::store) const FEED: FeedId = FeedId(7);

/// An engine and what it takes to open it again.
pub(in crate::store) trait Bed {
    fn engine(&self) -> &dyn Engine;
    /// Closes the engine and opens it again.
    fn restart(&mut self);
    /// Opens again what the last flush made durable, as after a power cut.
    fn cut_power(&mut self);

    fn ring(&self) -> Arc<dyn Ring> {
        self.open(FEED, MIB, Visibility::Durable)
    }

    fn immediate(&self) -> Arc<dyn Ring> {
        self.open(FEED, MIB, Visibility::Immediate)
    }

    fn open(&self, feed: FeedId, max_bytes: u64, visibility: Visibility) -> Arc<dyn Ring> {
        let epoch = 99;
        let spec = RingSpec {
            feed,
            epoch,
            max_bytes,
            visibility,
        };
        self.engine().open_ring(spec).unwrap()
    }

    fn flush(&self) {
        self.engine().flush().unwrap();
    }
}

pub(in crate::store) struct MemoryBed {
    engine: MemoryEngine,
}

impl MemoryBed {
    pub(in crate::store) fn new() -> Self {
        let engine = MemoryEngine::new();
        Self { engine }
    }
}

impl Bed for MemoryBed {
    fn engine(&self) -> &dyn Engine {
        &self.engine
    }

    fn restart(&mut self) {
        self.engine.close().unwrap();
        self.engine = self.engine.reopen();
    }

    fn cut_power(&mut self) {
        self.engine = self.engine.reopen();
    }
}

pub(in crate::store) struct SledBed {
    engine: Option<SledEngine>,
    dir: TempDir,
}

impl SledBed {
    pub(in crate::store) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(in crate::store) fn with(change: impl FnOnce(&mut SledOptions)) -> Self {
        let dir = TempDir::new().unwrap();
        let mut options = options(dir.path());
        change(&mut options);
        let engine = Some(SledEngine::open(options).unwrap());
        Self { engine, dir }
    }

    pub(in crate::store) fn sled(&self) -> &SledEngine {
        self.engine.as_ref().unwrap()
    }

    pub(in crate::store) fn stop(&mut self) {
        self.engine.take().unwrap().close().unwrap();
    }

    pub(in crate::store) fn start(&mut self) {
        self.engine = Some(SledEngine::open(options(self.dir.path())).unwrap());
    }

    pub(in crate::store) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Stops the engine, lets `tamper` change its files, and starts it.
    pub(in crate::store) fn tamper(&mut self, tamper: impl FnOnce(&Path)) {
        self.stop();
        tamper(self.dir.path());
        self.start();
    }
}

pub(in crate::store) fn options(dir: &Path) -> SledOptions {
    SledOptions {
        reserve_bytes: 1 << 20,
        ..SledOptions::new(dir)
    }
}

impl Bed for SledBed {
    fn engine(&self) -> &dyn Engine {
        self.engine.as_ref().unwrap()
    }

    fn restart(&mut self) {
        self.tamper(|_| ());
    }

    /// What counts is a copy of the files as they are.
    fn cut_power(&mut self) {
        let copy = TempDir::new().unwrap();
        copy_dir(self.dir.path(), copy.path());
        self.engine = Some(SledEngine::open(options(copy.path())).unwrap());
        self.dir = copy;
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

pub(in crate::store) fn record(len: usize, event_time: UnixNanos) -> NewRecord {
    NewRecord {
        bytes: vec![b'x'; len].into(),
        event_time,
    }
}

/// `count` records of `len` bytes, all of one time.
pub(in crate::store) fn append(ring: &dyn Ring, count: usize, len: usize, time: UnixNanos) {
    put(
        ring,
        &vec![record(len, time); count],
        &[],
        time,
        Unit::Record,
    );
}

pub(in crate::store) fn put(
    ring: &dyn Ring,
    records: &[NewRecord],
    marks: &[Option<MarkNote>],
    ingest_time: UnixNanos,
    unit: Unit,
) {
    let tail = ring.bounds().tail;
    let append = Append {
        records: Frames::of(records),
        ingest_time,
        marks: &runs(marks),
        unit,
    };
    let chunk = ring.append(append).unwrap();
    assert_eq!((chunk.span().from, chunk.len()), (tail, records.len()));
    assert_eq!(ring.bounds().tail, tail + records.len() as u64);
}

/// Marks given record by record, joined where one producer goes on.
pub(in crate::store) fn runs(marks: &[Option<MarkNote>]) -> Vec<MarkRun> {
    let mut runs: Vec<MarkRun> = Vec::new();
    for (index, mark) in marks.iter().enumerate() {
        let Some(mark) = mark else { continue };
        let note = (mark.sequence, mark.content);
        match runs.last_mut() {
            Some(run) if run.producer == mark.producer && run.records.end == index => {
                run.records.end += 1;
                run.notes.push(note);
            }
            Some(_) | None => runs.push(MarkRun {
                producer: mark.producer,
                records: index..index + 1,
                notes: vec![note],
            }),
        }
    }
    runs
}

/// Reads everything from `from` on: each record's offset and size, and the gaps between.
pub(in crate::store) fn drain(ring: &dyn Ring, from: Offset) -> (Vec<(Offset, usize)>, Vec<Gap>) {
    let (mut at, mut records, mut gaps) = (from, Vec::new(), Vec::new());
    loop {
        match ring.read(at, 10_000).unwrap() {
            Read::AtTail => return (records, gaps),
            Read::Records(chunk) => {
                assert_eq!(chunk.span().from, at);
                assert!(!chunk.is_empty());
                records.extend(chunk.records().map(|(offset, bytes)| (offset, bytes.len())));
                at = chunk.span().to;
            }
            Read::Gap(gap) => {
                assert_eq!(gap.span.from, at);
                assert!(!gap.span.is_empty());
                gaps.push(gap);
                at = gap.span.to;
            }
        }
    }
}

/// The offsets that can be read from `from` on; there must be no gap.
pub(in crate::store) fn offsets(ring: &dyn Ring, from: Offset) -> Vec<Offset> {
    let (records, gaps) = drain(ring, from);
    assert_eq!(gaps, []);
    records.into_iter().map(|(offset, _)| offset).collect()
}

pub(in crate::store) fn gap(
    from: Offset,
    to: Offset,
    count: Option<u64>,
    reason: GapReason,
) -> Gap {
    let span = crate::model::Span::new(from, to);
    Gap {
        span,
        count,
        reason,
    }
}

/// Everything from head to tail can be read, and nothing else.
pub(in crate::store) fn assert_whole(ring: &dyn Ring) -> Bounds {
    let bounds = ring.bounds();
    let readable: Vec<_> = (bounds.head..bounds.tail).collect();
    assert_eq!(offsets(ring, bounds.head), readable);
    bounds
}
