//! What is sent is made once: counted, not timed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

use super::bed::{Bed, record};
use crate::{
    hub::{End, Follower, KeyFilter, Mode, Start, Step, View},
    model::{Offset, Visibility},
    proto::wire,
};

async fn store(bed: &Bed, keys: &[&str], count: u64) {
    let records = (0..count).zip(keys.iter().cycle());
    let records = records.map(|(n, key)| record(key, n));
    let pending = bed.send_records(None, records.collect(), Mode::StoreValid);
    assert_eq!(pending.await.ack().await.unwrap().stored, count);
}

fn only(keys: &[String]) -> KeyFilter {
    KeyFilter {
        include: Some(keys.iter().cloned().collect()),
        ..KeyFilter::default()
    }
}

/// All messages to the tail.
async fn read(follower: &mut Follower) -> Vec<View> {
    let mut views = vec![];
    loop {
        match follower.next().await.unwrap() {
            Step::Records(view) => views.push(view),
            Step::AtTail | Step::Ended => {
                views.extend(follower.settle_passed());
                return views;
            }
            other => panic!("not expected: {other:?}"),
        }
    }
}

fn keys_of(views: &[View]) -> Vec<String> {
    let records = views.iter().flat_map(View::records);
    records.map(|r| wire::key_of(&r).to_owned()).collect()
}

fn counted(bed: &Bed) -> (u64, u64, u64) {
    let get = |count: &AtomicU64| count.load(Relaxed);
    let counts = bed.hub.window.hot.counts();
    (
        get(&counts.computed),
        get(&counts.shared),
        get(&counts.copied),
    )
}

#[tokio::test]
async fn a_hundred_followers_share_the_bytes_of_one() {
    let bed = Bed::new(Visibility::Durable).await;
    let mut followers = vec![];
    for _ in 0..100 {
        followers.push(bed.follow(Start::Earliest, End::Never).await);
    }
    let mut first: Vec<Vec<Bytes>> = vec![];
    for round in 0..3 {
        store(&bed, &["a", "b"], 20_000).await;
        for follower in &mut followers {
            let views = read(follower).await;
            let messages: Vec<Bytes> = views.iter().map(View::message).collect();
            let shared = first.get(round);
            let same = |a: &Bytes, b: &Bytes| a.as_ptr() == b.as_ptr();
            match shared {
                Some(shared) => assert!(shared.iter().zip(&messages).all(|(a, b)| same(a, b))),
                None => first.push(messages),
            }
        }
        let (computed, shared, copied) = counted(&bed);
        let made = first.iter().flatten().count() as u64;
        let bytes: usize = first.iter().flatten().map(Bytes::len).sum();
        assert_eq!((computed, shared), (made, made * 99));
        assert_eq!(copied, bytes as u64);
    }
}

#[tokio::test]
async fn equal_filters_are_worked_out_once_and_others_apart() {
    let bed = Bed::new(Visibility::Durable).await;
    let keys: Vec<String> = (0..200).map(|n| format!("k{n}")).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut followers = vec![];
    for n in 0..40 {
        let wanted = only(&keys[n % 20..n % 20 + 2]);
        followers.push(bed.follow_keys(wanted, Start::Earliest, End::Never).await);
    }
    let not_first = KeyFilter {
        exclude: keys[..1].iter().cloned().collect(),
        ..KeyFilter::default()
    };
    let mut all_but = bed
        .follow_keys(not_first, Start::Earliest, End::Never)
        .await;
    for round in 1..=3 {
        store(&bed, &names, 2_000).await;
        for (n, follower) in followers.iter_mut().enumerate() {
            let got = keys_of(&read(follower).await);
            let expected = [&keys[n % 20], &keys[n % 20 + 1]];
            let expected: Vec<_> = expected.iter().cycle().take(20).copied().collect();
            assert_eq!(got.iter().collect::<Vec<_>>(), expected);
        }
        assert_eq!(read(&mut all_but).await[0].count, 1_990);
        let (computed, shared, _) = counted(&bed);
        assert_eq!((computed, shared), (round * 21, round * 20));
    }
}

#[tokio::test]
async fn a_key_that_comes_later_or_again_passes_its_filter() {
    let bed = Bed::new(Visibility::Durable).await;
    let wanted = only(&["late".into()]);
    let mut follower = bed.follow_keys(wanted, Start::Earliest, End::Never).await;
    store(&bed, &["a", "b"], 10).await;
    assert_eq!(keys_of(&read(&mut follower).await), [""; 0]);
    store(&bed, &["a", "late"], 10).await;
    assert_eq!(keys_of(&read(&mut follower).await), ["late"; 5]);
    let name = bed.feed.name().clone();
    let deleted = bed.hub.delete_keys(&name, vec!["late".into()]).await;
    assert_eq!(deleted.unwrap(), 1);
    // The records in the ring stay, and so they do for a filter.
    let again = only(&["late".into(), "b".into()]);
    let mut again = bed.follow_keys(again, Start::Earliest, End::Never).await;
    assert_eq!(keys_of(&read(&mut again).await).len(), 10);
    store(&bed, &["late"], 3).await;
    assert_eq!(keys_of(&read(&mut follower).await), ["late"; 3]);
    assert_eq!(keys_of(&read(&mut again).await), ["late"; 3]);
}

#[tokio::test(start_paused = true)]
async fn who_wants_nothing_that_comes_hears_so_every_ten_seconds() {
    let bed = Bed::new(Visibility::Durable).await;
    let wanted = only(&["nobody".into()]);
    let mut follower = bed.follow_keys(wanted, Start::Earliest, End::Never).await;
    store(&bed, &["a"], 10).await;
    let at_tail = follower.next().await.unwrap();
    assert!(matches!(at_tail, Step::AtTail), "{at_tail:?}");
    assert_eq!(follower.cursor(), 0);
    let start = tokio::time::Instant::now();
    follower.wait().await;
    assert_eq!(start.elapsed().as_secs(), 10);
    let Step::Records(empty) = follower.next().await.unwrap() else {
        panic!("it hears that it moved");
    };
    assert_eq!(
        (empty.covers.from, empty.covers.to, empty.count),
        (0, 10, 0)
    );
    assert_eq!(follower.cursor(), 10);
}

#[tokio::test]
async fn who_wants_nothing_hears_so_every_hundred_thousand_records() {
    let bed = Bed::new(Visibility::Durable).await;
    let wanted = only(&["nobody".into()]);
    let mut follower = bed.follow_keys(wanted, Start::Earliest, End::Never).await;
    for _ in 0..25 {
        store(&bed, &["a"], 10_000).await;
    }
    let views = read(&mut follower).await;
    let ends: Vec<Offset> = views.iter().map(|view| view.covers.to).collect();
    assert_eq!(ends.last(), Some(&250_000));
    assert!(ends.len() >= 3 && ends[0] >= 100_000, "{ends:?}");
}

#[tokio::test]
async fn who_is_behind_takes_long_messages_where_others_took_short_ones() {
    let bed = Bed::new(Visibility::Durable).await;
    let mut ahead = bed.follow(Start::Earliest, End::Never).await;
    let mut behind = bed.follow(Start::Earliest, End::Never).await;
    for _ in 0..50 {
        store(&bed, &["a"], 2).await;
        assert_eq!(read(&mut ahead).await.len(), 1);
    }
    let views = read(&mut behind).await;
    assert_eq!(views.len(), 1);
    assert_eq!(views[0].count, 100);
}
