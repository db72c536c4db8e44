//! Decimals on the wire.

use super::{
    fields::{Fields, Message},
    reader::VARINT,
    refuse::{self, Refused},
};
use crate::model::DecimalParts;

/// Its refusals bear the path of the field that holds the decimal.
const DECIMAL: Message = Message {
    name: "decimal",
    fields: &["units", "scale", "high"],
    oneof: (0, ""),
};
const UNITS_TAG: u8 = 1 << 3 | VARINT;
const SCALE_TAG: u8 = 2 << 3 | VARINT;

impl Fields<'_> {
    /// Checks the decimal in field `number`.
    #[inline]
    pub(super) fn decimal(&mut self, number: u32) -> Result<(), Refused> {
        let bytes = self.bytes(number)?;
        if is_ordinary(bytes) {
            return Ok(());
        }
        any(bytes).map_err(|mut refused| {
            refused.field = self.path(number);
            refused
        })
    }
}

/// Whether it is a decimal as nearly all are written: units of up to 63 bits, a scale within its
/// limit, each in its place or absent.
#[inline]
fn is_ordinary(bytes: &[u8]) -> bool {
    match bytes {
        [UNITS_TAG, units @ .., SCALE_TAG, 0..=28] | [UNITS_TAG, units @ ..] => is_varint(units),
        [] | [SCALE_TAG, 0..=28] => true,
        _ => false,
    }
}

/// Whether `bytes` are one varint of at most nine bytes.
#[inline]
fn is_varint(bytes: &[u8]) -> bool {
    match bytes {
        [more @ .., 0..=0x7f] => more.len() < 9 && more.iter().all(|byte| *byte >= 0x80),
        _ => false,
    }
}

#[inline(never)]
fn any(bytes: &[u8]) -> Result<(), Refused> {
    let mut parts = DecimalParts::default();
    let mut fields = Fields::new(bytes, &DECIMAL);
    while let Some(field) = fields.next()? {
        match field {
            (1, VARINT) => parts.units = zigzag(fields.varint(1)?),
            (2, VARINT) => parts.scale = u32::try_from(fields.varint(2)?).unwrap_or(u32::MAX),
            (3, VARINT) => parts.high = zigzag(fields.varint(3)?),
            (number, wire) => return Err(fields.unexpected(number, wire)),
        }
    }
    if parts.in_range() {
        return Ok(());
    }
    let message = "a decimal has a scale of at most 28 and an unscaled value below 2^96";
    Err(refuse::out_of_range(DECIMAL.name, message))
}

fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}
