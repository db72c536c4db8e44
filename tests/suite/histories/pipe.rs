//! Connections without sockets, and waiting without sleeping.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::Poll,
};

use hyper_util::rt::TokioIo;
use ringfeed::proto::v1::feed_service_client::FeedServiceClient;
use tokio::{io::DuplexStream, sync::mpsc, time::Duration};
use tonic::transport::{Channel, Endpoint};

/// Small, so that who does not read is soon not served.
const STREAM_WINDOW: u32 = 16 << 10;
const PIPE_BYTES: usize = 16 << 10;
/// How often others get their turn before there is nothing to be read now.
const TURNS: usize = 60;

pub(super) type Incoming = mpsc::Sender<std::io::Result<DuplexStream>>;
/// What comes at once, or while the others have their turns.
pub(super) async fn in_turns<T>(mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let mut turns = 0;
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(came) => Poll::Ready(Some(came)),
        Poll::Pending if turns == TURNS => Poll::Ready(None),
        Poll::Pending => {
            turns += 1;
            std::thread::yield_now();
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// What comes when time moves on as long as it does not.
pub(super) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        if let Some(done) = in_turns(work.as_mut()).await {
            return done;
        }
        tokio::time::advance(Duration::from_millis(10)).await;
    }
}

/// A connection through a pipe, which nobody shares.
pub(super) async fn connect(incoming: &Incoming) -> FeedServiceClient<Channel> {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    incoming.send(Ok(theirs)).await.expect("the server runs");
    let mut ours = Some(TokioIo::new(ours));
    let connector = tower::service_fn(move |_| {
        let taken = ours.take();
        async move { taken.ok_or_else(|| std::io::Error::other("connected once")) }
    });
    let channel = Endpoint::from_static("http://pipe")
        .initial_stream_window_size(STREAM_WINDOW)
        .connect_timeout(Duration::from_secs(3_600))
        .connect_with_connector(connector)
        .await
        .expect("a pipe");
    FeedServiceClient::new(channel).max_decoding_message_size(usize::MAX)
}
