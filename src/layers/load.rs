//! What all callers together may hold: open streams, and memory for messages that have not come in
//! completely. The call that would go beyond is refused, and the others go on.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use axum::{Error, body::Body};
use bytes::Bytes;
use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tower::Layer;

use super::{
    Call,
    messages::Messages,
    shape::{Gate, Gated},
    witness::Witness,
};
use crate::{
    errors::{Answer, Reason},
    metrics,
};

#[derive(Clone, Debug)]
pub struct LoadLimits {
    /// Open at the same time.
    pub streams: usize,
    /// Of messages whose end has not come in.
    pub incomplete_bytes: u64,
}

#[derive(Clone, Debug)]
pub struct LoadLayer(Arc<Load>);

#[derive(Debug)]
struct Load {
    limits: LoadLimits,
    streams: AtomicUsize,
    incomplete: AtomicU64,
}

impl LoadLayer {
    pub fn new(limits: LoadLimits) -> Self {
        Self(Arc::new(Load {
            limits,
            streams: AtomicUsize::new(0),
            incomplete: AtomicU64::new(0),
        }))
    }
}

impl Load {
    fn open_stream(self: &Arc<Self>) -> Result<OpenStream, Status> {
        let max = self.limits.streams;
        let room = |open: usize| (open < max).then_some(open + 1);
        if self.streams.fetch_update(Relaxed, Relaxed, room).is_ok() {
            return Ok(OpenStream(Arc::clone(self)));
        }
        metrics::count_overloaded("streams");
        let message = format!("{max} streams are open, as many as may be of all callers together");
        let answer = Answer::new(Reason::StreamLimit, message);
        Err(answer.quota("server", "open streams").status())
    }

    /// Whether there is room for a message that grows from `held` to `wanted` bytes.
    fn resize(&self, held: u64, wanted: u64) -> bool {
        if wanted > held {
            let more = wanted - held;
            let max = self.limits.incomplete_bytes;
            let room = |all: u64| Some(all + more).filter(|all| *all <= max);
            if self
                .incomplete
                .fetch_update(Relaxed, Relaxed, room)
                .is_err()
            {
                return false;
            }
        } else {
            self.incomplete.fetch_sub(held - wanted, Relaxed);
        }
        if wanted != held {
            metrics::move_incomplete_bytes(held, wanted);
        }
        true
    }

    fn overloaded(&self) -> Status {
        metrics::count_overloaded("incomplete_bytes");
        let max = self.limits.incomplete_bytes;
        let message = format!(
            "messages of all callers that have not come in completely take {max} bytes, as many as they may; send this one again in a moment"
        );
        let answer = Answer::new(Reason::Overloaded, message);
        answer.quota("server", "incomplete bytes").status()
    }
}

/// A stream that counts until this is dropped.
#[derive(Debug)]
struct OpenStream(Arc<Load>);

impl Witness for OpenStream {}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

/// The body of a request, which fails when there is no room for what has come in of a message.
#[derive(Debug)]
struct Incoming {
    body: Body,
    messages: Messages,
    /// Bytes counted in `load`.
    held: u64,
    load: Arc<Load>,
    failed: bool,
}

impl Incoming {
    fn new(body: Body, load: Arc<Load>) -> Self {
        Self {
            body,
            messages: Messages::default(),
            held: 0,
            load,
            failed: false,
        }
    }

    fn take(&mut self, data: &[u8]) -> Result<(), Error> {
        self.messages.advance(data);
        let wanted = self.messages.begun().into();
        if self.load.resize(self.held, wanted) {
            self.held = wanted;
            return Ok(());
        }
        self.failed = true;
        Err(Error::new(self.load.overloaded()))
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(error) = self.take(data)
        {
            return Poll::Ready(Some(Err(error)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.load.resize(self.held, 0);
    }
}

impl<S> Layer<S> for LoadLayer {
    type Service = Gated<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        let gate = self.clone();
        Gated { inner, gate }
    }
}

impl Gate for LoadLayer {
    fn admit(&self, call: &Arc<Call>, request: Request<Body>) -> Result<Request<Body>, Status> {
        if call.rpc.is_stream() {
            call.watch(self.0.open_stream()?);
        }
        let load = Arc::clone(&self.0);
        Ok(request.map(|body| Body::new(Incoming::new(body, load))))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{FutureExt as _, StreamExt as _};
    use http::Response;
    use http_body_util::StreamBody;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;
    use tonic::{Code, Streaming, codec::Codec as _};
    use tonic_prost::ProstCodec;
    use tower::{Service as _, service_fn};

    use super::*;
    use crate::{
        errors::reason_of,
        layers::{Rpc, watched::Watched, witness::Watch},
    };

    const MIB: u32 = 1 << 20;

    /// The head of a message and its first `there` bytes.
    fn part(len: u32, there: usize) -> Bytes {
        let head = [&[0][..], &len.to_be_bytes()].concat();
        [head, vec![0; there]].concat().into()
    }

    struct Upload {
        pieces: mpsc::Sender<Bytes>,
        messages: Streaming<()>,
    }

    impl Upload {
        /// What a handler would read of it.
        fn read(&mut self) -> Option<Result<(), Status>> {
            self.messages.message().now_or_never()?.transpose()
        }
    }

    /// The request's body as it comes out of the layer.
    fn open(layer: &LoadLayer, path: &'static str) -> Result<(Upload, Body), Status> {
        let (pieces, sent) = mpsc::channel(4);
        let frames = ReceiverStream::new(sent).map(|data| Ok::<_, Infallible>(Frame::data(data)));
        let mut request = Request::new(Body::new(StreamBody::new(frames)));
        let call = Arc::new(Call::new(Rpc::of_path(path), ""));
        request.extensions_mut().insert(Arc::clone(&call));
        let watch = Watch::new(call);
        let (hand_out, inner) = std::sync::mpsc::channel();
        let mut service = layer.layer(service_fn(move |request: Request<Body>| {
            hand_out.send(request.into_body()).unwrap();
            async { Ok(Response::new(Body::empty())) }
        }));
        let answered = service.call(request).now_or_never().unwrap().unwrap();
        if let Some(status) = Status::from_header_map(answered.headers()) {
            return Err(status);
        }
        let body = inner.recv().unwrap();
        let decoder = ProstCodec::<(), ()>::default().decoder();
        let messages = Streaming::new_request(decoder, body, None, None);
        let answer = Body::new(Watched::new(answered.into_body(), watch));
        Ok((Upload { pieces, messages }, answer))
    }

    fn layer(streams: usize, incomplete_bytes: u64) -> LoadLayer {
        LoadLayer::new(LoadLimits {
            streams,
            incomplete_bytes,
        })
    }

    const INGEST: &str = "/ringfeed.v1.FeedService/Ingest";

    #[tokio::test]
    async fn the_upload_that_would_need_more_memory_fails_and_the_others_go_on() {
        let layer = layer(10, 2_000_000);
        let held = || layer.0.incomplete.load(Relaxed);
        let mut uploads: Vec<_> = (0..3).map(|_| open(&layer, INGEST).unwrap().0).collect();
        for (n, upload) in (1..).zip(&mut uploads[..2]) {
            upload.pieces.send(part(MIB, 900_000)).await.unwrap();
            assert!(upload.read().is_none());
            assert_eq!(held(), n * 900_000);
        }
        let third = &mut uploads[2];
        third.pieces.send(part(MIB, 900_000)).await.unwrap();
        let status = third.read().unwrap().unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(reason_of(&status), Some(Reason::Overloaded));
        assert!(third.read().is_none_or(|read| read.is_err()), "it is over");
        // Small messages have room, and one that is complete gives its own back.
        let mut small = open(&layer, INGEST).unwrap().0;
        small.pieces.send(part(0, 0)).await.unwrap();
        small.read().unwrap().unwrap();
        let rest = vec![0; MIB as usize - 900_000].into();
        uploads[0].pieces.send(rest).await.unwrap();
        assert!(uploads[0].read().is_some(), "it is complete");
        assert_eq!(held(), 900_000);
        drop(uploads);
        assert_eq!(held(), 0);
    }

    #[tokio::test]
    async fn streams_count_until_their_response_is_gone() {
        let layer = layer(2, 0);
        let first = open(&layer, INGEST).unwrap();
        let second = open(&layer, INGEST).unwrap();
        let refused = open(&layer, INGEST).err().unwrap();
        assert_eq!(reason_of(&refused), Some(Reason::StreamLimit));
        assert!(open(&layer, "/ringfeed.v1.FeedService/GetLatest").is_ok());
        drop(first.0);
        assert!(open(&layer, INGEST).is_err(), "its response is open");
        drop(first.1);
        assert!(open(&layer, INGEST).is_ok());
        drop(second);
        assert_eq!(layer.0.streams.load(Relaxed), 0);
    }
}
