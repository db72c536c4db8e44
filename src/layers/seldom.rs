//! Waiting for what hardly ever happens, beside what happens all the time.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::{future::BoxFuture, task::AtomicWaker};

/// A future that is asked only when it was woken itself. One that waits for a token to be cancelled
/// takes two locks each time it is asked, which all who wait for that token share.
pub struct Seldom<T> {
    future: BoxFuture<'static, T>,
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    /// Who asks.
    waker: AtomicWaker,
}

impl<T> Seldom<T> {
    pub(super) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self {
            future: Box::pin(future),
            bell: Arc::new(Bell {
                rung: AtomicBool::new(true),
                waker: AtomicWaker::new(),
            }),
        }
    }
}

impl<T> Future for Seldom<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // First: who rings after this is heard, who rang before is seen.
        self.bell.waker.register(cx.waker());
        if !self.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut cx = Context::from_waker(&waker);
        self.future.as_mut().poll(&mut cx)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl<T> fmt::Debug for Seldom<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seldom").field(&self.bell).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicU32};

    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn it_is_asked_when_it_was_woken_and_not_before() {
        let (ring, mut rung) = oneshot::channel();
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let mut waits = Seldom::new(poll_fn(move |cx| {
            count.fetch_add(1, Ordering::Relaxed);
            rung.poll_unpin(cx).map(Result::unwrap)
        }));
        for _ in 0..10 {
            let polled = poll_fn(|cx| Poll::Ready(waits.poll_unpin(cx))).await;
            assert_eq!(polled, Poll::Pending);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let waiting = tokio::spawn(waits);
        tokio::task::yield_now().await;
        ring.send(7).unwrap();
        assert_eq!(waiting.await.unwrap(), 7, "who asks is woken");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
