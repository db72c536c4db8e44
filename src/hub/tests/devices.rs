//! Fencing and wills, step by step.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use prost::Message as _;

use super::bed::{Bed, producer, record};
use crate::{
    hub::{
        AppendError, Batch, End, Hello, Mode, Pending, ProducerGuard, ProducerKey, Start, Step,
        Welcome, Will,
    },
    model::{self, Visibility},
    proto::v1,
};

fn will(bed: &Bed, state: &str, grace: Duration) -> Will {
    let will = v1::Will {
        key: "pi".into(),
        status: Some(v1::Status {
            state: state.into(),
            ..v1::Status::default()
        }),
        ..v1::Will::default()
    };
    Will::new(will, grace, &bed.hub.limits(model::now())).unwrap()
}

fn hello(key: &ProducerKey, instance: &str, will: Option<Will>) -> Hello {
    Hello {
        key: key.clone(),
        instance: instance.into(),
        will,
    }
}

impl Bed {
    async fn hello(&self, hello: Hello) -> Result<Welcome, AppendError> {
        self.hub.hello(&self.feed, hello).await
    }

    async fn send_under(&self, upload: &ProducerGuard, first: u64, count: u64) -> Pending {
        let now = model::now();
        let numbered = Some((upload.key().clone(), first));
        let mut batch = Batch::new(numbered, Mode::StoreValid, 0, 0).under(upload);
        let records: Vec<_> = (first..first + count).map(|n| record("p", n)).collect();
        let limits = self.hub.limits(now);
        batch.check(&self.feed, records.iter().map(|r| &r[..]), &limits, now);
        self.hub.append(&self.feed, batch).await.unwrap()
    }

    /// The states of the status records.
    async fn states(&self) -> Vec<String> {
        let mut states = vec![];
        let mut follower = self.follow(Start::Earliest, End::Now).await;
        while let Step::Records(view) = follower.next().await.unwrap() {
            for bytes in view.records() {
                let record = v1::Record::decode(bytes).unwrap();
                if let Some(v1::record::Payload::Status(status)) = record.payload {
                    assert_eq!(record.key, "pi");
                    states.push(status.state);
                }
            }
        }
        states
    }

    async fn tell_wills(&self) {
        self.hub.tell_wills(&[Arc::clone(&self.feed)]).await;
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_hello_waits_for_what_the_older_device_sent_and_nothing_of_it_comes_later() {
    let bed = Bed::new(Visibility::Durable).await;
    let key = producer("me", "p");
    let unknown = bed.hello(hello(&key, "a", None)).await.unwrap();
    assert_eq!(unknown.next_sequence, None, "unknown, never 0");
    let old = unknown.upload;
    let acked = bed.send_under(&old, 1, 3).await.ack().await.unwrap();
    assert_eq!(acked.sequence, Some(3));

    bed.control.hold();
    let mut flushes = bed.control.flushes();
    flushes.mark_unchanged();
    let under_way = bed.send_under(&old, 4, 2).await;
    flushes.changed().await.unwrap();
    let gathered = bed.send_under(&old, 6, 2).await;
    let mut newer = Box::pin(bed.hello(hello(&key, "b", None)));
    assert!(
        (&mut newer).now_or_never().is_none(),
        "nothing is settled yet"
    );
    old.fenced().await;
    let late = bed.send_under(&old, 8, 2).await;
    bed.control.release();
    let newer = newer.await.unwrap();
    assert_eq!(under_way.ack().await.unwrap().sequence, Some(5));
    // Taken up by the committer before the hello or refused: in both cases the number is right.
    let stored = match gathered.ack().await {
        Ok(ack) => ack.sequence.unwrap(),
        Err(AppendError::Fenced) => 5,
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(newer.next_sequence, Some(stored + 1));
    let late = late.ack().await;
    assert!(matches!(late, Err(AppendError::Fenced)), "{late:?}");
    let again = bed.send_under(&old, stored + 1, 1).await.ack().await;
    assert!(matches!(again, Err(AppendError::Fenced)), "{again:?}");
    let next = bed
        .send_under(&newer.upload, stored + 1, 4)
        .await
        .ack()
        .await;
    assert_eq!(next.unwrap().stored, 4);
    drop(old);
    let view = bed.hub.producer(bed.feed.name(), &key).unwrap();
    assert!(view.connected, "the older one's end is not the newer one's");
}

#[tokio::test]
async fn a_hello_after_a_cut_knows_what_was_still_on_its_way() {
    let bed = Bed::new(Visibility::Durable).await;
    let key = producer("me", "p");
    let first = bed.hello(hello(&key, "a", None)).await.unwrap();
    bed.control.hold();
    let mut flushes = bed.control.flushes();
    flushes.mark_unchanged();
    let lost = bed.send_under(&first.upload, 1, 5).await;
    flushes.changed().await.unwrap();
    let gathered = bed.send_under(&first.upload, 6, 5).await;
    drop((first, lost, gathered));
    let mut again = Box::pin(bed.hello(hello(&key, "a", None)));
    assert!((&mut again).now_or_never().is_none());
    bed.control.release();
    assert_eq!(again.await.unwrap().next_sequence, Some(11));
}

#[tokio::test]
async fn a_name_belongs_to_its_principal_and_is_fenced_only_within_it() {
    let bed = Bed::new(Visibility::Durable).await;
    let mine = bed
        .hello(hello(&producer("me", "p"), "a", None))
        .await
        .unwrap();
    let yours = bed
        .hello(hello(&producer("you", "p"), "b", None))
        .await
        .unwrap();
    assert!(mine.upload.fenced().now_or_never().is_none());
    for upload in [&mine.upload, &yours.upload] {
        let acked = bed.send_under(upload, 1, 1).await.ack().await;
        assert_eq!(acked.unwrap().stored, 1);
    }
}

#[tokio::test]
async fn a_will_is_told_once_when_its_grace_is_over_and_answered_by_a_return() {
    let bed = Bed::new(Visibility::Durable).await;
    let key = producer("me", "p");
    let gone = || Some(will(&bed, "offline", Duration::ZERO));
    let here = bed.hello(hello(&key, "a", gone())).await.unwrap();
    bed.tell_wills().await;
    assert_eq!(bed.states().await, [""; 0], "it is here");
    drop(here);
    bed.tell_wills().await;
    bed.tell_wills().await;
    assert_eq!(bed.states().await, ["offline"]);
    let back = bed.hello(hello(&key, "b", gone())).await.unwrap();
    assert_eq!(bed.states().await, ["offline", "online"]);
    drop(back);
    // Back within its grace: neither word.
    let back = bed.hello(hello(&key, "b", gone())).await.unwrap();
    bed.tell_wills().await;
    assert_eq!(bed.states().await.len(), 2);
    // A hello without one takes it back.
    drop(back);
    drop(bed.hello(hello(&key, "b", None)).await.unwrap());
    bed.tell_wills().await;
    assert_eq!(bed.states().await.len(), 2);
}

#[tokio::test]
async fn a_grace_is_waited_for() {
    let bed = Bed::new(Visibility::Durable).await;
    let key = producer("me", "p");
    let patient = Some(will(&bed, "offline", HOUR));
    drop(bed.hello(hello(&key, "a", patient)).await.unwrap());
    bed.tell_wills().await;
    assert_eq!(bed.states().await, [""; 0]);
    let hour = i64::try_from(HOUR.as_nanos()).unwrap();
    let due = |after: i64| {
        let now = model::now() + after;
        bed.feed.state().wills.take_due(now).len()
    };
    assert_eq!((due(hour / 2), due(hour)), (0, 1));
}

#[tokio::test]
async fn a_fenced_device_is_not_gone() {
    let bed = Bed::new(Visibility::Durable).await;
    let key = producer("me", "p");
    let gone = || Some(will(&bed, "offline", Duration::ZERO));
    let old = bed.hello(hello(&key, "a", gone())).await.unwrap();
    let newer = bed.hello(hello(&key, "b", gone())).await.unwrap();
    drop(old);
    bed.tell_wills().await;
    assert_eq!(bed.states().await, [""; 0]);
    // An upload of another kind is as good.
    let upload = bed.hub.connect_producer(&bed.feed, &key, None).unwrap();
    drop(newer);
    bed.tell_wills().await;
    assert_eq!(bed.states().await, [""; 0]);
    drop(upload);
    bed.tell_wills().await;
    assert_eq!(bed.states().await, ["offline"]);
}

#[tokio::test]
async fn wills_survive_a_power_cut_as_far_as_they_were_told() {
    let bed = Bed::new(Visibility::Durable).await;
    let [here, told, patient] = ["here", "told", "patient"].map(|name| producer("me", name));
    let with = |state: &str, grace| Some(will(&bed, state, grace));
    let a = bed.hello(hello(&here, "a", with("here", Duration::ZERO)));
    let a = a.await.unwrap();
    drop(
        bed.hello(hello(&told, "b", with("told", Duration::ZERO)))
            .await,
    );
    drop(bed.hello(hello(&patient, "c", with("patient", HOUR))).await);
    bed.tell_wills().await;
    assert_eq!(bed.states().await, ["told"]);

    let bed = bed.cut_power();
    drop(a);
    bed.tell_wills().await;
    assert_eq!(bed.states().await, ["told", "here"], "it did not come back");
    let again = will(&bed, "told", Duration::ZERO);
    let back = bed.hello(hello(&told, "d", Some(again))).await.unwrap();
    assert_eq!(bed.states().await, ["told", "here", "online"]);
    drop(back);
    let states = |bed: &Bed| bed.hub.producers(&bed.feed).len();
    assert_eq!(states(&bed), 3);

    let bed = bed.cut_power();
    bed.tell_wills().await;
    assert_eq!(bed.states().await.len(), 4, "one of two was told before");
    let name = bed.feed.name().clone();
    bed.hub.delete_feed(&name).await.unwrap();
    let bed_engine = bed.hub.create_feed(name, None, None).await.unwrap();
    assert_eq!(bed.hub.producers(&bed_engine), []);
}

#[tokio::test]
async fn a_will_that_could_not_be_stored_is_stored_later() {
    let bed = Bed::new(Visibility::Durable).await;
    let key = producer("me", "p");
    let gone = || Some(will(&bed, "offline", Duration::ZERO));
    drop(bed.hello(hello(&key, "a", gone())).await.unwrap());
    bed.control.set_disk_full(true);
    bed.tell_wills().await;
    bed.control.set_disk_full(false);
    assert_eq!(bed.states().await, [""; 0]);
    bed.tell_wills().await;
    assert_eq!(bed.states().await, ["offline"]);
    let bed = bed.cut_power();
    bed.tell_wills().await;
    assert_eq!(bed.states().await, ["offline"], "not a second time");
}

#[tokio::test]
async fn a_will_that_would_be_refused_is_refused_at_once() {
    let bed = Bed::new(Visibility::Durable).await;
    let limits = bed.hub.limits(model::now());
    let refused = |wire: v1::Will| Will::new(wire, Duration::ZERO, &limits).unwrap_err().field;
    let status = |state: &str| {
        Some(v1::Status {
            state: state.into(),
            ..v1::Status::default()
        })
    };
    let good = v1::Will {
        key: "k".into(),
        status: status("offline"),
        ..v1::Will::default()
    };
    let key = v1::Will {
        key: String::new(),
        ..good.clone()
    };
    let state = v1::Will {
        status: None,
        ..good.clone()
    };
    let online = v1::Will {
        online: status(&"x".repeat(65)),
        ..good
    };
    let fields = [key, state, online].map(refused);
    assert_eq!(fields, ["key", "status.state", "online.state"]);
}

#[tokio::test]
async fn producers_that_never_sent_a_record_are_listed_and_limited() {
    let bed = Bed::new(Visibility::Durable).await;
    let [silent, willing, sender] = ["silent", "willing", "sender"].map(|n| producer("me", n));
    let gone = Some(will(&bed, "offline", HOUR));
    let open = bed.hello(hello(&silent, "a", None)).await.unwrap();
    drop(bed.hello(hello(&willing, "b", gone)).await.unwrap());
    assert_eq!(bed.store(&sender, 1, 2).await.unwrap(), (2, 0));
    let views = bed.hub.producers(&bed.feed);
    let listed: Vec<_> = views
        .iter()
        .map(|v| (&*v.producer, v.connected, v.durable_sequence))
        .collect();
    let expected = [
        ("sender", false, 2),
        ("silent", true, 0),
        ("willing", false, 0),
    ];
    assert_eq!(listed, expected);
    assert!(views.iter().all(|view| view.last_seen > 0));
    let state = bed.feed.state();
    assert!(state.is_full_of_producers(3) && !state.is_full_of_producers(4));
    drop(state);
    drop(open);
    assert_eq!(bed.hub.producers(&bed.feed).len(), 2);
}
