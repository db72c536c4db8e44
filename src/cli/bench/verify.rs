//! Whether everything came once, in order and unchanged.
//!
//! Every subscriber checks that its batches join without a hole; a `Verifier` walks the records
//! as well: their offsets, their turn among what their uploader sent, and a rolling hash.

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;

use super::{
    load::{Load, PREFIX_LEN, Selection, event_time_at, roll},
    wire::{Cut, fields},
};
use crate::model::{INGEST_TIME_TAG, OFFSET_TAG, SERVER_FIELDS_LEN, Span};

const BATCH: u32 = 2;
const RECORD: u32 = 15;

/// What was verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Verified {
    pub records: u64,
    #[serde(serialize_with = "hexadecimal")]
    pub hash: u64,
}

fn hexadecimal<S: serde::Serializer>(hash: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{hash:016x}"))
}

/// Whether the records have every offset, or only those of some keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offsets {
    Dense,
    Sparse,
}

/// Follows what several uploaders sent, as one subscriber gets it.
#[derive(Debug)]
pub(super) struct Verifier {
    offsets: Offsets,
    /// The lowest offset the next record may have.
    next: u64,
    lanes: Vec<Lane>,
}

/// What one uploader sent.
#[derive(Debug)]
struct Lane {
    load: Load,
    selection: Option<Selection>,
    /// The number, among all that were sent, of the record that has to come.
    next: u64,
    records: u64,
    hash: u64,
}

impl Verifier {
    /// For a subscriber to everything that `loads` send, in the order of their prefixes.
    pub(super) fn new(loads: &[Load]) -> Self {
        let lanes = loads.iter().cloned().map(|load| Lane::new(load, None));
        Self {
            offsets: Offsets::Dense,
            next: 0,
            lanes: lanes.collect(),
        }
    }

    /// For a subscriber to some keys of one uploader.
    pub(super) fn of_keys(load: Load, selection: Selection) -> Self {
        Self {
            offsets: Offsets::Sparse,
            next: 0,
            lanes: vec![Lane::new(load, Some(selection))],
        }
    }

    /// Checks the records of a response with a batch of `count` records that covers `covers`;
    /// `seen` is told the event time of each.
    pub(super) fn batch(
        &mut self,
        response: &[u8],
        covers: Span,
        count: u64,
        mut seen: impl FnMut(i64),
    ) -> anyhow::Result<()> {
        let mut message = fields(response);
        let mut records = 0;
        while let Some(field) = message.next()? {
            if field.number != BATCH {
                continue;
            }
            let mut batch = fields(field.bytes);
            while let Some(field) = batch.next()? {
                ensure!(field.cut == Cut::Whole, "a batch is cut short");
                if field.number == RECORD {
                    records += 1;
                    seen(self.record(field.bytes, covers)?);
                }
            }
        }
        ensure!(
            records == count,
            "a batch says it has {count} records and has {records}"
        );
        Ok(())
    }

    fn record(&mut self, record: &[u8], covers: Span) -> anyhow::Result<i64> {
        let (own, offset) = split(record).context("a record lacks the server's fields")?;
        ensure!(
            covers.contains(offset),
            "offset {offset} is not among {}..{}, which its batch covers",
            covers.from,
            covers.to
        );
        let fits = match self.offsets {
            Offsets::Dense => offset == self.next,
            Offsets::Sparse => offset >= self.next,
        };
        ensure!(
            fits,
            "offset {offset} came where {} was expected",
            self.next
        );
        self.next = offset + 1;
        let lane = match self.lanes.as_mut_slice() {
            [only] => Some(only),
            lanes => stream_of(own).and_then(|stream| lanes.get_mut(stream)),
        };
        let lane = lane.with_context(|| format!("nobody sent the record at offset {offset}"))?;
        lane.record(own)
            .with_context(|| format!("at offset {offset}"))
    }

    /// Compares with what was sent: for each uploader, how many records.
    pub(super) fn finish(&self, sent: &[u64]) -> anyhow::Result<Verified> {
        ensure!(sent.len() == self.lanes.len(), "uploaders are missing");
        let mut all = Verified::default();
        for (stream, (lane, sent)) in self.lanes.iter().zip(sent).enumerate() {
            lane.finish(*sent)
                .with_context(|| format!("of uploader {stream}"))?;
            all.records += lane.records;
            all.hash = roll(all.hash, &lane.hash.to_le_bytes());
        }
        Ok(all)
    }
}

impl Lane {
    fn new(load: Load, selection: Option<Selection>) -> Self {
        let mut lane = Self {
            load,
            selection,
            next: 0,
            records: 0,
            hash: 0,
        };
        lane.skip();
        lane
    }

    /// Goes on to the next record that is selected.
    fn skip(&mut self) {
        if let Some(selection) = &self.selection {
            let pool = self.load.pool.len();
            let end = self.next + pool;
            while self.next < end && !selection.contains(self.next) {
                self.next += 1;
            }
        }
    }

    fn record(&mut self, own: &[u8]) -> anyhow::Result<i64> {
        let at = event_time_at(own).context("a record does not begin as it was sent")?;
        let time = own.get(at..).and_then(|rest| rest.first_chunk());
        let time = i64::from_le_bytes(*time.context("a record is cut short")?);
        let expected = self.load.clock.time(self.next);
        if time != expected {
            let number = self.load.clock.due(time).saturating_sub(1);
            let verdict = if time < expected {
                "doubled or out of order"
            } else {
                "records are lost or out of order"
            };
            bail!(
                "record {number} came where {} was expected: {verdict}",
                self.next
            );
        }
        self.hash = roll(self.hash, own);
        self.records += 1;
        self.next += 1;
        self.skip();
        Ok(time)
    }

    fn finish(&self, sent: u64) -> anyhow::Result<()> {
        let expected = self.selection.as_ref().map_or(sent, |s| s.count(sent));
        ensure!(
            self.records == expected,
            "{} records came of {expected}",
            self.records
        );
        ensure!(
            self.hash == self.load.hash(sent, self.selection.as_ref()),
            "records came with other content than was sent"
        );
        Ok(())
    }
}

/// A record as it was sent, and the offset the server gave it.
fn split(record: &[u8]) -> Option<(&[u8], u64)> {
    let (own, server) = record.split_at_checked(record.len().checked_sub(SERVER_FIELDS_LEN)?)?;
    let (offset, ingest_time) = server.split_at_checked(SERVER_FIELDS_LEN / 2)?;
    let ([OFFSET_TAG, offset @ ..], [INGEST_TIME_TAG, ..]) = (offset, ingest_time) else {
        return None;
    };
    Some((own, u64::from_le_bytes(*offset.first_chunk()?)))
}

/// Which uploader's prefix the key of a record has.
fn stream_of(own: &[u8]) -> Option<usize> {
    let key = own.get(2..2 + PREFIX_LEN)?;
    let [tens, ones, b'.'] = key else {
        return None;
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(10);
    usize::try_from(digit(tens)? * 10 + digit(ones)?).ok()
}
