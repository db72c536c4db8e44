//! What an upload keeps until it is decided, and how its answers are counted.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;
use tonic::Status;

use super::UploadOptions;
use crate::{model::Span, proto::v1};

const KEPT_REFUSALS: usize = 100;
/// What a kept record costs beside its bytes.
const RECORD_OVERHEAD: usize = 64;

/// What became of an upload so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UploadSummary {
    /// Records stored by this upload, durable.
    pub stored: u64,
    /// Records that had been stored before this upload.
    pub duplicates: u64,
    pub refused: u64,
    /// The first 100 refusals, `index` counted over the whole upload. Refusals that a cut took
    /// along are counted but not listed.
    pub refusals: Vec<v1::Refusal>,
    /// From the first offset stored to one beyond the last; others may have written between.
    pub offsets: Option<Span>,
    pub epoch: Option<u64>,
    /// The producer's highest durable sequence.
    pub durable_sequence: Option<u64>,
    /// How often a call broke and was sent again.
    pub resumed: u32,
}

impl UploadSummary {
    pub(super) fn enter(&mut self, response: v1::IngestResponse, counts: Counts, first_index: u64) {
        self.stored += counts.stored;
        self.duplicates += counts.duplicates;
        self.refused += counts.refused;
        for mut refusal in response.refusals {
            if self.refusals.len() < KEPT_REFUSALS {
                refusal.index += first_index;
                self.refusals.push(refusal);
            }
        }
        for feed in response.feeds {
            self.enter_feed(&feed);
        }
    }

    fn enter_feed(&mut self, feed: &v1::IngestFeedSummary) {
        if self.epoch != Some(feed.epoch) {
            self.epoch = Some(feed.epoch);
            self.offsets = None;
        }
        self.durable_sequence = feed.durable_sequence.or(self.durable_sequence);
        if let Some(range) = &feed.offsets {
            let (from, to) = self.offsets.map_or((range.from, range.to), |known| {
                (known.from.min(range.from), known.to.max(range.to))
            });
            self.offsets = Some(Span::new(from, to));
        }
    }

    /// What a failed call says of itself.
    pub(super) fn add_progress(&mut self, progress: Option<&v1::IngestProgress>) {
        if let Some(progress) = progress {
            self.stored += progress.stored;
            self.duplicates += progress.duplicates;
            self.durable_sequence = progress.stored_through_sequence.or(self.durable_sequence);
        }
    }
}

impl UploadSummary {
    /// What a failed call decided, where it says all of it.
    pub(super) fn add_decided(&mut self, progress: &v1::IngestProgress) {
        self.add_progress(Some(progress));
        let decided = progress.decided.unwrap_or_default();
        self.refused += decided.saturating_sub(progress.stored + progress.duplicates);
    }
}

/// `IngestProgress` in the details of a failed call.
pub(super) fn progress(status: &Status) -> Option<v1::IngestProgress> {
    let details = tonic_types::Status::decode(status.details()).ok()?;
    let any = details
        .details
        .iter()
        .find(|any| any.type_url.ends_with("/ringfeed.v1.IngestProgress"))?;
    v1::IngestProgress::decode(any.value.as_slice()).ok()
}

/// What the server knew of the producer before this upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mark {
    #[default]
    NotAsked,
    /// We may not know.
    Hidden,
    /// It does not know this producer.
    New,
    Known {
        sequence: u64,
        refused: u64,
    },
}

impl From<v1::Producer> for Mark {
    fn from(producer: v1::Producer) -> Self {
        Self::Known {
            sequence: producer.durable_sequence,
            refused: producer.refused,
        }
    }
}

impl Mark {
    pub(super) fn refused(self) -> u64 {
        match self {
            Self::Known { refused, .. } => refused,
            Self::NotAsked | Self::Hidden | Self::New => 0,
        }
    }

    fn sequence(self) -> u64 {
        match self {
            Self::Known { sequence, .. } => sequence,
            Self::NotAsked | Self::Hidden | Self::New => 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    stored: u64,
    duplicates: u64,
    refused: u64,
}

/// The batches of one call, kept until its summary.
#[derive(Debug)]
pub(super) struct Group {
    /// Index of its first record, dropped ones included.
    begin: u64,
    batches: VecDeque<Batch>,
    end: u64,
    bytes: usize,
    cuts: u32,
    trimmed: bool,
}

#[derive(Debug)]
struct Batch {
    first_index: u64,
    records: Vec<Bytes>,
}

impl Batch {
    fn end(&self) -> u64 {
        self.first_index + self.records.len() as u64
    }
}

impl Group {
    pub(super) fn beginning_at(index: u64) -> Self {
        Self {
            begin: index,
            batches: VecDeque::new(),
            end: index,
            bytes: 0,
            cuts: 0,
            trimmed: false,
        }
    }

    pub(super) fn push(&mut self, records: Vec<Bytes>, bytes: usize) {
        self.bytes += bytes + records.len() * RECORD_OVERHEAD;
        let first_index = self.end;
        self.end += records.len() as u64;
        self.batches.push_back(Batch {
            first_index,
            records,
        });
    }

    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// One beyond the index of the last record.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Index of the first record that is still kept.
    pub(super) fn first_index(&self) -> u64 {
        self.batches
            .front()
            .map_or(self.end, |batch| batch.first_index)
    }

    pub(super) fn cuts(&self) -> u32 {
        self.cuts
    }

    /// Not all of it is sent again.
    pub(super) fn is_trimmed(&self) -> bool {
        self.trimmed
    }

    /// A call broke after it was begun.
    pub(super) fn cut(&mut self) {
        self.cuts += 1;
    }

    /// The batch as a message.
    pub(super) fn request(&self, at: usize, options: &UploadOptions) -> Option<v1::IngestRequest> {
        let batch = self.batches.get(at)?;
        let producer = options.producer.clone();
        Some(v1::IngestRequest {
            feed: options.feed.clone(),
            first_sequence: producer
                .as_ref()
                .map_or(0, |_| options.first_sequence + batch.first_index),
            producer: producer.unwrap_or_default(),
            mode: options.mode.into(),
            records: batch.records.clone(),
        })
    }

    /// Drops the records before index `known`, but for the last one: a call that sends nothing
    /// has no summary. Says whether there were any.
    pub(super) fn drop_before(&mut self, known: u64) -> bool {
        let any = self.drop_records(known.min(self.end.saturating_sub(1)));
        self.trimmed |= any;
        any
    }

    /// The first `count` records are decided, and counted.
    pub(super) fn decide(&mut self, count: u64) {
        let known = self.end.min(self.first_index() + count);
        self.drop_records(known);
        self.begin = known;
    }

    fn drop_records(&mut self, known: u64) -> bool {
        let mut any = false;
        while let Some(batch) = self.batches.front_mut() {
            let Some(stored) = known.checked_sub(batch.first_index).filter(|&n| n > 0) else {
                break;
            };
            any = true;
            if batch.end() > known {
                let stored = usize::try_from(stored).unwrap_or(usize::MAX);
                batch.records.drain(..stored.min(batch.records.len()));
                batch.first_index = known;
                break;
            }
            self.batches.pop_front();
        }
        any
    }

    /// Counts the group's records. After a cut the last answer calls records duplicates that this
    /// very upload stored before it: only what was there before the upload is a duplicate.
    pub(super) fn counts(
        &self,
        response: &v1::IngestResponse,
        refused: u64,
        mark: Mark,
        first_sequence: u64,
    ) -> Counts {
        if self.cuts == 0 {
            return Counts {
                stored: response.stored,
                duplicates: response.duplicates,
                refused: response.refused,
            };
        }
        let all = self.end - self.begin;
        let refused = refused.min(all);
        let before = (mark.sequence() + 1).saturating_sub(first_sequence + self.begin);
        // A refused record is refused again, whether its number was used before or not.
        let sequences = response.refusals.iter().map(|refusal| refusal.sequence);
        let again = sequences.filter(|&sequence| sequence <= mark.sequence());
        let duplicates = before
            .saturating_sub(again.count() as u64)
            .min(all - refused);
        Counts {
            stored: all - duplicates - refused,
            duplicates,
            refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(sizes: &[usize]) -> Group {
        let mut group = Group::beginning_at(100);
        for &size in sizes {
            group.push(vec![Bytes::from_static(b"r"); size], size);
        }
        group
    }

    fn options() -> UploadOptions {
        UploadOptions::to("f").producer("p")
    }

    #[test]
    fn batches_are_numbered_by_record() {
        let group = group(&[3, 2]);
        let sequences: Vec<_> = (0..3)
            .map(|at| Some(group.request(at, &options())?.first_sequence))
            .collect();
        assert_eq!(sequences, [Some(101), Some(104), None]);
        let plain = group.request(0, &UploadOptions::to("f")).unwrap();
        assert_eq!((plain.first_sequence, plain.producer.as_str()), (0, ""));
    }

    #[test]
    fn what_is_stored_is_not_sent_again() {
        let mut group = group(&[3, 2]);
        assert!(!group.drop_before(100));
        assert!(group.drop_before(104));
        let request = group.request(0, &options()).unwrap();
        assert_eq!((request.first_sequence, request.records.len()), (105, 1));
        assert_eq!(group.first_index(), 104);
        // All of it is stored: the last record asks for the summary.
        assert!(!group.drop_before(1_000));
        assert_eq!(group.len(), 1);
        assert_eq!(group.end(), 105);
    }

    #[test]
    fn a_resent_record_is_no_duplicate_when_this_upload_stored_it() {
        let mut group = group(&[10]);
        group.cut();
        let response = v1::IngestResponse {
            duplicates: 10,
            ..v1::IngestResponse::default()
        };
        let counts = |mark| group.counts(&response, 1, mark, 1);
        let fresh = Counts {
            stored: 9,
            duplicates: 0,
            refused: 1,
        };
        assert_eq!(counts(Mark::New), fresh);
        let known = Mark::Known {
            sequence: 104,
            refused: 0,
        };
        let mixed = Counts {
            stored: 5,
            duplicates: 4,
            refused: 1,
        };
        assert_eq!(counts(known), mixed);
    }

    #[test]
    fn offsets_grow_within_an_epoch() {
        let mut summary = UploadSummary::default();
        let mut enter = |epoch, from, to| {
            summary.enter_feed(&v1::IngestFeedSummary {
                epoch,
                offsets: Some(v1::OffsetRange { from, to }),
                ..v1::IngestFeedSummary::default()
            });
            summary.offsets
        };
        assert_eq!(enter(1, 5, 8), Some(Span::new(5, 8)));
        assert_eq!(enter(1, 20, 30), Some(Span::new(5, 30)));
        assert_eq!(enter(2, 0, 3), Some(Span::new(0, 3)));
    }
}
