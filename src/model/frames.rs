//! Records on their way into a ring: framed as they will be stored and delivered, with room for
//! what only the committer knows, their offsets and ingest time.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{
    Chunk, FRAME_TAG, INGEST_TIME_TAG, OFFSET_TAG, Offset, SERVER_FIELDS_LEN, UnixNanos,
    chunk::{position, take_varint},
};

/// A checked record: no server-owned fields, an event time in it.
#[derive(Clone, Debug)]
pub struct NewRecord {
    pub bytes: Bytes,
    pub event_time: UnixNanos,
}

/// Framed records without a place. `seal` gives them one.
#[derive(Clone, Debug)]
pub struct Frames {
    body: BytesMut,
    /// Where each frame starts, and where the last one ends.
    starts: Vec<u32>,
    event_times: Vec<UnixNanos>,
}

impl Default for Frames {
    fn default() -> Self {
        Self::with_capacity(0, 0)
    }
}

impl Frames {
    /// Room for `records` records of `bytes` bytes together.
    pub fn with_capacity(records: usize, bytes: usize) -> Self {
        let mut starts = Vec::with_capacity(records + 1);
        starts.push(0);
        Self {
            body: BytesMut::with_capacity(bytes + records * (SERVER_FIELDS_LEN + 4)),
            starts,
            event_times: Vec::with_capacity(records),
        }
    }

    pub fn of(records: &[NewRecord]) -> Self {
        let bytes = records.iter().map(|record| record.bytes.len()).sum();
        let mut frames = Self::with_capacity(records.len(), bytes);
        for record in records {
            frames.push([&record.bytes[..]], record.event_time);
        }
        frames
    }

    /// Adds a record, given in parts.
    pub fn push<const N: usize>(&mut self, parts: [&[u8]; N], event_time: UnixNanos) {
        let len = parts.iter().map(|part| part.len()).sum::<usize>() + SERVER_FIELDS_LEN;
        self.body.reserve(len + 6);
        self.body.put_u8(FRAME_TAG);
        put_varint(&mut self.body, len);
        for part in parts {
            self.body.put_slice(part);
        }
        self.body.put_bytes(0, SERVER_FIELDS_LEN);
        self.starts.push(position(self.body.len()));
        self.event_times.push(event_time);
    }

    pub fn len(&self) -> usize {
        self.event_times.len()
    }

    pub fn is_empty(&self) -> bool {
        self.event_times.is_empty()
    }

    /// Bytes of all frames.
    pub fn body_len(&self) -> usize {
        self.body.len()
    }

    /// A record with room for the server's fields behind it, without its frame.
    pub fn record(&self, index: usize) -> Option<&[u8]> {
        let (from, to) = (*self.starts.get(index)?, *self.starts.get(index + 1)?);
        let frame = self.body.get(from as usize..to as usize)?;
        let (_, used) = take_varint(frame.get(1..)?)?;
        frame.get(1 + used..)
    }

    /// Bytes of the largest record, without the server's fields; `None` where there is none.
    pub fn largest(&self) -> Option<usize> {
        let frames = self.starts.iter().zip(self.starts.iter().skip(1));
        let largest = frames.map(|(from, to)| (to - from) as usize).max()?;
        // Frames that are longer have longer records: the head grows with the length.
        let heads = 1..=6;
        let fits = |head: &usize| {
            let inner = largest.saturating_sub(*head);
            Chunk::framed_len(inner) == largest
        };
        let head = heads.into_iter().find(fits).unwrap_or(0);
        Some(largest.saturating_sub(head + SERVER_FIELDS_LEN))
    }

    /// Adds the records of `other` behind its own.
    pub fn join(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        let shift = position(self.body.len());
        self.body.extend_from_slice(&other.body);
        let ends = other.starts.iter().skip(1);
        self.starts
            .extend(ends.map(|end| end.saturating_add(shift)));
        self.event_times.extend(other.event_times);
    }

    /// Drops the first `count` records.
    pub fn skip(&mut self, count: usize) {
        let count = count.min(self.len());
        let cut = self.starts.get(count).copied().unwrap_or_default();
        self.body.advance(cut as usize);
        self.starts.drain(..count);
        self.starts.iter_mut().for_each(|start| *start -= cut);
        self.event_times.drain(..count);
    }

    /// Drops the record at `index`.
    pub fn remove(&mut self, index: usize) {
        let bound = |i: usize| self.starts.get(i).map_or(0, |at| *at as usize);
        let (from, to) = (bound(index), bound(index + 1));
        if to <= from {
            return;
        }
        let behind = self.body.split_off(to);
        self.body.truncate(from);
        self.body.extend_from_slice(&behind);
        self.starts.remove(index + 1);
        let gone = position(to - from);
        let later = self.starts.iter_mut().skip(index + 1);
        later.for_each(|start| *start -= gone);
        self.event_times.remove(index);
    }

    /// Puts offsets from `base` and the ingest time into the records. Returns them, and their
    /// event times.
    pub fn seal(mut self, base: Offset, ingest_time: UnixNanos) -> (Chunk, Vec<UnixNanos>) {
        let mut fields = [0; SERVER_FIELDS_LEN];
        let [offset_tag, rest @ ..] = &mut fields;
        *offset_tag = OFFSET_TAG;
        if let Some((_, [time_tag, time @ ..])) = rest.split_first_chunk_mut::<8>() {
            *time_tag = INGEST_TIME_TAG;
            time.copy_from_slice(&ingest_time.to_le_bytes());
        }
        for (offset, end) in (base..).zip(self.starts.iter().skip(1)) {
            let [_, place @ ..] = &mut fields;
            if let Some(place) = place.first_chunk_mut() {
                *place = offset.to_le_bytes();
            }
            let end = *end as usize;
            if let Some(room) = self.body.get_mut(end - SERVER_FIELDS_LEN..end) {
                room.copy_from_slice(&fields);
            }
        }
        let chunk = Chunk::of_frames(base, self.starts, self.body.freeze());
        (chunk, self.event_times)
    }
}

fn put_varint(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.put_u8(low_byte(value));
}

fn low_byte(value: usize) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records(sizes: &[usize]) -> Vec<NewRecord> {
        let record = |(i, size): (usize, &usize)| NewRecord {
            bytes: vec![u8::try_from(i).unwrap(); *size].into(),
            event_time: i64::try_from(i).unwrap(),
        };
        sizes.iter().enumerate().map(record).collect()
    }

    fn sealed(frames: Frames) -> (Vec<(Offset, Bytes)>, Vec<UnixNanos>) {
        let (chunk, times) = frames.seal(1_000, 77);
        (chunk.records().collect(), times)
    }

    proptest! {
        #[test]
        fn frames_joined_skipped_and_removed_are_those_of_the_records_left(
            sizes in prop::collection::vec(0..300_usize, 1..40),
            cut in 0..40_usize,
            skip in 0..40_usize,
            remove in 0..40_usize,
        ) {
            let all = records(&sizes);
            let (head, tail) = all.split_at(cut.min(all.len()));
            let mut frames = Frames::of(head);
            frames.join(Frames::of(tail));
            prop_assert_eq!(frames.largest(), sizes.iter().max().copied());
            let mut left = all.clone();
            left.drain(..skip.min(all.len()));
            frames.skip(skip);
            if remove < left.len() {
                left.remove(remove);
                frames.remove(remove);
            }
            prop_assert_eq!(frames.len(), left.len());
            let plain = sealed(Frames::of(&left));
            prop_assert_eq!(&sealed(frames), &plain);
            for ((offset, bytes), (i, record)) in plain.0.iter().zip(left.iter().enumerate()) {
                let (sent, fields) = bytes.split_at(record.bytes.len());
                prop_assert_eq!(*offset, 1_000 + i as u64);
                prop_assert_eq!(sent, &record.bytes[..]);
                let mut expected = vec![OFFSET_TAG];
                expected.extend(offset.to_le_bytes());
                expected.push(INGEST_TIME_TAG);
                expected.extend(77_i64.to_le_bytes());
                prop_assert_eq!(fields, &expected[..]);
            }
        }
    }
}
