//! Limits of connections: how many, how soon the first request, how old; and what ends one takes
//! nothing from those who use it.

use std::time::Duration;

use ringfeed::proto::v1::{
    ListFeedsRequest, catalog_service_client::CatalogServiceClient, start::From,
};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{
    Authority, Follow, Server, Setup, feed_exists, number, plain, read_to_now, until, upload,
    within,
};

const REFUSED: &str = "ringfeed_connections_refused_total";
const ENDED: &str = "ringfeed_connections_ended_total";

async fn refused(server: &Server, why: &str) -> f64 {
    let label = format!("reason=\"{why}\"");
    server.scrape().await.get(REFUSED, &[&label])
}

/// Reads until the server closes; what it said.
async fn closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = vec![];
    // A reset is an end as well.
    let end = within("the server's close", stream.read_to_end(&mut said)).await;
    end.ok();
    said
}

async fn list(server: &Server) -> Result<(), tonic::Status> {
    let mut catalog = CatalogServiceClient::new(server.channel().await);
    catalog.list_feeds(ListFeedsRequest::default()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_over_a_cap_is_closed_and_those_below_go_on() {
    let all = Setup::new().with("limits__connections", 3).start().await;
    let one = Setup::new()
        .with("limits__per_peer__connections", 3)
        .start()
        .await;
    for (server, why) in [(&all, "connections"), (&one, "per_peer")] {
        let mut inside = vec![];
        for _ in 0..3 {
            let mut catalog = server.catalog().await;
            catalog
                .list_feeds(ListFeedsRequest::default())
                .await
                .unwrap();
            inside.push(catalog);
        }
        let mut outside = TcpStream::connect(server.address()).await.unwrap();
        assert_eq!(closed(&mut outside).await, b"");
        until("it is counted", async || refused(server, why).await == 1.0).await;
        for catalog in &mut inside {
            catalog
                .list_feeds(ListFeedsRequest::default())
                .await
                .unwrap();
        }
        inside.pop();
        until("the place is free again", async || {
            let scrape = server.scrape().await;
            scrape.get("ringfeed_connections", &["security=\"plaintext\""]) == 2.0
        })
        .await;
        list(server).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_a_first_request_in_time_is_closed() {
    let server = Setup::new()
        .with("limits__first_request_timeout", "500ms")
        .start()
        .await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let begins: [&[u8]; 5] = [
        b"",
        b"GET / HTTP/1.1\r\nhost: localh",
        &preface[..10],
        preface,
        &[&preface[..], &settings].concat(),
    ];
    let mut idle = vec![];
    for begin in begins {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(begin).await.unwrap();
        idle.push(stream);
    }
    // Headers that trickle in do not gain time.
    let trickle = TcpStream::connect(server.address()).await.unwrap();
    let (mut read, mut write) = trickle.into_split();
    let trickling = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        write.write_all(b"GET / HTTP/1.1\r\n").await.ok();
        while write.write_all(b"x: y\r\n").await.is_ok() {
            tick.tick().await;
        }
    });
    let mut nothing = vec![];
    let end = within("the server's close", read.read_to_end(&mut nothing));
    end.await.ok();
    within("the end of the trickle", trickling).await.unwrap();
    for stream in &mut idle {
        closed(stream).await;
    }
    until("all are counted", async || {
        let timeouts = refused(&server, "first_request_timeout").await;
        // HTTP/1 may see its headers late by a clock of its own.
        let by_http = server.scrape().await.get(ENDED, &["reason=\"protocol\""]);
        timeouts + by_http == 6.0
    })
    .await;
    list(&server).await.unwrap();
}

#[tokio::test]
async fn a_later_request_of_http_1_has_no_more_time_for_its_headers() {
    let server = Setup::new()
        .with("limits__first_request_timeout", "500ms")
        .start()
        .await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let both = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\nGET / HTTP/1.1\r\nhost: localh";
    stream.write_all(both).await.unwrap();
    let said = closed(&mut stream).await;
    assert!(said.starts_with(b"HTTP/1.1 200"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_only_hold_places_open_lose_theirs_to_those_who_ask() {
    let server = Setup::new().with("limits__connections", 20).start().await;
    let mut idle = vec![];
    for _ in 0..15 {
        idle.push(TcpStream::connect(server.address()).await.unwrap());
    }
    // Ten may wait; the first five went.
    until("five are sent away", async || {
        refused(&server, "crowded").await == 5.0
    })
    .await;
    for stream in &mut idle[..5] {
        closed(stream).await;
    }
    list(&server).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aged_connection_hands_its_streams_on_without_a_loss() {
    let server = Setup::new()
        .with("limits__connection_max_age", "2s")
        .start()
        .await;
    let mut catalog = server.catalog().await;
    feed_exists(&mut catalog, "a", 64 << 20).await;
    let mut feeds = server.feeds().await;
    let records = (0..100).map(|n| number("k", n)).collect();
    upload(&mut feeds, vec![plain("a", records)]).await.unwrap();
    let mut follow = Follow::feed(&mut feeds, "a", From::Offset(0)).await;
    let read = within("the goodbye", follow.read_out()).await;
    read.unwrap();
    let goodbye = follow.ledgers[0].reconnect.take().expect("a Reconnect");
    assert_eq!(follow.ledgers[0].records.len(), 100);
    let records = (100..150).map(|n| number("k", n)).collect();
    // A channel would connect anew by itself, but for a call that comes just when the old one closes.
    let mut feeds = server.feeds().await;
    upload(&mut feeds, vec![plain("a", records)]).await.unwrap();
    let mut again = Follow::resume(&mut feeds, &goodbye.resume_token).await;
    again.read_to(150).await;
    assert_eq!(again.ledgers[0].records.len(), 50);
    let scrape = server.scrape().await;
    assert!(scrape.get(ENDED, &["reason=\"aged\""]) >= 1.0);
    assert_eq!(scrape.get(ENDED, &["reason=\"cut\""]), 0.0);
    assert_eq!(scrape.get(ENDED, &["reason=\"protocol\""]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_the_listener_waits_and_goes_on() {
    let server = Server::start().await;
    let mut feeds = server.feeds().await;
    let records = |n: u64| vec![plain("a", vec![number("k", n)])];
    upload(&mut feeds, records(0)).await.unwrap();
    let pid = Pid::from_raw(server.pid().cast_signed());
    let limit = |current| {
        let limit = Rlimit {
            current,
            maximum: Some(20_000),
        };
        prlimit(pid, Resource::Nofile, limit).unwrap().current
    };
    // Fewer than it has open: no new one fits.
    let before = limit(Some(4));
    let mut waiting = TcpStream::connect(server.address()).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    waiting.write_all(request).await.unwrap();
    until("the failure is in the log", async || {
        server.log().contains("a connection cannot be taken")
    })
    .await;
    upload(&mut feeds, records(1)).await.unwrap();
    limit(before);
    let page = closed(&mut waiting).await;
    assert!(page.starts_with(b"HTTP/1.1 200"), "{page:?}");
    let times = refused(&server, "accept").await;
    assert!((1.0..1_000.0).contains(&times), "it spins: {times}");
    assert_eq!(read_to_now(&mut feeds, "a").await.records.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caps_and_ages_hold_for_tls_as_well() {
    let authority = Authority::new();
    let server = Setup::new()
        .tls(&authority.server())
        .with("limits__first_request_timeout", "500ms")
        .start()
        .await;
    // A handshake, and nothing after it: tonic connects before it has a call.
    let _idle = server.tls_channel(authority.trusted()).await.unwrap();
    until("it is closed", async || {
        refused(&server, "first_request_timeout").await == 1.0
    })
    .await;
    // Another client: the first one may not have heard of it yet.
    let channel = server.tls_channel(authority.trusted()).await.unwrap();
    let mut catalog = CatalogServiceClient::new(channel);
    let call = catalog.list_feeds(ListFeedsRequest::default());
    within("a call over a new connection", call).await.unwrap();
}
