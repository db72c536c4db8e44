//! P4: an upload may be sent again at any time, in any cut, and is stored once.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use ringfeed::cli::mapping::{Mapping, Source, mapping_beside};
use tonic::Code;

use crate::harness::{
    MIB, Server, batches, encode, exact, expected_of, feed_exists, get_feed, number, numbered,
    own_bytes, plain, progress, read_from, read_to_now, reason, upload, vector,
};

const BARS: u64 = 12_154;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

/// Thirteen years of daily bars of five stocks.
fn bars() -> Vec<Bytes> {
    let path = fixture("market_us_stocks_daily.csv");
    let mapping = Mapping::load(&mapping_beside(&path).unwrap()).unwrap();
    let mut source = Source::open(&path, None, Some(&mapping)).unwrap();
    let mut records = vec![];
    while source.next_row(&mut records).unwrap().is_some() {}
    assert_eq!(records.len() as u64, BARS);
    records.iter().map(encode).collect()
}

#[tokio::test]
async fn a_file_sent_again_is_stored_once_whatever_happened_in_between() {
    const FEED: &str = "stocks.daily";
    let bars = bars();
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    feed_exists(&mut server.catalog().await, FEED, 2 * MIB).await;

    let first = upload(&mut feeds, batches(FEED, "file", 1, &bars, 500)).await;
    let first = first.unwrap();
    assert_eq!(exact(&first), (BARS, 0, 0));
    assert_eq!(first.feeds[0].durable_sequence, Some(BARS));
    let offsets = first.feeds[0].offsets.unwrap();
    assert_eq!((offsets.from, offsets.to), (0, BARS));
    let kept = read_to_now(&mut feeds, FEED).await;
    let delivered: Vec<Bytes> = kept.records.iter().map(|(_, r)| own_bytes(r)).collect();
    assert_eq!(delivered, bars, "byte for byte");

    for size in [1_500, 77, 1] {
        let again = upload(&mut feeds, batches(FEED, "file", 1, &bars, size)).await;
        assert_eq!(exact(&again.unwrap()), (0, BARS, 0), "in batches of {size}");
    }

    let server = server.restart().await;
    let mut feeds = server.feeds().await;
    let again = upload(&mut feeds, batches(FEED, "file", 1, &bars, 333)).await;
    assert_eq!(exact(&again.unwrap()), (0, BARS, 0), "after a restart");

    // Push every bar out of the ring with records of nobody.
    let other: Vec<Bytes> = (0..100).map(|n| vector("other", n, 1_000)).collect();
    for _ in 0..6 {
        let pushed = upload(&mut feeds, vec![plain(FEED, other.clone())]).await;
        assert_eq!(pushed.unwrap().stored, 100);
    }
    assert!(get_feed(&mut server.catalog().await, FEED).await.oldest > BARS);
    let setup = server.kill9().await;
    let server = setup.start().await;
    let mut feeds = server.feeds().await;
    let again = upload(&mut feeds, batches(FEED, "file", 1, &bars, 1_000)).await;
    assert_eq!(
        exact(&again.unwrap()),
        (0, BARS, 0),
        "after the ring turned over"
    );

    let mut longer = bars.clone();
    longer.extend((0..100).map(|n| number("AAPL", n)));
    let longer = upload(&mut feeds, batches(FEED, "file", 1, &longer, 1_000)).await;
    let longer = longer.unwrap();
    assert_eq!(exact(&longer), (100, BARS, 0));
    let offsets = longer.feeds[0].offsets.unwrap();
    assert_eq!(offsets.to - offsets.from, 100);
    let stored = read_from(&mut feeds, FEED, offsets.from).await;
    let stored: Vec<Bytes> = stored.records.iter().map(|(_, r)| own_bytes(r)).collect();
    let sent: Vec<Bytes> = (0..100).map(|n| number("AAPL", n)).collect();
    assert_eq!(stored, sent);
}

#[tokio::test]
async fn a_number_used_again_for_something_else_is_refused_and_never_a_duplicate() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let sent: Vec<Bytes> = (0..50).map(|n| number("k", n)).collect();
    upload(&mut feeds, batches("f", "p", 1, &sent, 20))
        .await
        .unwrap();

    for at in [0, 19, 20, 37, 49] {
        let mut other = sent.clone();
        other[at] = number("k", 1_000);
        let refused = upload(&mut feeds, batches("f", "p", 1, &other, 50)).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert_eq!(reason(&refused), "SEQUENCE_REUSED", "record {at}");
    }
    // Also when what follows would be new.
    let mixed = vec![number("k", 7_777), number("k", 50)];
    let refused = upload(&mut feeds, vec![numbered("f", "p", 50, mixed)]).await;
    assert_eq!(reason(&refused.unwrap_err()), "SEQUENCE_REUSED");
    // A device that lost its counter and begins anew.
    let anew = vec![number("k", 4_711)];
    let refused = upload(&mut feeds, vec![numbered("f", "p", 1, anew)]).await;
    assert_eq!(reason(&refused.unwrap_err()), "SEQUENCE_REUSED");

    assert_eq!(read_to_now(&mut feeds, "f").await.records.len(), 50);
    let next = vec![number("k", 50)];
    let goes_on = upload(&mut feeds, vec![numbered("f", "p", 51, next)]).await;
    assert_eq!(exact(&goes_on.unwrap()), (1, 0, 0));
}

#[tokio::test]
async fn a_hole_in_the_numbers_is_refused_with_the_one_expected() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let ten: Vec<Bytes> = (0..10).map(|n| number("k", n)).collect();
    let messages = vec![
        numbered("f", "p", 1, ten.clone()),
        numbered("f", "p", 12, ten.clone()),
        numbered("f", "p", 22, ten.clone()),
    ];
    let refused = upload(&mut feeds, messages).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(reason(&refused), "SEQUENCE_GAP");
    assert_eq!(expected_of(&refused), 11);
    let progress = progress(&refused).expect("IngestProgress");
    assert_eq!(progress.stored_through_sequence, Some(10));
    assert_eq!((progress.stored, progress.duplicates), (10, 0));
    assert_eq!(read_to_now(&mut feeds, "f").await.records.len(), 10);
}

#[tokio::test]
async fn a_forged_huge_sequence_harms_nobody() {
    const HUGE: [u64; 5] = [
        1 << 62,
        i64::MAX as u64 - 1,
        i64::MAX as u64,
        1 << 63,
        u64::MAX,
    ];
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let two = || vec![number("k", 0), number("k", 1)];
    upload(&mut feeds, vec![numbered("f", "honest", 1, two())])
        .await
        .unwrap();
    for huge in HUGE {
        let forged = upload(&mut feeds, vec![numbered("f", "honest", huge, two())]).await;
        assert!(
            ["SEQUENCE_GAP", "INVALID_ARGUMENT"].contains(&&*reason(&forged.unwrap_err())),
            "{huge}"
        );
    }
    // Numbers that cannot be are no beginning either: the producer is as unknown as before.
    for huge in [i64::MAX as u64, 1 << 63, u64::MAX] {
        let forged = upload(&mut feeds, vec![numbered("f", "new", huge, two())]).await;
        assert_eq!(reason(&forged.unwrap_err()), "INVALID_ARGUMENT", "{huge}");
    }
    for producer in ["new", "another"] {
        let stored = upload(&mut feeds, vec![numbered("f", producer, 1, two())]).await;
        assert_eq!(exact(&stored.unwrap()), (2, 0, 0), "{producer}");
    }
    let goes_on = upload(&mut feeds, vec![numbered("f", "honest", 3, two())]).await;
    assert_eq!(exact(&goes_on.unwrap()), (2, 0, 0));
    let server = server.kill9().await.start().await;
    let mut feeds = server.feeds().await;
    let goes_on = upload(&mut feeds, vec![numbered("f", "new", 3, two())]).await;
    assert_eq!(exact(&goes_on.unwrap()), (2, 0, 0));
}

#[tokio::test]
async fn records_from_before_a_producer_was_known_are_no_duplicates() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let ten = |from: u64| (from..from + 10).map(|n| number("k", n)).collect();
    // The server forgot this producer, which goes on at 101.
    let goes_on = upload(&mut feeds, vec![numbered("f", "p", 101, ten(101))]).await;
    assert_eq!(exact(&goes_on.unwrap()), (10, 0, 0));
    // What it had sent before is not known here: it must not be called stored.
    for first in [1, 91, 95, 100] {
        let earlier = upload(&mut feeds, vec![numbered("f", "p", first, ten(first))]).await;
        assert_eq!(reason(&earlier.unwrap_err()), "SEQUENCE_REUSED", "{first}");
    }
    let again = upload(&mut feeds, vec![numbered("f", "p", 101, ten(101))]).await;
    assert_eq!(exact(&again.unwrap()), (0, 10, 0));
}

#[tokio::test]
async fn refused_records_use_up_their_numbers() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let bad = number("", 0);
    let records = vec![number("k", 0), bad.clone(), number("k", 2), bad];
    let answer = upload(&mut feeds, vec![numbered("f", "p", 1, records.clone())]).await;
    let answer = answer.unwrap();
    assert_eq!(exact(&answer), (2, 0, 2));
    assert_eq!(answer.feeds[0].durable_sequence, Some(4));
    let numbers: Vec<_> = answer
        .refusals
        .iter()
        .map(|r| (r.index, r.sequence))
        .collect();
    assert_eq!(numbers, [(1, 2), (3, 4)]);

    // The last one was refused: its number is used up over a crash as well.
    let server = server.kill9().await.start().await;
    let mut feeds = server.feeds().await;
    let again = upload(&mut feeds, vec![numbered("f", "p", 1, records)]).await;
    assert_eq!(exact(&again.unwrap()), (0, 2, 2));
    let next = upload(
        &mut feeds,
        vec![numbered("f", "p", 5, vec![number("k", 4)])],
    )
    .await;
    assert_eq!(exact(&next.unwrap()), (1, 0, 0));
}
