//! Over its limits a caller is told so, waits, and finishes; the server stays within its memory and
//! serves the others. How much comes through is counted on a paused clock, beside the code.

use std::{convert::Infallible, fmt::Write as _};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body::Frame;
use http_body_util::StreamBody;
use ringfeed::{
    client::{
        ConnectOptions, Connection, Event, PublishOptions, Publisher, RetryOptions, Subscription,
        UploadOptions, Uploader, is_over_limit,
    },
    proto::v1::{self, start::From},
};
use tonic::{Status, body::Body};
use tonic_types::StatusExt as _;
use tower::Service as _;

use crate::{
    cli::ringfeed,
    harness::{
        Server, Setup, exact, number, number_of, numbered, one, plain, progress, read_to_now,
        reason, until, upload, within,
    },
};

const FEED: &str = "limited";
const DAILY: &str = "fixtures/market_us_stocks_daily.csv";

async fn server(limits: &[(&str, u64)]) -> Server {
    let with =
        |setup: Setup, (entry, value): &(&str, u64)| setup.with(&format!("limits__{entry}"), value);
    limits.iter().fold(Setup::new(), with).start().await
}

fn connection(server: &Server) -> Connection {
    Connection::new(&ConnectOptions::to(server.address().to_string())).unwrap()
}

async fn limited(server: &Server, quota: &str) -> f64 {
    let label = format!("quota=\"{quota}\"");
    let scrape = server.scrape().await;
    scrape.get("ringfeed_rate_limited_total", &[&label])
}

/// The numbers of the records that are stored.
async fn stored_numbers(server: &Server) -> Vec<u64> {
    let stored = read_to_now(&mut server.feeds().await, FEED).await;
    stored.decoded().iter().map(number_of).collect()
}

#[tokio::test]
async fn the_command_line_finishes_over_its_rate_and_stores_each_record_once() {
    let server = server(&[("per_principal__records_per_second", 5_000)]).await;
    let file = ringfeed(&server, &["ingest", "daily", "--file", DAILY], "").await;
    assert_eq!((file.code, &*file.err), (0, ""), "it is no error");
    assert!(
        file.out
            .starts_with("12,154 stored, 0 duplicates, 0 refused"),
        "{}",
        file.out
    );
    let all = read_to_now(&mut server.feeds().await, "daily").await;
    assert_eq!(all.records.len(), 12_154);
    assert!(limited(&server, "records").await > 0.0);

    // A pipe has no producer: the server says where it goes on.
    let mut lines = String::new();
    for n in 0..12_000 {
        writeln!(lines, "{{\"key\":\"k\",\"value\":{n}.0}}").unwrap();
    }
    let pipe = ringfeed(&server, &["ingest", FEED], &lines).await;
    assert_eq!((pipe.code, &*pipe.err), (0, ""));
    assert!(
        pipe.out
            .starts_with("12,000 stored, 0 duplicates, 0 refused"),
        "{}",
        pipe.out
    );
    let all: Vec<_> = (0..12_000).collect();
    assert!(stored_numbers(&server).await == all, "in order, each once");
}

#[tokio::test]
async fn an_upload_over_its_rate_says_what_is_stored_and_goes_on_behind_it() {
    let server = server(&[("per_principal__records_per_second", 100)]).await;
    let mut feeds = server.feeds().await;
    let batch = |first: u64| {
        let records = (first..first + 60).map(|n| number("k", n)).collect();
        numbered(FEED, "p", first, records)
    };
    let over = upload(&mut feeds, vec![batch(1), batch(61)])
        .await
        .unwrap_err();
    assert_eq!(reason(&over), "RATE_LIMITED");
    let quota = over.get_details_quota_failure().unwrap();
    assert_eq!(quota.violations[0].subject, "principal anonymous");
    assert!(over.get_details_retry_info().unwrap().retry_delay.is_some());
    let progress = progress(&over).unwrap();
    assert_eq!(progress.stored_through_sequence, Some(60));
    assert_eq!((progress.stored, progress.decided), (60, Some(60)));
    let mut uploader = Uploader::new(connection(&server), UploadOptions::to(FEED).producer("p"));
    for n in 1..=240 {
        uploader.send(number("k", n)).await.unwrap();
    }
    let summary = within("the upload", uploader.finish()).await.unwrap();
    assert_eq!((summary.stored, summary.duplicates), (180, 60));
    let all: Vec<_> = (1..=240).collect();
    assert_eq!(stored_numbers(&server).await, all);
}

#[tokio::test]
async fn a_device_over_its_rate_sees_no_error_and_all_of_its_records_are_stored() {
    let server = server(&[
        ("per_principal__bytes_per_second", 100_000),
        ("publish_window", 64 << 10),
    ])
    .await;
    let options = PublishOptions::to(FEED, "device");
    let mut publisher = Publisher::connect(connection(&server), options)
        .await
        .unwrap();
    let mut receipts = vec![];
    for first in (0..8_000).step_by(100) {
        let records = (first..first + 100).map(|n| number("k", n)).collect();
        receipts.push(publisher.send(records).await.unwrap());
    }
    for receipt in receipts {
        let published = within("an ack", receipt.ack()).await.unwrap();
        assert_eq!(published.ack.unwrap().stored, 100);
    }
    assert_eq!(publisher.cuts(), 0);
    publisher.close().await.unwrap();
    let all: Vec<_> = (0..8_000).collect();
    assert!(stored_numbers(&server).await == all, "in order, each once");
    assert!(limited(&server, "bytes").await > 0.0);
}

#[tokio::test]
async fn calls_over_the_rate_wait_and_are_answered() {
    let server = server(&[("per_principal__calls_per_second", 20)]).await;
    let mut feeds = server.feeds().await;
    upload(&mut feeds, vec![plain(FEED, vec![number("k", 1)])])
        .await
        .unwrap();
    let connection = connection(&server);
    let ask = || {
        connection.call(|mut catalog, _| async move {
            let asked = v1::GetFeedRequest { name: FEED.into() };
            catalog.get_feed(asked).await
        })
    };
    for _ in 0..40 {
        let answer = within("an answer", ask()).await.unwrap();
        assert_eq!(answer.feed.unwrap().next, 1);
    }
    assert!(limited(&server, "calls").await > 0.0);
}

#[tokio::test]
async fn a_subscription_beyond_the_streams_allowed_opens_when_another_is_closed() {
    let server = server(&[("per_principal__streams", 1)]).await;
    let mut feeds = server.feeds().await;
    upload(&mut feeds, vec![plain(FEED, vec![number("k", 1)])])
        .await
        .unwrap();
    let request = || one(FEED, From::Offset(0), None);
    let follow = || Subscription::new(connection(&server), request(), RetryOptions::default());
    let (mut first, mut second) = (follow().unwrap(), follow().unwrap());
    let opened = within("the first", first.next()).await.unwrap();
    assert!(matches!(opened, Some(Event::Records { .. })), "{opened:?}");
    let refused = within("the second", second.next()).await.unwrap();
    match refused {
        Some(Event::Disconnected { reason, .. }) => {
            assert_eq!(reason, "open streams of principal anonymous: 1 are allowed");
        }
        other => panic!("{other:?}"),
    }
    drop(first);
    loop {
        match within("the second", second.next()).await.unwrap() {
            Some(Event::Records { records, .. }) => break assert_eq!(records.len(), 1),
            // The server may take a moment to see that the first one is gone.
            Some(Event::Disconnected { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(limited(&server, "streams").await > 0.0);
}

const PART: usize = 900 << 10;

/// An upload that sends 900 KiB of a message of 1 MiB and then nothing.
fn stuck() -> http::Request<Body> {
    let head = [&[0][..], &(1_u32 << 20).to_be_bytes()].concat();
    let part = Bytes::from([head, vec![0; PART]].concat());
    let sent = futures_util::stream::iter([Ok::<_, Infallible>(Frame::data(part))]);
    let body = Body::new(StreamBody::new(sent.chain(futures_util::stream::pending())));
    let request = http::Request::post("/ringfeed.v1.FeedService/Ingest");
    let request = request
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    request.body(body).unwrap()
}

#[tokio::test]
async fn uploads_that_get_stuck_take_bounded_memory_and_others_are_served() {
    const UPLOADS: usize = 300;
    const LIMIT: u64 = 32 << 20;
    let server = server(&[("incomplete_bytes", LIMIT)]).await;
    let before = server.rss();
    let mut channel = server.channel().await;
    let mut open = vec![];
    for _ in 0..UPLOADS {
        std::future::poll_fn(|cx| channel.poll_ready(cx))
            .await
            .unwrap();
        open.push(tokio::spawn(channel.call(stuck())));
    }
    let overloaded = async || {
        let scrape = server.scrape().await;
        let held = scrape.get("ringfeed_incomplete_bytes", &[]);
        assert!(held <= LIMIT as f64, "{held}");
        let what = ["what=\"incomplete_bytes\""];
        let refused = scrape.get("ringfeed_overloaded_total", &what);
        (refused as usize, held as usize)
    };
    // All have come as far as they come: those that are not refused hold their part.
    until("they are stuck", async || {
        let (refused, held) = overloaded().await;
        refused > 0 && held == (UPLOADS - refused) * PART
    })
    .await;
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 128 << 20, "{grown} bytes more");

    let mut feeds = server.feeds().await;
    let records: Vec<_> = (0..1_000).map(|n| number("k", n)).collect();
    let stored = upload(&mut feeds, vec![plain(FEED, records)])
        .await
        .unwrap();
    assert_eq!(exact(&stored), (1_000, 0, 0));
    assert_eq!(stored_numbers(&server).await.len(), 1_000);

    let (refused, held) = overloaded().await;
    assert_eq!(held, (UPLOADS - refused) * PART);
    let mut statuses = 0;
    for upload in open {
        if upload.is_finished() {
            let answer = upload.await.unwrap().unwrap();
            let status = Status::from_header_map(answer.headers()).unwrap();
            assert_eq!(reason(&status), "OVERLOADED");
            assert!(is_over_limit(&status), "{status:?}");
            statuses += 1;
        } else {
            upload.abort();
        }
    }
    assert_eq!(statuses, refused, "each was told");
    until("the memory is given back", async || {
        overloaded().await.1 == 0
    })
    .await;
}

#[tokio::test]
async fn streams_of_all_callers_together_are_bounded() {
    let server = server(&[("streams", 2)]).await;
    let mut feeds = server.feeds().await;
    upload(&mut feeds, vec![plain(FEED, vec![number("k", 1)])])
        .await
        .unwrap();
    let request = || one(FEED, From::Offset(0), None);
    let first = feeds.subscribe(request()).await.unwrap();
    let second = server.feeds().await.subscribe(request()).await.unwrap();
    let refused = feeds.subscribe(request()).await.unwrap_err();
    assert_eq!(reason(&refused), "STREAM_LIMIT");
    assert!(is_over_limit(&refused));
    let asked = v1::GetFeedRequest { name: FEED.into() };
    server.catalog().await.get_feed(asked).await.unwrap();
    drop((first, second));
    until("there is room", async || {
        feeds.subscribe(request()).await.is_ok()
    })
    .await;
}
