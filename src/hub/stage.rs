//! From jobs to appends: producers' marks are consulted and moved, keys numbered, refusals
//! collected, and batches of one feed joined.

use std::sync::Arc;

use super::{
    Feed,
    append::{Ack, Answer, AppendJob, Batch, Mode, Refused},
    error::AppendError,
    feed::{FeedState, SeenMeta},
    keys::KeyLimits,
    producers::{ProducerKey, ProducerState, TooMany},
};
use crate::{
    model::{self, Chunk, MarkNote, NewRecord, Span, UnixNanos},
    proto::wire::{Checked, Invalid, Reason},
    store::{StoreError, Unit},
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
    pub records: Vec<NewRecord>,
    pub seen: Vec<SeenMeta>,
    pub marks: Vec<Option<MarkNote>>,
    /// Producers that blocks may not note yet, as they were before their first record.
    pub births: Vec<(u32, ProducerState)>,
    /// Producers that went beyond what a block notes: their last records were refused.
    pub beyond_blocks: Vec<u32>,
    /// Where each producer was before.
    undo: Vec<(u32, u64)>,
    answers: Vec<Staged>,
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
        let last = feed.state().last_append.unwrap_or(UnixNanos::MIN);
        Self {
            feed,
            unit,
            // The wall clock, but never before what came in earlier.
            ingest_time: model::now().max(last),
            records: vec![],
            seen: vec![],
            marks: vec![],
            births: vec![],
            beyond_blocks: vec![],
            undo: vec![],
            answers: vec![],
        }
    }

    pub(super) fn needs_flush(&self) -> bool {
        !self.records.is_empty() || !self.beyond_blocks.is_empty()
    }

    /// Answers every batch: durable.
    pub(super) fn acknowledge(self, chunk: &Chunk) {
        let base = chunk.span().from;
        {
            let mut state = self.feed.state();
            for (producer, _) in &self.undo {
                state.producers.settle(*producer);
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
        for (producer, sequence) in self.undo.into_iter().rev() {
            if let Some(producer) = state.producers.state(producer) {
                producer.mark.back_to(sequence);
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
}

impl Staging {
    pub(super) fn new(limits: StageLimits) -> Self {
        Self {
            limits,
            groups: vec![],
        }
    }

    pub(super) fn into_groups(self) -> Vec<Group> {
        self.groups
    }

    /// Takes a batch into the group it belongs to, or refuses it as a whole.
    pub(super) fn stage(&mut self, job: AppendJob) {
        let AppendJob {
            feed,
            batch,
            answer,
        } = job;
        if feed.is_deleted() {
            return answer.give(&feed, Err(AppendError::FeedDeleted));
        }
        let limits = self.limits;
        let group = self.group(&feed, batch.mode);
        let from = group.records.len();
        match take(group, batch, limits) {
            Ok(ack) => {
                let records = from..group.records.len();
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
fn take(group: &mut Group, batch: Batch, limits: StageLimits) -> Result<Ack, AppendError> {
    let feed = Arc::clone(&group.feed);
    let mut state = feed.state();
    if batch.mode == Mode::Atomic {
        all_valid(&batch)?;
    }
    let mut ack = Ack {
        epoch: feed.epoch(),
        ..Ack::default()
    };
    let Batch {
        producer, items, ..
    } = batch;
    let Some((key, first)) = producer else {
        for (index, item) in items.into_iter().enumerate() {
            match item
                .checked
                .and_then(|checked| meta(&mut state, checked, limits))
            {
                Ok((record, meta)) => push(group, &mut ack, record, meta, None),
                Err(invalid) => ack.refused.push(Refused { index, invalid }),
            }
        }
        return Ok(ack);
    };
    let hashes: Vec<u64> = items.iter().map(|item| item.hash).collect();
    let id = producer_id(&mut state, group, &key, (first, hashes.len()), limits)?;
    let (new, notes) = advance(&mut state, group, id, first, &hashes)?;
    let mut last_noted = None;
    for (index, item) in items.into_iter().enumerate() {
        let checked = match item.checked {
            Ok(_) if index < new => {
                ack.duplicates += 1;
                continue;
            }
            other => other,
        };
        match checked.and_then(|checked| meta(&mut state, checked, limits)) {
            Ok((record, meta)) => {
                last_noted = notes.get(index - new).copied();
                push(group, &mut ack, record, meta, last_noted);
            }
            Err(invalid) => ack.refused.push(Refused { index, invalid }),
        }
    }
    let fully_noted = last_noted.map(|note| note.sequence) == notes.last().map(|n| n.sequence);
    settle(&mut state, group, id, &mut ack, fully_noted);
    Ok(ack)
}

/// Asks the producer's mark, and moves it. Returns how many leading records are repeats, and for
/// each of the others how far the producer came with it.
fn advance(
    state: &mut FeedState,
    group: &mut Group,
    id: u32,
    first: u64,
    hashes: &[u64],
) -> Result<(usize, Vec<MarkNote>), AppendError> {
    let Some(producer) = state.producers.state(id) else {
        return Ok((0, vec![]));
    };
    let before = producer.mark.sequence();
    let duplicates = producer.mark.admit(first, hashes)?.duplicates;
    let mut notes = Vec::with_capacity(hashes.len() - duplicates);
    let new = hashes.get(duplicates..).unwrap_or_default();
    if !new.is_empty() {
        producer.mark.advance(new, |sequence, content| {
            notes.push(MarkNote {
                producer: id,
                sequence,
                content,
            });
        });
        group.undo.push((id, before));
    }
    Ok((duplicates, notes))
}

fn producer_id(
    state: &mut FeedState,
    group: &mut Group,
    key: &ProducerKey,
    (first, count): (u64, usize),
    limits: StageLimits,
) -> Result<u32, AppendError> {
    if let Some(id) = state.producers.id(key) {
        return Ok(id);
    }
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

fn settle(state: &mut FeedState, group: &mut Group, id: u32, ack: &mut Ack, fully_noted: bool) {
    let Some(producer) = state.producers.state(id) else {
        return;
    };
    producer.last_seen = group.ingest_time;
    producer.refused += ack.refused.len() as u64;
    ack.sequence = Some(producer.mark.sequence());
    if !fully_noted && !group.beyond_blocks.contains(&id) {
        group.beyond_blocks.push(id);
    }
}

fn all_valid(batch: &Batch) -> Result<(), AppendError> {
    for (index, item) in batch.items.iter().enumerate() {
        if let Err(invalid) = &item.checked {
            return Err(AppendError::Atomic {
                index,
                invalid: invalid.clone(),
            });
        }
    }
    Ok(())
}

fn meta(
    state: &mut FeedState,
    checked: Checked,
    limits: StageLimits,
) -> Result<(NewRecord, SeenMeta), Invalid> {
    let key = std::str::from_utf8(&checked.key).unwrap_or_default();
    let key = state.keys.intern(key, limits.keys).ok_or_else(|| Invalid {
        field: "key",
        reason: Reason::KeyLimit,
        message: format!(
            "the feed takes no new key beyond {} keys, or {} bytes of last records; delete keys, or raise limits.keys_per_feed or limits.latest_bytes_per_feed",
            limits.keys.keys, limits.keys.latest_bytes
        ),
    })?;
    let event_time = checked.record.event_time;
    Ok((
        checked.record,
        SeenMeta {
            key,
            kind: checked.kind,
            event_time,
        },
    ))
}

fn push(
    group: &mut Group,
    ack: &mut Ack,
    record: NewRecord,
    meta: SeenMeta,
    note: Option<MarkNote>,
) {
    group.records.push(record);
    group.seen.push(meta);
    group.marks.push(note);
    ack.stored += 1;
}
