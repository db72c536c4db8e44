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
use crate::model::{Epoch, Span};

/// Smaller frames count against a connection as if they were an attack: see the proto.
pub const MIN_MESSAGE_BYTES: usize = 256;
/// Compression flag and length.
pub const PREFIX_BYTES: usize = 5;

static ZEROS: [u8; MIN_MESSAGE_BYTES] = [0; MIN_MESSAGE_BYTES];
const LEN: u8 = 2;
const SELECTOR_TAG: u8 = 1 << 3;
const RECORDS_TAG: u8 = 2 << 3 | LEN;
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
        let head = self.batch();
        let batch_len = head.len() + frames_len;
        let mut before = Vec::with_capacity(16);
        put_number(&mut before, SELECTOR_TAG, u64::from(self.selector));
        before.push(RECORDS_TAG);
        encode_varint(batch_len as u64, &mut before);
        let unpadded = before.len() + batch_len;
        let padding = padding(unpadded);
        let len = unpadded + padding_len(padding.len());
        let mut out = Vec::with_capacity(PREFIX_BYTES + len);
        put_prefix(&mut out, len);
        out.extend_from_slice(&before);
        out.extend_from_slice(&head);
        let from = out.len();
        frames.for_each(|frame| out.extend_from_slice(frame));
        let frames = from..out.len();
        if !padding.is_empty() {
            put_bytes(&mut out, PADDING_TAG, padding);
        }
        let bytes = out.into();
        BatchMessage { bytes, frames }
    }

    /// The fields of `RecordBatch` before its records.
    fn batch(&self) -> Vec<u8> {
        let mut range = Vec::with_capacity(22);
        put_number(&mut range, 1 << 3, self.covers.from);
        put_number(&mut range, 2 << 3, self.covers.to);
        let mut cursor = Vec::with_capacity(self.feed.len() + 26);
        put_bytes(&mut cursor, 1 << 3 | LEN, self.feed.as_bytes());
        put_number(&mut cursor, 2 << 3, self.epoch);
        put_number(&mut cursor, 3 << 3, self.covers.to);
        let mut out = Vec::with_capacity(2 * self.feed.len() + 80);
        put_bytes(&mut out, 1 << 3 | LEN, self.feed.as_bytes());
        put_number(&mut out, 2 << 3, self.epoch);
        put_bytes(&mut out, 3 << 3 | LEN, &range);
        put_number(&mut out, 4 << 3, u64::from(self.count));
        put_bytes(&mut out, 5 << 3 | LEN, &cursor);
        out
    }
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
    }
}
