//! A stream of bytes as the body of an HTTP response: pieces of gRPC messages, most of them shared,
//! each large enough to be a frame; the trailers say how it ended.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use http_body::{Body, Frame};
use tokio_stream::Stream;
use tonic::Status;

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

struct MessageBody {
    /// `None` after the trailers.
    pieces: Option<Pieces>,
}

impl MessageBody {
    fn new(pieces: impl Stream<Item = Result<Bytes, Status>> + Send + 'static) -> Self {
        Self {
            pieces: Some(Box::pin(pieces)),
        }
    }
}

/// A gRPC response of whole messages.
pub(in crate::rpc) fn respond(
    pieces: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
) -> http::Response<tonic::body::Body> {
    let body = tonic::body::Body::new(MessageBody::new(pieces));
    let mut response = http::Response::new(body);
    let content = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, content);
    response
}

impl Body for MessageBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(pieces) = &mut self.pieces else {
            return Poll::Ready(None);
        };
        let frame = match ready!(pieces.as_mut().poll_next(cx)) {
            Some(Ok(piece)) => Frame::data(piece),
            Some(Err(status)) => Frame::trailers(self.end(&status)),
            None => Frame::trailers(self.end(&Status::ok(""))),
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_none()
    }
}

impl MessageBody {
    fn end(&mut self, status: &Status) -> HeaderMap {
        self.pieces = None;
        let mut trailers = HeaderMap::new();
        if let Err(unwritable) = status.add_header(&mut trailers) {
            tracing::error!(%unwritable, "a status does not fit into trailers");
            trailers.insert("grpc-status", HeaderValue::from(status.code() as i32));
        }
        trailers
    }
}

impl fmt::Debug for MessageBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageBody")
            .field("ended", &self.pieces.is_none())
            .finish_non_exhaustive()
    }
}
