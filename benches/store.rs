//! Durable megabytes per second of the store beside a raw append with fdatasync, in turn in one
//! run, with the longest pause a writer met and the memory: `cargo bench --bench store -- [DIR]`.
//! Only figures of one run can be compared: disks are not as fast every minute.

#![expect(clippy::cast_possible_truncation, reason = "any bytes will do")]

use std::{
    error::Error,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ringfeed::{
    model::{FeedId, Frames, NewRecord, Visibility},
    store::{
        Append, Engine, RingSpec, Unit,
        sled::{SledEngine, SledOptions},
    },
};

const MIB: u64 = 1 << 20;
const RING: u64 = 256 * MIB;
const TURNS: u64 = 4;
const RECORD: usize = 1_000;
const ROUNDS: u32 = 3;

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Run {
    elapsed: Duration,
    pause: Duration,
    written: u64,
}

/// One more flush of `bytes`; answers how many bytes it wrote.
trait Target {
    fn commit(&mut self, bytes: u64) -> Outcome<()>;
    fn written(&self) -> u64;
}

struct Raw {
    file: File,
    block: Vec<u8>,
    written: u64,
}

impl Target for Raw {
    fn commit(&mut self, bytes: u64) -> Outcome<()> {
        for _ in 0..bytes / self.block.len() as u64 {
            self.file.write_all(&self.block)?;
            self.written += self.block.len() as u64;
        }
        Ok(self.file.sync_data()?)
    }

    fn written(&self) -> u64 {
        self.written
    }
}

struct Store {
    engine: SledEngine,
    ring: std::sync::Arc<dyn ringfeed::store::Ring>,
    records: Vec<NewRecord>,
    time: i64,
}

impl Target for Store {
    fn commit(&mut self, bytes: u64) -> Outcome<()> {
        self.time += 1;
        let count = usize::try_from(bytes)? / RECORD;
        let records = self.records.get(..count).ok_or("too few records")?;
        self.ring.append(Append {
            records: Frames::of(records),
            ingest_time: self.time,
            marks: &[],
            unit: Unit::Record,
        })?;
        Ok(self.engine.flush()?)
    }

    fn written(&self) -> u64 {
        self.engine.io().block_bytes_written
    }
}

fn record(i: u32, len: usize) -> NewRecord {
    let bytes = (0..len).map(|at| (at as u32).wrapping_mul(31).wrapping_add(i) as u8);
    NewRecord {
        bytes: bytes.collect(),
        event_time: 0,
    }
}

fn store(dir: &Path) -> Outcome<Store> {
    let engine = SledEngine::open(SledOptions::new(dir))?;
    let ring = engine.open_ring(RingSpec {
        feed: FeedId(1),
        epoch: 1,
        max_bytes: RING,
        visibility: Visibility::Durable,
    })?;
    Ok(Store {
        engine,
        ring,
        records: (0..4_200).map(|i| record(i, RECORD)).collect(),
        time: 0,
    })
}

fn run(target: &mut dyn Target, flush: u64) -> Outcome<Run> {
    let begun = Instant::now();
    let mut pause = Duration::ZERO;
    for _ in 0..TURNS * RING / flush {
        let before = Instant::now();
        target.commit(flush)?;
        pause = pause.max(before.elapsed());
    }
    Ok(Run {
        elapsed: begun.elapsed(),
        pause,
        written: target.written(),
    })
}

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse().ok()).unwrap_or(0) / 1_024
}

fn report(name: &str, flush: u64, run: &Run) {
    let bytes = TURNS * RING;
    eprintln!(
        "{name:5} flush per {} MiB: {:4.0} MB/s, longest commit {:5.1} ms, {:.2} bytes written per byte, {} MiB resident",
        flush / MIB,
        bytes as f64 / 1e6 / run.elapsed.as_secs_f64(),
        run.pause.as_secs_f64() * 1e3,
        run.written as f64 / bytes as f64,
        resident(),
    );
}

/// A thousand feeds with a record each per commit.
fn slow_feeds(dir: &Path) -> Outcome<()> {
    const FEEDS: u32 = 1_000;
    const COMMITS: u32 = 200;
    let engine = SledEngine::open(SledOptions::new(dir))?;
    let spec = |feed| RingSpec {
        feed: FeedId(feed),
        epoch: 1,
        max_bytes: MIB,
        visibility: Visibility::Durable,
    };
    let rings: Result<Vec<_>, _> = (1..=FEEDS)
        .map(|feed| engine.open_ring(spec(feed)))
        .collect();
    let rings = rings?;
    engine.flush()?;
    let before = engine.io().block_bytes_written;
    let mut flushes = Vec::new();
    for time in 0..COMMITS {
        let records = [record(time, 112)];
        for ring in &rings {
            ring.append(Append {
                records: Frames::of(&records),
                ingest_time: time.into(),
                marks: &[],
                unit: Unit::Record,
            })?;
        }
        let begun = Instant::now();
        engine.flush()?;
        flushes.push(begun.elapsed());
    }
    flushes.sort_unstable();
    let at = |part: usize| {
        flushes
            .get(flushes.len() * part / 100)
            .copied()
            .unwrap_or_default()
    };
    let written = engine.io().block_bytes_written - before;
    eprintln!(
        "1,000 feeds, a record of 112 bytes each per flush: flush p50 {:.1} ms, p99 {:.1} ms, {:.1} bytes written per byte, {} MiB resident",
        at(50).as_secs_f64() * 1e3,
        at(99).as_secs_f64() * 1e3,
        written as f64 / f64::from(FEEDS * COMMITS * 112),
        resident(),
    );
    Ok(engine.close()?)
}

fn main() -> Outcome<()> {
    let home = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let dir = PathBuf::from(home.unwrap_or_else(|| ".".to_owned())).join("store-bench");
    slow_feeds(&dir)?;
    fs::remove_dir_all(&dir)?;
    for _ in 0..ROUNDS {
        for flush in [MIB, 4 * MIB] {
            fs::create_dir_all(&dir)?;
            let mut raw = Raw {
                file: File::create(dir.join("raw"))?,
                block: vec![7; 1 << 16],
                written: 0,
            };
            report("raw", flush, &run(&mut raw, flush)?);
            fs::remove_file(dir.join("raw"))?;
            let mut store = store(&dir.join("data"))?;
            report("sled", flush, &run(&mut store, flush)?);
            store.engine.close()?;
            fs::remove_dir_all(&dir)?;
        }
    }
    Ok(())
}
