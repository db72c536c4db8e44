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
    /// Of the log: whatever is written while the body is asked belongs to it.
    fn span(&self) -> Option<&tracing::Span> {
        None
    }

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
        let Self { body, watcher } = &mut *self;
        let entered = watcher.span().map(tracing::Span::enter);
        let mut frame = ready!(Pin::new(body).poll_frame(cx));
        drop(entered);
        if let Some(Ok(frame)) = &mut frame {
            if let Some(data) = frame.data_ref() {
                watcher.data(data);
            } else if let Some(trailers) = frame.trailers_mut() {
                watcher.trailers(trailers);
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
