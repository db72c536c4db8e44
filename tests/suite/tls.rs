//! TLS: nothing is read without it, clients are known by their certificates, and certificates are
//! replaced while calls go on.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ringfeed::proto::v1::{
    ListFeedsRequest, catalog_service_client::CatalogServiceClient,
    feed_service_client::FeedServiceClient,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};

use crate::harness::{
    Authority, Pair, Server, Setup, number, plain, read_to_now, until, upload, within,
};

const REFUSED: &str = "ringfeed_connections_refused_total";
const FAILURES: &str = "ringfeed_tls_handshake_failures_total";
const RELOADS: &str = "ringfeed_tls_reloads_total";
/// Devices of the plant may do everything.
const PLANT: &str = "[{principals = \"spiffe://plant/*\", scopes = [\"*:*\"]}]";

async fn call(channel: Channel) -> Result<(), tonic::Status> {
    let mut catalog = CatalogServiceClient::new(channel);
    catalog.list_feeds(ListFeedsRequest::default()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_work_over_tls_and_plaintext_does_not() {
    let authority = Authority::new();
    let server = Setup::new().tls(&authority.server()).start().await;
    assert!(
        server
            .log()
            .contains(&format!("https://{}/", server.address()))
    );
    let channel = server.tls_channel(authority.trusted()).await.unwrap();
    let mut feeds = FeedServiceClient::new(channel);
    let records = (0..100).map(|n| number("k", n)).collect();
    upload(&mut feeds, vec![plain("a", records)]).await.unwrap();
    assert_eq!(read_to_now(&mut feeds, "a").await.records.len(), 100);
    let scrape = server.scrape().await;
    assert_eq!(
        scrape.get("ringfeed_connections", &["security=\"tls\""]),
        1.0
    );

    let stranger = Authority::new();
    assert!(server.tls_channel(stranger.trusted()).await.is_err());
    let plain = Channel::from_shared(format!("http://{}", server.address())).unwrap();
    let plain = plain.connect_lazy();
    assert!(within("a plaintext call", call(plain)).await.is_err());
    until("both are counted", async || {
        server.scrape().await.get(FAILURES, &[]) >= 2.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_must_show_a_certificate_shows_a_trusted_one() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = Setup::new()
        .tls(&authority.server())
        .client_ca(clients.pem())
        .with("tls__client_auth", "required")
        .with("auth__grants", PLANT)
        .start()
        .await;
    let device = clients.client("spiffe://plant/pi17").identity();
    let stranger = authority.client("spiffe://plant/pi17").identity();
    let trusted = || authority.trusted();
    let known = server.tls_channel(trusted().identity(device)).await;
    call(known.unwrap()).await.unwrap();
    // With TLS 1.3 a client is done before the server has seen its certificate: the call fails.
    for tls in [trusted(), trusted().identity(stranger)] {
        if let Ok(channel) = server.tls_channel(tls).await {
            let failed = within("a call", call(channel)).await.unwrap_err();
            assert_ne!(failed.code(), Code::Unauthenticated, "it came to a call");
        }
    }
    let unknown = clients.client("spiffe://other/pi17").identity();
    let unknown = server.tls_channel(trusted().identity(unknown)).await;
    let nothing = call(unknown.unwrap()).await.unwrap_err();
    assert_eq!(nothing.code(), Code::PermissionDenied, "it has no grant");
    let optional = Setup::new()
        .tls(&authority.server())
        .client_ca(clients.pem())
        .with("anonymous", true)
        .start()
        .await;
    let nobody = optional.tls_channel(trusted()).await.unwrap();
    call(nobody).await.unwrap();
}

/// Runs the command line with TLS flags.
async fn list(server: &Server, authority: &Authority, client: &Pair) -> (bool, String) {
    let dir = server.setup().home();
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ran = tokio::process::Command::new(env!("CARGO_BIN_EXE_ringfeed"))
        .args(["feeds", "--endpoint"])
        .arg(format!("https://localhost:{}", server.address().port()))
        .arg("--tls-ca")
        .arg(file("ca.pem", authority.pem()))
        .arg("--tls-cert")
        .arg(file("client.pem", &client.cert))
        .arg("--tls-key")
        .arg(file("client.key", &client.key))
        .arg("list")
        .stdin(Stdio::null())
        .output();
    let ran = within("feeds list", ran).await.unwrap();
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    (ran.status.success(), told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_speaks_tls() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = Setup::new()
        .tls(&authority.server())
        .client_ca(clients.pem())
        .with("tls__client_auth", "required")
        .with("auth__grants", PLANT)
        .start()
        .await;
    let device = clients.client("spiffe://plant/pi17");
    let (good, told) = list(&server, &authority, &device).await;
    assert!(good, "{told}");
    let (good, told) = list(&server, &clients, &device).await;
    assert!(!good && !told.is_empty(), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_under_load_without_a_failed_call() {
    let (old, new) = (Authority::new(), Authority::new());
    let server = Setup::new().tls(&old.server()).start().await;
    let calls = Arc::new(AtomicU64::new(0));
    let done = CancellationToken::new();
    let mut loads = vec![];
    for _ in 0..4 {
        let channel = server.tls_channel(old.trusted()).await.unwrap();
        let (calls, done) = (Arc::clone(&calls), done.clone());
        loads.push(tokio::spawn(async move {
            while !done.is_cancelled() {
                call(channel.clone()).await.unwrap();
                calls.fetch_add(1, Relaxed);
            }
        }));
    }
    let reloads = async |result: &str| {
        let label = format!("result=\"{result}\"");
        server.scrape().await.get(RELOADS, &[&label])
    };
    let home = server.setup().home();
    // Half of it first: what was there before goes on.
    let next = new.server();
    std::fs::write(home.join("server.pem"), &next.cert).unwrap();
    until("a bad pair is counted", async || {
        reloads("failed").await >= 1.0
    })
    .await;
    call(server.tls_channel(old.trusted()).await.unwrap())
        .await
        .unwrap();
    assert!(server.tls_channel(new.trusted()).await.is_err());
    next.write(home);
    until("the new pair is taken", async || reloads("ok").await == 1.0).await;
    let so_far = calls.load(Relaxed);
    call(server.tls_channel(new.trusted()).await.unwrap())
        .await
        .unwrap();
    assert!(server.tls_channel(old.trusted()).await.is_err());
    until("calls go on over old connections", async || {
        calls.load(Relaxed) > so_far + 100
    })
    .await;
    done.cancel();
    for load in loads {
        load.await.unwrap();
    }
    let scrape = server.scrape().await;
    assert_eq!(scrape.get("ringfeed_connections_ended_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_does_not_go_on_is_given_up() {
    let authority = Authority::new();
    let server = Setup::new()
        .tls(&authority.server())
        .with("limits__handshake_timeout", "300ms")
        .start()
        .await;
    let mut silent = TcpStream::connect(server.address()).await.unwrap();
    let mut halting = TcpStream::connect(server.address()).await.unwrap();
    // The head of a record, and nothing of what it announces.
    halting.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    for stream in [&mut silent, &mut halting] {
        let mut nothing = vec![];
        within("the server's close", stream.read_to_end(&mut nothing))
            .await
            .ok();
    }
    let refused = server.scrape().await;
    let label = "reason=\"handshake_timeout\"";
    assert_eq!(refused.get(REFUSED, &[label]), 2.0);
    let channel = server.tls_channel(authority.trusted()).await.unwrap();
    let slow = tokio::time::timeout(Duration::from_secs(30), call(channel));
    slow.await.unwrap().unwrap();
}
