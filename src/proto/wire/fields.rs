//! The fields of one message under our rules: whole, known, of the right wire type, once.

use super::{
    reader::Reader,
    refuse::{self, Refused},
};

/// A message of `record.proto`, as refusals name it.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) name: &'static str,
    /// Paths of the fields by number, from 1; empty where there is none.
    pub(super) fields: &'static [&'static str],
    /// Bits of the numbers of which there may be one, and what they are together.
    pub(super) oneof: (u32, &'static str),
}

impl Message {
    /// The path of field `number`; empty when there is none.
    pub(super) fn path(&self, number: u32) -> &'static str {
        let at = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
        at.and_then(|at| self.fields.get(at))
            .map_or("", |path| path)
    }

    #[cold]
    fn garbled(&self) -> Refused {
        refuse::malformed(self.name, "cut short or garbled")
    }

    #[cold]
    fn once_too_often(&self, number: u32) -> Refused {
        match self.oneof {
            (oneof, name) if oneof & (1 << number) != 0 => refuse::second(name),
            _ => refuse::repeated(self.path(number)),
        }
    }

    #[cold]
    fn unexpected(&self, number: u32, wire: u8, mut rest: Reader<'_>) -> Refused {
        if rest.skip(wire).is_none() {
            return self.garbled();
        }
        match self.path(number) {
            "" => refuse::unknown(self.name, number),
            path => refuse::malformed(path, "another wire type is expected"),
        }
    }
}

/// Walks a message in wire order. Its user matches on number and wire type, reads the value by
/// the method of that type and takes `unexpected` for the rest.
///
/// All of the quick path is inlined and all of the slow path takes copies, so that a walk lives in
/// registers.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    rest: Reader<'a>,
    seen: u32,
    message: &'static Message,
}

impl<'a> Fields<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8], message: &'static Message) -> Self {
        Self {
            rest: Reader::new(bytes),
            seen: 0,
            message,
        }
    }

    /// Number and wire type of the next field; `None` at the end.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u32, u8)>, Refused> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.whole(Reader::tag).map(Some)
    }

    #[inline]
    pub(super) fn varint(&mut self, number: u32) -> Result<u64, Refused> {
        let value = self.whole(Reader::varint)?;
        self.once(number).map(|()| value)
    }

    #[inline]
    pub(super) fn fixed64(&mut self, number: u32) -> Result<u64, Refused> {
        let value = self.repeated_fixed64()?;
        self.once(number).map(|()| value)
    }

    #[inline]
    pub(super) fn bytes(&mut self, number: u32) -> Result<&'a [u8], Refused> {
        let value = self.repeated_bytes()?;
        self.once(number).map(|()| value)
    }

    /// One of a field that may be there several times.
    #[inline]
    pub(super) fn repeated_fixed64(&mut self) -> Result<u64, Refused> {
        self.whole(Reader::fixed64)
    }

    /// One of a field that may be there several times.
    #[inline]
    pub(super) fn repeated_bytes(&mut self) -> Result<&'a [u8], Refused> {
        self.whole(Reader::bytes)
    }

    /// A text whose content does not matter; whether it has any.
    #[inline]
    pub(super) fn text(&mut self, number: u32, limit: usize) -> Result<bool, Refused> {
        let bytes = self.bytes(number)?;
        is_text(bytes, limit, || self.message.path(number))?;
        Ok(!bytes.is_empty())
    }

    /// A field that is cut, whatever it is.
    #[inline]
    pub(super) fn cut(&mut self, wire: u8) -> Result<(), Refused> {
        self.whole(|rest| rest.skip(wire))
    }

    /// The refusal of a field that is not known, or not of this wire type.
    #[inline]
    pub(super) fn unexpected(&self, number: u32, wire: u8) -> Refused {
        self.message.unexpected(number, wire, self.rest)
    }

    #[inline]
    pub(super) fn has(&self, number: u32) -> bool {
        self.seen & (1 << number) != 0
    }

    /// Whether one of those is there of which there may be one.
    #[inline]
    pub(super) fn has_oneof(&self) -> bool {
        self.seen & self.message.oneof.0 != 0
    }

    #[inline]
    pub(super) fn required(&self, number: u32) -> Result<(), Refused> {
        if self.has(number) {
            return Ok(());
        }
        Err(refuse::missing(self.message.path(number), "it is required"))
    }

    #[inline]
    pub(super) fn path(&self, number: u32) -> &'static str {
        self.message.path(number)
    }

    #[inline]
    fn once(&mut self, number: u32) -> Result<(), Refused> {
        let bit = 1 << number;
        let (oneof, _) = self.message.oneof;
        let excluded = if oneof & bit == 0 { bit } else { oneof };
        if self.seen & excluded != 0 {
            return Err(self.message.once_too_often(number));
        }
        self.seen |= bit;
        Ok(())
    }

    #[inline]
    fn whole<T>(&mut self, read: impl FnOnce(&mut Reader<'a>) -> Option<T>) -> Result<T, Refused> {
        match read(&mut self.rest) {
            Some(value) => Ok(value),
            None => Err(self.message.garbled()),
        }
    }
}

/// Whether `bytes` are a text within the limit.
#[inline]
pub(super) fn is_text(
    bytes: &[u8],
    limit: usize,
    path: impl Fn() -> &'static str,
) -> Result<(), Refused> {
    if bytes.len() > limit {
        return Err(refuse::too_long(path(), bytes.len(), limit));
    }
    // Most are ASCII, which is quicker to see.
    if bytes.is_ascii() || std::str::from_utf8(bytes).is_ok() {
        return Ok(());
    }
    Err(refuse::not_utf8(path()))
}
