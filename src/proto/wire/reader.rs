//! What of a message has not been read yet: protobuf's bytes in place, no rules of ours.

/// Wire types.
pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const BYTES: u8 = 2;
pub(super) const FIXED32: u8 = 5;

const MAX_VARINT_BYTES: usize = 10;

/// Every reading is `None` where the bytes are none such.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(self) -> usize {
        self.0.len()
    }

    /// Number and wire type of the next field.
    #[inline]
    pub(super) fn tag(&mut self) -> Option<(u32, u8)> {
        let tag = u32::try_from(self.varint()?).ok()?;
        let number = tag >> 3;
        // Masked, it fits.
        let [wire, ..] = (tag & 7).to_le_bytes();
        (number > 0).then_some((number, wire))
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Option<u64> {
        if let [byte @ 0..=0x7f, rest @ ..] = self.0 {
            self.0 = rest;
            return Some(u64::from(*byte));
        }
        let (value, rest) = long_varint(self.0)?;
        self.0 = rest;
        Some(value)
    }

    #[inline]
    pub(super) fn fixed64(&mut self) -> Option<u64> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*value))
    }

    #[inline]
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        let (value, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(value)
    }

    /// Passes over a value. Groups are no values here.
    pub(super) fn skip(&mut self, wire: u8) -> Option<()> {
        match wire {
            VARINT => self.varint().map(drop),
            FIXED64 => self.fixed64().map(drop),
            BYTES => self.bytes().map(drop),
            FIXED32 => self.0.split_at_checked(4).map(|(_, rest)| self.0 = rest),
            _ => None,
        }
    }
}

/// Beside the methods and by value, so that a `Reader` can live in registers.
fn long_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (i, byte) in bytes.iter().take(MAX_VARINT_BYTES).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if *byte < 0x80 {
            // The last of ten bytes has room for one bit.
            let fits = i + 1 < MAX_VARINT_BYTES || *byte < 2;
            return fits.then_some((value, bytes.get(i + 1..)?));
        }
    }
    None
}
