//! Connections that gather what is written in one turn of the scheduler. h2 flushes after each
//! frame of 256 bytes or more, which would be a system call for each stream that has something to
//! say; here a flush waits until the streams that were woken together have had their say.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes held at most.
const MAX_HELD: usize = 64 * 1024;
/// A write of so many bytes is not worth a copy.
const LARGE: usize = 12 * 1024;
/// A buffer of this size may stay with an idle connection.
const KEPT: usize = 1024;
/// What an HTTP/2 connection begins with. Others are not gathered: nothing says that they read
/// between writes, and a read is what begins a turn here.
const PREFACE: &[u8] = b"PRI";

#[derive(Debug)]
pub(super) struct Gather<S> {
    stream: S,
    held: Vec<u8>,
    /// Bytes of `held` that are written.
    written: usize,
    turn: Turn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It is not known yet what is spoken.
    Unknown,
    /// Nothing is gathered on this connection.
    Plain,
    /// Nothing waits to be flushed.
    Open,
    /// A flush was asked for, and the task was woken to come back to it.
    Put,
    /// The turn after that: what is held goes out.
    Due,
}

impl<S> Gather<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            held: vec![],
            written: 0,
            turn: Turn::Unknown,
        }
    }
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    /// Writes out what is held.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.written..).filter(|r| !r.is_empty()) {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += n;
        }
        self.release();
        if self.turn == Turn::Due {
            self.turn = Turn::Open;
        }
        Poll::Ready(Ok(()))
    }

    fn release(&mut self) {
        // Who had little to say gives the space back.
        let little = self.held.len() <= KEPT;
        self.held.clear();
        if little {
            self.held.shrink_to(KEPT);
        }
        self.written = 0;
    }

    /// Writes what is held and `bufs` behind it; how much of `bufs`.
    fn write_behind(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let held = self.held.get(self.written..).unwrap_or_default();
            if held.is_empty() {
                return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
            }
            let all: Vec<IoSlice<'_>> = std::iter::once(IoSlice::new(held))
                .chain(bufs.iter().map(|buf| IoSlice::new(buf)))
                .collect();
            let n = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &all))?;
            let Some(beyond) = n.checked_sub(held.len()) else {
                self.written += n;
                continue;
            };
            self.release();
            if beyond > 0 {
                return Poll::Ready(Ok(beyond));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.turn == Turn::Put {
            this.turn = Turn::Due;
            if let Poll::Ready(Err(error)) = this.drain(cx) {
                return Poll::Ready(Err(error));
            }
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if this.turn == Turn::Unknown && buf.filled().len() > before {
            let first = buf.filled().get(before..).unwrap_or_default();
            this.turn = if first.starts_with(PREFACE) {
                Turn::Open
            } else {
                Turn::Plain
            };
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let len: usize = bufs.iter().map(|buf| buf.len()).sum();
        match this.turn {
            Turn::Unknown | Turn::Plain => {
                return Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
            }
            Turn::Open | Turn::Put | Turn::Due => {}
        }
        if len >= LARGE || this.held.len() + len > MAX_HELD {
            return this.write_behind(cx, bufs);
        }
        bufs.iter().for_each(|buf| this.held.extend_from_slice(buf));
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.held.is_empty() {
            return Pin::new(&mut this.stream).poll_flush(cx);
        }
        match this.turn {
            Turn::Put => Poll::Ready(Ok(())),
            Turn::Open => {
                this.turn = Turn::Put;
                cx.waker().wake_by_ref();
                Poll::Ready(Ok(()))
            }
            Turn::Unknown | Turn::Plain | Turn::Due => {
                ready!(this.drain(cx))?;
                Pin::new(&mut this.stream).poll_flush(cx)
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// A connection that has read the preface, and its other end.
    async fn connected(capacity: usize) -> (Gather<DuplexStream>, DuplexStream) {
        let (near, mut far) = duplex(capacity);
        far.write_all(PREFACE).await.unwrap();
        let mut near = Gather::new(near);
        let mut preface = [0; 3];
        near.read_exact(&mut preface).await.unwrap();
        (near, far)
    }

    /// What a turn of the connection's task does first.
    async fn begin_turn(gather: &mut Gather<DuplexStream>) {
        let mut byte = [0; 1];
        poll_fn(|cx| {
            let mut buf = ReadBuf::new(&mut byte);
            assert!(Pin::new(&mut *gather).poll_read(cx, &mut buf).is_pending());
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn small_writes_of_one_turn_go_out_together_in_the_next() {
        let (mut near, mut far) = connected(1 << 20).await;
        for part in [b"one ", b"two ", b"six "] {
            near.write_all(part).await.unwrap();
            near.flush().await.unwrap();
        }
        let mut got = [0; 64];
        let nothing = tokio::time::timeout(std::time::Duration::ZERO, far.read(&mut got)).await;
        assert!(nothing.is_err(), "held");
        begin_turn(&mut near).await;
        let n = far.read(&mut got).await.unwrap();
        assert_eq!(&got[..n], b"one two six ");
    }

    #[tokio::test]
    async fn large_writes_and_full_buffers_keep_their_order() {
        let (mut near, mut far) = connected(4_096).await;
        let parts: Vec<Vec<u8>> = [10, 20_000, 5, 700, 60_000, 11_000, 11_000, 90_000, 3]
            .iter()
            .zip(b'a'..)
            .map(|(len, byte)| vec![byte; *len])
            .collect();
        let expected = parts.concat();
        let read = tokio::spawn(async move {
            let mut got = vec![];
            far.read_to_end(&mut got).await.unwrap();
            got
        });
        for part in &parts {
            near.write_all(part).await.unwrap();
            near.flush().await.unwrap();
        }
        near.shutdown().await.unwrap();
        drop(near);
        assert_eq!(read.await.unwrap(), expected);
    }

    #[tokio::test]
    async fn other_protocols_are_not_gathered() {
        let (near, mut far) = duplex(64);
        far.write_all(b"GET /").await.unwrap();
        let mut near = Gather::new(near);
        let mut request = [0; 5];
        near.read_exact(&mut request).await.unwrap();
        near.write_all(b"ok").await.unwrap();
        let mut got = [0; 2];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ok");
    }
}
