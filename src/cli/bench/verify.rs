//! Whether everything came once, in order and unchanged.
//!
//! Every subscriber checks that its batches join without a hole; a `Verifier` walks the records
//! as well: their offsets, their turn among what their uploader sent, and a rolling hash.

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;

use super::{
    load::{Clock, Load, PREFIX_LEN, Selection, event_time_at, roll},
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

    /// Sets the clock that says when records are due; before the first of them.
    pub(super) fn begin(&mut self, clock: Clock) {
        for lane in &mut self.lanes {
            lane.load.clock = clock;
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

#[cfg(test)]
mod tests {
    use bytes::{BufMut as _, Bytes};
    use prost::Message as _;

    use super::*;
    use crate::{
        cli::bench::{load::tests::load, subscriber::Subscriber, wire::TakeMessage as _},
        model::Span,
        proto::v1::{self, subscribe_response::Event},
    };

    const BATCH: usize = 4;

    /// A feed as a subscriber gets it, before it is doctored.
    struct Wire {
        loads: Vec<Load>,
        sent: Vec<u64>,
        /// What uploaders sent, in the order of the feed.
        records: Vec<Vec<u8>>,
    }

    impl Wire {
        /// Uploader 0 sends twice as often as the others.
        fn of(streams: usize) -> Self {
            let loads: Vec<Load> = (0..streams).map(load).collect();
            let mut wire = Self {
                sent: vec![0; streams],
                records: Vec::new(),
                loads,
            };
            for turn in 0..40 {
                let stream = if turn % 2 == 0 { 0 } else { turn / 2 % streams };
                let mut record = Vec::new();
                wire.loads[stream].record(wire.sent[stream], &mut record);
                wire.sent[stream] += 1;
                wire.records.push(record);
            }
            wire
        }

        /// Every record at its place, four to a batch.
        fn placed(&self) -> Vec<(u64, Vec<u8>)> {
            (0..).zip(self.records.iter().cloned()).collect()
        }

        fn verdict(&self, placed: Vec<(u64, Vec<u8>)>) -> anyhow::Result<Verified> {
            let responses = placed.chunks(BATCH).map(|batch| {
                let covers = Span::new(batch[0].0, batch[batch.len() - 1].0 + 1);
                response(covers, batch.len(), batch)
            });
            self.judge(Verifier::new(&self.loads), responses)
        }

        fn judge(
            &self,
            verifier: Verifier,
            responses: impl IntoIterator<Item = Vec<u8>>,
        ) -> anyhow::Result<Verified> {
            let mut subscriber = Subscriber::verifying(verifier);
            for response in responses {
                subscriber.whole(&response)?;
            }
            subscriber.verifier.unwrap().finish(&self.sent)
        }
    }

    fn response(covers: Span, count: usize, batch: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let records = batch.iter().map(|(offset, own)| {
            let mut record = own.clone();
            record.put_u8(OFFSET_TAG);
            record.put_u64_le(*offset);
            record.put_u8(INGEST_TIME_TAG);
            record.put_i64_le(77);
            Bytes::from(record)
        });
        let batch = v1::RecordBatch {
            covers: Some(v1::OffsetRange {
                from: covers.from,
                to: covers.to,
            }),
            count: count.try_into().unwrap(),
            records: records.collect(),
            ..Default::default()
        };
        v1::SubscribeResponse {
            event: Some(Event::Records(batch)),
            ..Default::default()
        }
        .encode_to_vec()
    }

    #[track_caller]
    fn fails(verdict: anyhow::Result<Verified>, with: &str) {
        let said = format!("{:#}", verdict.expect_err("it was not noticed"));
        assert!(said.contains(with), "{said}");
    }

    #[test]
    fn what_was_sent_passes_and_is_counted() {
        for streams in [1, 3] {
            let wire = Wire::of(streams);
            let verified = wire.verdict(wire.placed()).unwrap();
            assert_eq!(verified.records, 40);
            assert_eq!(wire.verdict(wire.placed()).unwrap(), verified);
        }
        let one = Wire::of(1).verdict(Wire::of(1).placed()).unwrap();
        let three = Wire::of(3).verdict(Wire::of(3).placed()).unwrap();
        assert_ne!(one.hash, three.hash);
    }

    #[test]
    fn a_lost_record_is_noticed() {
        for streams in [1, 3] {
            let wire = Wire::of(streams);
            let mut lost = wire.placed();
            lost.remove(9);
            fails(wire.verdict(lost), "offset 10 came where 9 was expected");
            // Also when the offsets close the hole.
            let mut records = wire.records.clone();
            records.remove(9);
            fails(wire.verdict((0..).zip(records).collect()), "lost");
            let mut last = wire.placed();
            last.pop();
            fails(wire.verdict(last), "records came of");
            let mut batch = wire.placed();
            batch.drain(8..12);
            fails(wire.verdict(batch), "covers 12..16 where 8 was to come");
        }
    }

    #[test]
    fn a_doubled_record_is_noticed() {
        let wire = Wire::of(3);
        let mut doubled = wire.placed();
        doubled.insert(9, doubled[9].clone());
        fails(wire.verdict(doubled), "offset 9 came where 10 was expected");
        let mut records = wire.records.clone();
        records.insert(9, records[8].clone());
        fails(wire.verdict((0..).zip(records).collect()), "doubled");
    }

    #[test]
    fn a_changed_record_is_noticed_in_every_byte() {
        let wire = Wire::of(3);
        for at in 0..wire.records[9].len() {
            let mut changed = wire.placed();
            changed[9].1[at] ^= 1;
            assert!(wire.verdict(changed).is_err(), "byte {at}");
        }
        let mut value = wire.placed();
        *value[9].1.last_mut().unwrap() ^= 1;
        fails(wire.verdict(value), "other content");
    }

    #[test]
    fn records_out_of_order_are_noticed() {
        let wire = Wire::of(1);
        let mut swapped = wire.placed();
        swapped.swap(9, 10);
        fails(wire.verdict(swapped), "offset 10 came where 9 was expected");
        let mut records = wire.records.clone();
        records.swap(9, 10);
        fails(wire.verdict((0..).zip(records).collect()), "out of order");
    }

    #[test]
    fn a_batch_that_counts_wrong_or_covers_wrong_is_noticed() {
        let wire = Wire::of(1);
        let first = &wire.placed()[..4];
        let judge = |response| wire.judge(Verifier::new(&wire.loads), [response]);
        fails(judge(response(Span::new(0, 4), 3, first)), "has 4");
        fails(judge(response(Span::new(0, 3), 4, first)), "more records");
        fails(judge(response(Span::new(0, 2), 2, &first[..3])), "covers");
        // A subscriber that only counts sees it too.
        let mut counting = Subscriber::counting();
        let seen = counting.whole(&response(Span::new(1, 4), 3, &first[1..]));
        assert!(seen.unwrap_err().to_string().contains("lost"));
    }

    #[test]
    fn of_some_keys_exactly_theirs_have_to_come() {
        let wire = Wire::of(1);
        let selection = || Selection::new(&wire.loads[0].pool, |key| key == 1);
        let verifier = || Verifier::of_keys(wire.loads[0].clone(), selection());
        let theirs: Vec<_> = wire
            .placed()
            .into_iter()
            .filter(|(n, _)| selection().contains(*n))
            .collect();
        let all = |batch: &[(u64, Vec<u8>)]| response(Span::new(0, 40), batch.len(), batch);
        let verified = wire.judge(verifier(), [all(&theirs)]).unwrap();
        assert_eq!(verified.records, theirs.len() as u64);
        fails(wire.judge(verifier(), [all(&theirs[1..])]), "lost");
        let mut other = theirs;
        other.insert(1, (2, wire.records[2].clone()));
        assert!(wire.judge(verifier(), [all(&other)]).is_err());
    }
}
