//! `IngestRequest` and `PublishBatch` as they lie on the wire: their heads read, their records left
//! where they are.

use prost::{
    DecodeError,
    encoding::{self, DecodeContext, WireType},
};

use crate::model::FRAME_TAG;

const RECORDS: u32 = 15;
/// Of `PublishRequest`.
const BATCH: u32 = 2;

/// Why bytes are no message at all.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Malformed {
    #[error("the message is not protobuf: {0}")]
    Protobuf(#[from] DecodeError),
    #[error("the message is cut short")]
    Short,
    #[error("{field} is not UTF-8 text")]
    NotUtf8 { field: &'static str },
}

/// An `IngestRequest` in place. Every rule of protobuf that prost keeps is kept: a later value of
/// a field replaces an earlier one, unknown fields are passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngestMessage<'a> {
    pub feed: &'a str,
    pub producer: &'a str,
    pub first_sequence: u64,
    pub mode: i32,
    /// How many records are in it, and their bytes together.
    pub count: usize,
    pub record_bytes: usize,
    bytes: &'a [u8],
}

impl<'a> IngestMessage<'a> {
    /// Reads a message; it is refused as a whole when it is not one.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut message = Self {
            bytes,
            ..Self::default()
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Some(record) = message.field(&mut rest)? {
                message.count += 1;
                message.record_bytes += record.len();
            }
        }
        Ok(message)
    }

    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.bytes;
        let mut passed = Self::default();
        std::iter::from_fn(move || {
            while !rest.is_empty() {
                // It was read before: it reads again.
                if let Some(record) = passed.field(&mut rest).ok()? {
                    return Some(record);
                }
            }
            None
        })
    }

    /// Reads the next field; returns it when it is a record.
    #[inline]
    fn field(&mut self, rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
        if let Some((record, behind)) = record(rest) {
            *rest = behind;
            return Ok(Some(record));
        }
        self.any_field(rest)
    }

    fn any_field(&mut self, rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
        let context = DecodeContext::default();
        let (number, wire) = encoding::decode_key(rest)?;
        match number {
            1 => self.feed = text(wire, rest, "feed")?,
            2 => self.producer = text(wire, rest, "producer")?,
            3 => encoding::uint64::merge(wire, &mut self.first_sequence, rest, context)?,
            4 => encoding::int32::merge(wire, &mut self.mode, rest, context)?,
            RECORDS => return delimited(wire, rest).map(Some),
            _ => encoding::skip_field(wire, number, rest, context)?,
        }
        Ok(None)
    }
}

/// A `PublishBatch` in place, as `IngestMessage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishMessage<'a> {
    pub first_sequence: u64,
    pub mode: i32,
    /// How many records are in it, and their bytes together.
    pub count: usize,
    pub record_bytes: usize,
    bytes: &'a [u8],
}

impl<'a> PublishMessage<'a> {
    /// The batch of a `PublishRequest` that is nothing but a batch, as nearly all are.
    pub fn only_batch(request: &'a [u8]) -> Option<&'a [u8]> {
        let mut rest = request;
        let (number, wire) = encoding::decode_key(&mut rest).ok()?;
        let batch = delimited(wire, &mut rest).ok()?;
        (number == BATCH && rest.is_empty()).then_some(batch)
    }

    /// Reads a batch; it is refused as a whole when it is not one.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut message = Self {
            bytes,
            ..Self::default()
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Some(record) = message.field(&mut rest)? {
                message.count += 1;
                message.record_bytes += record.len();
            }
        }
        Ok(message)
    }

    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.bytes;
        let mut passed = Self::default();
        std::iter::from_fn(move || {
            while !rest.is_empty() {
                // It was read before: it reads again.
                if let Some(record) = passed.field(&mut rest).ok()? {
                    return Some(record);
                }
            }
            None
        })
    }

    fn field(&mut self, rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
        if let Some((record, behind)) = record(rest) {
            *rest = behind;
            return Ok(Some(record));
        }
        let context = DecodeContext::default();
        let (number, wire) = encoding::decode_key(rest)?;
        match number {
            1 => encoding::uint64::merge(wire, &mut self.first_sequence, rest, context)?,
            2 => encoding::int32::merge(wire, &mut self.mode, rest, context)?,
            RECORDS => return delimited(wire, rest).map(Some),
            _ => encoding::skip_field(wire, number, rest, context)?,
        }
        Ok(None)
    }
}

/// The record at the beginning of `bytes`, written in the fewest bytes, and what is behind it.
#[inline]
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = match bytes {
        [FRAME_TAG, len @ 0..=0x7f, rest @ ..] => (usize::from(*len), rest),
        [FRAME_TAG, low, high @ 1..=0x7f, rest @ ..] => (bits(*low) | bits(*high) << 7, rest),
        [
            FRAME_TAG,
            low,
            mid @ 0x80..=0xff,
            high @ 1..=0x7f,
            rest @ ..,
        ] => (bits(*low) | bits(*mid) << 7 | bits(*high) << 14, rest),
        _ => return None,
    };
    rest.split_at_checked(len)
}

fn bits(byte: u8) -> usize {
    usize::from(byte & 0x7f)
}

fn text<'a>(
    wire: WireType,
    rest: &mut &'a [u8],
    field: &'static str,
) -> Result<&'a str, Malformed> {
    let bytes = delimited(wire, rest)?;
    std::str::from_utf8(bytes).map_err(|_not_utf8| Malformed::NotUtf8 { field })
}

fn delimited<'a>(wire: WireType, rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    encoding::check_wire_type(WireType::LengthDelimited, wire)?;
    let len = encoding::decode_varint(rest)?;
    let len = usize::try_from(len).map_err(|_too_long| Malformed::Short)?;
    let (value, behind) = rest.split_at_checked(len).ok_or(Malformed::Short)?;
    *rest = behind;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::proto::v1;

    /// What prost makes of the same bytes.
    fn assert_as_prost(bytes: &[u8]) -> Result<(), TestCaseError> {
        let ours = IngestMessage::read(bytes);
        match v1::IngestRequest::decode(Bytes::copy_from_slice(bytes)) {
            Err(_) => prop_assert!(ours.is_err(), "{:?}", bytes),
            Ok(theirs) => {
                let Ok(ours) = ours else {
                    return Err(TestCaseError::fail(format!("{bytes:?}: {ours:?}")));
                };
                prop_assert_eq!(ours.feed, theirs.feed);
                prop_assert_eq!(ours.producer, theirs.producer);
                prop_assert_eq!(ours.first_sequence, theirs.first_sequence);
                prop_assert_eq!(ours.mode, theirs.mode);
                let records: Vec<_> = ours.records().collect();
                let lens: usize = records.iter().map(|record| record.len()).sum();
                prop_assert_eq!((ours.count, ours.record_bytes), (records.len(), lens));
                prop_assert_eq!(records, theirs.records);
            }
        }
        Ok(())
    }

    fn assert_batch_as_prost(bytes: &[u8]) -> Result<(), TestCaseError> {
        let ours = PublishMessage::read(bytes);
        match v1::PublishBatch::decode(Bytes::copy_from_slice(bytes)) {
            Err(_) => prop_assert!(ours.is_err(), "{:?}", bytes),
            Ok(theirs) => {
                let Ok(ours) = ours else {
                    return Err(TestCaseError::fail(format!("{bytes:?}: {ours:?}")));
                };
                let head = (ours.first_sequence, ours.mode, ours.count);
                let records = theirs.records.len();
                prop_assert_eq!(head, (theirs.first_sequence, theirs.mode, records));
                prop_assert!(ours.records().eq(theirs.records.iter().map(|r| &r[..])));
            }
        }
        Ok(())
    }

    #[test]
    fn only_a_request_that_is_nothing_but_a_batch_is_taken_in_place() {
        let batch = v1::PublishBatch {
            first_sequence: 7,
            records: vec![Bytes::from_static(b"record")],
            ..v1::PublishBatch::default()
        };
        let command = v1::publish_request::Command::Batch(batch.clone());
        let bytes = v1::PublishRequest {
            command: Some(command),
        }
        .encode_to_vec();
        let found = PublishMessage::only_batch(&bytes);
        assert_eq!(found, Some(&batch.encode_to_vec()[..]));
        let twice = [&bytes[..], &bytes].concat();
        for other in [&twice[..], &bytes[..bytes.len() - 1], b"\x0a\x00", b""] {
            assert_eq!(PublishMessage::only_batch(other), None);
        }
    }

    fn message() -> impl Strategy<Value = v1::IngestRequest> {
        let record = prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        let records = prop_oneof![
            prop::collection::vec(record, 0..5),
            Just(vec![vec![7; 20_000].into()]),
        ];
        ("[a-z]{0,4}", ".{0,4}", any::<u64>(), any::<i32>(), records).prop_map(
            |(feed, producer, first_sequence, mode, records)| v1::IngestRequest {
                feed,
                producer,
                first_sequence,
                mode,
                records,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn messages_read_as_prost_reads_them(message in message(), again in message()) {
            let mut bytes = message.encode_to_vec();
            assert_as_prost(&bytes)?;
            bytes.extend(again.encode_to_vec());
            assert_as_prost(&bytes)?;
        }

        #[test]
        fn batches_read_as_prost_reads_them(message in message(), again in message()) {
            let batch = |message: v1::IngestRequest| v1::PublishBatch {
                first_sequence: message.first_sequence,
                mode: message.mode,
                records: message.records,
            };
            let mut bytes = batch(message).encode_to_vec();
            assert_batch_as_prost(&bytes)?;
            bytes.extend(batch(again).encode_to_vec());
            assert_batch_as_prost(&bytes)?;
        }

        #[test]
        fn garbled_messages_are_judged_as_prost_judges_them(
            message in message(),
            cut in any::<prop::sample::Index>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            inserted in prop::collection::vec(any::<u8>(), 0..6),
        ) {
            let mut bytes = message.encode_to_vec();
            bytes.truncate(cut.index(bytes.len() + 1));
            for (at, value) in changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = value;
                }
            }
            let at = cut.index(bytes.len() + 1);
            bytes.splice(at..at, inserted);
            assert_as_prost(&bytes)?;
            assert_batch_as_prost(&bytes)?;
        }

        #[test]
        fn arbitrary_bytes_are_judged_as_prost_judges_them(
            bytes in prop::collection::vec(
                prop_oneof![any::<u8>(), Just(0x7a), Just(0x0a), Just(0x80), Just(1)], 0..40),
        ) {
            assert_as_prost(&bytes)?;
            assert_batch_as_prost(&bytes)?;
        }
    }
}
