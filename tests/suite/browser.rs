//! What a browser could be made to do: pages of foreign origins, names that were made to point
//! here; and what it is told about the pages of this server.

use ringfeed::proto::v1::{ListFeedsRequest, catalog_service_client::CatalogServiceClient};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::harness::{Server, Setup, reason, within};

const REFUSED: &str = "ringfeed_requests_refused_total";
const LIST: &str = "/ringfeed.v1.CatalogService/ListFeeds";

/// One request of HTTP/1.1, and its answer: head and body.
async fn ask(server: &Server, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let length = body.len();
    let head = format!("{head}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = vec![];
    let read = within("an answer", stream.read_to_end(&mut answer));
    read.await.unwrap();
    String::from_utf8_lossy(&answer).to_lowercase()
}

/// An empty message of gRPC-Web.
const EMPTY: [u8; 5] = [0; 5];

async fn web_call(server: &Server, host: &str, more: &str) -> String {
    let head = format!(
        "POST {LIST} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/grpc-web+proto{more}"
    );
    ask(server, &head, &EMPTY).await
}

async fn refused(server: &Server, why: &str) -> f64 {
    let label = format!("reason=\"{why}\"");
    server.scrape().await.get(REFUSED, &[&label])
}

#[tokio::test]
async fn a_forged_host_reaches_neither_page_nor_call() {
    let server = Server::start().await;
    let ours = server.address().to_string();
    let page =
        async |host: &str| ask(&server, &format!("GET / HTTP/1.1\r\nhost: {host}"), b"").await;
    assert!(page(&ours).await.starts_with("http/1.1 200"));
    let forged = page("evil.example").await;
    assert!(forged.starts_with("http/1.1 403"), "{forged}");
    assert!(!forged.contains("ringfeed "), "{forged}");
    let web = web_call(&server, "evil.example:50051", "").await;
    assert!(web.contains("grpc-status: 7"), "{web}");

    // gRPC names the host in :authority.
    let endpoint = Endpoint::from_shared(format!("http://{ours}")).unwrap();
    let endpoint = endpoint.origin("http://evil.example".parse().unwrap());
    let mut catalog = CatalogServiceClient::new(endpoint.connect().await.unwrap());
    let told = catalog.list_feeds(ListFeedsRequest::default()).await;
    let told = told.unwrap_err();
    assert_eq!(told.code(), Code::PermissionDenied);
    assert_eq!(reason(&told), "HOST_NOT_ALLOWED");
    assert_eq!(refused(&server, "host").await, 3.0);
}

#[tokio::test]
async fn names_that_are_listed_are_ours() {
    let setup = Setup::new().with("allowed_hosts", "[\"feeds.example\"]");
    let server = setup.start().await;
    let ok = web_call(&server, "feeds.example:443", "").await;
    assert!(ok.starts_with("http/1.1 200") && !ok.contains("grpc-status: 7"));
    let other = web_call(&server, "other.example", "").await;
    assert!(other.contains("grpc-status: 7"), "{other}");
}

#[tokio::test]
async fn a_foreign_page_makes_no_call_of_any_kind() {
    let setup = Setup::new().with("cors_origins", "[\"https://dash.example\"]");
    let server = setup.start().await;
    let host = server.address().to_string();
    let from =
        async |origin: &str| web_call(&server, &host, &format!("\r\norigin: {origin}")).await;
    let own = from(&format!("http://{host}")).await;
    assert!(own.starts_with("http/1.1 200"), "{own}");
    let listed = from("https://dash.example").await;
    assert!(listed.starts_with("http/1.1 200"), "{listed}");
    assert!(listed.contains("access-control-allow-origin: https://dash.example"));
    for header in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
        let exposed = listed
            .lines()
            .find(|l| l.starts_with("access-control-expose-headers"));
        assert!(
            exposed.is_some_and(|line| line.contains(header)),
            "{listed}"
        );
    }
    for foreign in [
        "https://evil.example",
        "null",
        "http://dash.example",
        "http://localhost",
    ] {
        let told = from(foreign).await;
        assert!(told.starts_with("http/1.1 403"), "{foreign}: {told}");
        assert!(!told.contains("access-control-allow-origin"), "{told}");
    }
    // What a browser sends without asking first: a form, or fetch with text/plain.
    let simple = format!(
        "POST {LIST} HTTP/1.1\r\nhost: {host}\r\norigin: https://evil.example\r\ncontent-type: text/plain"
    );
    let told = ask(&server, &simple, &EMPTY).await;
    assert!(told.starts_with("http/1.1 403"), "{told}");
    assert_eq!(refused(&server, "origin").await, 5.0);
    let calls = server.scrape().await;
    assert_eq!(
        calls.get("ringfeed_rpc_started_total", &["rpc=\"ListFeeds\""]),
        2.0
    );
}

#[tokio::test]
async fn a_preflight_is_answered_for_listed_pages_only() {
    let setup = Setup::new().with("cors_origins", "[\"https://dash.example\"]");
    let server = setup.start().await;
    let preflight = async |origin: &str| {
        let head = format!(
            "OPTIONS {LIST} HTTP/1.1\r\nhost: {}\r\norigin: {origin}\r\n\
             access-control-request-method: POST\r\n\
             access-control-request-headers: content-type,x-grpc-web",
            server.address()
        );
        ask(&server, &head, b"").await
    };
    let listed = preflight("https://dash.example").await;
    assert!(listed.starts_with("http/1.1 200"), "{listed}");
    assert!(listed.contains("access-control-allow-headers: content-type,x-grpc-web"));
    let foreign = preflight("https://evil.example").await;
    assert!(foreign.starts_with("http/1.1 403"), "{foreign}");
    assert!(!foreign.contains("access-control-allow"), "{foreign}");
}

#[tokio::test]
async fn pages_come_with_what_keeps_a_browser_safe() {
    let server = Server::start().await;
    let status = ask(&server, "GET /status HTTP/1.1\r\nhost: localhost", b"").await;
    for header in [
        "content-security-policy: default-src 'none'",
        "cross-origin-resource-policy: same-origin",
        "cache-control: no-store",
    ] {
        assert!(status.contains(header), "{header}: {status}");
    }
    // The same page, or the one that `make web` made.
    let page = ask(&server, "GET / HTTP/1.1\r\nhost: localhost", b"").await;
    for header in [
        "content-security-policy: default-src",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
    ] {
        assert!(status.contains(header), "{header}: {status}");
        assert!(page.contains(header), "{header}: {page}");
    }
    let lost = ask(&server, "GET /lost HTTP/1.1\r\nhost: localhost", b"").await;
    assert!(lost.starts_with("http/1.1 404"), "{lost}");
    assert!(lost.contains("x-content-type-options: nosniff"), "{lost}");
}

#[tokio::test]
async fn an_unknown_service_is_unimplemented_in_terms_of_grpc() {
    let server = Server::start().await;
    let call = async |path: &'static str| {
        let channel: Channel = server.channel().await;
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let path = http::uri::PathAndQuery::from_static(path);
        grpc.unary(tonic::Request::new(()), path, codec).await
    };
    let told = call("/other.v1.Service/Method").await.unwrap_err();
    assert_eq!(
        (told.code(), reason(&told).as_str()),
        (Code::Unimplemented, "UNIMPLEMENTED")
    );
    let told = call("/ringfeed.v1.FeedService/Method").await.unwrap_err();
    assert_eq!(told.code(), Code::Unimplemented);
    assert_eq!(refused(&server, "path").await, 1.0);
    // A plain request on the path of a call is an error as well, and no call.
    let plain = ask(
        &server,
        &format!("POST {LIST} HTTP/1.1\r\nhost: localhost"),
        b"{}",
    )
    .await;
    assert!(plain.starts_with("http/1.1 4"), "{plain}");
}
