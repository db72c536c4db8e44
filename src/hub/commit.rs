//! The committer: one thread takes what comes in, stages it and appends it to its rings, while the
//! flusher makes durable what was appended before.
//!
//! ```text
//! uploads -> [queue] -> committer: stage, append -> [tray] -> flusher: flush, show, acknowledge
//! ```
//! While a flush is under way, small batches are gathered until it ends: they would only be
//! appended one by one to wait for the same next flush.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::{mpsc, watch};

use super::{
    append::AppendJob,
    flush::{Appended, Durable, Flusher},
    save,
    stage::{Group, StageLimits, Staging, StoreFailure},
    window::Window,
};
use crate::{
    model::{Chunk, FeedId, Visibility},
    store::{Append, Engine, Space, StoreError},
};

/// So much is appended at once, even while a flush is under way.
pub(super) const APPEND_BYTES: usize = 1 << 20;

/// Work for the committer.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every job is an append; a box for each would be one more allocation"
)]
pub(super) enum Job {
    Append(AppendJob),
    /// Anything else that writes, in its place among the appends.
    Admin(Box<dyn FnOnce(&Writer) + Send>),
    /// The flusher has nothing to do.
    Rested,
    /// Nothing comes after it.
    Stop,
}

/// The writing side of the store; only the committer's thread has it.
#[derive(Debug)]
pub(super) struct Writer {
    pub engine: Arc<dyn Engine>,
    pub window: Arc<Window>,
    limits: StageLimits,
    durable: Durable,
    flusher: Flusher,
}

impl Writer {
    /// `jobs` is the other end of what `run` is given.
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        window: Arc<Window>,
        limits: StageLimits,
        failed: watch::Sender<Option<String>>,
        jobs: mpsc::WeakSender<Job>,
    ) -> std::io::Result<Self> {
        let durable = || Durable {
            engine: Arc::clone(&engine),
            window: Arc::clone(&window),
            failed: failed.clone(),
        };
        let rested = move || {
            // With jobs waiting nobody needs to be told.
            if let Some(jobs) = jobs.upgrade() {
                drop(jobs.try_send(Job::Rested));
            }
        };
        Ok(Self {
            limits,
            flusher: Flusher::start(durable(), rested)?,
            durable: durable(),
            engine,
            window,
        })
    }

    /// Runs until `Stop`, or until nobody can send any more.
    pub(super) fn run(self, mut jobs: mpsc::Receiver<Job>) {
        let mut staging = Staging::new(self.limits);
        while let Some(job) = jobs.blocking_recv() {
            let mut next = Some(job);
            while let Some(job) = next.take() {
                match job {
                    Job::Append(job) => staging.stage(job),
                    Job::Rested => {}
                    Job::Admin(work) => {
                        self.commit(&mut staging);
                        self.flusher.drain();
                        work(&self);
                    }
                    Job::Stop => return self.commit(&mut staging),
                }
                // All that is there, as far as it goes into one append.
                if staging.bytes() < APPEND_BYTES {
                    next = jobs.try_recv().ok();
                }
            }
            if self.is_time(&staging) {
                self.commit(&mut staging);
            }
        }
        self.commit(&mut staging);
    }

    /// Whether what is staged is to be appended now: nothing else is being flushed, it is much, or
    /// somebody is to see it before its flush.
    fn is_time(&self, staging: &Staging) -> bool {
        staging.bytes() >= APPEND_BYTES || staging.has_immediate() || self.flusher.rests_or_calls()
    }

    fn commit(&self, staging: &mut Staging) {
        let groups = std::mem::replace(staging, Staging::new(self.limits)).into_groups();
        if groups.is_empty() {
            return;
        }
        let mut appended = Appended::with_capacity(groups.len());
        let mut failed = vec![];
        let mut failures: HashMap<FeedId, StoreFailure> = HashMap::new();
        for mut group in groups {
            let feed = group.feed.id();
            // What a producer sent after a batch that failed would leave a hole: it fails too.
            if failures.contains_key(&feed) {
                failed.push(group);
                continue;
            }
            match self.append(&mut group) {
                Ok(chunk) => appended.push((group, chunk)),
                Err(error) => {
                    failures.insert(feed, StoreFailure::from(error));
                    failed.push(group);
                }
            }
        }
        for group in failed.into_iter().rev() {
            if let Some(failure) = failures.get(&group.feed.id()) {
                group.fail(failure);
            }
        }
        // Here marks say what is appended and no more: only now may they be written.
        for (group, _) in &appended {
            let saved = save::if_due(self.engine.as_ref(), &group.feed);
            if let Err(error) = saved.and_then(|()| self.save_beyond(group)) {
                tracing::warn!(%error, feed = %group.feed.name(), "saving keys and marks failed");
            }
        }
        self.flusher.hand(appended);
    }

    fn append(&self, group: &mut Group) -> Result<Chunk, StoreError> {
        for (id, born) in &group.births {
            save::put_mark(self.engine.as_ref(), group.feed.id(), *id, born)?;
        }
        self.put_all(&group.entries)?;
        let chunk = group.feed.ring.append(Append {
            records: std::mem::take(&mut group.frames),
            ingest_time: group.ingest_time,
            marks: &group.marks,
            unit: group.unit,
        })?;
        if group.visibility == Visibility::Immediate {
            self.durable.show(group, &chunk);
        }
        Ok(chunk)
    }

    /// Marks beyond blocks: on disk before the records they speak of, they would turn the repeat
    /// of these into duplicates.
    fn save_beyond(&self, group: &Group) -> Result<(), StoreError> {
        for producer in &group.beyond_blocks {
            save::mark(self.engine.as_ref(), &group.feed, *producer)?;
        }
        self.put_all(&group.entries_behind)
    }

    fn put_all(&self, entries: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StoreError> {
        for (key, value) in entries {
            self.engine.put(Space::Catalog, key, value.as_deref())?;
        }
        Ok(())
    }

    /// Makes everything staged durable. After a failure nothing more is written: fail stop.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.durable.flush()
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Append(job) => f.debug_tuple("Append").field(job.feed.name()).finish(),
            Self::Admin(_) => f.write_str("Admin"),
            Self::Rested => f.write_str("Rested"),
            Self::Stop => f.write_str("Stop"),
        }
    }
}
