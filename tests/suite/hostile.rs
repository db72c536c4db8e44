//! P5 against those who mean harm: memory stays bounded, others are served all the while, and a
//! counter shows that it happened. Foreign pages and forged hosts are in `browser`, messages that
//! make no sense in `bad_input`.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use ringfeed::proto::v1::{ListFeedsRequest, catalog_service_client::CatalogServiceClient};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code,
    transport::{Channel, ClientTlsConfig},
};

use crate::harness::{Authority, MIB, Random, Server, Setup, until, within};

/// What the server may grow by, whatever comes.
const ROOM: u64 = 64 * MIB;
const REFUSED: &str = "ringfeed_connections_refused_total";
const ENDED: &str = "ringfeed_connections_ended_total";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const INGEST: &str = "/ringfeed.v1.FeedService/Ingest";
const PUBLISH: &str = "/ringfeed.v1.FeedService/Publish";
const LATEST: &str = "/ringfeed.v1.FeedService/GetLatest";
const LIST: &str = "/ringfeed.v1.CatalogService/ListFeeds";

/// A well-behaved client beside: one call after the other over a connection of its own, and now and
/// then over a new one; and the most memory the server had meanwhile.
struct Beside {
    calls: Arc<AtomicU64>,
    done: CancellationToken,
    task: JoinHandle<u64>,
    rss: u64,
}

impl Beside {
    async fn start(server: &Server, tls: Option<ClientTlsConfig>) -> Self {
        let (calls, done) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", server.address());
        let connect = async move || {
            let endpoint = Channel::from_shared(address.clone()).unwrap();
            let endpoint = match tls.clone() {
                Some(tls) => endpoint.tls_config(tls).unwrap(),
                None => endpoint,
            };
            CatalogServiceClient::new(within("a connection", endpoint.connect()).await.unwrap())
        };
        let (counted, told, pid) = (Arc::clone(&calls), done.clone(), server.pid());
        let task = tokio::spawn(async move {
            let (mut catalog, mut most) = (connect().await, 0);
            while !told.is_cancelled() {
                let call = catalog.list_feeds(ListFeedsRequest::default());
                within("a call beside", call).await.unwrap();
                most = rss_of(pid).max(most);
                if counted.fetch_add(1, Relaxed) % 50 == 49 {
                    catalog = connect().await;
                }
            }
            most
        });
        let rss = server.rss();
        let beside = Self {
            calls,
            done,
            task,
            rss,
        };
        beside.is_served().await;
        beside
    }

    /// Calls go on.
    async fn is_served(&self) {
        let so_far = self.calls.load(Relaxed);
        until("calls go on", async || {
            self.calls.load(Relaxed) >= so_far + 20
        })
        .await;
    }

    /// All calls were good, and memory stayed within its bounds.
    async fn end(self, server: &Server) {
        self.is_served().await;
        self.done.cancel();
        let most = self.task.await.unwrap().max(server.rss());
        let grown = most.saturating_sub(self.rss);
        assert!(grown < ROOM, "grown by {} MiB", grown / MIB);
    }
}

fn rss_of(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

async fn counted(server: &Server, name: &str, why: &str) -> f64 {
    let label = format!("reason=\"{why}\"");
    server.scrape().await.get(name, &[&label])
}

/// Sends all of it, or as much as the server takes, and reads until it closes.
async fn until_closed(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let mut said = vec![];
    let both = async {
        let sent = async {
            write.write_all(bytes).await.ok();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = sent => {}
            // A reset is an end as well.
            end = read.read_to_end(&mut said) => { end.ok(); }
        }
    };
    within("the server's close", both).await;
    said
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![];
    frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// A header that is in no table.
fn literal(name: &str, value: &str, block: &mut Vec<u8>) {
    block.extend([0, u8::try_from(name.len()).unwrap()]);
    block.extend(name.bytes());
    block.push(u8::try_from(value.len()).unwrap());
    block.extend(value.bytes());
}

/// The headers of a call.
fn call_block(path: &str) -> Vec<u8> {
    // POST and http, of the static table.
    let mut block = vec![0x83, 0x86];
    literal(":path", path, &mut block);
    literal(":authority", "localhost", &mut block);
    literal("content-type", "application/grpc", &mut block);
    literal("te", "trailers", &mut block);
    block
}

fn begun() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// Whether the server said why it closes: a GOAWAY with that code.
fn goaway(said: &[u8], code: u32) -> bool {
    let mut rest = said;
    while rest.len() >= 9 {
        let len = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        let Some(payload) = rest.get(9..9 + len) else {
            return false;
        };
        if rest[3] == GOAWAY && payload[4..8] == code.to_be_bytes() {
            return true;
        }
        rest = &rest[9 + len..];
    }
    false
}

const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_half_open_connections() {
    let authority = Authority::new();
    let setup = || Setup::new().with("limits__first_request_timeout", "3s");
    let plain = setup().start().await;
    let tls = setup()
        .tls(&authority.server())
        .with("limits__handshake_timeout", "3s")
        .start()
        .await;
    let of_tls: &[u8] = &[22, 3, 1, 2, 0, 1, 0];
    let cases = [
        (&plain, None, &PREFACE[..20], "first_request_timeout"),
        (&tls, Some(authority.trusted()), of_tls, "handshake_timeout"),
    ];
    for (server, trusted, begin, why) in cases {
        let beside = Beside::start(server, trusted).await;
        let mut halves = vec![];
        for _ in 0..1_000 {
            let mut half = TcpStream::connect(server.address()).await.unwrap();
            half.write_all(begin).await.unwrap();
            halves.push(half);
        }
        beside.is_served().await;
        until("all are closed", async || {
            counted(server, REFUSED, why).await == 1_000.0
        })
        .await;
        beside.end(server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_without_end() {
    let server = Server::start().await;
    let beside = Beside::start(&server, None).await;
    let mut http1 = b"GET / HTTP/1.1\r\nhost: localhost\r\n".to_vec();
    for n in 0..200_000 {
        http1.extend(format!("x-{n}: {n}\r\n").bytes());
    }
    let said = until_closed(&server, &http1).await;
    assert!(said.starts_with(b"HTTP/1.1 431"), "{said:?}");

    let mut value = vec![];
    literal("x-flood", &"y".repeat(100), &mut value);
    let more = frame(CONTINUATION, 0, 1, &value.repeat(50));
    let first = frame(HEADERS, 0, 1, &call_block(LIST));
    let http2 = [begun(), first, more.repeat(2_000)].concat();
    let said = until_closed(&server, &http2).await;
    assert!(goaway(&said, ENHANCE_YOUR_CALM), "{said:?}");
    // Frames that carry nothing are no way around it.
    let empty = frame(CONTINUATION, 0, 1, &[]);
    let first = frame(HEADERS, 0, 1, &call_block(LIST));
    let http2 = [begun(), first, empty.repeat(100_000)].concat();
    until_closed(&server, &http2).await;
    until("all are counted", async || {
        counted(&server, ENDED, "protocol").await == 3.0
    })
    .await;
    beside.end(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_over_the_limit_are_refused_and_the_connection_goes_on() {
    let server = Server::start().await;
    let mut client = connect(&server).await;
    let large = "y".repeat(8_000);
    let mut request = request(LIST, None);
    for n in 0..4 {
        let name: http::HeaderName = format!("x-{n}").parse().unwrap();
        request.headers_mut().insert(name, large.parse().unwrap());
    }
    let (answer, _body) = client.send_request(request, true).unwrap();
    let answer = within("an answer", answer).await;
    let code = answer.map(|answer| answer.status().as_u16());
    assert!(matches!(code, Ok(431) | Err(_)), "{code:?}");
    assert_eq!(
        call(&mut client, LIST, None, message(&[])).await,
        Some(Code::Ok)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_rapid_resets() {
    let server = Server::start().await;
    let beside = Beside::start(&server, None).await;
    for path in [INGEST, LIST] {
        let mut flood = begun();
        for n in 0..10_000 {
            let stream = 2 * n + 1;
            flood.extend(frame(HEADERS, END_HEADERS, stream, &call_block(path)));
            flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        let said = until_closed(&server, &flood).await;
        assert!(goaway(&said, ENHANCE_YOUR_CALM), "{said:?}");
    }
    until("both are counted", async || {
        counted(&server, ENDED, "protocol").await == 2.0
    })
    .await;
    // They were stopped long before the end.
    let begun = server.scrape().await;
    let begun = begun.get("ringfeed_rpc_started_total", &["rpc=\"Ingest\""]);
    assert!(begun < 5_000.0, "{begun}");
    beside.end(&server).await;
}

#[tokio::test]
async fn streams_beyond_those_of_a_connection_are_refused() {
    let setup = Setup::new().with("limits__streams_per_connection", 2);
    let server = setup.start().await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let open = |stream| frame(HEADERS, END_HEADERS, stream, &call_block(INGEST));
    let three = [begun(), open(1), open(3), open(5)].concat();
    stream.write_all(&three).await.unwrap();
    let reset = within("a reset", async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; len as usize];
            stream.read_exact(&mut payload).await.unwrap();
            if head[3] == RST_STREAM {
                return (head[8], payload);
            }
        }
    });
    assert_eq!(reset.await, (5, REFUSED_STREAM.to_be_bytes().to_vec()));
    until("the others go on", async || {
        let scrape = server.scrape().await;
        scrape.get("ringfeed_streams_open", &["rpc=\"Ingest\""]) == 2.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_have_to_be_reset() {
    let server = Server::start().await;
    let beside = Beside::start(&server, None).await;
    let mut block = call_block(LIST);
    literal("content-length", "many", &mut block);
    let mut flood = begun();
    for n in 0..10_000 {
        flood.extend(frame(HEADERS, END_HEADERS, 2 * n + 1, &block));
    }
    let said = until_closed(&server, &flood).await;
    assert!(goaway(&said, ENHANCE_YOUR_CALM), "{} bytes", said.len());
    beside.end(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage() {
    let authority = Authority::new();
    let (plain, tls) = (
        Setup::new()
            .with("limits__first_request_timeout", "1s")
            .start()
            .await,
        Setup::new().tls(&authority.server()).start().await,
    );
    let mut random = Random::seeded("garbage");
    let mut noise = |len: usize| -> Vec<u8> { (0..len).map(|_| random.next() as u8).collect() };
    let beside = Beside::start(&plain, None).await;
    for _ in 0..20 {
        // What never ends a line is as little HTTP.
        let no_line: Vec<u8> = noise(100_000).into_iter().map(|b| b | 0x80).collect();
        until_closed(&plain, &no_line).await;
        until_closed(&plain, &[&begun(), &noise(10_000)[..]].concat()).await;
    }
    until("all are counted", async || {
        // Some noise announces a frame that does not come.
        let waited = counted(&plain, REFUSED, "first_request_timeout").await;
        counted(&plain, ENDED, "protocol").await + waited == 40.0
    })
    .await;
    beside.end(&plain).await;

    let beside = Beside::start(&tls, Some(authority.trusted())).await;
    for _ in 0..20 {
        let record: Vec<u8> = [&[99, 3, 1, 2, 0], &noise(10_000)[..]].concat();
        until_closed(&tls, &record).await;
    }
    let failures = "ringfeed_tls_handshake_failures_total";
    until("all are counted", async || {
        tls.scrape().await.get(failures, &[]) == 20.0
    })
    .await;
    beside.end(&tls).await;
}

async fn connect(server: &Server) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { connection.await.ok() });
    client
}

fn request(path: &str, encoding: Option<&str>) -> Request<()> {
    let mut request = Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    request.body(()).unwrap()
}

/// A message as it stands on the wire.
fn message(bytes: &[u8]) -> Bytes {
    with_head(0, u32::try_from(bytes.len()).unwrap(), bytes)
}

fn with_head(flag: u8, len: u32, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(bytes.len() + 5);
    message.put_u8(flag);
    message.put_u32(len);
    message.put_slice(bytes);
    message.freeze()
}

fn code_of(headers: &HeaderMap) -> Option<Code> {
    let code = headers.get("grpc-status")?;
    Some(Code::from_bytes(code.as_bytes()))
}

/// Makes a call with these bytes, of which it sends as many as it may. Its code; `None`: it was
/// reset.
async fn call(
    client: &mut SendRequest<Bytes>,
    path: &str,
    encoding: Option<&str>,
    body: Bytes,
) -> Option<Code> {
    let mut ready = within("room for a stream", client.clone().ready())
        .await
        .unwrap();
    let (answer, mut send) = ready.send_request(request(path, encoding), false).unwrap();
    send.send_data(body, true).unwrap();
    let answer = within("an answer", answer).await.ok()?;
    if let Some(code) = code_of(answer.headers()) {
        return Some(code);
    }
    let mut body = answer.into_body();
    while let Some(data) = within("the answer's body", body.data()).await {
        let data = data.ok()?;
        body.flow_control().release_capacity(data.len()).ok();
    }
    code_of(&body.trailers().await.ok()??)
}

/// Of the calls that ended, how many did not end well.
async fn failed(server: &Server, rpc: &str) -> f64 {
    let scrape = server.scrape().await;
    let rpc = format!("rpc=\"{rpc}\"");
    let handled = |code: &str| scrape.get("ringfeed_rpc_handled_total", &[&rpc, code]);
    handled("") - handled("code=\"OK\"")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giant_and_never_ending_messages() {
    let server = Server::start().await;
    let beside = Beside::start(&server, None).await;
    let paths = [
        (INGEST, "Ingest"),
        (PUBLISH, "Publish"),
        (LATEST, "GetLatest"),
        (LIST, "ListFeeds"),
    ];
    let megabytes = vec![0; 4 << 20];
    for (path, rpc) in paths {
        let mut calls = JoinSet::new();
        for _ in 0..20 {
            let mut client = connect(&server).await;
            // It says that it is of 4 GiB, and goes on as if it were.
            let giant = with_head(0, u32::MAX, &megabytes);
            calls.spawn(async move { call(&mut client, path, None, giant).await });
        }
        for told in calls.join_all().await {
            assert!(
                matches!(
                    told,
                    None | Some(Code::ResourceExhausted | Code::OutOfRange)
                ),
                "{rpc}: {told:?}"
            );
        }
        until("all are counted", async || {
            failed(&server, rpc).await == 20.0
        })
        .await;
    }
    beside.end(&server).await;
}

/// A gibibyte of zeros.
fn gzip_bomb() -> Vec<u8> {
    let mut gzip = GzEncoder::new(vec![], Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..1_000 {
        gzip.write_all(&zeros).unwrap();
    }
    gzip.finish().unwrap()
}

/// The same as a frame of zstd: blocks that say "128 KiB of this byte".
fn zstd_bomb() -> Vec<u8> {
    const BLOCK: u32 = 128 << 10;
    // Magic number; no checksum, no size; a window of 128 KiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];
    for n in 1..=8_000 {
        let last = u32::from(n == 8_000);
        let head = BLOCK << 3 | 1 << 1 | last;
        frame.extend_from_slice(&head.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compression_bombs() {
    let server = Server::start().await;
    let beside = Beside::start(&server, None).await;
    for (encoding, bomb) in [("gzip", gzip_bomb()), ("zstd", zstd_bomb())] {
        assert!(bomb.len() < 1 << 20, "{encoding}: {} bytes", bomb.len());
        let bomb = with_head(1, u32::try_from(bomb.len()).unwrap(), &bomb);
        for (path, rpc) in [
            (INGEST, "Ingest"),
            (LATEST, "GetLatest"),
            (LIST, "ListFeeds"),
        ] {
            let before = failed(&server, rpc).await;
            let mut calls = JoinSet::new();
            for _ in 0..10 {
                let (mut client, bomb) = (connect(&server).await, bomb.clone());
                calls.spawn(async move { call(&mut client, path, Some(encoding), bomb).await });
            }
            for told in calls.join_all().await {
                let expected = if path == LIST {
                    // The catalog takes nothing compressed.
                    told == Some(Code::Unimplemented)
                } else {
                    matches!(told, Some(Code::ResourceExhausted | Code::OutOfRange))
                };
                assert!(expected, "{encoding} {rpc}: {told:?}");
            }
            until("all are counted", async || {
                failed(&server, rpc).await == before + 10.0
            })
            .await;
        }
    }
    beside.end(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_on_the_path_of_a_call() {
    let server = Server::start().await;
    let beside = Beside::start(&server, None).await;
    for path in [INGEST, PUBLISH, LATEST, LIST] {
        for kind in ["application/grpc", "text/plain", "application/json"] {
            let ask = format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                 content-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n5\r\n"
            );
            let ask = [ask.as_bytes(), &[0; 5], b"\r\n0\r\n\r\n"].concat();
            let said = until_closed(&server, &ask).await;
            let said = String::from_utf8_lossy(&said).into_owned();
            assert!(said.starts_with("HTTP/1.1 4"), "{path} {kind}: {said}");
        }
    }
    let scrape = server.scrape().await;
    let stored = scrape.get("ringfeed_appended_records_total", &[]);
    assert_eq!(stored, 0.0);
    beside.end(&server).await;
}
