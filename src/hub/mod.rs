//! The service itself: feeds by name, the way in (`append`), the way out (`follow`), and what is
//! derived from records on the way (latest, marks, rates). Knows nothing of gRPC.

mod append;
mod bar_feed;
mod bar_views;
mod bars;
mod batch;
mod commit;
mod conflate;
mod cursors;
mod error;
mod feed;
mod fidelity;
mod flush;
mod follow;
mod gate;
mod hello;
mod info;
mod keys;
mod last;
mod last_page;
mod lease;
mod mark;
mod options;
mod producers;
mod rate;
mod read;
mod registry;
mod save;
mod snapshot;
mod stage;
mod stale;
mod start;
mod subscribers;
mod tail;
#[cfg(test)]
mod tests;
mod timeline;
mod views;
mod wills;
mod window;

use std::{collections::BTreeMap, sync::Arc, thread::JoinHandle, time::Duration};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use self::{
    append::Appender,
    commit::{Job, Writer},
    cursors::CursorDesk,
    keys::KeyLimits,
    stage::StageLimits,
    subscribers::Subscribers,
    window::Window,
};
pub use self::{
    append::{Ack, Pending, Refused},
    bars::{BarTable, History, Seen, TooLarge},
    batch::{Batch, Mode},
    cursors::{Acknowledged, CursorKey, NamedCursor},
    error::{AppendError, CatalogError, FollowError},
    feed::{Feed, FeedRates},
    fidelity::{BarsFidelity, Carried, Fidelity, OpenBars, SlowAction, SlowPolicy},
    follow::{Follower, Resume, Step},
    gate::KeyGate,
    hello::{Hello, Welcome},
    info::InfoScope,
    keys::LatestBy,
    last::{KeyView, LatestPage, LatestRecord},
    lease::ProducerGuard,
    mark::SequenceError,
    options::{AutoCreate, HubOptions},
    producers::{ProducerKey, ProducerView},
    registry::FeedChange,
    start::{End, Start, Wanted},
    subscribers::{Begun, Registration, SubscriberGuard, SubscriberView},
    tail::{Life, Visible},
    views::{KeyFilter, Origin, View},
    wills::{InvalidWill, Will},
};
use crate::{
    metrics::{self, Taken},
    model::{self, FeedName, Principal, ProducerName, Span},
    proto::wire::Limits,
    store::{Engine, StoreError},
    trace::{self, Source},
};

/// Jobs that may wait for the committer; their bytes are bounded apart from this.
const MAX_WAITING_JOBS: usize = 65_536;

/// The one hub of a server. Cheap to clone through its `Arc`.
#[derive(Debug)]
pub struct Hub {
    options: HubOptions,
    engine: Arc<dyn Engine>,
    window: Arc<Window>,
    feeds: RwLock<BTreeMap<FeedName, Arc<Feed>>>,
    /// Moves when a feed comes or goes.
    feed_list: watch::Sender<u64>,
    subscribers: Subscribers,
    cursor_desk: CursorDesk,
    appender: Appender,
    jobs: mpsc::Sender<Job>,
    committer: Mutex<Option<JoinHandle<()>>>,
    failed: watch::Receiver<Option<String>>,
    secret: [u8; 32],
    /// Bytes that snapshots and the state of views may take together.
    view_bytes: Arc<Semaphore>,
}

impl Hub {
    /// Opens what the engine holds and starts the committer.
    pub fn open(engine: Arc<dyn Engine>, options: HubOptions) -> Result<Arc<Self>, StoreError> {
        let window = Arc::new(Window::new(options.window_bytes));
        let feeds = registry::load(engine.as_ref())?;
        let secret = registry::secret(engine.as_ref())?;
        let (jobs, waiting) = mpsc::channel(MAX_WAITING_JOBS);
        let (failed, failure) = watch::channel(None);
        let limits = StageLimits {
            keys: KeyLimits {
                keys: options.max_keys_per_feed,
                latest_bytes: options.max_latest_bytes_per_feed,
            },
            max_producers: options.max_producers_per_feed,
        };
        let for_writer = (Arc::clone(&engine), Arc::clone(&window));
        let committer = Writer::new(for_writer.0, for_writer.1, limits, failed, jobs.downgrade())
            .and_then(|writer| {
                std::thread::Builder::new()
                    .name("committer".into())
                    .spawn(move || writer.run(waiting))
            })
            .map_err(|source| StoreError::Io {
                action: "start",
                path: "the threads that write".into(),
                source,
            })?;
        let appender = Appender::new(
            jobs.clone(),
            options.max_pending_bytes,
            options.max_pending_wait,
        );
        Ok(Arc::new(Self {
            view_bytes: Arc::new(Semaphore::new(options.view_bytes)),
            options,
            engine,
            window,
            feeds: RwLock::new(feeds),
            feed_list: watch::Sender::new(0),
            subscribers: Subscribers::default(),
            cursor_desk: CursorDesk::default(),
            appender,
            jobs,
            committer: Mutex::new(Some(committer)),
            failed: failure,
            secret,
        }))
    }

    pub fn options(&self) -> &HubOptions {
        &self.options
    }

    /// The engine's name.
    pub fn engine_name(&self) -> &'static str {
        self.engine.name()
    }

    /// Signs resume tokens; kept with the data, so tokens outlive a restart.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// What a record must keep to now.
    pub fn limits(&self, now: model::UnixNanos) -> Limits {
        let ahead = i64::try_from(self.options.max_event_time_ahead.as_nanos()).unwrap_or(i64::MAX);
        Limits {
            record_bytes: self.options.max_record_bytes,
            key_bytes: self.options.max_key_bytes,
            latest_event_time: now.saturating_add(ahead),
        }
    }

    /// Hands a batch to the committer; the answer's `ack` waits for the disk.
    pub async fn append(&self, feed: &Arc<Feed>, batch: Batch) -> Result<Pending, AppendError> {
        self.appender.submit(feed, batch).await
    }

    /// A message with the records of `covers` is handed to a subscriber: says so in its trace and in
    /// those of their producers.
    pub fn delivered(&self, feed: &Feed, covers: Span, subscriber: Option<&Source>) {
        if trace::is_on() {
            let sources = self.window.sources(feed.id(), covers);
            let name = feed.name().as_str();
            trace::deliver(subscriber, &sources, name, covers.from, covers.to);
        }
    }

    /// Becomes `Some` with the cause when the store failed for good.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// Runs `work` where appends run, in its turn.
    async fn admin<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Writer) -> R + Send + 'static,
    ) -> Result<R, CatalogError> {
        let (reply, answer) = oneshot::channel();
        let work = move |writer: &Writer| drop(reply.send(work(writer)));
        let sent = self.jobs.send(Job::Admin(Box::new(work))).await;
        sent.map_err(|_closed| CatalogError::Stopping)?;
        answer.await.map_err(|_closed| CatalogError::Stopping)
    }

    /// What has to be done now and then: age retention, figures. Call it about once a second.
    pub async fn housekeep(&self) -> Result<(), CatalogError> {
        let feeds: Vec<_> = self.feeds.read().values().cloned().collect();
        for feed in &feeds {
            if let Some(max_age) = feed.spec().retention.max_age {
                self.expire(feed, max_age).await?;
            }
        }
        self.observe(&feeds);
        self.tell_wills(&feeds).await;
        Ok(())
    }

    async fn expire(&self, feed: &Arc<Feed>, max_age: Duration) -> Result<(), CatalogError> {
        let age = i64::try_from(max_age.as_nanos()).unwrap_or(i64::MAX);
        let before = model::now().saturating_sub(age);
        let feed = Arc::clone(feed);
        self.admin(move |writer| {
            let bounds = feed.ring.expire(before)?;
            if bounds.head != feed.bounds().head {
                feed.state().keys.drop_before(bounds.head);
                // No block says any more how far producers came.
                save::now(writer.engine.as_ref(), &feed)?;
                writer.flush()?;
                feed.publish(bounds);
            }
            Ok(())
        })
        .await?
    }

    fn observe(&self, feeds: &[Arc<Feed>]) {
        for feed in feeds {
            let (keys, producers) = {
                let state = feed.state();
                (state.keys.len(), state.producers.connected())
            };
            feed.metrics.set_keys(keys);
            feed.metrics.set_producers_connected(producers);
            feed.metrics.set_stale_keys(feed.stale_keys(model::now()));
        }
        self.subscribers.observe(feeds);
        let io = self.engine.io();
        metrics::set_block_io(io.block_bytes_read, io.block_bytes_written);
        metrics::set_window(Taken {
            bytes: self.window.bytes(),
            max_bytes: self.options.window_bytes,
        });
        metrics::set_pending(self.appender.pending());
        let max_bytes = self.options.view_bytes;
        metrics::set_views(Taken {
            bytes: max_bytes.saturating_sub(self.view_bytes.available_permits()),
            max_bytes,
        });
        match self.engine.free_bytes() {
            Ok(Some(bytes)) => metrics::set_free_disk(bytes),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "cannot tell the free disk space"),
        }
    }

    /// Flushes and acknowledges what was handed in, saves what is derived, and closes the store.
    pub async fn close(&self) -> Result<(), StoreError> {
        let Some(committer) = self.committer.lock().take() else {
            return Ok(());
        };
        drop(self.jobs.send(Job::Stop).await);
        drop(tokio::task::spawn_blocking(move || committer.join()).await);
        if self.failed.borrow().is_some() {
            return Ok(());
        }
        for feed in self.feeds.read().values() {
            save::now(self.engine.as_ref(), feed)?;
        }
        self.engine.close()
    }
}

/// A key's principal and name.
pub fn producer_key(principal: &Principal, producer: &ProducerName) -> ProducerKey {
    ProducerKey {
        producer: Arc::clone(producer),
        principal: Arc::clone(principal),
    }
}
