//! Exact decimals, between the wire's three integers and `rust_decimal`.

use rust_decimal::Decimal;

const MAX_SCALE: u32 = 28;
const MANTISSA_LIMIT: i128 = 1 << 96;

/// `Decimal` of the wire: value = (high · 2^64 + units) / 10^scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecimalParts {
    pub units: i64,
    pub scale: u32,
    pub high: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a decimal has at most 28 digits behind the point and an unscaled value below 2^96")]
pub struct DecimalOutOfRange;

impl DecimalParts {
    /// Whether these parts are a decimal.
    pub fn in_range(self) -> bool {
        self.scale <= MAX_SCALE && self.mantissa().unsigned_abs() < MANTISSA_LIMIT.unsigned_abs()
    }

    fn mantissa(self) -> i128 {
        // Saturating: any three integers may come from the wire.
        (i128::from(self.high) << 64).saturating_add(i128::from(self.units))
    }
}

impl TryFrom<DecimalParts> for Decimal {
    type Error = DecimalOutOfRange;

    fn try_from(parts: DecimalParts) -> Result<Self, DecimalOutOfRange> {
        if !parts.in_range() {
            return Err(DecimalOutOfRange);
        }
        Ok(Decimal::from_i128_with_scale(parts.mantissa(), parts.scale))
    }
}

impl From<Decimal> for DecimalParts {
    fn from(decimal: Decimal) -> Self {
        let mantissa = decimal.mantissa();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low 64 bits are what is wanted"
        )]
        let units = mantissa as i64;
        let high = ((mantissa - i128::from(units)) >> 64) as i64;
        Self {
            units,
            scale: decimal.scale(),
            high,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_decimal_comes_out_as_it_went_in(
            mantissa in -(MANTISSA_LIMIT - 1)..MANTISSA_LIMIT,
            scale in 0..=MAX_SCALE,
        ) {
            let decimal = Decimal::from_i128_with_scale(mantissa, scale);
            let back = Decimal::try_from(DecimalParts::from(decimal)).unwrap();
            prop_assert_eq!(back.to_string(), decimal.to_string());
            prop_assert_eq!(back.scale(), decimal.scale());
        }
    }

    #[test]
    fn trailing_zeros_stay() {
        let decimal: Decimal = "0.10000000".parse().unwrap();
        let parts = DecimalParts::from(decimal);
        assert_eq!(
            parts,
            DecimalParts {
                units: 10_000_000,
                scale: 8,
                high: 0
            }
        );
        assert_eq!(Decimal::try_from(parts).unwrap().to_string(), "0.10000000");
    }

    #[test]
    fn out_of_range_is_refused() {
        for parts in [
            DecimalParts {
                units: 1,
                scale: 29,
                high: 0,
            },
            DecimalParts {
                units: 0,
                scale: 0,
                high: 1 << 32,
            },
            DecimalParts {
                units: 0,
                scale: 0,
                high: i64::MIN,
            },
        ] {
            assert_eq!(Decimal::try_from(parts), Err(DecimalOutOfRange));
        }
    }
}
