//! A body with somebody who looks on: at each piece of data, at the trailers, and at the end, which
//! is its drop.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

/// Sees what a body consists of. Whatever is to be done at the end, its `Drop` does.
pub(crate) trait Watcher {
    fn data(&mut self, _data: &Bytes) {}

    /// May add to them.
    fn trailers(&mut self, _trailers: &mut HeaderMap) {}
}

#[derive(Debug)]
pub(crate) struct Watched<B, W> {
    body: B,
    watcher: W,
}

impl<B, W> Watched<B, W> {
    pub(crate) fn new(body: B, watcher: W) -> Self {
        Self { body, watcher }
    }
}

impl<B, W> Body for Watched<B, W>
where
    B: Body<Data = Bytes> + Unpin,
    W: Watcher + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame {
            if let Some(data) = frame.data_ref() {
                self.watcher.data(data);
            } else if let Some(trailers) = frame.trailers_mut() {
                self.watcher.trailers(trailers);
            }
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

/// A body that is polled within a span of the log.
#[derive(Debug)]
pub(super) struct Within<B> {
    body: B,
    span: tracing::Span,
}

impl<B> Within<B> {
    pub(super) fn new(body: B, span: tracing::Span) -> Self {
        Self { body, span }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Within<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let _entered = this.span.enter();
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
