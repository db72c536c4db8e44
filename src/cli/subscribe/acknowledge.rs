//! A named cursor: the server remembers what was printed under the subscriber's name.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::{
    cli::{exit::note, remote::Remote},
    model::Cursor,
    proto::v1,
};

/// The server is told at most this often.
const EVERY: Duration = Duration::from_secs(1);

pub(super) struct Acknowledger {
    remote: Remote,
    subscriber: String,
    /// What the server knows.
    told: BTreeMap<String, Cursor>,
    last: Option<Instant>,
}

impl Acknowledger {
    pub(super) fn new(remote: Remote, subscriber: String) -> Self {
        Self {
            remote,
            subscriber,
            told: BTreeMap::new(),
            last: None,
        }
    }

    /// When what was printed just now is due.
    pub(super) fn due(&self) -> Instant {
        let now = Instant::now();
        self.last.map_or(now, |last| (last + EVERY).max(now))
    }

    /// Tells the server what was printed. One that cannot be reached hears of it the next time.
    pub(super) async fn tell(&mut self, printed: &BTreeMap<String, Cursor>) {
        if let Err(error) = self.settle(printed).await {
            note(&format!("not acknowledged yet: {error}"));
        }
    }

    /// Tells the server what was printed, at the end: what it does not know comes again.
    pub(super) async fn settle(
        &mut self,
        printed: &BTreeMap<String, Cursor>,
    ) -> anyhow::Result<()> {
        self.last = Some(Instant::now());
        for (feed, place) in printed {
            if self.told.get(feed) == Some(place) {
                continue;
            }
            self.acknowledge(feed, *place).await?;
            self.told.insert(feed.clone(), *place);
        }
        Ok(())
    }

    async fn acknowledge(&self, feed: &str, place: Cursor) -> anyhow::Result<()> {
        let request = v1::AcknowledgeCursorRequest {
            subscriber: self.subscriber.clone(),
            cursor: Some(v1::Cursor {
                feed: feed.to_owned(),
                epoch: place.epoch,
                offset: place.offset,
            }),
        };
        let call = |mut feeds: crate::client::FeedClient| {
            let request = request.clone();
            async move { feeds.acknowledge_cursor(request).await }
        };
        self.remote.feed(call).await?;
        Ok(())
    }
}
