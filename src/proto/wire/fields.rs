//! Walking the fields of a protobuf message in place.

use bytes::Buf as _;

use super::refuse::{self, Invalid};

/// A field's value as it lies on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// The fields of one message, in wire order.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    message: &'static str,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8], message: &'static str) -> Self {
        Self {
            rest: bytes,
            message,
        }
    }

    /// What has not been walked yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let tag = u32::try_from(self.varint()?).ok()?;
        let number = tag >> 3;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.rest.try_get_u64_le().ok()?),
            2 => Value::Bytes(self.delimited()?),
            5 => Value::Fixed32(self.rest.try_get_u32_le().ok()?),
            _ => return None,
        };
        (number > 0).then_some((number, value))
    }

    fn delimited(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        let (value, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(value)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            // The tenth byte has room for one bit.
            if shift == 63 && *byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Invalid>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or_else(|| refuse::malformed(self.message, "cut short or garbled")))
    }
}

/// Which singular fields of a message were there already; and their values, typed.
#[derive(Debug, Default)]
pub(super) struct Seen(u32);

impl Seen {
    pub(super) fn has(&self, number: u32) -> bool {
        self.0 & (1 << number) != 0
    }

    pub(super) fn once(&mut self, number: u32, field: &'static str) -> Result<(), Invalid> {
        if self.has(number) {
            return Err(refuse::repeated(field));
        }
        self.0 |= 1 << number;
        Ok(())
    }

    pub(super) fn varint(
        &mut self,
        number: u32,
        value: Value<'_>,
        field: &'static str,
    ) -> Result<u64, Invalid> {
        match value {
            Value::Varint(value) => self.once(number, field).map(|()| value),
            Value::Fixed64(_) | Value::Fixed32(_) | Value::Bytes(_) => Err(wrong_type(field)),
        }
    }

    pub(super) fn fixed64(
        &mut self,
        number: u32,
        value: Value<'_>,
        field: &'static str,
    ) -> Result<u64, Invalid> {
        match value {
            Value::Fixed64(value) => self.once(number, field).map(|()| value),
            Value::Varint(_) | Value::Fixed32(_) | Value::Bytes(_) => Err(wrong_type(field)),
        }
    }

    pub(super) fn text<'a>(
        &mut self,
        number: u32,
        value: Value<'a>,
        field: &'static str,
        limit: usize,
    ) -> Result<&'a str, Invalid> {
        let bytes = bytes(value, field)?;
        self.once(number, field)?;
        text(bytes, field, limit)
    }
}

pub(super) fn bytes<'a>(value: Value<'a>, field: &'static str) -> Result<&'a [u8], Invalid> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => Err(wrong_type(field)),
    }
}

pub(super) fn text<'a>(
    bytes: &'a [u8],
    field: &'static str,
    limit: usize,
) -> Result<&'a str, Invalid> {
    if bytes.len() > limit {
        return Err(refuse::too_long(field, bytes.len(), limit));
    }
    std::str::from_utf8(bytes).map_err(|_not_utf8| refuse::not_utf8(field))
}

fn wrong_type(field: &'static str) -> Invalid {
    refuse::malformed(field, "another wire type is expected")
}
