//! Devices that come and go: what a hello does, and whose will is stored. Both go the way of
//! records, in the committer's order, so that a device is never told to be gone when it is back,
//! and a hello is answered when everything its producer sent before is settled.

use std::sync::Arc;

use super::{
    AppendError, Batch, Feed, Hub, Mode, Pending, ProducerGuard, Will,
    append::Ack,
    feed::FeedState,
    producers::{ProducerKey, ProducerView},
    stage::Group,
};
use crate::model::{self, UnixNanos};

/// What a batch is for beside its records; done in the committer's order.
#[derive(Debug)]
pub(super) enum Errand {
    /// A device says hello; its ack tells how far it came.
    Hello {
        key: ProducerKey,
        will: Option<Will>,
    },
    /// The batch is the will of a device that is gone, if it still is.
    Tell(ProducerKey),
    /// Where devices are is to be durable.
    Save,
}

impl Errand {
    pub(super) fn run(
        self,
        state: &mut FeedState,
        group: &mut Group,
        batch: &mut Batch,
        ack: &mut Ack,
    ) -> Result<(), AppendError> {
        let feed = group.feed.id();
        match self {
            Self::Hello { key, will } => {
                let lease = batch.lease.as_ref();
                if !lease.is_some_and(|lease| state.producers.speaks(&key, lease)) {
                    return Err(AppendError::Fenced);
                }
                state.wills.hello(&key, will, group.ingest_time);
                group.entries.extend(state.wills.take_unsaved(feed, &key));
                let known = state.producers.id(&key);
                if let Some(producer) = known.and_then(|id| state.producers.state(id)) {
                    producer.last_seen = producer.last_seen.max(group.ingest_time);
                    ack.sequence = Some(producer.mark.sequence());
                }
            }
            Self::Tell(key) => {
                if state.producers.is_connected(&key) || !state.wills.tell(&key) {
                    batch.skip(batch.len());
                }
                let entry = state.wills.take_unsaved(feed, &key);
                group.entries_behind.extend(entry);
            }
            Self::Save => group.entries.extend(state.wills.take_all_unsaved(feed)),
        }
        Ok(())
    }
}

/// How a device introduces itself.
#[derive(Clone, Debug)]
pub struct Hello {
    pub key: ProducerKey,
    /// Names its process.
    pub instance: Vec<u8>,
    pub will: Option<Will>,
}

/// The answer to a hello: everything its producer sent before is settled.
#[derive(Debug)]
pub struct Welcome {
    pub upload: ProducerGuard,
    /// `None`: the producer is not known.
    pub next_sequence: Option<u64>,
}

impl Hub {
    /// A device begins to publish: fences who did so under its name, waits until what that one
    /// sent is durable or refused, and keeps the will.
    pub async fn hello(&self, feed: &Arc<Feed>, hello: Hello) -> Result<Welcome, AppendError> {
        let Hello {
            key,
            instance,
            will,
        } = hello;
        let upload = self.connect_producer(feed, &key, Some(&instance))?;
        let greeting = feed.state().wills.greeting(&key);
        let errand = Errand::Hello {
            key: key.clone(),
            will,
        };
        let batch = self.errand(feed, greeting, errand).under(&upload);
        let ack = settled(self.append(feed, batch).await).await;
        let ack = ack.inspect_err(|_failed| feed.state().wills.doubt(Some(&key)))?;
        Ok(Welcome {
            upload,
            next_sequence: ack.sequence.map(|sequence| sequence + 1),
        })
    }

    fn errand(&self, feed: &Feed, record: Option<Vec<u8>>, errand: Errand) -> Batch {
        let now = model::now();
        let len = record.as_ref().map_or(0, Vec::len);
        let mut batch = Batch::new(None, Mode::StoreValid, usize::from(len > 0), len);
        let records = record.iter().map(Vec::as_slice);
        batch.check(feed, records, &self.limits(now), now);
        batch.errand = Some(Box::new(errand));
        batch
    }

    /// Stores the wills that are due, and notes who is gone.
    pub(super) async fn tell_wills(&self, feeds: &[Arc<Feed>]) {
        let mut telling = vec![];
        for feed in feeds {
            let (due, unsaved) = {
                let mut state = feed.state();
                let due = state.wills.take_due(model::now());
                (due, state.wills.is_unsaved())
            };
            for (key, record) in due {
                let batch = self.errand(feed, Some(record), Errand::Tell(key.clone()));
                telling.push((feed, Some(key), self.append(feed, batch).await));
            }
            if unsaved {
                let batch = self.errand(feed, None, Errand::Save);
                telling.push((feed, None, self.append(feed, batch).await));
            }
        }
        for (feed, key, pending) in telling {
            match settled(pending).await {
                // What is refused now will be refused later as well: it is only said.
                Ok(ack) => ack.refused.iter().for_each(|refused| {
                    tracing::warn!(cause = %refused.invalid, feed = %feed.name(), "a will was refused");
                }),
                Err(error) => {
                    tracing::warn!(%error, feed = %feed.name(), "storing a will failed");
                    let wills = &mut feed.state().wills;
                    key.iter().for_each(|key| wills.untell(key, model::now()));
                    wills.doubt(key.as_ref());
                }
            }
        }
    }
}

async fn settled(pending: Result<Pending, AppendError>) -> Result<Ack, AppendError> {
    pending?.ack().await
}

impl FeedState {
    pub(super) fn knows(&self, key: &ProducerKey) -> bool {
        self.producers.id(key).is_some() || self.producers.is_connected(key) || self.wills.has(key)
    }

    /// Whether there are as many producers as there may be; those count as well that never sent
    /// a record.
    pub(super) fn is_full_of_producers(&self, limit: usize) -> bool {
        let (known, wills) = (self.producers.len(), self.wills.len());
        let at_the_most = known + wills + self.producers.uploads().len();
        at_the_most >= limit && known + self.silent().count() >= limit
    }

    /// Producers that never sent a record, and when they were last seen.
    fn silent(&self) -> impl Iterator<Item = (&ProducerKey, UnixNanos)> {
        let left = self.wills.owners();
        let open = self.producers.uploads();
        let open = open.filter(|(key, _)| !self.wills.has(key));
        let all = left.chain(open);
        all.filter(|(key, _)| self.producers.id(key).is_none())
    }

    pub(super) fn producer_views(&self) -> Vec<ProducerView> {
        let silent = self.silent().map(|(key, seen)| ProducerView {
            producer: Arc::clone(&key.producer),
            principal: Arc::clone(&key.principal),
            durable_sequence: 0,
            connected: self.producers.is_connected(key),
            last_seen: seen,
            refused: 0,
        });
        self.producers.views().chain(silent).collect()
    }
}
