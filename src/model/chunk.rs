//! Records as they travel inside: wire bytes, framed as the `records` field of a response, with
//! the server's fields appended to the producer's own bytes. Built once, shared by all.

use std::sync::Arc;

use bytes::Bytes;

use super::{Offset, Span};

/// Tag byte of `records = 15` in every message that carries records.
pub const FRAME_TAG: u8 = 15 << 3 | 2;
/// Tag byte of `Record.offset = 13`, fixed64.
pub const OFFSET_TAG: u8 = 13 << 3 | 1;
/// Tag byte of `Record.ingest_time_unix_nanos = 14`, sfixed64.
pub const INGEST_TIME_TAG: u8 = 14 << 3 | 1;
/// Bytes that the server appends to a record: offset and ingest time.
pub const SERVER_FIELDS_LEN: usize = 18;

/// Consecutive records of one feed: offsets `base..base + count`.
#[derive(Clone, Debug)]
pub struct Chunk {
    base: Offset,
    /// Where each frame starts in `body`; one longer than the number of records.
    starts: Arc<Vec<u32>>,
    /// Which of `starts` this chunk spans.
    first: usize,
    count: usize,
    body: Bytes,
}

impl Chunk {
    /// Records whose frames end where `starts` says, `starts[0]` being 0.
    pub(super) fn of_frames(base: Offset, starts: Vec<u32>, body: Bytes) -> Self {
        Self {
            base,
            first: 0,
            count: starts.len().saturating_sub(1),
            starts: starts.into(),
            body,
        }
    }

    /// Finds the frames in a stored body; `None` when it is not a whole number of frames.
    pub fn parse(base: Offset, body: Bytes) -> Option<Self> {
        let mut starts = Vec::with_capacity(body.len() / 64 + 1);
        let mut at = 0;
        while at < body.len() {
            starts.push(position(at));
            if *body.get(at)? != FRAME_TAG {
                return None;
            }
            let (len, used) = take_varint(body.get(at + 1..)?)?;
            at = at.checked_add(1 + used)?.checked_add(len)?;
        }
        if at != body.len() {
            return None;
        }
        starts.push(position(at));
        Some(Self::of_frames(base, starts, body))
    }

    /// Bytes a record of `len` bytes takes as a frame.
    pub fn frame_len(len: usize) -> usize {
        Self::framed_len(len + SERVER_FIELDS_LEN)
    }

    /// Bytes of a frame around `len` bytes.
    pub fn framed_len(len: usize) -> usize {
        1 + varint_len(len) + len
    }

    pub fn span(&self) -> Span {
        Span::new(self.base, self.base + self.count as u64)
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All frames: the `records` field of a response as it stands.
    pub fn body(&self) -> Bytes {
        self.body.slice(self.start(0)..self.start(self.count))
    }

    /// The same without a hold on them.
    pub fn bytes(&self) -> &[u8] {
        let range = self.start(0)..self.start(self.count);
        self.body.get(range).unwrap_or_default()
    }

    /// Bytes of all frames.
    pub fn body_len(&self) -> usize {
        self.start(self.count) - self.start(0)
    }

    /// The records from `span.from` to `span.to`, as far as they are in here.
    pub fn slice(&self, span: Span) -> Self {
        let whole = self.span();
        let from = span.from.clamp(whole.from, whole.to);
        let to = span.to.clamp(from, whole.to);
        Self {
            base: from,
            first: self.first + index(from - whole.from),
            count: index(to - from),
            starts: Arc::clone(&self.starts),
            body: self.body.clone(),
        }
    }

    /// The leading records whose frames fit in `max_bytes`, and at least one.
    pub fn prefix(&self, max_bytes: usize) -> Self {
        if self.body_len() <= max_bytes {
            return self.clone();
        }
        let fit = self.fitting(max_bytes).max(1);
        self.slice(Span::new(self.base, self.base + fit as u64))
    }

    /// How many leading records' frames fit in `max_bytes`.
    pub fn fitting(&self, max_bytes: usize) -> usize {
        let limit = self.start(0).saturating_add(max_bytes);
        let ends = self
            .starts
            .get(self.first + 1..=self.first + self.count)
            .unwrap_or_default();
        ends.partition_point(|end| *end as usize <= limit)
    }

    /// Each record's offset and bytes, without its frame.
    pub fn records(&self) -> impl Iterator<Item = (Offset, Bytes)> + '_ {
        (0..self.count).map(|i| {
            let frame = self.body.slice(self.start(i)..self.start(i + 1));
            let header = 1 + take_varint(frame.get(1..).unwrap_or_default()).map_or(0, |v| v.1);
            (self.base + i as u64, frame.slice(header.min(frame.len())..))
        })
    }

    /// The record at `offset`, without its frame.
    pub fn record(&self, offset: Offset) -> Option<&[u8]> {
        if !self.span().contains(offset) {
            return None;
        }
        let i = index(offset - self.base);
        let frame = self.body.get(self.start(i)..self.start(i + 1))?;
        let (_, used) = take_varint(frame.get(1..)?)?;
        frame.get(1 + used..)
    }

    /// Where the frame of record `i` starts in the body that this chunk is cut from.
    fn start(&self, i: usize) -> usize {
        self.starts
            .get(self.first + i)
            .map_or(self.body.len(), |start| *start as usize)
    }
}

pub(super) fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

pub(super) fn varint_len(value: usize) -> usize {
    (64 - (value as u64 | 1).leading_zeros() as usize).div_ceil(7)
}

pub(super) fn take_varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0_usize;
    for (i, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, i + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Frames, NewRecord, UnixNanos};

    fn build(base: Offset, ingest_time: UnixNanos, records: &[NewRecord]) -> Chunk {
        Frames::of(records).seal(base, ingest_time).0
    }

    fn records(sizes: &[usize]) -> Vec<NewRecord> {
        sizes
            .iter()
            .enumerate()
            .map(|(i, size)| NewRecord {
                bytes: vec![u8::try_from(i).unwrap(); *size].into(),
                event_time: 0,
            })
            .collect()
    }

    proptest! {
        #[test]
        fn a_stored_body_parses_to_the_same_records(
            sizes in prop::collection::vec(0..300_usize, 0..40),
            from in 0..50_u64,
            len in 0..50_u64,
        ) {
            let built = build(7, 99, &records(&sizes));
            let parsed = Chunk::parse(7, built.body()).unwrap();
            prop_assert_eq!(built.span(), parsed.span());
            prop_assert!(built.records().eq(parsed.records()));
            prop_assert_eq!(
                built.body_len(),
                sizes.iter().map(|s| Chunk::frame_len(*s)).sum::<usize>()
            );
            let cut = built.slice(Span::new(7 + from, 7 + from + len));
            let expected: Vec<_> = built
                .records()
                .filter(|(offset, _)| cut.span().contains(*offset))
                .collect();
            prop_assert_eq!(cut.records().collect::<Vec<_>>(), expected);
            prop_assert_eq!(Chunk::parse(cut.span().from, cut.body()).unwrap().len(), cut.len());
        }

        #[test]
        fn a_prefix_fits_or_is_one_record(
            sizes in prop::collection::vec(0..300_usize, 1..40),
            max in 0..5_000_usize,
        ) {
            let chunk = build(0, 0, &records(&sizes));
            let prefix = chunk.prefix(max);
            prop_assert!(prefix.body_len() <= max || prefix.len() == 1);
            let one_more = chunk.slice(Span::new(0, prefix.span().to + 1));
            prop_assert!(one_more.body_len() > max || prefix.len() == chunk.len());
        }
    }

    #[test]
    fn a_cut_body_is_not_a_chunk() {
        let body = build(0, 0, &records(&[5, 6])).body();
        assert!(Chunk::parse(0, body.slice(..body.len() - 1)).is_none());
        assert!(Chunk::parse(0, Bytes::from_static(&[FRAME_TAG])).is_none());
        assert!(Chunk::parse(0, Bytes::from_static(b"x")).is_none());
    }
}
