//! The task behind a publisher: holds the stream, keeps what is not durable, connects again.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{Batch, PublishError, PublishOptions, State};
use crate::{
    client::{
        Connection,
        retry::{Patience, unreachable},
    },
    proto::v1::{self, publish_request::Command, publish_response::Event},
};

/// What a publisher needs to know of the first welcome.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub first_sequence: u64,
    pub window: u64,
}

pub(super) struct Driver {
    connection: Connection,
    options: PublishOptions,
    instance: Bytes,
    batches: mpsc::Receiver<Batch>,
    /// No more batches will come.
    complete: bool,
    /// Batches that are not known to be durable, in order.
    kept: VecDeque<Batch>,
    /// One beyond the last number taken; `None` before the first welcome.
    end: Option<u64>,
    patience: Patience,
}

/// One stream that was welcomed.
struct Stream {
    /// Bounded by the credit.
    requests: mpsc::UnboundedSender<v1::PublishRequest>,
    answers: Streaming<v1::PublishResponse>,
    /// Bytes of a batch at the most.
    window: u64,
    credit: u64,
    /// How many of the batches kept were sent in it.
    sent: usize,
}

/// Why a stream is over.
enum Over {
    /// It may be begun again.
    Cut(Status),
    Failed(PublishError),
}

impl From<Status> for Over {
    fn from(status: Status) -> Self {
        Self::Cut(status)
    }
}

impl Driver {
    pub(super) fn new(
        connection: Connection,
        options: PublishOptions,
        instance: Bytes,
        batches: mpsc::Receiver<Batch>,
    ) -> Self {
        Self {
            patience: connection.patience(options.retry),
            connection,
            options,
            instance,
            batches,
            complete: false,
            kept: VecDeque::new(),
            end: None,
        }
    }

    pub(super) async fn run(mut self, ready: oneshot::Sender<Begun>, state: Arc<State>) {
        let mut ready = Some(ready);
        let error = loop {
            let endpoint = self.connection.endpoint().to_owned();
            match self.stream(&mut ready).await {
                Ok(()) => return,
                Err(Over::Failed(error)) => break error,
                Err(Over::Cut(status)) => {
                    let Some(delay) = self.patience.failed(&status, Instant::now()) else {
                        break PublishError::Status(status);
                    };
                    if status.code() == Code::Unavailable || unreachable(&status) {
                        self.connection.fail_over(&endpoint);
                    }
                    state.cuts.fetch_add(1, Relaxed);
                    tokio::time::sleep(delay).await;
                }
            }
        };
        // It is set once, here, and before anybody is told.
        state.ended.set(error.clone()).ok();
        self.batches.close();
        let waiting = std::iter::from_fn(|| self.batches.try_recv().ok());
        for batch in self.kept.drain(..).chain(waiting) {
            drop(batch.receipt.send(Err(error.clone())));
        }
    }

    /// One stream, from hello to its end. `Ok`: all is durable, and nothing more will come.
    async fn stream(&mut self, ready: &mut Option<oneshot::Sender<Begun>>) -> Result<(), Over> {
        let mut stream = self.open().await?;
        self.patience.progress();
        if let (Some(ready), Some(first_sequence)) = (ready.take(), self.end) {
            let window = stream.window;
            // A publisher that is gone aborts this task.
            let begun = Begun {
                first_sequence,
                window,
            };
            ready.send(begun).ok();
        }
        loop {
            if self.complete && self.kept.is_empty() {
                drop(stream.requests);
                while stream.answers.message().await?.is_some() {}
                return Ok(());
            }
            self.step(&mut stream).await?;
        }
    }

    async fn step(&mut self, stream: &mut Stream) -> Result<(), Over> {
        self.send_on_credit(stream)?;
        let all_sent = stream.sent == self.kept.len();
        tokio::select! {
            answer = stream.answers.message() => {
                let early = || Status::unavailable("the server ended the stream");
                let answer = answer?.ok_or_else(early)?;
                self.take(stream, answer)
            }
            batch = self.batches.recv(), if all_sent && !self.complete => {
                match batch {
                    Some(batch) => {
                        self.end = Some(batch.end());
                        self.kept.push_back(batch);
                    }
                    None => self.complete = true,
                }
                Ok(())
            }
        }
    }

    fn send_on_credit(&self, stream: &mut Stream) -> Result<(), Over> {
        while let Some(batch) = self.kept.get(stream.sent) {
            let (bytes, window) = (batch.bytes, stream.window);
            if bytes > window {
                return Err(Over::Failed(PublishError::TooLarge { bytes, window }));
            }
            if bytes > stream.credit {
                break;
            }
            stream.credit -= bytes;
            stream.sent += 1;
            // If the stream broke, the answers say how.
            drop(stream.requests.send(batch.request.clone()));
        }
        Ok(())
    }

    fn take(&mut self, stream: &mut Stream, answer: v1::PublishResponse) -> Result<(), Over> {
        match answer.event {
            Some(Event::Ack(ack)) => {
                let batch = self.kept.pop_front().filter(|_| stream.sent > 0);
                let batch = batch.ok_or(Over::Failed(PublishError::Unknown))?;
                stream.sent -= 1;
                batch.settle(Some(ack));
                self.patience.progress();
                Ok(())
            }
            Some(Event::Credit(v1::PublishCredit { bytes })) => {
                stream.credit = stream.credit.saturating_add(bytes);
                Ok(())
            }
            Some(Event::Reconnect(v1::Reconnect { reason, .. })) => {
                Err(Over::Cut(Status::unavailable(reason)))
            }
            Some(Event::Welcome(_)) | None => Err(Over::Failed(PublishError::Unknown)),
        }
    }

    /// Says hello and goes on where the server is.
    async fn open(&mut self) -> Result<Stream, Over> {
        #[expect(clippy::disallowed_methods, reason = "bounded in bytes, by the credit")]
        let (requests, queue) = mpsc::unbounded_channel();
        let hello = v1::PublishHello {
            feed: self.options.feed.clone(),
            producer: self.options.producer.clone(),
            instance: self.instance.clone(),
            will: self.options.will.clone(),
        };
        let hello = v1::PublishRequest {
            command: Some(Command::Hello(hello)),
        };
        drop(requests.send(hello));
        let mut client = self.connection.feed();
        let opened = client.publish(UnboundedReceiverStream::new(queue)).await?;
        let mut answers = opened.into_inner();
        let first = answers.message().await?;
        let first = first.ok_or_else(|| Status::unavailable("the server ended the stream"))?;
        match first.event {
            Some(Event::Welcome(welcome)) => {
                self.go_on_at(welcome.next_sequence)?;
                Ok(Stream {
                    requests,
                    answers,
                    window: welcome.credit_bytes,
                    credit: welcome.credit_bytes,
                    sent: 0,
                })
            }
            Some(Event::Reconnect(goodbye)) => Err(Over::Cut(Status::unavailable(goodbye.reason))),
            Some(Event::Ack(_) | Event::Credit(_)) | None => {
                Err(Over::Failed(PublishError::Unknown))
            }
        }
    }

    /// What the server has needs not be sent again.
    fn go_on_at(&mut self, next: Option<u64>) -> Result<(), Over> {
        let Some(end) = self.end else {
            self.end = Some(self.options.first_sequence.or(next).unwrap_or(1));
            return Ok(());
        };
        let Some(next) = next else {
            return Ok(());
        };
        let named = self.options.first_sequence.is_some();
        if next > end && !named {
            return Err(Over::Failed(PublishError::Overtaken { next, end }));
        }
        while self.kept.front().is_some_and(|batch| batch.end() <= next) {
            if let Some(batch) = self.kept.pop_front() {
                batch.settle(None);
            }
        }
        Ok(())
    }
}
