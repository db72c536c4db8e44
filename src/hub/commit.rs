//! The committer: one thread gathers what came in during the last flush, appends it, flushes
//! once, shows followers the new tails, and acknowledges.

use std::{collections::HashMap, sync::Arc, time::Instant};

use tokio::sync::{mpsc, watch};

use super::{
    append::AppendJob,
    save,
    stage::{Group, StageLimits, Staging, StoreFailure},
    window::Window,
};
use crate::{
    metrics,
    model::{Chunk, FeedId, Visibility},
    store::{Append, Engine, StoreError},
};

/// A flush is shared by what comes to about this much.
const CYCLE_BYTES: usize = 4 << 20;

/// Work for the committer.
pub(super) enum Job {
    Append(AppendJob),
    /// Anything else that writes, in its place among the appends.
    Admin(Box<dyn FnOnce(&Writer) + Send>),
    /// Nothing comes after it.
    Stop,
}

/// The writing side of the store; only the committer's thread has it.
#[derive(Debug)]
pub(super) struct Writer {
    pub engine: Arc<dyn Engine>,
    pub window: Arc<Window>,
    limits: StageLimits,
    /// Why writing stopped for good.
    failed: watch::Sender<Option<String>>,
}

impl Writer {
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        window: Arc<Window>,
        limits: StageLimits,
        failed: watch::Sender<Option<String>>,
    ) -> Self {
        Self {
            engine,
            window,
            limits,
            failed,
        }
    }

    /// Runs until `Stop`, or until nobody can send any more.
    pub(super) fn run(self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            let mut next = Some(job);
            while let Some(job) = next.take() {
                match job {
                    Job::Append(first) => next = self.cycle(first, &mut jobs),
                    Job::Admin(work) => work(&self),
                    Job::Stop => return,
                }
            }
        }
    }

    /// One commit; returns the job that ended the gathering, if one did.
    fn cycle(&self, first: AppendJob, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
        let mut bytes = first.answer.bytes();
        let mut staging = Staging::new(self.limits);
        staging.stage(first);
        let mut ended_by = None;
        while bytes < CYCLE_BYTES {
            match jobs.try_recv() {
                Ok(Job::Append(job)) => {
                    bytes += job.answer.bytes();
                    staging.stage(job);
                }
                Ok(other) => {
                    ended_by = Some(other);
                    break;
                }
                Err(_none) => break,
            }
        }
        self.commit(staging.into_groups());
        ended_by
    }

    fn commit(&self, groups: Vec<Group>) {
        let mut appended = Vec::with_capacity(groups.len());
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
        if let Err(error) = self.make_durable(&appended) {
            let failure = StoreFailure::from(error);
            for (group, _) in appended.into_iter().rev() {
                group.fail(&failure);
            }
            return;
        }
        for (group, chunk) in appended {
            let feed = Arc::clone(&group.feed);
            if feed.visibility() == Visibility::Durable {
                self.show(&group, &chunk);
            }
            group.acknowledge(&chunk);
            if let Err(error) = save::if_due(self.engine.as_ref(), &feed) {
                tracing::warn!(%error, feed = %feed.name(), "saving keys and marks failed");
            }
        }
    }

    fn append(&self, group: &mut Group) -> Result<Chunk, StoreError> {
        for (id, born) in &group.births {
            save::put_mark(self.engine.as_ref(), group.feed.id(), *id, born)?;
        }
        let chunk = group.feed.ring.append(Append {
            records: std::mem::take(&mut group.frames),
            ingest_time: group.ingest_time,
            marks: &group.marks,
            unit: group.unit,
        })?;
        if group.feed.visibility() == Visibility::Immediate {
            self.show(group, &chunk);
        }
        Ok(chunk)
    }

    /// One flush for all groups. Marks beyond blocks come last: a mark on disk before the records
    /// it speaks of would turn their repeat into a duplicate.
    fn make_durable(&self, appended: &[(Group, Chunk)]) -> Result<(), StoreError> {
        if !appended.iter().any(|(group, _)| group.needs_flush()) {
            return Ok(());
        }
        for (group, _) in appended {
            for producer in &group.beyond_blocks {
                save::mark(self.engine.as_ref(), &group.feed, *producer)?;
            }
        }
        self.flush()
    }

    /// Makes everything staged durable. After a failure nothing more is written: fail stop.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let start = Instant::now();
        let flushed = self.engine.flush();
        metrics::observe_flush(start.elapsed());
        if let Err(error) = &flushed {
            tracing::error!(%error, "flush failed, writing stops");
            self.failed.send_replace(Some(error.to_string()));
        }
        flushed
    }

    fn show(&self, group: &Group, chunk: &Chunk) {
        if chunk.is_empty() {
            return;
        }
        group.feed.see(chunk, &group.seen, group.ingest_time);
        let keys = group.seen.iter().map(|meta| meta.key).collect();
        self.window.push(group.feed.id(), chunk.clone(), Some(keys));
        group.feed.publish(group.feed.ring.bounds());
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Append(job) => f.debug_tuple("Append").field(job.feed.name()).finish(),
            Self::Admin(_) => f.write_str("Admin"),
            Self::Stop => f.write_str("Stop"),
        }
    }
}
