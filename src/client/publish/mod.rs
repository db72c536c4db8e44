//! Publishes as a device does: batches within the credit, an ack for each, and after a cut it goes
//! on by itself with what is not durable yet. Memory is bounded by the credit.
//!
//! ```text
//! Publisher::send -> [few batches] -> Driver: kept until acked -> the stream
//!            Receipt <------------------------- ack, or what ended it
//! ```
//! Of two publishers with one name the newer one stays. The older one ends with PRODUCER_FENCED and
//! does not connect again: else each would push the other out for ever.

mod driver;

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use prost::Message as _;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tonic::Status;

use super::{Connection, RetryOptions};
use crate::proto::v1::{self, publish_request::Command};
use driver::Driver;

/// A message holds at most 1 MiB.
const MAX_MESSAGE_BYTES: u64 = 1 << 20;
/// Batches taken beyond those on their way.
const QUEUED_BATCHES: usize = 2;
const INSTANCE_BYTES: usize = 16;

/// Who publishes what.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    pub feed: String,
    /// Names the device; its records are numbered and stored once.
    pub producer: String,
    /// Number of the first record; `None`: it goes on behind what the server has.
    pub first_sequence: Option<u64>,
    /// What is stored when this device is gone.
    pub will: Option<v1::Will>,
    pub mode: v1::IngestMode,
    pub retry: RetryOptions,
}

impl PublishOptions {
    pub fn to(feed: impl Into<String>, producer: impl Into<String>) -> Self {
        Self {
            feed: feed.into(),
            producer: producer.into(),
            first_sequence: None,
            will: None,
            mode: v1::IngestMode::StoreValid,
            retry: RetryOptions::default(),
        }
    }
}

/// What ended a publisher. It stays ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PublishError {
    /// The server refused it, another device has its name (PRODUCER_FENCED), or the server cannot
    /// be reached.
    #[error("{}", .0.message())]
    Status(Status),
    #[error(
        "the server expects number {next} of this producer next, and {end} is the next one here: another device numbered records under its name"
    )]
    Overtaken { next: u64, end: u64 },
    #[error(
        "a batch has {bytes} bytes as a message, and {window} may be in flight; send smaller ones"
    )]
    TooLarge { bytes: u64, window: u64 },
    #[error("the server answered what this version does not know; update this client")]
    Unknown,
    #[error("the publisher was dropped")]
    Dropped,
}

/// A batch is durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    pub first_sequence: u64,
    pub records: u64,
    /// `None`: it was durable when a cut was over, and its ack had been lost.
    pub ack: Option<v1::PublishAck>,
}

/// Says when a batch is durable.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Result<Published, PublishError>>);

impl Receipt {
    /// Waits for the ack, over cuts.
    pub async fn ack(self) -> Result<Published, PublishError> {
        self.0.await.unwrap_or(Err(PublishError::Dropped))
    }
}

/// A batch until it is durable.
#[derive(Debug)]
struct Batch {
    request: v1::PublishRequest,
    bytes: u64,
    first_sequence: u64,
    records: u64,
    receipt: oneshot::Sender<Result<Published, PublishError>>,
}

impl Batch {
    /// One beyond its last number.
    fn end(&self) -> u64 {
        self.first_sequence + self.records
    }

    fn settle(self, ack: Option<v1::PublishAck>) {
        // Nobody may be waiting for it.
        drop(self.receipt.send(Ok(Published {
            first_sequence: self.first_sequence,
            records: self.records,
            ack,
        })));
    }
}

/// What the driver tells its publisher.
#[derive(Debug, Default)]
struct State {
    ended: OnceLock<PublishError>,
    cuts: AtomicU32,
}

/// A device that publishes to one feed. Dropping it breaks the stream off; `close` ends it well.
pub struct Publisher {
    batches: Option<mpsc::Sender<Batch>>,
    driver: JoinHandle<()>,
    state: Arc<State>,
    mode: v1::IngestMode,
    next_sequence: u64,
    window: u64,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("next_sequence", &self.next_sequence)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Publisher {
    /// Says hello. Whoever publishes under the same name is fenced.
    pub async fn connect(
        connection: Connection,
        options: PublishOptions,
    ) -> Result<Self, PublishError> {
        let mut instance = vec![0; INSTANCE_BYTES];
        getrandom::fill(&mut instance).map_err(|error| {
            PublishError::Status(Status::internal(format!("no random bytes: {error}")))
        })?;
        let state = Arc::new(State::default());
        let mode = options.mode;
        let (batches, queue) = mpsc::channel(QUEUED_BATCHES);
        let (ready, begun) = oneshot::channel();
        let driver = Driver::new(connection, options, instance.into(), queue);
        let driver = tokio::spawn(driver.run(ready, Arc::clone(&state)));
        // A publisher from here on: dropped, it ends the driver.
        let mut publisher = Self {
            batches: Some(batches),
            driver,
            state,
            mode,
            next_sequence: 0,
            window: 0,
        };
        let begun = begun.await.map_err(|_ended| publisher.error())?;
        publisher.next_sequence = begun.first_sequence;
        publisher.window = begun.window;
        Ok(publisher)
    }

    /// The number that the next record gets.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// How often the stream broke and was begun anew.
    pub fn cuts(&self) -> u32 {
        self.state.cuts.load(Relaxed)
    }

    /// Bytes that a batch may have as a message.
    pub fn max_batch_bytes(&self) -> u64 {
        self.window.min(MAX_MESSAGE_BYTES)
    }

    /// Takes encoded `Record`s as one batch. Waits while the credit is used up or the server away.
    pub async fn send(&mut self, records: Vec<Bytes>) -> Result<Receipt, PublishError> {
        let count = records.len() as u64;
        let batch = v1::PublishBatch {
            first_sequence: self.next_sequence,
            mode: self.mode.into(),
            records,
        };
        let request = v1::PublishRequest {
            command: Some(Command::Batch(batch)),
        };
        let (bytes, window) = (request.encoded_len() as u64, self.max_batch_bytes());
        if bytes > window {
            return Err(PublishError::TooLarge { bytes, window });
        }
        let place = match &self.batches {
            Some(batches) => batches.reserve().await.ok(),
            None => None,
        };
        let Some(place) = place else {
            return Err(self.error());
        };
        let (receipt, settled) = oneshot::channel();
        place.send(Batch {
            request,
            bytes,
            first_sequence: self.next_sequence,
            records: count,
            receipt,
        });
        self.next_sequence += count;
        Ok(Receipt(settled))
    }

    /// Waits until all that was sent is durable, and ends the stream.
    pub async fn close(mut self) -> Result<(), PublishError> {
        self.batches = None;
        // Its end is in the state.
        drop((&mut self.driver).await);
        self.state.ended.get().cloned().map_or(Ok(()), Err)
    }

    /// Why it ended.
    fn error(&self) -> PublishError {
        self.state
            .ended
            .get()
            .cloned()
            .unwrap_or(PublishError::Dropped)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[cfg(test)]
mod tests;
