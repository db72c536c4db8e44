//! The ring is bounded on disk and in memory; what it drops is told exactly; its head never moves
//! back.

use bytes::Bytes;
use ringfeed::proto::v1::{GapReason, UpdateFeedRequest, start::From};

use crate::harness::{
    Follow, MIB, Server, event_nanos, feed_exists, get_feed, own_bytes, plain, read_from,
    read_to_now, reason, stored, torture, upload, vector, within,
};

const FEED: &str = "small";
/// About 8 KiB each on the wire.
const CHANNELS: usize = 1_020;
const BATCH: u64 = 120;

fn batch(from: u64) -> Vec<Bytes> {
    (from..from + BATCH)
        .map(|n| vector("k", n, CHANNELS))
        .collect()
}

/// Resizes the ring, writing on for as long as the resize before is under way.
async fn resize(server: &Server, max_bytes: u64, at: &mut u64) {
    for _ in 0..40 {
        let asked = UpdateFeedRequest {
            name: FEED.into(),
            max_bytes: Some(max_bytes),
            ..UpdateFeedRequest::default()
        };
        match server.catalog().await.update_feed(asked).await {
            Ok(_) => return,
            Err(busy) => assert_eq!(reason(&busy), "RESIZING"),
        }
        write(server, at).await;
    }
    panic!("the last resize never ends");
}

async fn write(server: &Server, at: &mut u64) {
    let message = vec![plain(FEED, batch(*at))];
    upload(&mut server.feeds().await, message).await.unwrap();
    *at += BATCH;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundredfold_upload_stays_within_the_ring_and_the_loss_is_told_exactly() {
    const MESSAGES: u64 = 430;
    const CALLS: u64 = 10;
    let server = Server::start().await;
    let mut catalog = server.catalog().await;
    let created = feed_exists(&mut catalog, FEED, 4 * MIB).await;
    let mut feeds = server.feeds().await;
    let mut head = 0;
    for call in 0..CALLS {
        let part = MESSAGES / CALLS;
        let messages = (call * part..(call + 1) * part).map(|m| plain(FEED, batch(m * BATCH)));
        upload(&mut feeds, messages.collect()).await.unwrap();
        let disk = server.setup().disk_bytes();
        assert!(disk < 12 * MIB, "{disk} bytes on disk after call {call}");
        let oldest = get_feed(&mut catalog, FEED).await.oldest;
        assert!(oldest > head, "the head moves");
        head = oldest;
    }
    let feed = get_feed(&mut catalog, FEED).await;
    assert_eq!(feed.next, MESSAGES * BATCH);
    assert!(feed.bytes <= 4 * MIB);
    assert!(feed.next - feed.oldest > 300, "most of the ring is in use");

    let all = read_to_now(&mut feeds, FEED).await;
    let told = [(0, head, Some(head), GapReason::Evicted)];
    assert_eq!(all.gap_list(), told);
    assert_eq!(all.gaps[0].epoch, created.epoch);
    assert_eq!(all.gaps[0].oldest.as_ref().unwrap().offset, head);
    let offsets: Vec<u64> = all.records.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, (head..feed.next).collect::<Vec<_>>());
    for (offset, bytes) in &all.records {
        let expected = vector("k", *offset, CHANNELS);
        assert_eq!(own_bytes(bytes), expected);
    }
}

#[tokio::test]
async fn the_head_never_moves_back_over_restarts_and_resizes() {
    let mut server = Server::start().await;
    feed_exists(&mut server.catalog().await, FEED, 4 * MIB).await;
    let mut at = 0;
    let mut head = 0;
    for (step, size) in [4, 2, 2, 8, 8, 1, 16, 3, 3].into_iter().enumerate() {
        let was = get_feed(&mut server.catalog().await, FEED).await;
        let was = was.retention.unwrap().max_bytes / MIB;
        if was != size {
            resize(&server, size * MIB, &mut at).await;
            let after = get_feed(&mut server.catalog().await, FEED).await;
            assert!(after.bytes <= size * MIB, "step {step}");
            let full = size.min(was) * MIB;
            let room = 3 * 65_536 + full / 8;
            assert!(
                step < 2 || after.bytes + room > full,
                "what fits is kept: {after:?}"
            );
        }
        for _ in 0..9 {
            write(&server, &mut at).await;
        }
        server = match step % 3 {
            0 => server.restart().await,
            1 => server.kill9().await.start().await,
            _ => server,
        };
        let feed = get_feed(&mut server.catalog().await, FEED).await;
        assert!(feed.oldest >= head, "step {step}: {} < {head}", feed.oldest);
        assert_eq!(feed.next, at);
        head = feed.oldest;
        let kept = read_to_now(&mut server.feeds().await, FEED).await;
        let expected = (head > 0).then_some((0, head, Some(head), GapReason::Evicted));
        assert_eq!(kept.gap_list(), Vec::from_iter(expected), "step {step}");
        assert_eq!(kept.records.len() as u64, at - head);
        for (offset, bytes) in &kept.records {
            let expected = Some(event_nanos(*offset));
            assert_eq!(stored(bytes).event_time_unix_nanos, expected);
        }
    }
}

/// Fills a ring of `ring` bytes and follows it from its oldest record, in less than `memory`.
async fn ring_in_memory_of(ring: u64, memory: u64) {
    let server = Server::start().await;
    feed_exists(&mut server.catalog().await, FEED, ring).await;
    let mut feeds = server.feeds().await;
    let message = plain(FEED, batch(0));
    let messages = ring / MIB + ring / MIB / 16;
    let mut peak = 0;
    for part in 0..16 {
        let count = messages * (part + 1) / 16 - messages * part / 16;
        let call = vec![message.clone(); usize::try_from(count).unwrap()];
        upload(&mut feeds, call).await.unwrap();
        peak = peak.max(server.rss());
    }
    let feed = get_feed(&mut server.catalog().await, FEED).await;
    assert!(feed.bytes * 10 > ring * 8, "the ring is full: {feed:?}");
    let mut follow = Follow::feed(&mut feeds, FEED, From::Offset(feed.oldest)).await;
    while follow.ledger().next.unwrap() < feed.next {
        within("a response", follow.step()).await.unwrap().unwrap();
        follow.ledgers[0].records.clear();
    }
    peak = peak.max(server.rss());
    eprintln!("a ring of {} MiB: {} MiB resident", ring / MIB, peak / MIB);
    assert!(peak < memory, "{} MiB resident", peak / MIB);
    let server = server.kill9().await.start().await;
    let again = get_feed(&mut server.catalog().await, FEED).await;
    assert_eq!((again.oldest, again.next), (feed.oldest, feed.next));
    read_from(&mut server.feeds().await, FEED, feed.next - 100).await;
    let rss = server.rss();
    assert!(rss < memory / 2, "{} MiB after a restart", rss / MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_ring_takes_little_memory() {
    ring_in_memory_of(512 * MIB, 300 * MIB).await;
    if torture() {
        ring_in_memory_of(4_096 * MIB, 768 * MIB).await;
    }
}
