//! A stream of responses as the body of an HTTP response: each frame is a whole gRPC message, its
//! prefix included, and most of them are shared; the trailers say how it ended.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio_stream::Stream;
use tonic::Status;

use super::Outgoing;

type Responses = Pin<Box<dyn Stream<Item = Result<Outgoing, Status>> + Send>>;

pub(super) struct MessageBody {
    /// `None` after the trailers.
    responses: Option<Responses>,
}

impl MessageBody {
    pub(super) fn new(
        responses: impl Stream<Item = Result<Outgoing, Status>> + Send + 'static,
    ) -> Self {
        Self {
            responses: Some(Box::pin(responses)),
        }
    }
}

impl Body for MessageBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(responses) = &mut self.responses else {
            return Poll::Ready(None);
        };
        let frame = match ready!(responses.as_mut().poll_next(cx)) {
            Some(Ok(response)) => Frame::data(response.message()),
            Some(Err(status)) => Frame::trailers(self.end(&status)),
            None => Frame::trailers(self.end(&Status::ok(""))),
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.responses.is_none()
    }
}

impl MessageBody {
    fn end(&mut self, status: &Status) -> HeaderMap {
        self.responses = None;
        let mut trailers = HeaderMap::new();
        if let Err(unwritable) = status.add_header(&mut trailers) {
            tracing::error!(%unwritable, "a status does not fit into trailers");
            trailers.insert("grpc-status", http::HeaderValue::from(status.code() as i32));
        }
        trailers
    }
}

impl fmt::Debug for MessageBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageBody")
            .field("ended", &self.responses.is_none())
            .finish_non_exhaustive()
    }
}
