//! Ingest: a stream of batches up, one summary down when all of it is durable.

use std::collections::BTreeMap;

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesOrdered};
use tonic::{Status, Streaming};

use super::{Context, request, status};
use crate::{
    hub::{Ack, AppendError, Batch, Feed, Mode, ProducerGuard, ProducerKey},
    model::{self, FeedName, Principal, Span},
    proto::v1,
};

/// Refusals that are told one by one.
const MAX_REFUSALS: usize = 100;
/// Batches whose ack is awaited at the same time; their bytes are bounded by the hub.
const MAX_WAITING: usize = 4_096;

/// Takes an upload in. A failure says how far it came.
pub(super) async fn run(
    context: &Context,
    mut messages: Streaming<v1::IngestRequest>,
    principal: Principal,
) -> Result<v1::IngestResponse, Status> {
    let mut upload = Upload {
        context,
        principal,
        target: None,
        connected: None,
        records: 0,
    };
    let mut tally = Tally::default();
    let mut acks = FuturesOrdered::new();
    let failure = loop {
        if tally.failure.is_some() {
            break tally.failure.take();
        }
        tokio::select! {
            biased;
            Some(answer) = acks.next() => tally.take(answer),
            () = context.stopping.cancelled() => break Some(status::stopping()),
            message = messages.message(), if acks.len() < MAX_WAITING => match message {
                Ok(Some(message)) => match upload.submit(message).await {
                    Ok((origin, pending)) => {
                        acks.push_back(pending.ack().map(move |ack| (origin, ack)));
                    }
                    Err(failure) => break Some(failure),
                },
                Ok(None) => break None,
                Err(broken) => break Some(status::of_request(broken)),
            },
        }
    };
    while let Some(answer) = acks.next().await {
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
    principal: Principal,
    target: Option<(std::sync::Arc<Feed>, Option<ProducerKey>)>,
    connected: Option<ProducerGuard>,
    records: u64,
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
    async fn submit(
        &mut self,
        message: v1::IngestRequest,
    ) -> Result<(Origin, crate::hub::Pending), Status> {
        let (feed, producer) = self.target(&message.feed, &message.producer).await?;
        let mode = mode(message.mode)?;
        let numbered = match producer {
            Some(_) if message.first_sequence == 0 => {
                let text = "is required with a producer; sequences count from 1";
                return Err(status::invalid_argument("first_sequence", text));
            }
            None if message.first_sequence != 0 => {
                let text = "numbers a producer's records; name the producer as well";
                return Err(status::invalid_argument("producer", text));
            }
            producer => producer.map(|key| (key, message.first_sequence)),
        };
        let origin = Origin {
            feed: feed.name().clone(),
            producer: numbered
                .as_ref()
                .map(|(key, _)| key.producer.to_string())
                .unwrap_or_default(),
            index: self.records,
            first_sequence: message.first_sequence,
        };
        self.records += message.records.len() as u64;
        let now = model::now();
        let limits = self.context.hub.limits(now);
        let batch = Batch::check(message.records, numbered, mode, &limits, now);
        let pending = self.context.hub.append(&feed, batch).await;
        Ok((origin, pending.map_err(|e| status::append(&e))?))
    }

    /// The feed and producer of a message: its own, or those of the message before.
    async fn target(
        &mut self,
        feed: &str,
        producer: &str,
    ) -> Result<(std::sync::Arc<Feed>, Option<ProducerKey>), Status> {
        if let Some((current, key)) = &self.target {
            let same_feed = feed.is_empty() || feed == current.name().as_str();
            let current_name = key.as_ref().map_or("", |key| &key.producer);
            if same_feed && (producer.is_empty() || producer == current_name) {
                return Ok((std::sync::Arc::clone(current), key.clone()));
            }
        }
        let name = match (&self.target, feed) {
            (Some((current, _)), "") => current.name().clone(),
            _ => request::feed_name("feed", feed)?,
        };
        let feed = self.context.hub.feed_for_append(&name).await;
        let feed = feed.map_err(|e| status::catalog(&e))?;
        let key = match (producer, &self.target) {
            ("", None) => None,
            ("", Some((_, key))) => key.clone(),
            (producer, _) => Some(ProducerKey {
                producer: request::producer_name(producer)?,
                principal: std::sync::Arc::clone(&self.principal),
            }),
        };
        self.connected = key
            .as_ref()
            .map(|key| self.context.hub.connect_producer(&feed, key));
        self.target = Some((std::sync::Arc::clone(&feed), key.clone()));
        Ok((feed, key))
    }
}

fn mode(wanted: i32) -> Result<Mode, Status> {
    match v1::IngestMode::try_from(wanted) {
        Ok(v1::IngestMode::Unspecified | v1::IngestMode::StoreValid) => Ok(Mode::StoreValid),
        Ok(v1::IngestMode::Atomic) => Ok(Mode::Atomic),
        Err(_) => Err(status::invalid_argument(
            "mode",
            "is not a value of this enum",
        )),
    }
}

/// What became of the batches so far.
#[derive(Default)]
struct Tally {
    summary: v1::IngestResponse,
    feeds: BTreeMap<(FeedName, String), v1::IngestFeedSummary>,
    failure: Option<Status>,
}

impl Tally {
    fn take(&mut self, (origin, answer): (Origin, Result<Ack, AppendError>)) {
        match answer {
            Ok(ack) => self.count(origin, ack),
            Err(error) if self.failure.is_none() => self.failure = Some(status::append(&error)),
            // What follows a failed batch of a producer is refused because of it.
            Err(_) => {}
        }
    }

    fn count(&mut self, origin: Origin, ack: Ack) {
        self.summary.stored += ack.stored;
        self.summary.duplicates += ack.duplicates;
        self.summary.refused += ack.refused.len() as u64;
        let room = MAX_REFUSALS.saturating_sub(self.summary.refusals.len());
        for refused in ack.refused.into_iter().take(room) {
            let index = refused.index as u64;
            let numbered = origin.first_sequence > 0;
            self.summary.refusals.push(v1::Refusal {
                index: origin.index + index,
                sequence: if numbered {
                    origin.first_sequence + index
                } else {
                    0
                },
                field: refused.invalid.field.into(),
                reason: refused.invalid.reason.code().into(),
                message: refused.invalid.message,
            });
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
        }
    }

    fn response(self) -> v1::IngestResponse {
        v1::IngestResponse {
            feeds: self.feeds.into_values().collect(),
            ..self.summary
        }
    }
}
