//! A sensor that says something once a day, in a feed that is busy: what it said last, how far its
//! producer came, and that it is gone, all outlive its records and a restart.

use ringfeed::{
    client::{ConnectOptions, Connection, PublishOptions, Publisher},
    proto::v1::{self, record::Payload, subscribe_response::Event},
};
use tokio::process::Command;

use crate::harness::{
    MIB, Server, feed_exists, get_feed, number, number_of, numbered, plain, stored, upload, vector,
    within,
};

const FEED: &str = "plant";
const KEY: &str = "roof.wind";
const DEVICE: &str = "roof";

fn will() -> v1::Will {
    let status = |state: &str| v1::Status {
        state: state.into(),
        ..v1::Status::default()
    };
    v1::Will {
        key: KEY.into(),
        status: Some(status("offline")),
        grace: Some(prost_types::Duration {
            seconds: 0,
            nanos: 300_000_000,
        }),
        online: Some(status("online")),
    }
}

async fn publisher(server: &Server) -> Publisher {
    let options = ConnectOptions::to(format!("http://{}", server.address()));
    let connection = Connection::new(&options).unwrap();
    let options = PublishOptions {
        will: Some(will()),
        ..PublishOptions::to(FEED, DEVICE)
    };
    within("hello", Publisher::connect(connection, options))
        .await
        .unwrap()
}

/// Waits for a status record of the sensor, from the beginning or a place on.
async fn status_comes(server: &Server, state: &str) {
    let selector = v1::Selector {
        feed: FEED.into(),
        keys: vec![KEY.into()],
        start: Some(v1::Start {
            from: Some(v1::start::From::Snapshot(v1::SnapshotStart {})),
        }),
        ..v1::Selector::default()
    };
    let request = v1::SubscribeRequest {
        selectors: vec![selector],
        ..v1::SubscribeRequest::default()
    };
    let stream = server.feeds().await.subscribe(request).await;
    let mut stream = stream.unwrap().into_inner();
    loop {
        let response = within(state, stream.message()).await.unwrap().unwrap();
        let records = match response.event.unwrap() {
            Event::Snapshot(batch) => batch.records,
            Event::Records(batch) => batch.records,
            _ => continue,
        };
        let is_it = |record: v1::Record| matches!(record.payload, Some(Payload::Status(status)) if status.state == state);
        if records.iter().any(|bytes| is_it(stored(bytes))) {
            return;
        }
    }
}

async fn turn_over(server: &Server) {
    let mut feeds = server.feeds().await;
    for n in 0..4 {
        let records = (n * 100..(n + 1) * 100).map(|n| vector("busy", n, 1_000));
        upload(&mut feeds, vec![plain(FEED, records.collect())])
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_sensor_outlives_its_records_and_a_restart() {
    let server = Server::start().await;
    feed_exists(&mut server.catalog().await, FEED, MIB).await;
    let mut device = publisher(&server).await;
    let reading = number(KEY, 21);
    let receipt = device.send(vec![reading.clone()]).await.unwrap();
    assert_eq!(
        within("the ack", receipt.ack())
            .await
            .unwrap()
            .first_sequence,
        1
    );
    drop(device);
    turn_over(&server).await;

    let server = server.kill9().await.start().await;
    status_comes(&server, "offline").await;
    turn_over(&server).await;
    let server = server.restart().await;

    let oldest = get_feed(&mut server.catalog().await, FEED).await.oldest;
    assert!(oldest > 400, "its records are long gone: {oldest}");
    let request = v1::GetLatestRequest {
        feed: FEED.into(),
        keys: vec![KEY.into()],
        ..v1::GetLatestRequest::default()
    };
    let latest = server.feeds().await.get_latest(request).await.unwrap();
    let latest = latest.into_inner().records;
    let values: Vec<_> = latest.iter().map(stored).collect();
    assert_eq!(values.len(), 2, "a reading and a status: {values:?}");
    assert_eq!(number_of(&values[0]), 21);

    // What people see: the value, and since when nothing newer came.
    let endpoint = format!("http://{}", server.address());
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringfeed"));
    command.args([
        "latest",
        FEED,
        "--key",
        KEY,
        "--format",
        "table",
        "--endpoint",
        &endpoint,
    ]);
    let shown = within("ringfeed latest", command.output()).await.unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("21") && shown.contains("offline"), "{shown}");
    let row = shown.lines().find(|line| line.contains("reading"));
    let age = row.and_then(|row| row.split_whitespace().last());
    assert!(
        shown.contains(" AGE ") && age.is_some_and(|age| age.ends_with('y')),
        "{shown}"
    );

    // The producer is where it was: the same again is a repeat, and so it goes on.
    let again = vec![numbered(FEED, DEVICE, 1, vec![reading])];
    let summary = upload(&mut server.feeds().await, again).await.unwrap();
    assert_eq!((summary.stored, summary.duplicates), (0, 1));
    let device = publisher(&server).await;
    assert_eq!(device.next_sequence(), 2);
    status_comes(&server, "online").await;
}
