//! What goes to a device: from the task that reads what it sends, through a queue bounded in bytes,
//! to the wire.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use crate::{
    layers::{Call, Over},
    proto::{
        message,
        v1::{self, publish_response::Event},
    },
};

/// Answers that a device has not read. Beyond it nothing more is read of the device.
const MAX_UNREAD_BYTES: usize = 8 << 20;
/// What one answer costs beside its bytes.
const ANSWER_OVERHEAD: usize = 128;

/// How a stream ends.
#[derive(Debug)]
pub(super) enum End {
    Done,
    /// The server has to end it.
    Over(Over),
    Failed(Status),
}

#[derive(Debug)]
enum Item {
    Answer {
        answer: v1::PublishResponse,
        /// Bytes it grants.
        grants: u64,
        /// Given back when it is on its way.
        _room: Option<OwnedSemaphorePermit>,
    },
    End(End),
}

/// The task's end.
#[derive(Debug)]
pub(super) struct Queue {
    items: mpsc::UnboundedSender<Item>,
    room: Arc<Semaphore>,
    granted: Arc<AtomicU64>,
    left: CancellationToken,
}

/// The wire's end.
#[derive(Debug)]
pub(in crate::rpc) struct Answers {
    items: mpsc::UnboundedReceiver<Item>,
    granted: Arc<AtomicU64>,
    call: Arc<Call>,
    /// Ends the task.
    _left: DropGuard,
}

pub(super) fn queue(call: Arc<Call>) -> (Queue, Answers) {
    #[expect(
        clippy::disallowed_methods,
        reason = "bounded in bytes: each answer has a permit"
    )]
    let (items, taken) = mpsc::unbounded_channel();
    let granted = Arc::new(AtomicU64::new(0));
    let left = CancellationToken::new();
    let queue = Queue {
        items,
        room: Arc::new(Semaphore::new(MAX_UNREAD_BYTES)),
        granted: Arc::clone(&granted),
        left: left.clone(),
    };
    let answers = Answers {
        items: taken,
        granted,
        call,
        _left: left.drop_guard(),
    };
    (queue, answers)
}

impl Queue {
    /// Cancelled when nobody reads the answers any more.
    pub(super) fn left(&self) -> CancellationToken {
        self.left.clone()
    }

    /// Bytes granted by what went out so far, on top of the first credit.
    pub(super) fn granted(&self) -> u64 {
        self.granted.load(Relaxed)
    }

    /// Sends an answer that grants so many bytes; while the device does not read, not before
    /// `hurry`.
    pub(super) async fn push(&self, event: Event, grants: u64, hurry: impl Future<Output = ()>) {
        let answer = v1::PublishResponse {
            event: Some(event),
            ..v1::PublishResponse::default()
        };
        let cost = (answer.encoded_len() + ANSWER_OVERHEAD).min(MAX_UNREAD_BYTES);
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        let room = tokio::select! {
            biased;
            room = Arc::clone(&self.room).acquire_many_owned(cost) => room.ok(),
            () = hurry => None,
        };
        self.send(Item::Answer {
            answer,
            grants,
            _room: room,
        });
    }

    pub(super) fn end(&self, end: End) {
        self.send(Item::End(end));
    }

    fn send(&self, item: Item) {
        // A device that is gone does not want it any more.
        drop(self.items.send(item));
    }
}

impl Answers {
    /// The last answer that is there goes out alone or in front of a pause: padded, as small frames
    /// are taken for an attack. Those before it go out with it.
    fn padded(&self, answer: v1::PublishResponse) -> v1::PublishResponse {
        if self.items.is_empty() {
            message::padded_answer(answer)
        } else {
            answer
        }
    }

    fn end(&mut self, end: End) -> Option<Result<v1::PublishResponse, Status>> {
        self.items.close();
        match end {
            End::Done => None,
            End::Over(why) => {
                if let Some(failure) = why.failure() {
                    return Some(Err(failure));
                }
                self.call.stopped();
                let reconnect = v1::Reconnect {
                    reason: why.text().into(),
                    ..v1::Reconnect::default()
                };
                let answer = v1::PublishResponse {
                    event: Some(Event::Reconnect(reconnect)),
                    ..v1::PublishResponse::default()
                };
                Some(Ok(message::padded_answer(answer)))
            }
            End::Failed(failure) => Some(Err(failure)),
        }
    }
}

impl Stream for Answers {
    type Item = Result<v1::PublishResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(item) = std::task::ready!(this.items.poll_recv(cx)) else {
            return Poll::Ready(None);
        };
        Poll::Ready(match item {
            Item::Answer { answer, grants, .. } => {
                this.granted.fetch_add(grants, Relaxed);
                Some(Ok(this.padded(answer)))
            }
            Item::End(end) => this.end(end),
        })
    }
}
