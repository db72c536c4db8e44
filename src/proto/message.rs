//! Responses of Subscribe as whole gRPC messages: the five bytes of the prefix and the message in
//! one piece. Those of records are written by hand around frames that are there already, byte for
//! byte what prost would write, with one copy.

use std::ops::Range;

use bytes::{BufMut as _, Bytes};
use prost::{
    Message as _,
    encoding::{encode_varint, encoded_len_varint},
};

use super::v1;
use crate::model::{Epoch, Offset, Span};

/// Smaller frames count against a connection as if they were an attack: see the proto.
pub const MIN_MESSAGE_BYTES: usize = 256;
/// Compression flag and length.
pub const PREFIX_BYTES: usize = 5;

static ZEROS: [u8; MIN_MESSAGE_BYTES] = [0; MIN_MESSAGE_BYTES];
const LEN: u8 = 2;
const SELECTOR_TAG: u8 = 1 << 3;
const RECORDS_TAG: u8 = 2 << 3 | LEN;
const BARS_TAG: u8 = 3 << 3 | LEN;
/// Of a bar within its batch.
const VIEW_BAR_TAG: u8 = 4 << 3 | LEN;
const SNAPSHOT_TAG: u8 = 4 << 3 | LEN;
const PADDING_TAG: u8 = 14 << 3 | LEN;

/// What a batch of records says beside them.
#[derive(Clone, Copy, Debug)]
pub struct BatchHead<'a> {
    pub selector: u32,
    pub feed: &'a str,
    pub epoch: Epoch,
    pub covers: Span,
    pub count: u32,
}

/// A whole gRPC message with records, and where their frames lie in it.
#[derive(Clone, Debug)]
pub struct BatchMessage {
    pub bytes: Bytes,
    pub frames: Range<usize>,
}

impl BatchHead<'_> {
    /// The message around `frames`, which have `frames_len` bytes together.
    pub fn around<'a>(
        &self,
        frames_len: usize,
        frames: impl Iterator<Item = &'a [u8]>,
    ) -> BatchMessage {
        around(
            self.selector,
            RECORDS_TAG,
            &self.batch(),
            frames_len,
            frames,
        )
    }

    /// The fields of `RecordBatch` before its records.
    fn batch(&self) -> Vec<u8> {
        let range = range(self.covers);
        let cursor = cursor(self.feed, self.epoch, self.covers.to);
        let mut out = Vec::with_capacity(2 * self.feed.len() + 80);
        put_bytes(&mut out, 1 << 3 | LEN, self.feed.as_bytes());
        put_number(&mut out, 2 << 3, self.epoch);
        put_bytes(&mut out, 3 << 3 | LEN, &range);
        put_number(&mut out, 4 << 3, u64::from(self.count));
        put_bytes(&mut out, 5 << 3 | LEN, &cursor);
        out
    }
}

/// What a part of a snapshot says beside its records.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotHead<'a> {
    pub selector: u32,
    pub feed: &'a str,
    pub epoch: Epoch,
    pub as_of: Offset,
}

impl SnapshotHead<'_> {
    /// The message around `frames`, which have `frames_len` bytes together.
    pub fn around<'a>(
        &self,
        frames_len: usize,
        frames: impl Iterator<Item = &'a [u8]>,
    ) -> BatchMessage {
        let mut head = Vec::with_capacity(2 * self.feed.len() + 40);
        put_bytes(&mut head, 1 << 3 | LEN, self.feed.as_bytes());
        put_bytes(
            &mut head,
            2 << 3 | LEN,
            &cursor(self.feed, self.epoch, self.as_of),
        );
        around(self.selector, SNAPSHOT_TAG, &head, frames_len, frames)
    }
}

/// What a batch of bars says beside them.
#[derive(Clone, Copy, Debug)]
pub struct BarsHead<'a> {
    pub selector: u32,
    pub feed: &'a str,
    pub epoch: Epoch,
    pub covers: Span,
}

impl BarsHead<'_> {
    /// Messages of about `max_bytes` each, with what they cover and how many bars are in them. The
    /// last one settles what all of them cover, so that a cut between them loses nothing. None
    /// without bars.
    pub fn messages(
        &self,
        max_bytes: usize,
        bars: impl Iterator<Item = v1::ViewBar>,
    ) -> Vec<(Span, u32, BatchMessage)> {
        let mut pieces: Vec<(u32, Vec<u8>)> = vec![];
        for bar in bars {
            let len = bar.encoded_len();
            let fits = |piece: &Vec<u8>| piece.len() + len <= max_bytes;
            if !pieces.last().is_some_and(|(_, piece)| fits(piece)) {
                pieces.push((0, vec![]));
            }
            if let Some((count, piece)) = pieces.last_mut() {
                *count += 1;
                piece.push(VIEW_BAR_TAG);
                encode_varint(len as u64, piece);
                bar.encode_raw(piece);
            }
        }
        let last = pieces.len().saturating_sub(1);
        let pieces = pieces.into_iter().enumerate();
        let messages = pieces.map(|(index, (count, piece))| {
            let from = self.covers.from;
            let to = if index == last { self.covers.to } else { from };
            let covers = Span::new(from, to);
            (covers, count, self.message(covers, &piece))
        });
        messages.collect()
    }

    fn message(&self, covers: Span, bars: &[u8]) -> BatchMessage {
        let mut head = Vec::with_capacity(self.feed.len() + 40);
        put_bytes(&mut head, 1 << 3 | LEN, self.feed.as_bytes());
        put_number(&mut head, 2 << 3, self.epoch);
        put_bytes(&mut head, 3 << 3 | LEN, &range(covers));
        around(
            self.selector,
            BARS_TAG,
            &head,
            bars.len(),
            [bars].into_iter(),
        )
    }
}

/// The response whose event begins with `head` and goes on with `frames`.
fn around<'a>(
    selector: u32,
    event_tag: u8,
    head: &[u8],
    frames_len: usize,
    frames: impl Iterator<Item = &'a [u8]>,
) -> BatchMessage {
    let batch_len = head.len() + frames_len;
    let mut before = Vec::with_capacity(16);
    put_number(&mut before, SELECTOR_TAG, u64::from(selector));
    before.push(event_tag);
    encode_varint(batch_len as u64, &mut before);
    let unpadded = before.len() + batch_len;
    let padding = padding(unpadded);
    let len = unpadded + padding_len(padding.len());
    let mut out = Vec::with_capacity(PREFIX_BYTES + len);
    put_prefix(&mut out, len);
    out.extend_from_slice(&before);
    out.extend_from_slice(head);
    let from = out.len();
    frames.for_each(|frame| out.extend_from_slice(frame));
    let frames = from..out.len();
    if !padding.is_empty() {
        put_bytes(&mut out, PADDING_TAG, padding);
    }
    let bytes = out.into();
    BatchMessage { bytes, frames }
}

fn range(covers: Span) -> Vec<u8> {
    let mut range = Vec::with_capacity(22);
    put_number(&mut range, 1 << 3, covers.from);
    put_number(&mut range, 2 << 3, covers.to);
    range
}

fn cursor(feed: &str, epoch: Epoch, offset: Offset) -> Vec<u8> {
    let mut cursor = Vec::with_capacity(feed.len() + 26);
    put_bytes(&mut cursor, 1 << 3 | LEN, feed.as_bytes());
    put_number(&mut cursor, 2 << 3, epoch);
    put_number(&mut cursor, 3 << 3, offset);
    cursor
}

/// A response as a whole gRPC message, filled up to the smallest size that is sent.
pub fn encode(response: v1::SubscribeResponse) -> Bytes {
    let response = padded(response);
    let len = response.encoded_len();
    let mut out = Vec::with_capacity(PREFIX_BYTES + len);
    put_prefix(&mut out, len);
    response.encode_raw(&mut out);
    out.into()
}

/// A response filled up to the smallest size that is sent.
pub fn padded(mut response: v1::SubscribeResponse) -> v1::SubscribeResponse {
    response.padding = Bytes::from_static(padding(response.encoded_len()));
    response
}

/// As `padded`, of an answer to a device.
pub fn padded_answer(mut response: v1::PublishResponse) -> v1::PublishResponse {
    response.padding = Bytes::from_static(padding(response.encoded_len()));
    response
}

fn padding(len: usize) -> &'static [u8] {
    let short = MIN_MESSAGE_BYTES.saturating_sub(len);
    ZEROS.get(..short).unwrap_or_default()
}

fn padding_len(zeros: usize) -> usize {
    if zeros == 0 {
        return 0;
    }
    1 + encoded_len_varint(zeros as u64) + zeros
}

fn put_prefix(out: &mut Vec<u8>, len: usize) {
    out.put_u8(0);
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

/// Zero is not written, as proto3 has it.
fn put_number(out: &mut Vec<u8>, tag: u8, value: u64) {
    if value != 0 {
        out.push(tag);
        encode_varint(value, out);
    }
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Frames, NewRecord};

    proptest! {
        #[test]
        fn a_message_by_hand_is_what_prost_writes(
            selector in prop_oneof![Just(0), 1..70_u32, any::<u32>()],
            feed in "[a-z0-9][a-z0-9._-]{0,127}",
            epoch in prop_oneof![Just(0), any::<u64>()],
            from in prop_oneof![Just(0), 0..u64::MAX / 2],
            sizes in prop::collection::vec(0..200_usize, 0..12),
        ) {
            let new = |size: &usize| NewRecord { bytes: vec![7; *size].into(), event_time: 0 };
            let new: Vec<_> = sizes.iter().map(new).collect();
            let (chunk, _) = Frames::of(&new).seal(from, 5);
            let covers = Span::new(from, from + 20);
            let count = u32::try_from(sizes.len()).unwrap();
            let head = BatchHead { selector, feed: &feed, epoch, covers, count };
            let body = chunk.body();
            let message = head.around(body.len(), [&body[..]].into_iter());
            prop_assert_eq!(message.bytes.slice(message.frames), body);

            let cursor = v1::Cursor { feed: feed.clone(), epoch, offset: covers.to };
            let batch = v1::RecordBatch {
                feed: feed.clone(),
                epoch,
                covers: Some(v1::OffsetRange { from: covers.from, to: covers.to }),
                count,
                cursor: Some(cursor),
                records: chunk.records().map(|(_, bytes)| bytes).collect(),
            };
            let event = Some(v1::subscribe_response::Event::Records(batch));
            let response = v1::SubscribeResponse { selector, event, padding: Bytes::new() };
            prop_assert_eq!(&message.bytes, &encode(response));
            prop_assert!(message.bytes.len() >= PREFIX_BYTES + MIN_MESSAGE_BYTES);
        }

        #[test]
        fn snapshots_and_bars_by_hand_are_what_prost_writes(
            selector: u32,
            sizes in prop::collection::vec(0..60_usize, 1..12),
            max_bytes in 1..200_usize,
        ) {
            let new = |size: &usize| NewRecord { bytes: vec![7; *size].into(), event_time: 0 };
            let new: Vec<_> = sizes.iter().map(new).collect();
            let (chunk, _) = Frames::of(&new).seal(4, 5);
            let as_of = v1::Cursor { feed: "f".into(), epoch: 3, offset: 40 };
            let head = SnapshotHead { selector, feed: "f", epoch: 3, as_of: 40 };
            let body = chunk.body();
            let message = head.around(body.len(), [&body[..]].into_iter());
            let event = v1::subscribe_response::Event::Snapshot(v1::SnapshotBatch {
                feed: "f".into(),
                as_of: Some(as_of),
                records: chunk.records().map(|(_, bytes)| bytes).collect(),
            });
            let response = v1::SubscribeResponse { selector, event: Some(event), padding: Bytes::new() };
            prop_assert_eq!(&message.bytes, &encode(response));

            let bars = sizes.iter().map(|size| v1::ViewBar { key: "k".repeat(*size), ..Default::default() });
            let covers = Span::new(3, 90);
            let head = BarsHead { selector, feed: "f", epoch: 3, covers };
            let messages = head.messages(max_bytes, bars.clone());
            prop_assert_eq!(messages.last().map(|(covers, ..)| *covers), Some(covers));
            let mut left = bars;
            for (covers, count, message) in messages {
                let event = v1::subscribe_response::Event::Bars(v1::BarBatch {
                    feed: "f".into(),
                    epoch: 3,
                    covers: Some(v1::OffsetRange { from: covers.from, to: covers.to }),
                    bars: left.by_ref().take(count as usize).collect(),
                });
                let response = v1::SubscribeResponse { selector, event: Some(event), padding: Bytes::new() };
                prop_assert_eq!(&message.bytes, &encode(response));
            }
            prop_assert_eq!(left.count(), 0);
        }
    }
}
