//! Tokens that are replaced while calls go on, with the client library and its token file.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use ringfeed::{
    client::{ConnectOptions, Connection, PublishOptions, Publisher},
    layers::write_private,
    proto::v1::{CreateFeedRequest, ListFeedsRequest},
};
use tokio::task::JoinHandle;

use super::{bearer, knows, setup};
use crate::harness::{number, until, within};

/// A worker that counts what it did.
struct Worker {
    done: Arc<AtomicU64>,
    task: JoinHandle<u64>,
}

impl Worker {
    async fn goes_on(&self) {
        // What began before may still be under way, so one is not enough.
        let enough = self.done.load(Ordering::SeqCst) + 2;
        let there = || self.done.load(Ordering::SeqCst) >= enough;
        until("calls go on", async || there() || self.task.is_finished()).await;
        assert!(there(), "a call failed");
    }
}

/// Asks on and on, each time by a call of its own.
fn asks(connection: Connection, over: Arc<AtomicBool>) -> Worker {
    let done = Arc::<AtomicU64>::default();
    let count = Arc::clone(&done);
    let task = tokio::spawn(async move {
        while !over.load(Ordering::SeqCst) {
            let mut catalog = connection.catalog();
            let asked = catalog.list_feeds(ListFeedsRequest::default());
            asked.await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
        }
        0
    });
    Worker { done, task }
}

/// Uploads on and on, in one stream for as long as it lives; how often that was cut.
fn uploads(connection: Connection, over: Arc<AtomicBool>) -> Worker {
    let done = Arc::<AtomicU64>::default();
    let count = Arc::clone(&done);
    let task = tokio::spawn(async move {
        let options = PublishOptions::to("f", "pi17");
        let mut publisher = Publisher::connect(connection, options).await.unwrap();
        while !over.load(Ordering::SeqCst) {
            let next = publisher.next_sequence();
            let receipt = publisher.send(vec![number("pi17", next)]).await.unwrap();
            assert_eq!(receipt.ack().await.unwrap().records, 1);
            count.fetch_add(1, Ordering::SeqCst);
        }
        let cuts = publisher.cuts();
        publisher.close().await.unwrap();
        cuts.into()
    });
    Worker { done, task }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_change_on_both_sides_and_no_call_fails() {
    const ROUNDS: u64 = 3;
    let (setup, tokens) = setup();
    let mut old = tokens.add();
    let server = setup.start().await;
    let path = setup.home().join("client.token");
    write_private(&path, old.as_bytes()).unwrap();
    let connection = Connection::new(&ConnectOptions {
        token_file: Some(path.clone()),
        ..ConnectOptions::to(format!("http://{}", server.address()))
    })
    .unwrap();
    let create = CreateFeedRequest {
        name: "f".into(),
        ..CreateFeedRequest::default()
    };
    connection.catalog().create_feed(create).await.unwrap();
    let over = Arc::<AtomicBool>::default();
    let workers = [
        asks(connection.clone(), Arc::clone(&over)),
        asks(connection.clone(), Arc::clone(&over)),
        uploads(connection.clone(), Arc::clone(&over)),
    ];
    for _ in 0..ROUNDS {
        // First the server knows the new one, then clients have it, then the old one goes.
        let new = tokens.add();
        until("the new token is known", async || {
            knows(&server, &new).await
        })
        .await;
        write_private(&path, new.as_bytes()).unwrap();
        for worker in &workers {
            worker.goes_on().await;
        }
        tokens.revoke(&old);
        until("the old token is gone", async || {
            !knows(&server, &old).await
        })
        .await;
        for worker in &workers {
            worker.goes_on().await;
        }
        old = new;
    }
    over.store(true, Ordering::SeqCst);
    let mut cuts = 0;
    let mut uploaded = 0;
    for worker in workers {
        cuts += within("the last call", worker.task).await.unwrap();
        uploaded = worker.done.load(Ordering::SeqCst);
    }
    // The stream went on as often with the token of its time, and nothing came twice.
    assert_eq!(cuts, ROUNDS);
    let mut ask = tonic::Request::new(ringfeed::proto::v1::GetFeedRequest { name: "f".into() });
    ask.metadata_mut().insert("authorization", bearer(&old));
    let feed = server.catalog().await.get_feed(ask).await.unwrap();
    assert_eq!(feed.into_inner().feed.unwrap().next, uploaded);
}
