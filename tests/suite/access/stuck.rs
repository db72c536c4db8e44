//! Who reads nothing does not stay longer than its token: nothing is asked of a handler while the
//! client's window is full, so the stream is cut from outside.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::Request;
use prost::Message as _;
use ringfeed::proto::v1::{Earliest, SubscribeRequest, start::From};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Bed, of_feed, upload};
use crate::harness::{plain, until, vector, within};

/// Of a stream and of the connection, where nothing else was said.
const WINDOW: usize = 65_535;
const PATH: &str = "/ringfeed.v1.FeedService/Subscribe";

/// A bed with more in its feed than fits into any window, and what revokes "me".
async fn bed() -> (Bed, tokio_util::sync::CancellationToken) {
    let bed = Bed::with(&["f"]).await;
    for _ in 0..50 {
        let records = (0..100).map(|n| vector("k", n, 1_000)).collect();
        let answer = upload(&mut bed.feeds("root"), vec![plain("f", records)]).await;
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

#[tokio::test]
async fn a_stream_that_nobody_reads_is_reset_and_the_connection_stays() {
    let (bed, revoked) = bed().await;
    let stream = TcpStream::connect(bed.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let asked = Request::post(format!("http://{}{PATH}", bed.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-test-caller", "me");
    let asked = asked.body(()).unwrap();
    let (response, mut sending) = client.send_request(asked, false).unwrap();
    sending.send_data(request(), true).unwrap();
    let response = within("headers", response).await.unwrap();
    // It is never said that there is room for more.
    let mut body = response.into_body();
    let mut received = 0;
    while received < WINDOW {
        received += within("a frame", body.data()).await.unwrap().unwrap().len();
    }
    assert_eq!(followers(&bed), 1);
    revoked.cancel();
    let end = within("the reset", body.data()).await;
    let reset = end.expect("an end with an error").unwrap_err();
    assert_eq!(reset.reason(), Some(h2::Reason::CANCEL), "{reset}");
    until("the follower's end", async || followers(&bed) == 0).await;
    assert!(!connection.is_finished());
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
