//! What the hot paths allocate, counted: one test a path. A count does not move with the machine.

mod around;
mod samples;

use std::{hint::black_box, sync::Arc};

use allocation_counter::measure;
use around::{Bed, Layers};
use futures_util::FutureExt as _;
use prost::Message as _;
use ringfeed::{
    hub::{
        Batch, Feed, Follower, Hub, HubOptions, KeyFilter, Mode, ProducerKey, Start, Step, Wanted,
    },
    model::{Frames, NewRecord},
    proto::{
        v1,
        wire::{self, IngestMessage, Kept, Limits},
    },
    store::MemoryEngine,
};
use tokio::runtime::Builder;

const LIMITS: Limits = Limits {
    record_bytes: 60_000,
    key_bytes: 256,
    latest_event_time: i64::MAX,
};

/// What is counted is the same for so many records and for so many more.
const FEW: usize = 256;
const MANY: usize = 1_024;

/// How often this thread allocates in `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    measure(work).count_total
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Box::new(7)))), 1);
    assert_eq!(allocations(|| assert_eq!(black_box(7), 7)), 0);
}

#[test]
fn scanning_a_valid_record_allocates_nothing() {
    for (name, sample) in samples::SAMPLES {
        let record = sample(1);
        let received = [record.as_slice(), b"\x69\x07\0\0\0\0\0\0\0"].concat();
        let count = allocations(|| {
            assert!(wire::scan(&record, &LIMITS).is_ok());
            assert!(wire::scan(&received, &LIMITS).is_ok());
        });
        assert_eq!(count, 0, "{name}");
    }
}

#[test]
fn reading_back_a_record_allocates_nothing() {
    for (name, sample) in samples::SAMPLES {
        let record = sample(1);
        let count = allocations(|| {
            assert!(!wire::key_of(&record).is_empty());
            assert!(wire::stored(&record).is_some());
        });
        assert_eq!(count, 0, "{name}");
    }
}

#[test]
fn taking_a_message_apart_allocates_nothing() {
    let records = samples::SAMPLES.map(|(_, sample)| sample(1).into());
    let message = v1::IngestRequest {
        feed: "stocks".into(),
        producer: "p".into(),
        records: records.into(),
        ..v1::IngestRequest::default()
    };
    let bytes = message.encode_to_vec();
    let count = allocations(|| {
        let message = IngestMessage::read(&bytes).unwrap();
        let passed = message.records().filter(|record| {
            let view = wire::scan(record, &LIMITS).unwrap();
            let kept = Kept::of(record, &view, 0);
            let [as_sent, stamp] = kept.parts();
            as_sent == *record && stamp.is_empty()
        });
        assert_eq!(passed.count(), samples::SAMPLES.len());
    });
    assert_eq!(count, 0);
}

fn records(count: usize) -> Vec<Vec<u8>> {
    let samples = samples::SAMPLES.iter().cycle().take(count);
    (0..)
        .zip(samples)
        .map(|(n, (_, sample))| sample(n))
        .collect()
}

fn checked(feed: &Feed, producer: Option<ProducerKey>, records: &[Vec<u8>]) -> Batch {
    let bytes = records.iter().map(Vec::len).sum();
    let numbered = producer.map(|producer| (producer, 1));
    let mut batch = Batch::new(numbered, Mode::StoreValid, records.len(), bytes);
    batch.check(feed, records.iter().map(Vec::as_slice), &LIMITS, 0);
    batch
}

/// A hub in memory whose one feed holds `records`.
async fn hub_of(records: &[Vec<u8>]) -> (Arc<Hub>, Arc<Feed>) {
    let engine = Arc::new(MemoryEngine::new());
    let hub = Hub::open(engine, HubOptions::default()).expect("it opens");
    let name = "stocks".parse().expect("a name");
    let feed = hub.create_feed(name, None, None).await.expect("a feed");
    append(&hub, &feed, records).await;
    (hub, feed)
}

async fn append(hub: &Arc<Hub>, feed: &Arc<Feed>, records: &[Vec<u8>]) {
    let pending = hub.append(feed, checked(feed, None, records)).await;
    let ack = pending.expect("taken").ack().await.expect("stored");
    assert_eq!(ack.stored, records.len() as u64);
}

async fn follow(hub: &Arc<Hub>, feed: &Arc<Feed>) -> Follower {
    let wanted = Wanted {
        selector: 0,
        filter: KeyFilter::default(),
        start: Start::Earliest,
        ..Wanted::default()
    };
    hub.follow(feed, wanted).await.expect("it begins")
}

/// What the follower allocates to come by a message of all `count` records.
fn allocations_of_next(follower: &mut Follower, count: usize) -> u64 {
    let mut step = None;
    let allocated = allocations(|| step = follower.next().now_or_never());
    match step {
        Some(Ok(Step::Records(view))) => assert_eq!(view.count as usize, count),
        other => panic!("the records are in memory: {other:?}"),
    }
    allocated
}

#[tokio::test]
async fn a_large_batch_of_known_keys_is_checked_with_as_few_allocations_as_a_small_one() {
    let (_hub, feed) = hub_of(&records(FEW)).await;
    let producer = ProducerKey {
        producer: "p".into(),
        principal: "me".into(),
    };
    for (numbered, expected) in [(None, 4), (Some(producer), 5)] {
        for count in [FEW, MANY] {
            let (records, numbered) = (records(count), numbered.clone());
            let allocated = allocations(|| {
                let batch = checked(&feed, numbered, &records);
                assert_eq!(batch.len(), count);
            });
            assert_eq!(allocated, expected, "{count} records");
        }
    }
}

#[test]
fn many_frames_are_sealed_with_as_few_allocations_as_a_few() {
    let sealing = [FEW, MANY].map(|count| {
        let new = |bytes: Vec<u8>| NewRecord {
            bytes: bytes.into(),
            event_time: 0,
        };
        let new: Vec<_> = records(count).into_iter().map(new).collect();
        let frames = Frames::of(&new);
        allocations(|| {
            let (chunk, times) = frames.seal(7, 7);
            assert_eq!((chunk.len(), times.len()), (count, count));
        })
    });
    assert_eq!(sealing, [2, 2], "who shares starts and body");
}

#[tokio::test]
async fn a_message_is_made_with_a_few_allocations_and_taken_by_others_with_none() {
    let mut making = vec![];
    for count in [FEW, MANY] {
        let (hub, feed) = hub_of(&records(count)).await;
        let mut first = follow(&hub, &feed).await;
        making.push(allocations_of_next(&mut first, count));
        for _ in 0..3 {
            let mut next = follow(&hub, &feed).await;
            assert_eq!(allocations_of_next(&mut next, count), 0);
        }
    }
    let [few, many] = making[..] else {
        panic!("two sizes");
    };
    assert_eq!(few, many);
    assert!(many < 32, "{many}");
}

/// Allocations for each 1,000 messages of a call that goes on for long. The threads behind the hub
/// come in time or not, which moves the count a little: the least of several counts.
macro_rules! per_thousand {
    ($layers:expr, $call:ident) => {{
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let bed = runtime.block_on(Bed::new($layers));
        let mut call = runtime.block_on(bed.$call());
        runtime.block_on(call.go(200));
        let counts = (0..5).map(|_| allocations(|| runtime.block_on(call.go(1_000))));
        counts.min().expect("some counts")
    }};
}

/// What the count moves by itself; a layer that allocates for a message makes it 1,000 more.
const NOISE: u64 = 20;

macro_rules! layers_allocate_nothing_for_a_message {
    ($name:ident, $call:ident) => {
        #[test]
        fn $name() {
            let off = per_thousand!(Layers::Off, $call);
            let on = per_thousand!(Layers::On, $call);
            eprintln!("{}: {off} bare, {on} with layers", stringify!($call));
            assert!(off > 1_000, "the counter counts: {off}");
            assert!(on <= off + NOISE, "{on} with layers, {off} without");
        }
    };
}

layers_allocate_nothing_for_a_message!(layers_allocate_nothing_for_a_message_of_ingest, ingest);
layers_allocate_nothing_for_a_message!(layers_allocate_nothing_for_a_message_of_publish, publish);
layers_allocate_nothing_for_a_message!(layers_allocate_nothing_for_a_response, subscribe);
layers_allocate_nothing_for_a_message!(layers_allocate_nothing_for_a_message_of_session, session);

#[tokio::test]
async fn an_upload_through_all_layers_is_stored() {
    let bed = Bed::new(Layers::On).await;
    let mut ingest = bed.ingest().await;
    ingest.go(100).await;
    ingest.end(100).await;
}
