//! Who uploads for a producer. Of two uploads under one name the newer one stays: the older one
//! is fenced, and nothing of it is stored any more.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{AppendError, Feed, Hub, producers::ProducerKey};
use crate::model::{self, UnixNanos};

/// The right to append for a producer, until a newer upload takes it.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Of the process, where it has one.
    instance: Option<Vec<u8>>,
    /// Since when.
    pub since: UnixNanos,
    fenced: CancellationToken,
}

impl Lease {
    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.is_cancelled()
    }
}

/// An upload that speaks for a producer. Dropping it says that it is gone.
#[derive(Debug)]
pub struct ProducerGuard {
    feed: Arc<Feed>,
    key: ProducerKey,
    lease: Arc<Lease>,
}

impl ProducerGuard {
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    pub fn key(&self) -> &ProducerKey {
        &self.key
    }

    pub(crate) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// Comes back when a newer upload speaks for the producer.
    pub async fn fenced(&self) {
        self.lease.fenced.cancelled().await;
    }
}

impl Drop for ProducerGuard {
    fn drop(&mut self) {
        let mut state = self.feed.state();
        if state.producers.close(&self.key, &self.lease) {
            state.wills.left(&self.key, model::now());
        }
    }
}

impl Hub {
    /// Opens an upload for a producer; `instance` names its process, where that is known. Who
    /// uploaded for it before is fenced: of that, what the committer has not taken up is refused.
    pub fn connect_producer(
        &self,
        feed: &Arc<Feed>,
        key: &ProducerKey,
        instance: Option<&[u8]>,
    ) -> Result<ProducerGuard, AppendError> {
        let lease = Arc::new(Lease {
            instance: instance.map(<[u8]>::to_vec),
            since: model::now(),
            fenced: CancellationToken::new(),
        });
        let mut state = feed.state();
        let limit = self.options().max_producers_per_feed;
        if !state.knows(key) && state.is_full_of_producers(limit) {
            return Err(AppendError::ProducerLimit { limit });
        }
        let before = state.producers.open(key, &lease);
        state.wills.back(key);
        if let Some(before) = before {
            before.fenced.cancel();
            tell_of_fence(feed, key, &before, &lease);
        }
        drop(state);
        Ok(ProducerGuard {
            feed: Arc::clone(feed),
            key: key.clone(),
            lease,
        })
    }
}

/// A device that takes its own half-open stream over is nothing to look at; two devices are.
fn tell_of_fence(feed: &Feed, key: &ProducerKey, before: &Lease, now: &Lease) {
    let (feed, producer) = (feed.name(), &key.producer);
    if before.instance.is_some() && before.instance == now.instance {
        tracing::debug!(%feed, %producer, "a producer connected again before its old stream ended");
    } else {
        tracing::warn!(%feed, %producer, "a producer was fenced: a newer upload has its name");
    }
}
