//! IMMEDIATE feeds: an offset that was shown is never used again for another record, and what an
//! unclean stop took is told as LOST. That records show before their flush is tested in the hub.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ringfeed::proto::v1::{CreateFeedRequest, GapReason, Visibility, start::From};

use crate::harness::{
    Follow, Random, Setup, get_feed, number, own_bytes, plain, read_to_now, upload, within,
};

const FEED: &str = "fast";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_shown_is_there_or_lost_and_its_offset_is_not_used_again() {
    let mut random = Random::seeded("immediate");
    let setup = Setup::new();
    // What a subscriber saw: offset and bytes.
    let mut shown: Vec<(u64, Bytes)> = vec![];
    let mut acked = 0;
    let mut n = 0;
    for round in 0..5 {
        let server = Arc::new(setup.start().await);
        let mut catalog = server.catalog().await;
        if round == 0 {
            let asked = CreateFeedRequest {
                name: FEED.into(),
                retention: None,
                visibility: Visibility::Immediate.into(),
            };
            catalog.create_feed(asked).await.unwrap();
        }
        let from = get_feed(&mut catalog, FEED).await.next;
        let seen_before = shown.last().map_or(0, |(offset, _)| offset + 1);
        assert!(from >= seen_before, "offset {from} was shown before");

        let all = read_to_now(&mut server.feeds().await, FEED).await;
        for (gap_from, gap_to, _, reason) in all.gap_list() {
            assert_eq!(reason, GapReason::Lost);
            assert!(gap_from < gap_to);
        }
        for (offset, bytes) in &shown {
            let found = all.records.binary_search_by_key(offset, |(at, _)| *at);
            let lost = all
                .gaps
                .iter()
                .any(|gap| (gap.from..gap.to).contains(offset));
            match found {
                Ok(at) => assert_eq!(all.records[at].1, *bytes, "offset {offset} was reused"),
                Err(_) => assert!(lost, "offset {offset} is neither there nor lost"),
            }
        }
        assert!(
            all.records.len() as u64 >= acked,
            "{acked} were acknowledged"
        );

        let mut follow = Follow::feed(&mut server.feeds().await, FEED, From::Offset(from)).await;
        let reader = tokio::spawn(async move {
            let ended = follow.read_out().await;
            assert!(ended.is_err(), "it was killed");
            follow.ledgers.remove(0).records
        });
        let mut feeds = server.feeds().await;
        let first = n;
        let uploader = tokio::spawn(async move {
            let mut acked = 0;
            loop {
                let at = first + acked;
                let records: Vec<Bytes> = (at..at + 50).map(|n| number("k", n)).collect();
                if upload(&mut feeds, vec![plain(FEED, records)])
                    .await
                    .is_err()
                {
                    return acked;
                }
                acked += 50;
            }
        });
        // Any moment will do.
        let moment = 100_000 + random.below(200_000);
        tokio::time::sleep(Duration::from_micros(moment)).await;
        server.kill_now();
        shown.extend(within("the reader", reader).await.unwrap());
        let round_acked = within("the uploader", uploader).await.unwrap();
        assert!(round_acked > 0);
        acked += round_acked;
        n += round_acked + 50;
        Arc::into_inner(server).unwrap().kill9().await;
    }

    // A clean stop loses nothing, and offsets go on without a hole.
    let server = setup.start().await;
    let one = vec![plain(FEED, vec![number("k", n)])];
    let answer = upload(&mut server.feeds().await, one.clone())
        .await
        .unwrap();
    let offsets = answer.feeds[0].offsets.unwrap();
    let server = server.restart().await;
    let mut feeds = server.feeds().await;
    let answer = upload(&mut feeds, one).await.unwrap();
    assert_eq!(answer.feeds[0].offsets.unwrap().from, offsets.to);
    let all = read_to_now(&mut feeds, FEED).await;
    let (_, last) = all.records.last().unwrap();
    assert_eq!(own_bytes(last), number("k", n));
    let lost = all.gap_list();
    assert_eq!(lost.len(), 5, "one for each unclean stop: {lost:?}");
}
