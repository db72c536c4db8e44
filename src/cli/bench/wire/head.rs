//! The head of a `SubscribeResponse`, read without its records: what a batch covers and how many
//! records it has, whatever the order of the fields.

use anyhow::{bail, ensure};

use crate::model::Span;

const RECORDS: u32 = 2;
const GAP: u32 = 5;
const CAUGHT_UP: u32 = 6;
const RECONNECT: u32 = 10;
const COVERS: u32 = 3;
const COUNT: u32 = 4;

/// What a message is, as far as a bench wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::bench) enum Head {
    Records { covers: Span, count: u64 },
    CaughtUp,
    Other,
}

/// One field of a message. `bytes` may be cut short where the message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::bench) struct Field<'a> {
    pub number: u32,
    /// Of a varint or fixed-width field.
    pub value: u64,
    pub bytes: &'a [u8],
    pub cut: Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::bench) enum Cut {
    Whole,
    Short,
}

/// Fields in their order, up to where the bytes end.
pub(in crate::cli::bench) fn fields(bytes: &[u8]) -> Fields<'_> {
    Fields { rest: bytes }
}

#[derive(Debug)]
pub(in crate::cli::bench) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The next field; `None` where the bytes end, in the middle of a field or not.
    pub(in crate::cli::bench) fn next(&mut self) -> anyhow::Result<Option<Field<'a>>> {
        let mut rest = self.rest;
        let Some(tag) = varint(&mut rest)? else {
            return Ok(None);
        };
        let mut field = Field {
            number: u32::try_from(tag >> 3)?,
            value: 0,
            bytes: &[],
            cut: Cut::Whole,
        };
        match tag & 7 {
            0 => match varint(&mut rest)? {
                Some(value) => field.value = value,
                None => return Ok(None),
            },
            1 => match rest.split_first_chunk::<8>() {
                Some((value, after)) => {
                    field.value = u64::from_le_bytes(*value);
                    rest = after;
                }
                None => return Ok(None),
            },
            2 => {
                let Some(len) = varint(&mut rest)? else {
                    return Ok(None);
                };
                let len = usize::try_from(len)?;
                match rest.split_at_checked(len) {
                    Some((bytes, after)) => (field.bytes, rest) = (bytes, after),
                    None => (field.bytes, field.cut, rest) = (rest, Cut::Short, &[]),
                }
            }
            other => bail!("a response has a field of wire type {other}"),
        }
        self.rest = rest;
        Ok(Some(field))
    }

    /// Whether every byte belonged to a whole field.
    pub(in crate::cli::bench) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Takes a varint; `None` when it is cut short.
fn varint(rest: &mut &[u8]) -> anyhow::Result<Option<u64>> {
    let mut value = 0_u64;
    for (i, byte) in rest.iter().enumerate() {
        ensure!(i < 10, "a response has a varint that never ends");
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            *rest = rest.get(i + 1..).unwrap_or_default();
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// The head of the message that begins with `part` and is `len` bytes long; `None` when more of
/// it is needed.
pub(in crate::cli::bench) fn head(part: &[u8], len: usize) -> anyhow::Result<Option<Head>> {
    let mut message = fields(part);
    while let Some(field) = message.next()? {
        match field.number {
            RECORDS => return batch(field),
            GAP => bail!("the server told of a gap: the ring is too small for this run"),
            CAUGHT_UP => return Ok(Some(Head::CaughtUp)),
            RECONNECT => bail!("the server stops"),
            _ => {}
        }
    }
    if part.len() < len {
        return Ok(None);
    }
    ensure!(message.is_at_end(), "a response is cut short");
    Ok(Some(Head::Other))
}

fn batch(field: Field<'_>) -> anyhow::Result<Option<Head>> {
    let mut batch = fields(field.bytes);
    let (mut covers, mut count) = (None, None);
    while let Some(field) = batch.next()? {
        match field.number {
            COVERS if field.cut == Cut::Whole => covers = Some(span(field.bytes)?),
            COUNT => count = Some(field.value),
            _ => {}
        }
        if let (Some(covers), Some(count)) = (covers, count) {
            return Ok(Some(Head::Records { covers, count }));
        }
    }
    if field.cut == Cut::Short {
        return Ok(None);
    }
    match covers {
        // A count of 0 is left out on the wire.
        Some(covers) => Ok(Some(Head::Records { covers, count: 0 })),
        None => bail!("a batch does not say what it covers"),
    }
}

fn span(bytes: &[u8]) -> anyhow::Result<Span> {
    let (mut from, mut to) = (0, 0);
    let mut range = fields(bytes);
    while let Some(field) = range.next()? {
        match field.number {
            1 => from = field.value,
            2 => to = field.value,
            _ => {}
        }
    }
    Ok(Span::new(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    use crate::proto::v1::{self, subscribe_response::Event};

    fn response(event: Event) -> Vec<u8> {
        v1::SubscribeResponse {
            selector: 3,
            event: Some(event),
            padding: vec![0; 20].into(),
        }
        .encode_to_vec()
    }

    fn batch_of(count: u32) -> v1::RecordBatch {
        v1::RecordBatch {
            feed: "bench".to_owned(),
            epoch: u64::MAX,
            covers: Some(v1::OffsetRange { from: 7, to: 9 }),
            count,
            cursor: Some(v1::Cursor::default()),
            records: vec![vec![1; 500].into(), vec![2; 500].into()],
        }
    }

    const BOTH: Head = Head::Records {
        covers: Span { from: 7, to: 9 },
        count: 2,
    };

    #[test]
    fn a_head_is_found_in_the_part_that_has_it_and_never_wrong_before() {
        let whole = response(Event::Records(batch_of(2)));
        assert_eq!(head(&whole[..60], whole.len()).unwrap(), Some(BOTH));
        for end in 0..whole.len() {
            let found = head(&whole[..end], whole.len()).unwrap();
            assert!(found.is_none_or(|found| found == BOTH), "{end}: {found:?}");
        }
    }

    #[test]
    fn the_order_of_the_fields_does_not_matter() {
        let batch = batch_of(2);
        let only = |b: v1::RecordBatch| b.encode_to_vec();
        let records = only(v1::RecordBatch {
            records: batch.records.clone(),
            ..Default::default()
        });
        let rest = only(v1::RecordBatch {
            records: vec![],
            ..batch
        });
        let mut bytes = vec![14 << 3 | 2, 3, 0, 0, 0, 2 << 3 | 2];
        prost::encoding::encode_varint((records.len() + rest.len()) as u64, &mut bytes);
        bytes.extend(records);
        bytes.extend(rest);
        assert_eq!(head(&bytes, bytes.len()).unwrap(), Some(BOTH));
        assert_eq!(head(&bytes[..600], bytes.len()).unwrap(), None);
    }

    #[test]
    fn what_ends_a_run_is_an_error_and_the_rest_is_not() {
        let of = |event| {
            let bytes = response(event);
            head(&bytes, bytes.len())
        };
        let gap = of(Event::Gap(v1::Gap::default())).unwrap_err();
        assert!(gap.to_string().contains("gap"));
        assert!(of(Event::Reconnect(v1::Reconnect::default())).is_err());
        let caught_up = of(Event::CaughtUp(v1::CaughtUp::default())).unwrap();
        assert_eq!(caught_up, Some(Head::CaughtUp));
        let heartbeat = of(Event::Heartbeat(v1::Heartbeat::default())).unwrap();
        assert_eq!(heartbeat, Some(Head::Other));
        let no_covers = v1::RecordBatch {
            covers: None,
            ..batch_of(2)
        };
        assert!(of(Event::Records(no_covers)).is_err());
    }
}
