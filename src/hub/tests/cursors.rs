//! Named cursors: durable when answered, few flushes for many, forward only.

use futures_util::future::join_all;

use super::bed::{Bed, producer};
use crate::{
    hub::{Begun, CatalogError, CursorKey, Fidelity, Registration},
    model::{Cursor, Visibility},
};

fn key(principal: &str, subscriber: &str) -> CursorKey {
    CursorKey {
        principal: principal.into(),
        subscriber: subscriber.into(),
    }
}

fn at(offset: u64) -> Cursor {
    Cursor { epoch: 0, offset }
}

async fn bed(records: u64) -> Bed {
    let bed = Bed::new(Visibility::Durable).await;
    bed.store(&producer("p", "d"), 1, records).await.unwrap();
    bed
}

impl Bed {
    async fn acknowledge(&self, key: &CursorKey, offset: u64) -> Result<(), CatalogError> {
        let durable = self.hub.acknowledge(&self.feed, key.clone(), at(offset));
        durable?.await
    }

    fn stored(&self, key: &CursorKey) -> Option<u64> {
        let named = self.hub.named_cursor(&self.feed, key);
        named.map(|named| named.cursor.offset)
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_cut_and_belongs_to_its_principal() {
    let bed = bed(10).await;
    let (mine, yours) = (key("me", "dash"), key("you", "dash"));
    bed.acknowledge(&mine, 7).await.unwrap();
    assert_eq!((bed.stored(&mine), bed.stored(&yours)), (Some(7), None));
    bed.acknowledge(&yours, 2).await.unwrap();
    let bed = bed.cut_power();
    assert_eq!((bed.stored(&mine), bed.stored(&yours)), (Some(7), Some(2)));
    bed.hub
        .delete_cursor(&bed.feed, mine.clone())
        .await
        .unwrap();
    let bed = bed.cut_power();
    assert_eq!((bed.stored(&mine), bed.stored(&yours)), (None, Some(2)));
}

#[tokio::test]
async fn a_cursor_only_moves_forward_and_not_beyond_the_feed() {
    let bed = bed(10).await;
    let me = key("me", "dash");
    bed.acknowledge(&me, 7).await.unwrap();
    bed.acknowledge(&me, 3).await.unwrap();
    assert_eq!(bed.stored(&me), Some(7));
    bed.acknowledge(&me, 10).await.unwrap();
    assert_eq!(bed.stored(&me), Some(10));
    let beyond = bed.acknowledge(&me, 11).await.unwrap_err();
    let expected = matches!(
        beyond,
        CatalogError::CursorBeyond {
            offset: 11,
            next: 10
        }
    );
    assert!(expected, "{beyond:?}");
    let foreign = Cursor {
        epoch: 1,
        offset: 1,
    };
    let refused = bed
        .hub
        .acknowledge(&bed.feed, me.clone(), foreign)
        .err()
        .unwrap();
    assert!(
        matches!(refused, CatalogError::CursorEpoch { .. }),
        "{refused:?}"
    );
    assert_eq!(bed.stored(&me), Some(10));
}

#[tokio::test]
async fn it_is_answered_after_its_flush_and_not_before() {
    let bed = bed(10).await;
    let me = key("me", "dash");
    bed.control.hold();
    let mut begun = bed.control.flushes();
    begun.mark_unchanged();
    let durable = bed.hub.acknowledge(&bed.feed, me.clone(), at(5)).unwrap();
    let answered = tokio::spawn(durable);
    begun.changed().await.unwrap();
    assert_eq!(bed.stored(&me), None, "it is not durable yet");
    assert!(!answered.is_finished());
    // One that says less waits for the same.
    let less = tokio::spawn(bed.hub.acknowledge(&bed.feed, me.clone(), at(4)).unwrap());
    tokio::task::yield_now().await;
    assert!(!less.is_finished());
    bed.control.release();
    answered.await.unwrap().unwrap();
    less.await.unwrap().unwrap();
    assert_eq!(bed.stored(&me), Some(5));
}

#[tokio::test]
async fn many_acknowledgements_share_few_flushes() {
    let bed = bed(1_000).await;
    let before = *bed.control.flushes().borrow();
    let keys: Vec<_> = (0..50).map(|n| key("me", &format!("s{n}"))).collect();
    let all = (1..=1_000_u64).flat_map(|offset| keys.iter().map(move |key| (key, offset)));
    let all = all.map(|(key, offset)| bed.acknowledge(key, offset));
    for done in join_all(all).await {
        done.unwrap();
    }
    for key in &keys {
        assert_eq!(bed.stored(key), Some(1_000));
    }
    let flushes = *bed.control.flushes().borrow() - before;
    assert!((1..=4).contains(&flushes), "{flushes} flushes for 50,000");
}

#[tokio::test]
async fn names_are_limited_and_known_ones_go_on() {
    let bed = bed(10).await;
    let limit = bed.hub.options().max_cursors_per_feed;
    let all = (0..limit).map(|n| {
        let key = key("me", &format!("s{n}"));
        bed.hub.acknowledge(&bed.feed, key, at(1)).unwrap()
    });
    for done in join_all(all.collect::<Vec<_>>()).await {
        done.unwrap();
    }
    let refused = bed.acknowledge(&key("me", "late"), 1).await.unwrap_err();
    assert!(
        matches!(refused, CatalogError::CursorLimit { .. }),
        "{refused:?}"
    );
    bed.acknowledge(&key("me", "s5"), 2).await.unwrap();
    bed.hub
        .delete_cursor(&bed.feed, key("me", "s6"))
        .await
        .unwrap();
    bed.acknowledge(&key("me", "late"), 1).await.unwrap();
    let again = bed.hub.delete_cursor(&bed.feed, key("me", "s6")).await;
    assert!(
        matches!(again, Err(CatalogError::UnknownCursor { .. })),
        "{again:?}"
    );
}

#[tokio::test]
async fn a_deleted_feed_takes_its_cursors_along() {
    let bed = bed(10).await;
    let me = key("me", "dash");
    bed.acknowledge(&me, 7).await.unwrap();
    let late = bed.hub.acknowledge(&bed.feed, me.clone(), at(8)).unwrap();
    bed.hub.delete_feed(bed.feed.name()).await.unwrap();
    assert!(late.await.is_err(), "there is nothing to acknowledge");
    let name = bed.feed.name().clone();
    let anew = bed.hub.create_feed(name, None, None).await.unwrap();
    assert_eq!(bed.hub.named_cursor(&anew, &me), None);
    let bed = bed.cut_power();
    assert_eq!(bed.stored(&me), None);
}

#[tokio::test]
async fn lag_is_measured_from_what_was_acknowledged_once_there_is_some() {
    let bed = bed(100).await;
    let me = key("me", "dash");
    bed.acknowledge(&me, 10).await.unwrap();
    let register = |key: &CursorKey, begun| {
        let registration = Registration {
            key: key.clone(),
            begun,
            cursor: 40,
            fidelity: Fidelity::Full,
        };
        bed.hub.register_subscriber(&bed.feed, registration)
    };
    let views = || bed.hub.all_subscribers(Some(&bed.feed));
    let seen = |n: usize| {
        let view = views().remove(n);
        (
            view.started.is_some(),
            view.acknowledged,
            view.cursor,
            view.lag_records,
        )
    };
    assert_eq!(seen(0), (false, true, 10, 90), "it is away");
    // One that began elsewhere is measured by what it is sent, until it acknowledges.
    let open = register(&me, Begun::Elsewhere);
    assert_eq!(views().len(), 1);
    assert_eq!(seen(0), (true, false, 40, 60));
    open.sent(60, 20, None);
    bed.acknowledge(&me, 50).await.unwrap();
    assert_eq!(seen(0), (true, true, 50, 50));
    drop(open);
    let resumed = register(&me, Begun::AtNamedCursor);
    assert_eq!(seen(0), (true, true, 50, 50));
    drop(resumed);
    // Without a name it is its stream's own.
    let nobody = register(&key("me", ""), Begun::Elsewhere);
    assert_eq!(views().len(), 2);
    assert_eq!(seen(0), (true, false, 40, 60));
    nobody.acknowledged(20);
    nobody.acknowledged(15);
    assert_eq!(seen(0), (true, true, 20, 80));
    let lag = views().remove(0).lag;
    assert!(!lag.is_zero(), "the record at 20 came in a while ago");
    assert_eq!(
        bed.hub.subscribers(None).len(),
        1,
        "who is away follows nothing"
    );
}
