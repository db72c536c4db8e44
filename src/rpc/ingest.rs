//! Ingest: a stream of batches up, one summary down when all of it is durable.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use tokio_stream::Stream;
use tonic::Status;

use super::{Context, access, request, status};
use crate::{
    hub::{Ack, AppendError, Batch, Feed, KeyGate, Mode, ProducerGuard, ProducerKey, Refused},
    layers::{Call, Quota},
    model::{self, Action, FeedName, Span},
    proto::{v1, wire::IngestMessage},
    trace::Source,
};

/// Refusals that are told one by one.
pub(super) const MAX_REFUSALS: usize = 100;
/// Batches whose ack is awaited at the same time; their bytes are bounded by the hub.
const MAX_WAITING: usize = 4_096;
/// Small messages that are there already go to the hub together, up to about this many bytes.
const GATHER_BYTES: usize = 128 << 10;

type Acks = FuturesOrdered<BoxFuture<'static, (Origin, Result<Ack, AppendError>)>>;

/// Takes an upload in, its messages as they lie on the wire. A failure says how far it came.
pub(super) async fn run(
    context: &Context,
    messages: impl Stream<Item = Result<Bytes, Status>> + Unpin,
    call: &Call,
) -> Result<v1::IngestResponse, Status> {
    let mut messages = messages.fuse();
    let mut upload = Upload {
        context,
        call,
        quota: call.quota(),
        source: call.source().map(Arc::clone),
        target: None,
        gate: KeyGate::open(),
        connected: None,
        records: 0,
        gathered: None,
        acks: FuturesOrdered::new(),
    };
    let mut tally = Tally::default();
    let mut over = call.over(&context.stopping);
    let failure = loop {
        if tally.failure.is_some() {
            break tally.failure.take();
        }
        tokio::select! {
            biased;
            Some(answer) = upload.acks.next() => tally.take(answer),
            why = &mut over => break Some(why.failure().unwrap_or_else(status::stopping)),
            () = fenced(upload.connected.as_ref()) => {
                break Some(status::append(&AppendError::Fenced));
            }
            message = messages.next(), if upload.acks.len() < MAX_WAITING => match message {
                Some(message) => {
                    if let Err(failure) = upload.take(message, &mut messages).await {
                        break Some(failure);
                    }
                }
                None => break None,
            },
        }
    };
    while let Some(answer) = upload.acks.next().await {
        tally.take(answer);
    }
    // A call that its client broke off looks complete to us; one that waits is dropped for it.
    tokio::task::yield_now().await;
    match failure.or_else(|| tally.failure.take()) {
        None => Ok(tally.response()),
        Some(failure) => Err(status::with_progress(&failure, &tally.progress())),
    }
}

/// One upload: where its records go, as the messages said so far.
struct Upload<'a> {
    context: &'a Context,
    call: &'a Call,
    quota: &'a Quota,
    source: Option<Arc<Source>>,
    target: Option<(Arc<Feed>, Option<ProducerKey>)>,
    /// What may be written to the target's feed.
    gate: KeyGate,
    connected: Option<ProducerGuard>,
    records: u64,
    gathered: Option<Gathered>,
    acks: Acks,
}

/// Records of one or more messages on their way to the hub.
struct Gathered {
    origin: Origin,
    feed: Arc<Feed>,
    batch: Batch,
    mode: Mode,
    now: model::UnixNanos,
}

/// Where a batch came from, to report on it.
struct Origin {
    feed: FeedName,
    producer: String,
    /// Index of its first record in the upload.
    index: u64,
    first_sequence: u64,
}

impl Upload<'_> {
    /// Takes in a message and those that are there behind it.
    async fn take(
        &mut self,
        message: Result<Bytes, Status>,
        more: &mut (impl Stream<Item = Result<Bytes, Status>> + Unpin),
    ) -> Result<(), Status> {
        let mut next = Some(message);
        while let Some(message) = next.take() {
            // What came before a broken message is stored all the same.
            if let Err(failure) = self.gather(message).await {
                self.submit().await?;
                return Err(failure);
            }
            let joins = |g: &Gathered| g.mode == Mode::StoreValid && g.batch.bytes() < GATHER_BYTES;
            if self.gathered.as_ref().is_some_and(joins) {
                next = more.next().now_or_never().flatten();
            }
        }
        self.submit().await
    }

    async fn gather(&mut self, message: Result<Bytes, Status>) -> Result<(), Status> {
        let bytes = message.map_err(status::of_request)?;
        let message = IngestMessage::read(&bytes).map_err(|_malformed| status::not_protobuf())?;
        let taken = self.quota.take(message.count as u64, bytes.len() as u64);
        taken.map_err(|limited| limited.status())?;
        if !self.joins(&message) {
            self.submit().await?;
            self.open(&message).await?;
        }
        if let Some(gathered) = &mut self.gathered {
            let limits = self.context.hub.limits(gathered.now);
            let (feed, now) = (&gathered.feed, gathered.now);
            let (gate, records) = (&mut self.gate, message.records());
            gathered.batch.check_at(gate, feed, records, &limits, now);
            self.records += message.count as u64;
        }
        Ok(())
    }

    /// Whether a message's records follow those gathered, as if they were of one message.
    fn joins(&self, message: &IngestMessage<'_>) -> bool {
        let Some(gathered) = &self.gathered else {
            return false;
        };
        let next = match gathered.origin.first_sequence {
            0 => 0,
            first => first + gathered.batch.len() as u64,
        };
        self.has_target(message)
            && message.first_sequence == next
            && mode(message.mode).is_ok_and(|mode| mode == gathered.mode)
    }

    fn has_target(&self, message: &IngestMessage<'_>) -> bool {
        self.target.as_ref().is_some_and(|(feed, key)| {
            let name = key.as_ref().map_or("", |key| &key.producer);
            (message.feed.is_empty() || message.feed == feed.name().as_str())
                && (message.producer.is_empty() || message.producer == name)
        })
    }

    /// Begins to gather for a message that does not follow what came before.
    async fn open(&mut self, message: &IngestMessage<'_>) -> Result<(), Status> {
        let (feed, producer) = self.target(message).await?;
        let mode = mode(message.mode)?;
        let first_sequence = message.first_sequence;
        let numbered = match producer {
            Some(_) if first_sequence == 0 => {
                let text = "is required with a producer; sequences count from 1";
                return Err(status::invalid_argument("first_sequence", text));
            }
            None if first_sequence != 0 => {
                let text = "numbers a producer's records; name the producer as well";
                return Err(status::invalid_argument("producer", text));
            }
            producer => producer.map(|key| (key, first_sequence)),
        };
        let producer = numbered.as_ref().map(|(key, _)| key.producer.to_string());
        let origin = Origin {
            feed: feed.name().clone(),
            producer: producer.unwrap_or_default(),
            index: self.records,
            first_sequence,
        };
        let batch = Batch::new(numbered, mode, message.count, message.record_bytes);
        let batch = batch.from(self.source.as_ref());
        self.gathered = Some(Gathered {
            origin,
            feed,
            batch: match &self.connected {
                Some(upload) => batch.under(upload),
                None => batch,
            },
            mode,
            now: model::now(),
        });
        Ok(())
    }

    /// Hands what was gathered to the hub.
    async fn submit(&mut self) -> Result<(), Status> {
        let Some(gathered) = self.gathered.take() else {
            return Ok(());
        };
        let Gathered {
            origin,
            feed,
            batch,
            ..
        } = gathered;
        let pending = self.context.hub.append(&feed, batch).await;
        let pending = pending.map_err(|e| status::append(&e))?;
        let answered = pending.ack().map(move |ack| (origin, ack));
        self.acks.push_back(answered.boxed());
        Ok(())
    }

    /// The feed and producer of a message: its own, or those of the message before.
    async fn target(
        &mut self,
        message: &IngestMessage<'_>,
    ) -> Result<(Arc<Feed>, Option<ProducerKey>), Status> {
        if let Some(current) = self.target.as_ref().filter(|_| self.has_target(message)) {
            return Ok(current.clone());
        }
        let name = match (&self.target, message.feed) {
            (Some((current, _)), "") => current.name().clone(),
            (_, feed) => request::feed_name("feed", feed)?,
        };
        let keys = access::keys(self.call, Action::Ingest, &name)?;
        let feed = self.context.hub.feed_for_append(&name).await;
        let feed = feed.map_err(|e| status::catalog(&e))?;
        let key = match (message.producer, &self.target) {
            ("", None) => None,
            ("", Some((_, key))) => key.clone(),
            (producer, _) => Some(ProducerKey {
                producer: request::producer_name("producer", producer)?,
                principal: self.call.principal(),
            }),
        };
        let hub = &self.context.hub;
        let connected = key.as_ref();
        let connected = connected.map(|key| hub.connect_producer(&feed, key, None));
        self.connected = connected.transpose().map_err(|e| status::append(&e))?;
        self.target = Some((Arc::clone(&feed), key.clone()));
        self.gate = KeyGate::new(keys);
        Ok((feed, key))
    }
}

/// Comes back when a newer upload has the producer's name.
async fn fenced(connected: Option<&ProducerGuard>) {
    match connected {
        Some(upload) => upload.fenced().await,
        None => std::future::pending().await,
    }
}

pub(super) fn mode(wanted: i32) -> Result<Mode, Status> {
    match v1::IngestMode::try_from(wanted) {
        Ok(v1::IngestMode::Unspecified | v1::IngestMode::StoreValid) => Ok(Mode::StoreValid),
        Ok(v1::IngestMode::Atomic) => Ok(Mode::Atomic),
        Err(_) => Err(status::invalid_argument(
            "mode",
            "is not a value of this enum",
        )),
    }
}

/// A record of a batch that was refused; the batch begins at `index`, and at `first_sequence` where
/// it is numbered.
pub(super) fn refusal(index: u64, first_sequence: u64, refused: Refused) -> v1::Refusal {
    let at = refused.index as u64;
    let numbered = first_sequence > 0;
    v1::Refusal {
        index: index + at,
        sequence: if numbered { first_sequence + at } else { 0 },
        field: refused.invalid.field.into(),
        reason: refused.invalid.reason.code().into(),
        message: refused.invalid.message,
    }
}

/// What became of the batches so far.
#[derive(Default)]
struct Tally {
    summary: v1::IngestResponse,
    feeds: BTreeMap<(FeedName, String), v1::IngestFeedSummary>,
    failure: Option<Status>,
    /// A batch was not stored, and one behind it may have been.
    torn: bool,
}

impl Tally {
    fn take(&mut self, (origin, answer): (Origin, Result<Ack, AppendError>)) {
        match answer {
            Ok(ack) => self.count(origin, ack),
            Err(error) => {
                self.torn = true;
                // What follows a failed batch of a producer is refused because of it.
                self.failure.get_or_insert_with(|| status::append(&error));
            }
        }
    }

    fn count(&mut self, origin: Origin, ack: Ack) {
        self.summary.stored += ack.stored;
        self.summary.duplicates += ack.duplicates;
        self.summary.refused += ack.refused.len() as u64;
        let room = MAX_REFUSALS.saturating_sub(self.summary.refusals.len());
        for refused in ack.refused.into_iter().take(room) {
            let refusal = refusal(origin.index, origin.first_sequence, refused);
            self.summary.refusals.push(refusal);
        }
        let place = (origin.feed.clone(), origin.producer.clone());
        let feed = self
            .feeds
            .entry(place)
            .or_insert_with(|| v1::IngestFeedSummary {
                feed: origin.feed.to_string(),
                epoch: ack.epoch,
                producer: origin.producer,
                durable_sequence: None,
                offsets: None,
            });
        feed.durable_sequence = ack.sequence.or(feed.durable_sequence);
        if let Some(span) = ack.offsets {
            let known = feed.offsets.get_or_insert(v1::OffsetRange {
                from: span.from,
                to: span.to,
            });
            let joined = Span::new(known.from.min(span.from), known.to.max(span.to));
            *known = v1::OffsetRange {
                from: joined.from,
                to: joined.to,
            };
        }
    }

    fn progress(&self) -> v1::IngestProgress {
        v1::IngestProgress {
            stored_through_sequence: self.feeds.values().filter_map(|f| f.durable_sequence).max(),
            stored: self.summary.stored,
            duplicates: self.summary.duplicates,
            decided: (!self.torn).then(|| self.decided()),
        }
    }

    fn decided(&self) -> u64 {
        let summary = &self.summary;
        summary.stored + summary.duplicates + summary.refused
    }

    fn response(self) -> v1::IngestResponse {
        v1::IngestResponse {
            feeds: self.feeds.into_values().collect(),
            ..self.summary
        }
    }
}
