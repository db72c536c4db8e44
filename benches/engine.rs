//! The engine and the hub as a whole: slots written (append and flush) and read, and messages made
//! for followers. `cargo bench --bench engine -- view` runs some. Slots lie in `$TMPDIR`: only what
//! was measured on the same disk in one run can be compared.

#![allow(missing_docs, reason = "criterion's macros")]

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use ringfeed::{
    hub::{Batch, End, Feed, Hub, HubOptions, KeyFilter, Mode, Start, Step, Wanted},
    model::{self, FeedId, Frames, NewRecord, Visibility},
    proto::v1,
    store::{
        Append, Engine as _, MAX_BLOCK_BYTES, MemoryEngine, Read, Ring, RingSpec, Unit,
        sled::{SledEngine, SledOptions},
    },
};
use tokio::runtime::Runtime;

#[path = "../tests/samples/mod.rs"]
#[allow(dead_code, reason = "the counts of allocations need all samples")]
mod samples;

const MIB: u64 = 1 << 20;
/// Appended and flushed at once.
const WRITE: u64 = MIB;
const RING: u64 = 64 * MIB;
const RECORD: u64 = 1_000;
const RECORDS: u64 = 65_536;
const BATCH: usize = 1_024;
const KEYS: u64 = 100;

fn group<'a>(
    criterion: &'a mut Criterion,
    name: &str,
) -> criterion::BenchmarkGroup<'a, criterion::measurement::WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20);
    group.warm_up_time(Duration::from_secs(1));
    group.measurement_time(Duration::from_secs(3));
    group
}

fn write(engine: &SledEngine, ring: &dyn Ring, records: Frames) {
    let append = Append {
        records,
        ingest_time: model::now(),
        marks: &[],
        unit: Unit::Record,
    };
    black_box(ring.append(append)).expect("appended");
    engine.flush().expect("flushed");
}

fn slot(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let options = SledOptions {
        // Every read is one of the file.
        cache_bytes: 0,
        ..SledOptions::new(dir.path())
    };
    let engine = SledEngine::open(options).expect("it opens");
    let spec = RingSpec {
        feed: FeedId(1),
        epoch: 1,
        max_bytes: RING,
        visibility: Visibility::Durable,
    };
    let ring = engine.open_ring(spec).expect("it opens");
    let record = NewRecord {
        bytes: vec![7; usize::try_from(RECORD).unwrap_or(0)].into(),
        event_time: 0,
    };
    let records = vec![record; usize::try_from(WRITE / RECORD).unwrap_or(0)];
    let mut group = group(criterion, "slot");
    group.throughput(Throughput::Bytes(WRITE));
    group.bench_function("write", |b| {
        b.iter_batched(
            || Frames::of(&records),
            |frames| write(&engine, ring.as_ref(), frames),
            BatchSize::PerIteration,
        );
    });
    // The ring is filled whatever was run before.
    for _ in 0..RING / WRITE {
        write(&engine, ring.as_ref(), Frames::of(&records));
    }
    let (mut at, mut bytes) = (0, 0);
    let before = engine.io().block_bytes_read;
    group.throughput(Throughput::Bytes(MAX_BLOCK_BYTES as u64));
    group.bench_function("read", |b| {
        b.iter(|| match ring.read(at, MAX_BLOCK_BYTES) {
            Ok(Read::Records(chunk)) => {
                bytes += chunk.body_len() as u64;
                at = black_box(chunk).span().to;
            }
            Ok(Read::Gap(gap)) => at = gap.span.to,
            Ok(Read::AtTail) => at = ring.bounds().head,
            Err(error) => panic!("{error}"),
        });
    });
    // What was measured was reading.
    assert!(engine.io().block_bytes_read - before >= bytes);
    group.finish();
}

/// A quote of one of the keys.
fn quote(n: u64) -> Vec<u8> {
    let sample = samples::quote(n.cast_signed());
    let mut record = v1::Record::decode(sample.as_slice()).expect("a record");
    record.key = format!("k{}", n % KEYS);
    record.encode_to_vec()
}

async fn filled() -> (Arc<Hub>, Arc<Feed>) {
    let engine = Arc::new(MemoryEngine::new());
    let hub = Hub::open(engine, HubOptions::default()).expect("it opens");
    let name = "quotes".parse().expect("a name");
    let feed = hub.create_feed(name, None, None).await.expect("a feed");
    let records: Vec<_> = (0..RECORDS).map(quote).collect();
    for some in records.chunks(BATCH) {
        let now = model::now();
        let mut batch = Batch::new(None, Mode::StoreValid, some.len(), 0);
        batch.check(&feed, some.iter().map(Vec::as_slice), &hub.limits(now), now);
        let pending = hub.append(&feed, batch).await.expect("taken");
        assert_eq!(
            pending.ack().await.expect("stored").stored,
            some.len() as u64
        );
    }
    (hub, feed)
}

/// Records that a new follower gets of all there are.
async fn read(hub: &Arc<Hub>, feed: &Arc<Feed>, selector: u32, filter: KeyFilter) -> u64 {
    let wanted = Wanted {
        selector,
        filter,
        start: Start::Earliest,
        end: End::Now,
        ..Wanted::default()
    };
    let mut follower = hub.follow(feed, wanted).await.expect("it begins");
    let mut count = 0;
    loop {
        let step = follower.next().await.expect("it goes on");
        if let Step::AtTail | Step::Ended = step {
            return count;
        }
        let Step::Records(view) = step else {
            panic!("not expected: {step:?}");
        };
        count += u64::from(black_box(view).count);
    }
}

fn view(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let (hub, feed) = runtime.block_on(filled());
    let one_key = KeyFilter {
        include: Some(["k7".to_owned()].into()),
        ..KeyFilter::default()
    };
    let of_one = (0..RECORDS).filter(|n| n % KEYS == 7).count() as u64;
    // With a selector of its own no reading takes the messages of another.
    let mut selector = 0;
    let mut group = group(criterion, "view");
    group.throughput(Throughput::Elements(RECORDS));
    for (name, filter, count) in [
        ("full", KeyFilter::default(), RECORDS),
        ("filter_1_percent", one_key, of_one),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                selector += 1;
                let read = read(&hub, &feed, selector, filter.clone());
                assert_eq!(runtime.block_on(read), count);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, slot, view);
criterion_main!(benches);
