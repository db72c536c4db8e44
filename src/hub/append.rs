//! The way in: a batch waits for its bytes' permit, goes to the committer, and is acknowledged
//! when it is durable.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{AppendError, Feed, batch::Batch, commit::Job};
use crate::{
    metrics::Taken,
    model::{Epoch, Span},
    proto::wire::Invalid,
    trace::{self, SpanContext},
};

/// What a waiting batch costs beside its bytes, and each of its records.
const BATCH_OVERHEAD: usize = 256;
const RECORD_OVERHEAD: usize = 40;

/// What became of a batch; given when it is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    pub epoch: Epoch,
    /// The producer's highest durable sequence.
    pub sequence: Option<u64>,
    /// Where its stored records are.
    pub offsets: Option<Span>,
    pub stored: u64,
    pub duplicates: u64,
    pub refused: Vec<Refused>,
}

/// A record that was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Index in its batch.
    pub index: usize,
    pub invalid: Invalid,
}

/// A batch on its way to the disk.
#[derive(Debug)]
pub struct Pending {
    reply: oneshot::Receiver<Result<Ack, AppendError>>,
}

impl Pending {
    /// Waits until the batch is durable.
    pub async fn ack(self) -> Result<Ack, AppendError> {
        self.reply.await.unwrap_or(Err(AppendError::Stopping))
    }
}

/// A batch as the committer gets it. Its permit is given back when it is done.
#[derive(Debug)]
pub(super) struct AppendJob {
    pub feed: Arc<Feed>,
    pub batch: Batch,
    pub answer: Answer,
}

/// Where the answer of a batch goes, and the permit it holds until then.
#[derive(Debug)]
pub(super) struct Answer {
    reply: oneshot::Sender<Result<Ack, AppendError>>,
    since: Instant,
    permit: OwnedSemaphorePermit,
    /// Ends with the answer.
    span: trace::Span,
}

impl Answer {
    /// What a span of the batch is below, where it is traced.
    pub(super) fn traced(&self) -> Option<&SpanContext> {
        self.span.sampled()
    }

    /// Bytes the batch holds.
    pub(super) fn bytes(&self) -> usize {
        self.permit.num_permits()
    }

    pub(super) fn give(mut self, feed: &Feed, ack: Result<Ack, AppendError>) {
        match &ack {
            Ok(_) => feed.metrics().observe_append_to_ack(self.since.elapsed()),
            Err(error) => {
                self.span.fail("refused");
                feed.metrics().count_refused_batch(error.reason());
            }
        }
        // An upload that is gone does not want its answer any more.
        drop(self.reply.send(ack));
    }
}

/// Hands batches to the committer, within the bytes that may wait.
#[derive(Clone, Debug)]
pub(super) struct Appender {
    permits: Arc<Semaphore>,
    max_bytes: usize,
    max_wait: Duration,
    jobs: mpsc::Sender<Job>,
}

impl Appender {
    pub(super) fn new(jobs: mpsc::Sender<Job>, max_bytes: usize, max_wait: Duration) -> Self {
        let max_bytes = max_bytes.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        Self {
            permits: Arc::new(Semaphore::new(max_bytes)),
            max_bytes,
            max_wait,
            jobs,
        }
    }

    /// What batches hold that are not done.
    pub(super) fn pending(&self) -> Taken {
        Taken {
            bytes: self
                .max_bytes
                .saturating_sub(self.permits.available_permits()),
            max_bytes: self.max_bytes,
        }
    }

    pub(super) async fn submit(
        &self,
        feed: &Arc<Feed>,
        batch: Batch,
    ) -> Result<Pending, AppendError> {
        let span = trace::append(batch.source.as_deref(), feed.name().as_str(), batch.len());
        let records = batch.frames.len() * RECORD_OVERHEAD;
        let cost = (batch.frames.body_len() + records + BATCH_OVERHEAD).min(self.max_bytes);
        let permits = u32::try_from(cost).unwrap_or(u32::MAX);
        let permit = timeout(
            self.max_wait,
            Arc::clone(&self.permits).acquire_many_owned(permits),
        )
        .await
        .map_err(|_elapsed| {
            let seconds = self.max_wait.as_secs();
            let error = AppendError::Overloaded { seconds };
            feed.metrics().count_refused_batch(error.reason());
            error
        })?
        .map_err(|_closed| AppendError::Stopping)?;
        let (reply, pending) = oneshot::channel();
        let feed = Arc::clone(feed);
        let answer = Answer {
            reply,
            since: Instant::now(),
            permit,
            span,
        };
        let job = AppendJob {
            feed,
            batch,
            answer,
        };
        self.jobs
            .send(Job::Append(job))
            .await
            .map_err(|_closed| AppendError::Stopping)?;
        Ok(Pending { reply: pending })
    }
}
