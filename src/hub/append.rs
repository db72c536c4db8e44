//! The way in: a batch waits for its bytes' permit, goes to the committer, and is acknowledged
//! when it is durable.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{AppendError, Feed, commit::Job, producers::ProducerKey};
use crate::{
    model::{Epoch, Span},
    proto::wire::{self, Checked, Invalid, Limits},
};

/// What a waiting batch costs beside its bytes.
const BATCH_OVERHEAD: usize = 256;

/// What an invalid record does to the batch it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The valid records are stored.
    StoreValid,
    /// All records are stored, or none.
    Atomic,
}

/// One record of a batch: fit to be stored, or why not.
#[derive(Debug)]
pub(super) struct Item {
    pub checked: Result<Checked, Invalid>,
    /// Content hash, for records of a producer.
    pub hash: u64,
}

/// Records of one upload for one feed, checked.
#[derive(Debug)]
pub struct Batch {
    pub(super) producer: Option<(ProducerKey, u64)>,
    pub(super) items: Vec<Item>,
    pub(super) mode: Mode,
    bytes: usize,
}

impl Batch {
    /// Checks `records` as they came. `producer` is who numbered them, and the first number.
    pub fn check(
        records: Vec<Bytes>,
        producer: Option<(ProducerKey, u64)>,
        mode: Mode,
        limits: &Limits,
        now: i64,
    ) -> Self {
        let bytes = records.iter().map(Bytes::len).sum();
        let mut sequence = producer.as_ref().map(|(_, first)| *first);
        let items = records.into_iter().map(|bytes| {
            let hash = sequence.map_or(0, |n| wire::content_hash(&bytes, n));
            sequence = sequence.map(|n| n.wrapping_add(1));
            Item {
                checked: wire::check(bytes, limits, now),
                hash,
            }
        });
        Self {
            items: items.collect(),
            producer,
            mode,
            bytes,
        }
    }
}

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
}

impl Answer {
    /// Bytes the batch holds.
    pub(super) fn bytes(&self) -> usize {
        self.permit.num_permits()
    }

    pub(super) fn give(self, feed: &Feed, ack: Result<Ack, AppendError>) {
        feed.metrics().observe_append_to_ack(self.since.elapsed());
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

    pub(super) async fn submit(
        &self,
        feed: &Arc<Feed>,
        batch: Batch,
    ) -> Result<Pending, AppendError> {
        let cost = (batch.bytes + batch.items.len() * size_of::<Item>() + BATCH_OVERHEAD)
            .min(self.max_bytes);
        let permits = u32::try_from(cost).unwrap_or(u32::MAX);
        let permit = timeout(
            self.max_wait,
            Arc::clone(&self.permits).acquire_many_owned(permits),
        )
        .await
        .map_err(|_elapsed| AppendError::Overloaded {
            seconds: self.max_wait.as_secs(),
        })?
        .map_err(|_closed| AppendError::Stopping)?;
        let (reply, pending) = oneshot::channel();
        let feed = Arc::clone(feed);
        let answer = Answer {
            reply,
            since: Instant::now(),
            permit,
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
