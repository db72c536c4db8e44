//! Uploads: batches records, sends them in calls of bounded size, and sends again what a cut left
//! undecided. Memory is bounded by one call.
//!
//! ```text
//! send -> batch (900 KiB) -> call (16 MiB, kept until its summary) -> summary: durable
//! ```

use std::{fmt, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{
    Connection, FirstConnect, RetryOptions,
    retry::{Patience, Retry, hidden, is_over_limit, retry, unreachable},
};
use crate::proto::v1;

pub use summary::UploadSummary;
use summary::{Group, Mark, progress};

mod summary;

/// A message holds at most 1 MiB.
const MAX_RECORD_BYTES: usize = (1 << 20) - 1024;
/// Batches on their way into a call beyond what HTTP/2 holds.
const QUEUED_BATCHES: usize = 2;
/// Batches of a call; bounds what many small ones cost.
const CALL_BATCHES: usize = 4_096;

/// What is uploaded, and how.
#[derive(Clone, Debug)]
pub struct UploadOptions {
    pub feed: String,
    /// Name of the uploader: with it a record is stored once however often it is sent. Without
    /// it an upload that was cut cannot go on, unless the server said how far it came.
    pub producer: Option<String>,
    /// Number of the first record, at least 1.
    pub first_sequence: u64,
    pub mode: v1::IngestMode,
    /// Most records of a batch.
    pub batch_records: usize,
    /// Most bytes of a batch.
    pub batch_bytes: usize,
    /// Most bytes of a call, which is what a cut makes to be sent again.
    pub call_bytes: usize,
    pub retry: RetryOptions,
}

impl UploadOptions {
    pub fn to(feed: impl Into<String>) -> Self {
        Self {
            feed: feed.into(),
            producer: None,
            first_sequence: 1,
            mode: v1::IngestMode::StoreValid,
            batch_records: 1_000,
            batch_bytes: 900 << 10,
            call_bytes: 16 << 20,
            retry: RetryOptions {
                first: FirstConnect::Fail,
                give_up_after: Some(Duration::from_secs(300)),
            },
        }
    }

    /// Numbers the records from 1 under this name.
    #[must_use]
    pub fn producer(mut self, name: impl Into<String>) -> Self {
        self.producer = Some(name.into());
        self
    }
}

/// What happens to an upload while it runs.
#[derive(Debug)]
pub enum UploadEvent<'a> {
    /// A call ended: so much is durable.
    Durable(&'a UploadSummary),
    /// The stream broke; it goes on after the delay.
    Resuming { cause: &'a Status, delay: Duration },
}

#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The server refused it, cannot be reached, or stayed away too long.
    #[error("{0}")]
    Status(Status),
    /// Which of the last records are stored is not known, and sending them again could store
    /// them twice.
    #[error(
        "the connection broke ({cause}) and up to {undecided} of the last records may or may not be stored; name a producer to make an upload that can be resumed"
    )]
    Cut { cause: Status, undecided: u64 },
    #[error("record {index} has {bytes} bytes; a message holds 1 MiB")]
    TooLarge { index: u64, bytes: usize },
}

type Listener = Box<dyn FnMut(UploadEvent<'_>) + Send + Sync>;

/// An upload to one feed. Its methods can be cancelled and called again.
pub struct Uploader {
    connection: Connection,
    options: UploadOptions,
    batch: Vec<Bytes>,
    batch_bytes: usize,
    group: Group,
    /// How many batches of the group the present call was given.
    handed: usize,
    call: Option<Call>,
    mark: Mark,
    /// The group begins where the server is: it said so when the last call failed.
    placed: bool,
    patience: Patience,
    summary: UploadSummary,
    listener: Option<Listener>,
}

#[derive(Debug)]
struct Call {
    /// Taken when the call is complete.
    batches: Option<mpsc::Sender<v1::IngestRequest>>,
    answer: JoinHandle<Result<v1::IngestResponse, Status>>,
    /// Index of its first record in the upload.
    first_index: u64,
    endpoint: String,
}

impl fmt::Debug for Uploader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploader")
            .field("options", &self.options)
            .field("summary", &self.summary)
            .finish_non_exhaustive()
    }
}

impl Uploader {
    /// Nothing is sent before the first full batch, `push_out` or `commit`.
    pub fn new(connection: Connection, options: UploadOptions) -> Self {
        let patience = connection.patience(options.retry);
        Self {
            connection,
            batch: Vec::new(),
            batch_bytes: 0,
            group: Group::beginning_at(0),
            handed: 0,
            call: None,
            mark: Mark::default(),
            placed: false,
            patience,
            summary: UploadSummary::default(),
            listener: None,
            options,
        }
    }

    /// Calls `listener` on what happens.
    #[must_use]
    pub fn with_listener(
        mut self,
        listener: impl FnMut(UploadEvent<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// What is durable so far. After an error: what is known.
    pub fn summary(&self) -> &UploadSummary {
        &self.summary
    }

    /// Records taken so far; also the index of the next one.
    pub fn taken(&self) -> u64 {
        self.group.end() + self.batch.len() as u64
    }

    /// Takes an encoded `Record`. Waits while the server does not keep up.
    pub async fn send(&mut self, record: Bytes) -> Result<(), UploadError> {
        let bytes = record.len();
        if bytes > MAX_RECORD_BYTES {
            let index = self.taken();
            return Err(UploadError::TooLarge { index, bytes });
        }
        if self.batch_bytes + bytes > self.options.batch_bytes {
            self.push_out().await?;
        }
        self.batch_bytes += bytes + 4;
        self.batch.push(record);
        if self.batch.len() >= self.options.batch_records {
            self.push_out().await?;
        }
        Ok(())
    }

    /// Takes a `Record`.
    pub async fn send_record(&mut self, record: &v1::Record) -> Result<(), UploadError> {
        self.send(record.encode_to_vec().into()).await
    }

    /// Sends what was gathered without waiting for a full batch.
    pub async fn push_out(&mut self) -> Result<(), UploadError> {
        if !self.batch.is_empty() {
            let records = std::mem::take(&mut self.batch);
            self.group
                .push(records, std::mem::take(&mut self.batch_bytes));
        }
        self.hand_over().await?;
        if self.group.bytes() >= self.options.call_bytes || self.group.len() >= CALL_BATCHES {
            self.settle().await?;
        }
        Ok(())
    }

    /// Sends everything taken so far and waits until it is durable.
    pub async fn commit(&mut self) -> Result<&UploadSummary, UploadError> {
        self.push_out().await?;
        self.settle().await?;
        Ok(&self.summary)
    }

    /// `commit`, as the last thing.
    pub async fn finish(mut self) -> Result<UploadSummary, UploadError> {
        self.commit().await?;
        Ok(self.summary)
    }

    /// Gives the present call the batches it was not given yet.
    async fn hand_over(&mut self) -> Result<(), UploadError> {
        while let Some(request) = self.group.request(self.handed, &self.options) {
            let Some(call) = &self.call else {
                if let Err(status) = self.open().await {
                    self.recover(status, None).await?;
                }
                continue;
            };
            match &call.batches {
                Some(batches) if batches.send(request).await.is_ok() => self.handed += 1,
                _ => self.settle_once().await?,
            }
        }
        Ok(())
    }

    /// Waits for the summary of what was handed over, as often as it takes.
    async fn settle(&mut self) -> Result<(), UploadError> {
        while !self.group.is_empty() {
            self.hand_over().await?;
            self.settle_once().await?;
        }
        Ok(())
    }

    async fn settle_once(&mut self) -> Result<(), UploadError> {
        let Some(call) = &mut self.call else {
            return Ok(());
        };
        call.batches = None;
        let answer = (&mut call.answer).await;
        let (first_index, endpoint) = (call.first_index, std::mem::take(&mut call.endpoint));
        self.call = None;
        match answer.unwrap_or_else(|gone| Err(Status::unknown(gone.to_string()))) {
            Ok(response) if self.handed == self.group.len() => {
                self.enter(response, first_index).await;
                Ok(())
            }
            Ok(_) => {
                let early = Status::unavailable("the server ended the upload early");
                self.recover(early, Some(endpoint)).await
            }
            Err(status) => self.recover(status, Some(endpoint)).await,
        }
    }

    /// Begins a call. A first cut sends the whole group again, so that its counts and refusals
    /// are exact; after a second one it begins behind what the server has, so that also a poor
    /// link comes to an end.
    async fn open(&mut self) -> Result<(), Status> {
        if let Some(producer) = self.options.producer.clone()
            && (self.mark == Mark::NotAsked || (self.group.cuts() > 1 && !self.placed))
        {
            let known = self.ask(producer).await?;
            if self.mark == Mark::NotAsked {
                self.mark = known;
            } else if let Mark::Known { sequence, .. } = known {
                self.drop_stored(sequence);
            }
        }
        let (batches, queue) = mpsc::channel(QUEUED_BATCHES);
        let mut client = self.connection.feed();
        let answer = tokio::spawn(async move {
            let answer = client.ingest(ReceiverStream::new(queue)).await;
            answer.map(tonic::Response::into_inner)
        });
        self.handed = 0;
        self.placed = false;
        self.call = Some(Call {
            batches: Some(batches),
            answer,
            first_index: self.group.first_index(),
            endpoint: self.connection.endpoint().to_owned(),
        });
        Ok(())
    }

    /// How far the server has this producer.
    async fn ask(&self, producer: String) -> Result<Mark, Status> {
        let request = v1::GetProducerRequest {
            feed: self.options.feed.clone(),
            producer,
        };
        let answer = self.connection.call(|mut catalog, _| {
            let request = request.clone();
            async move { catalog.get_producer(request).await }
        });
        match answer.await {
            Ok(response) => Ok(Mark::from(response.producer.unwrap_or_default())),
            Err(status) if status.code() == Code::NotFound => Ok(Mark::New),
            Err(status) if hidden(&status) => Ok(Mark::Hidden),
            Err(status) => Err(status),
        }
    }

    fn drop_stored(&mut self, sequence: u64) {
        let known = (sequence + 1).saturating_sub(self.options.first_sequence);
        // The last record stays: a call that sends nothing has no summary.
        if self.group.drop_before(known) {
            self.patience.progress();
        }
    }

    /// After a failed call: waits, and leaves everything ready to be sent again.
    async fn recover(
        &mut self,
        status: Status,
        endpoint: Option<String>,
    ) -> Result<(), UploadError> {
        let progress = progress(&status);
        let never_arrived = unreachable(&status);
        let decided = progress.filter(|progress| progress.decided.is_some());
        if let Some(decided) = decided.filter(|_| self.goes_on_without_producer(&status)) {
            self.summary.add_decided(&decided);
            let count = decided.decided.unwrap_or_default();
            self.group.decide(count);
            if count > 0 {
                self.patience.progress();
            }
        } else if self.options.producer.is_none() && !never_arrived {
            self.summary.add_progress(progress.as_ref());
            let undecided = self.group.end() - self.group.first_index();
            return Err(match retry(&status) {
                Retry::Never => UploadError::Status(status),
                Retry::Backoff | Retry::After(_) => UploadError::Cut {
                    cause: status,
                    undecided,
                },
            });
        }
        let Some(delay) = self.patience.failed(&status, std::time::Instant::now()) else {
            self.summary.add_progress(progress.as_ref());
            return Err(UploadError::Status(status));
        };
        if let Some(endpoint) = endpoint.filter(|_| status.code() == Code::Unavailable) {
            self.connection.fail_over(&endpoint);
        }
        if !never_arrived && self.options.producer.is_some() {
            self.group.cut();
        }
        self.summary.resumed += u32::from(!never_arrived);
        // What is sent again for its counts only would count for the rate.
        let goes_on = self.group.cuts() > 1 || is_over_limit(&status);
        if let Some(progress) = progress.filter(|_| goes_on) {
            self.placed = true;
            if let Some(sequence) = progress.stored_through_sequence {
                self.drop_stored(sequence);
            }
        }
        self.handed = 0;
        self.tell(|_| UploadEvent::Resuming {
            cause: &status,
            delay,
        });
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// Whether an upload without a producer may go on, if the server says where.
    fn goes_on_without_producer(&self, status: &Status) -> bool {
        self.options.producer.is_none() && retry(status) != Retry::Never
    }

    /// Enters the summary of a complete call.
    async fn enter(&mut self, response: v1::IngestResponse, first_index: u64) {
        let mut refused = response.refused;
        if self.group.is_trimmed()
            && let Some(producer) = self.options.producer.clone()
            && let Ok(Mark::Known { refused: all, .. }) = self.ask(producer).await
        {
            // Refusals among what was not sent again: only their number is known, if that.
            let before = self.mark.refused() + self.summary.refused;
            refused = refused.max(all.saturating_sub(before));
        }
        let first_sequence = self.options.first_sequence;
        let counts = self
            .group
            .counts(&response, refused, self.mark, first_sequence);
        self.summary.enter(response, counts, first_index);
        self.group = Group::beginning_at(self.group.end());
        self.handed = 0;
        self.patience.progress();
        self.tell(UploadEvent::Durable);
    }

    fn tell<'a>(&'a mut self, event: impl FnOnce(&'a UploadSummary) -> UploadEvent<'a>) {
        if let Some(listener) = &mut self.listener {
            listener(event(&self.summary));
        }
    }
}

#[cfg(test)]
mod tests;
