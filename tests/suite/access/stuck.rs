//! Who reads nothing does not stay longer than its token: nothing is asked of a handler while the
//! client's window is full, so the stream is cut from outside.

use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use http::Request;
use prost::Message as _;
use ringfeed::proto::v1::{Earliest, IngestRequest, SubscribeRequest, start::From};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};

use super::{Bed, of_feed, upload};
use crate::harness::{self, MIB, Server, feed_exists, plain, until, vector, within};

/// Of a stream and of the connection, where nothing else was said.
const WINDOW: usize = 65_535;
const PATH: &str = "/ringfeed.v1.FeedService/Subscribe";

/// Fifty of these fit into no window.
fn batch() -> Vec<IngestRequest> {
    let records = (0..100).map(|n| vector("k", n, 1_000)).collect();
    vec![plain("f", records)]
}

/// A bed with more in its feed than fits into any window, and what revokes "me".
async fn bed() -> (Bed, tokio_util::sync::CancellationToken) {
    let bed = Bed::with(&["f"]).await;
    for _ in 0..50 {
        let answer = upload(&mut bed.feeds("root"), batch()).await;
        assert_eq!(answer.unwrap().stored, 100);
    }
    let revoked = bed.knows_until("me", &["subscribe:f"]);
    (bed, revoked)
}

fn request() -> Bytes {
    let request = SubscribeRequest {
        selectors: vec![of_feed("f", From::Earliest(Earliest {}))],
        ..SubscribeRequest::default()
    };
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(u32::try_from(request.encoded_len()).unwrap());
    request.encode(&mut message).unwrap();
    message.freeze()
}

fn followers(bed: &Bed) -> usize {
    bed.hub.subscribers(None).len()
}

/// A subscription over HTTP/2 whose client never says that there is room for more.
struct Stuck {
    body: h2::RecvStream,
    connection: JoinHandle<Result<(), h2::Error>>,
    _client: SendRequest<Bytes>,
}

impl Stuck {
    /// One that has taken what its window holds.
    async fn open(address: SocketAddr, header: (&str, &str)) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let asked = Request::post(format!("http://{address}{PATH}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header(header.0, header.1);
        let asked = asked.body(()).unwrap();
        let (response, mut sending) = client.send_request(asked, false).unwrap();
        sending.send_data(request(), true).unwrap();
        let response = within("headers", response).await.unwrap();
        let mut body = response.into_body();
        let mut received = 0;
        while received < WINDOW {
            received += within("a frame", body.data()).await.unwrap().unwrap().len();
        }
        Self {
            body,
            connection,
            _client: client,
        }
    }

    /// The server resets the stream, and nothing but the stream.
    async fn is_cut(&mut self) {
        let end = within("the reset", self.body.data()).await;
        let reset = end.expect("an end with an error").unwrap_err();
        assert_eq!(reset.reason(), Some(h2::Reason::CANCEL), "{reset}");
        assert!(!self.connection.is_finished());
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_is_reset_and_the_connection_stays() {
    let (bed, revoked) = bed().await;
    let mut stuck = Stuck::open(bed.address, ("x-test-caller", "me")).await;
    assert_eq!(followers(&bed), 1);
    revoked.cancel();
    stuck.is_cut().await;
    until("the follower's end", async || followers(&bed) == 0).await;
}

/// As the product puts its layers together.
#[tokio::test]
async fn a_real_server_resets_it_as_well() {
    let server = Server::start().await;
    feed_exists(&mut server.catalog().await, "f", 256 * MIB).await;
    for _ in 0..50 {
        let answer = harness::upload(&mut server.feeds().await, batch()).await;
        assert_eq!(answer.unwrap().stored, 100);
    }
    let mut stuck = Stuck::open(server.address(), ("grpc-timeout", "1S")).await;
    stuck.is_cut().await;
    let labels = ["rpc=\"Subscribe\"", "reason=\"deadline\""];
    until("it is counted as what it was", async || {
        let scrape = server.scrape().await;
        scrape.get("ringfeed_streams_ended_total", &labels) == 1.0
    })
    .await;
}

#[tokio::test]
async fn a_connection_of_http_1_is_closed() {
    let (bed, revoked) = bed().await;
    let mut stream = TcpStream::connect(bed.address).await.unwrap();
    let body = request();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc\r\n\
         x-test-caller: me\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(&[head.as_bytes(), &body].concat())
        .await
        .unwrap();
    let mut first = [0; 4];
    within("an answer", stream.read_exact(&mut first))
        .await
        .unwrap();
    assert_eq!(&first, b"HTTP");
    assert_eq!(followers(&bed), 1);
    revoked.cancel();
    until("the follower's end", async || followers(&bed) == 0).await;
    // What was on its way is all there is.
    let mut rest = vec![];
    let ended = within("the end", stream.read_to_end(&mut rest)).await;
    assert!(ended.is_err() || !rest.ends_with(b"\r\n0\r\n\r\n"));
}
