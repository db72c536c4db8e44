//! Cutting a stream that is over and whose client does not take its end. A handler ends a stream by
//! what it sends last; but nothing is asked of a handler while the client's window is full, and a
//! client that reads nothing could stay as long as it likes with a token that is no good any more.
//!
//! hyper runs each HTTP/2 stream as a task of its own. `StreamExecutor` starts that task with a place
//! for an alarm; the layer, which runs within the task, sets the alarm; when it rings the task is
//! dropped, and h2 resets the stream. On HTTP/1 a connection is its own stream: `cuttable` gives it
//! the same.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt as _;
use hyper::rt::Executor;
use parking_lot::Mutex;
use tower::Layer;

use super::{
    Call,
    seldom::Seldom,
    shape::{Answered, Answering, Course, OnCourse},
};

/// So long a client has to take the end of its stream.
const GRACE: Duration = Duration::from_secs(5);

type Alarm = Arc<Mutex<Option<Seldom<()>>>>;

tokio::task_local! {
    /// The alarm of the stream that the present task is.
    static ALARM: Alarm;
}

/// Runs each stream as a task that can be cut.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamExecutor;

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        tokio::spawn(cuttable(stream));
    }
}

/// Runs a stream, or a connection that is one, until it ends or its alarm rings.
pub fn cuttable(stream: impl Future + Send) -> impl Future<Output = ()> + Send {
    let alarm = Alarm::default();
    let stream = Cuttable {
        stream: Box::pin(stream),
        alarm: Arc::clone(&alarm),
    };
    ALARM.scope(alarm, stream)
}

struct Cuttable<F> {
    stream: Pin<Box<F>>,
    alarm: Alarm,
}

impl<F: Future> Future for Cuttable<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match self.alarm.lock().as_mut() {
            Some(alarm) => alarm.poll_unpin(cx),
            None => Poll::Pending,
        }
    }
}

impl<F> fmt::Debug for Cuttable<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_set = self.alarm.try_lock().map(|alarm| alarm.is_some());
        f.debug_struct("Cuttable")
            .field("alarm", &is_set)
            .finish_non_exhaustive()
    }
}

/// Sets the alarm of calls that may have to be ended.
#[derive(Clone, Copy, Debug)]
pub struct CutLayer {
    grace: Duration,
}

impl CutLayer {
    /// Cuts a stream so long after it was over.
    pub fn new(grace: Duration) -> Self {
        Self { grace }
    }
}

impl Default for CutLayer {
    fn default() -> Self {
        Self::new(GRACE)
    }
}

impl<S> Layer<S> for CutLayer {
    type Service = OnCourse<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        let course = *self;
        OnCourse { inner, course }
    }
}

impl Course for CutLayer {
    fn run<F>(&self, call: Arc<Call>, go: impl FnOnce() -> F) -> Answering
    where
        F: Future<Output = Answered> + Send + 'static,
    {
        let answered = go();
        if !call.may_fail() {
            return Box::pin(answered);
        }
        let alarm = Seldom::new(ring(&call, self.grace));
        Box::pin(async move {
            // In a test there may be no connection.
            let _unset = ALARM.try_with(|place| *place.lock() = Some(alarm));
            answered.await
        })
    }
}

/// Comes back when the call has been over for a while, and is still there.
fn ring(call: &Arc<Call>, grace: Duration) -> impl Future<Output = ()> + Send + use<> {
    let (failed, call) = (call.failed(), Arc::downgrade(call));
    async move {
        let reason = failed.await;
        tokio::time::sleep(grace).await;
        let Some(call) = call.upgrade() else {
            // The connection has gone on to others.
            return std::future::pending().await;
        };
        call.cut(reason);
        let (rpc, reason) = (call.rpc.name, reason.name());
        tracing::info!(
            rpc,
            reason,
            "a client does not take its stream's end, which is cut"
        );
    }
}
