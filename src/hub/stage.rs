//! From jobs to appends: producers' marks are consulted and moved, keys numbered, refusals
//! collected, and batches of one feed joined.

use std::{sync::Arc, time::SystemTime};

use super::{
    Feed,
    append::{Ack, Answer, AppendJob},
    batch::{Batch, Mode},
    error::AppendError,
    feed::FeedState,
    keys::{KeyLimits, SeenMeta},
    producers::{ProducerKey, ProducerState, TooMany},
    wills::Entry,
};
use crate::{
    model::{self, Chunk, Frames, MarkRun, Span, UnixNanos, Visibility},
    store::{StoreError, Unit},
    trace::{self, MAX_SOURCES, Source},
};

/// What is refused beyond.
#[derive(Clone, Copy, Debug)]
pub(super) struct StageLimits {
    pub keys: KeyLimits,
    pub max_producers: usize,
}

/// A store's failure, for everybody it hits.
#[derive(Clone, Debug)]
pub(super) struct StoreFailure {
    cause: String,
    disk_full: bool,
}

impl From<StoreError> for StoreFailure {
    fn from(error: StoreError) -> Self {
        let disk_full = matches!(error, StoreError::DiskFull { .. });
        Self {
            cause: error.to_string(),
            disk_full,
        }
    }
}

/// One append to one ring, made of one or more batches.
#[derive(Debug)]
pub(super) struct Group {
    pub feed: Arc<Feed>,
    pub unit: Unit,
    pub ingest_time: UnixNanos,
    pub frames: Frames,
    pub seen: Vec<SeenMeta>,
    pub marks: Vec<MarkRun>,
    /// Producers that blocks may not note yet, as they were before their first record.
    pub births: Vec<(u32, ProducerState)>,
    /// Producers that went beyond what a block notes: their last records were refused.
    pub beyond_blocks: Vec<u32>,
    /// Small entries that must be durable before it is answered for.
    pub entries: Vec<Entry>,
    /// Small entries that speak of its records.
    pub entries_behind: Vec<Entry>,
    /// When followers see it; as the feed was when the group was begun.
    pub visibility: Visibility,
    /// Where each producer was before, and where it came to.
    moves: Vec<(u32, u64, u64)>,
    answers: Vec<Staged>,
    /// The calls it came with, as far as they are traced; a few of them.
    sources: Vec<Arc<Source>>,
}

/// A batch of a group: which of the group's records are its own.
#[derive(Debug)]
struct Staged {
    answer: Answer,
    ack: Ack,
    records: std::ops::Range<usize>,
}

impl Group {
    fn new(feed: Arc<Feed>, unit: Unit) -> Self {
        // The wall clock, but never before what came in earlier.
        let ingest_time = feed.next_ingest_time(model::now());
        Self {
            visibility: feed.visibility(),
            feed,
            unit,
            ingest_time,
            frames: Frames::default(),
            seen: vec![],
            marks: vec![],
            births: vec![],
            beyond_blocks: vec![],
            entries: vec![],
            entries_behind: vec![],
            moves: vec![],
            answers: vec![],
            sources: vec![],
        }
    }

    fn remember(&mut self, source: Arc<Source>) {
        let known = self.sources.iter().any(|known| Arc::ptr_eq(known, &source));
        if !known && self.sources.len() < MAX_SOURCES {
            self.sources.push(source);
        }
    }

    pub(super) fn sources(&self) -> &[Arc<Source>] {
        &self.sources
    }

    /// Says in the traces of its batches that they were flushed.
    pub(super) fn flushed(&self, begun: SystemTime) {
        let traced = self.answers.iter().filter_map(|s| s.answer.traced());
        for span in traced.take(MAX_SOURCES) {
            trace::flush(span, begun);
        }
    }

    pub(super) fn needs_flush(&self) -> bool {
        !self.seen.is_empty()
            || !self.beyond_blocks.is_empty()
            || !self.entries.is_empty()
            || !self.entries_behind.is_empty()
    }

    /// Answers every batch: durable.
    pub(super) fn acknowledge(self, chunk: &Chunk) {
        let base = chunk.span().from;
        {
            let mut state = self.feed.state();
            for (producer, _, reached) in &self.moves {
                state.producers.settle(*producer, *reached);
            }
        }
        for staged in self.answers {
            let mut ack = staged.ack;
            let at = |i: usize| base + i as u64;
            let span = Span::new(at(staged.records.start), at(staged.records.end));
            ack.offsets = (!span.is_empty()).then_some(span);
            count(&self.feed, &ack);
            staged.answer.give(&self.feed, Ok(ack));
        }
    }

    /// Answers every batch: nothing of it was stored; producers are where they were before. Groups
    /// of one feed fail from the last to the first.
    pub(super) fn fail(self, failure: &StoreFailure) {
        let mut state = self.feed.state();
        for (producer, before, _) in self.moves.into_iter().rev() {
            if let Some(producer) = state.producers.state(producer) {
                producer.mark.back_to(before);
            }
        }
        for (producer, _) in self.births.into_iter().rev() {
            state.producers.unborn(producer);
        }
        drop(state);
        for staged in self.answers {
            let StoreFailure { cause, disk_full } = failure.clone();
            staged
                .answer
                .give(&self.feed, Err(AppendError::Store { cause, disk_full }));
        }
    }
}

fn count(feed: &Feed, ack: &Ack) {
    if ack.duplicates > 0 {
        feed.metrics().count_duplicates(ack.duplicates);
    }
    for refused in &ack.refused {
        feed.metrics()
            .count_refused(refused.invalid.reason.code(), 1);
    }
}

/// The groups of one commit, in the order their batches came.
#[derive(Debug)]
pub(super) struct Staging {
    limits: StageLimits,
    groups: Vec<Group>,
    bytes: usize,
}

impl Staging {
    pub(super) fn new(limits: StageLimits) -> Self {
        Self {
            limits,
            groups: vec![],
            bytes: 0,
        }
    }

    /// Bytes of the batches in it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether something in it is seen before its flush.
    pub(super) fn has_immediate(&self) -> bool {
        let immediate = |group: &Group| group.visibility == Visibility::Immediate;
        self.groups.iter().any(immediate)
    }

    pub(super) fn into_groups(self) -> Vec<Group> {
        self.groups
    }

    /// Takes a batch into the group it belongs to, or refuses it as a whole.
    pub(super) fn stage(&mut self, job: AppendJob) {
        let AppendJob {
            feed,
            mut batch,
            answer,
        } = job;
        if feed.is_deleted() {
            return answer.give(&feed, Err(AppendError::FeedDeleted));
        }
        self.bytes += answer.bytes();
        let limits = self.limits;
        let group = self.group(&feed, batch.mode);
        let from = group.seen.len();
        let source = batch.source.take();
        match take(group, batch, limits) {
            Ok(ack) => {
                if let Some(source) = source {
                    group.remember(source);
                }
                let records = from..group.seen.len();
                group.answers.push(Staged {
                    answer,
                    ack,
                    records,
                });
            }
            Err(error) => answer.give(&feed, Err(error)),
        }
    }

    fn group(&mut self, feed: &Arc<Feed>, mode: Mode) -> &mut Group {
        let unit = match mode {
            Mode::StoreValid => Unit::Record,
            Mode::Atomic => Unit::Batch,
        };
        let last = self
            .groups
            .iter()
            .rposition(|group| group.feed.id() == feed.id());
        let joins = |group: &Group| unit == Unit::Record && group.unit == Unit::Record;
        let index = match last.filter(|i| self.groups.get(*i).is_some_and(joins)) {
            Some(index) => index,
            None => {
                self.groups.push(Group::new(Arc::clone(feed), unit));
                self.groups.len() - 1
            }
        };
        #[expect(clippy::indexing_slicing, reason = "the index was just found or made")]
        &mut self.groups[index]
    }
}

/// Takes a batch's records into `group`. On error nothing of it is taken.
fn take(group: &mut Group, mut batch: Batch, limits: StageLimits) -> Result<Ack, AppendError> {
    let feed = Arc::clone(&group.feed);
    let mut state = feed.state();
    if batch.lease.as_ref().is_some_and(|lease| lease.is_fenced()) {
        return Err(AppendError::Fenced);
    }
    let atomic = batch.mode == Mode::Atomic;
    if atomic {
        all_valid(&batch)?;
    }
    let mut ack = Ack {
        epoch: feed.epoch(),
        ..Ack::default()
    };
    if let Some(errand) = batch.errand.take() {
        errand.run(&mut state, group, &mut batch, &mut ack)?;
    }
    let numbered = match batch.producer.take() {
        Some((key, first)) => Some(admit(&mut state, group, &batch, &key, first, limits)?),
        None => None,
    };
    if atomic && let Err(refused) = batch.keys_fit(&state.keys, limits.keys) {
        unborn(&mut state, group, numbered.as_ref());
        return Err(AppendError::Atomic {
            index: refused.index,
            invalid: refused.invalid,
        });
    }
    let repeats = numbered.as_ref().map_or(0, |numbered| numbered.repeats);
    ack.duplicates = batch.skip(repeats) as u64;
    batch.number_keys(&mut state.keys, limits.keys, repeats);
    if let Some(numbered) = numbered {
        number(&mut state, group, &batch, &numbered, &mut ack);
    }
    ack.stored = batch.frames.len() as u64;
    ack.refused = batch.refused;
    group.frames.join(batch.frames);
    group.seen.extend(batch.metas);
    Ok(ack)
}

/// A batch whose numbers were found right.
struct Numbered {
    producer: u32,
    /// Leading records that were taken in before.
    repeats: usize,
    /// The producer is new: nothing but this batch speaks of it.
    born: bool,
}

/// Asks the producer's mark.
fn admit(
    state: &mut FeedState,
    group: &mut Group,
    batch: &Batch,
    key: &ProducerKey,
    first: u64,
    limits: StageLimits,
) -> Result<Numbered, AppendError> {
    let known = state.producers.id(key);
    let producer = match known {
        Some(id) => id,
        None => begin(state, group, key, (first, batch.count), limits)?,
    };
    let admitted = match state.producers.state(producer) {
        Some(state) => state.mark.admit(first, &batch.hashes)?,
        None => return Err(AppendError::Stopping),
    };
    Ok(Numbered {
        producer,
        repeats: admitted.duplicates,
        born: known.is_none(),
    })
}

/// Takes back the birth of a producer whose first batch was refused.
fn unborn(state: &mut FeedState, group: &mut Group, numbered: Option<&Numbered>) {
    if let Some(numbered) = numbered.filter(|numbered| numbered.born) {
        state.producers.unborn(numbered.producer);
        group.births.retain(|(id, _)| *id != numbered.producer);
    }
}

/// Moves the producer's mark, and notes how far it comes with each record that is stored.
fn number(
    state: &mut FeedState,
    group: &mut Group,
    batch: &Batch,
    numbered: &Numbered,
    ack: &mut Ack,
) {
    let Some(producer) = state.producers.state(numbered.producer) else {
        return;
    };
    let before = producer.mark.sequence();
    let new = batch.hashes.get(numbered.repeats..).unwrap_or_default();
    let mut notes = Vec::with_capacity(batch.frames.len());
    let mut invalid = batch.refused.iter().map(|r| r.index).peekable();
    while invalid.next_if(|index| *index < numbered.repeats).is_some() {}
    let mut sent = numbered.repeats;
    if !new.is_empty() {
        producer.mark.advance(new, |sequence, content| {
            if invalid.next_if_eq(&sent).is_none() {
                notes.push((sequence, content));
            }
            sent += 1;
        });
        let reached = producer.mark.sequence();
        group.moves.push((numbered.producer, before, reached));
    }
    producer.last_seen = group.ingest_time;
    producer.refused += batch.refused.len() as u64;
    let reached = producer.mark.sequence();
    ack.sequence = Some(reached);
    let noted = notes.last().map_or(before, |(sequence, _)| *sequence);
    if noted < reached && !group.beyond_blocks.contains(&numbered.producer) {
        group.beyond_blocks.push(numbered.producer);
    }
    if !notes.is_empty() {
        let from = group.seen.len();
        group.marks.push(MarkRun {
            producer: numbered.producer,
            records: from..from + notes.len(),
            notes,
        });
    }
}

fn begin(
    state: &mut FeedState,
    group: &mut Group,
    key: &ProducerKey,
    (first, count): (u64, usize),
    limits: StageLimits,
) -> Result<u32, AppendError> {
    let limit = limits.max_producers;
    let id = state
        .producers
        .begin(key, first, count, limit)?
        .map_err(|TooMany| AppendError::ProducerLimit { limit })?;
    if let Some(born) = state.producers.peek(id) {
        group.births.push((id, born.clone()));
    }
    Ok(id)
}

fn all_valid(batch: &Batch) -> Result<(), AppendError> {
    match batch.refused.first() {
        Some(refused) => Err(AppendError::Atomic {
            index: refused.index,
            invalid: refused.invalid.clone(),
        }),
        None => Ok(()),
    }
}
