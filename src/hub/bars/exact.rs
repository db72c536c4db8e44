//! Sums, halves and quotients of decimals that never lose a digit without saying so.

use rust_decimal::Decimal;

const MAX_SCALE: u32 = 28;
const MANTISSA_LIMIT: u128 = 1 << 96;
/// Doubles hold these powers of ten exactly, and integers up to the limit.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];
const EXACT_INTEGERS: u128 = 1 << 53;

/// An exact sum, with the greatest scale of what was added. It is given up for good when a running
/// total needs more than 127 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum(Option<Total>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Total {
    Exact { mantissa: i128, scale: u32 },
    TooLong,
}

impl Sum {
    pub(super) fn add(&mut self, value: Decimal) {
        self.add_scaled(Some(value.mantissa()), value.scale());
    }

    /// Adds the product of two decimals.
    pub(super) fn add_product(&mut self, a: Decimal, b: Decimal) {
        let mantissa = a.mantissa().checked_mul(b.mantissa());
        self.add_scaled(mantissa, a.scale() + b.scale());
    }

    fn add_scaled(&mut self, mantissa: Option<i128>, scale: u32) {
        let (total, total_scale) = match self.0 {
            None => (0, scale),
            Some(Total::Exact { mantissa, scale }) => (mantissa, scale),
            Some(Total::TooLong) => return,
        };
        let common = total_scale.max(scale);
        let sum = rescaled(total, total_scale, common)
            .zip(mantissa.and_then(|mantissa| rescaled(mantissa, scale, common)))
            .and_then(|(total, more)| total.checked_add(more));
        self.0 = Some(sum.map_or(Total::TooLong, |mantissa| Total::Exact {
            mantissa,
            scale: common,
        }));
    }

    /// The sum; `None` when nothing was added, or it has more digits than a decimal.
    pub(super) fn decimal(self) -> Option<Decimal> {
        let (mantissa, scale) = self.exact()?;
        Decimal::try_from_i128_with_scale(mantissa, scale).ok()
    }

    /// This sum over another, rounded to the digits a decimal has, without zeros at its end.
    pub(super) fn over(self, divisor: Self) -> Option<Decimal> {
        let dividend = self.exact().and_then(rounded)?;
        let divisor = divisor.exact().and_then(rounded)?;
        Some(dividend.checked_div(divisor)?.normalize())
    }

    fn exact(self) -> Option<(i128, u32)> {
        match self.0 {
            Some(Total::Exact { mantissa, scale }) => Some((mantissa, scale)),
            Some(Total::TooLong) | None => None,
        }
    }
}

fn rescaled(mantissa: i128, from: u32, to: u32) -> Option<i128> {
    if from == to {
        return Some(mantissa);
    }
    let factor = 10_i128.checked_pow(to.checked_sub(from)?)?;
    mantissa.checked_mul(factor)
}

/// With as many digits behind the point as a decimal can hold, half away from zero.
fn rounded((mut mantissa, mut scale): (i128, u32)) -> Option<Decimal> {
    while scale > MAX_SCALE || (mantissa.unsigned_abs() >= MANTISSA_LIMIT && scale > 0) {
        let half = if mantissa % 10 / 5 == 0 {
            0
        } else {
            mantissa.signum()
        };
        mantissa = mantissa / 10 + half;
        scale -= 1;
    }
    Decimal::try_from_i128_with_scale(mantissa, scale).ok()
}

/// Half of both together, exactly: with one more digit behind the point where it must be. `None`
/// when that is more than a decimal can hold.
pub(super) fn mid(a: Decimal, b: Decimal) -> Option<Decimal> {
    let scale = a.scale().max(b.scale());
    let sum = rescaled(a.mantissa(), a.scale(), scale)?.checked_add(rescaled(
        b.mantissa(),
        b.scale(),
        scale,
    )?)?;
    if sum & 1 == 0 {
        return Decimal::try_from_i128_with_scale(sum >> 1, scale).ok();
    }
    Decimal::try_from_i128_with_scale(sum.checked_mul(5)?, scale + 1).ok()
}

/// The nearest double.
pub(super) fn to_double(value: Decimal) -> f64 {
    let mantissa = value.mantissa();
    let power = usize::try_from(value.scale())
        .ok()
        .and_then(|scale| EXACT_POWERS.get(scale));
    match power {
        // Both are exact, so the quotient is rounded once.
        Some(power) if mantissa.unsigned_abs() <= EXACT_INTEGERS => mantissa as f64 / power,
        _ => value.to_string().parse().unwrap_or(f64::NAN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(text: &str) -> Decimal {
        Decimal::from_str_exact(text).unwrap()
    }

    fn sum(values: &[&str]) -> Option<String> {
        let mut sum = Sum::default();
        values.iter().for_each(|value| sum.add(d(value)));
        sum.decimal().map(|sum| sum.to_string())
    }

    #[test]
    fn sums_keep_the_greatest_scale_and_are_exact_or_none() {
        assert_eq!(sum(&[]), None);
        assert_eq!(sum(&["1.5", "2.50", "-4"]).unwrap(), "0.00");
        let max = "79228162514264337593543950335";
        assert_eq!(sum(&[max, "0"]).unwrap(), max);
        assert_eq!(sum(&[max, "1"]), None);
        assert_eq!(
            sum(&[max, "1", "-1"]).unwrap(),
            max,
            "a total may pass through"
        );
        // `rust_decimal` would round this.
        assert_eq!(sum(&[max, "0.1"]), None);
        assert_eq!(sum(&[max, "0.0000000000000000000000000001", "1"]), None);
    }

    #[test]
    fn a_mid_has_one_more_digit_where_it_must() {
        let mid = |a, b| mid(d(a), d(b)).map(|mid| mid.to_string());
        assert_eq!(mid("10.00", "10.02").unwrap(), "10.01");
        assert_eq!(mid("10.00", "10.01").unwrap(), "10.005");
        assert_eq!(mid("10", "10.01").unwrap(), "10.005");
        assert_eq!(mid("-0.3", "0.2").unwrap(), "-0.05");
        assert_eq!(mid("1", "1.0000000000000000000000000001"), None);
        let max = "79228162514264337593543950335";
        assert_eq!(mid(max, max).unwrap(), max);
    }

    #[test]
    fn quotients_are_rounded_only_where_they_must() {
        let over = |a: &str, b: &str| {
            let (mut dividend, mut divisor) = (Sum::default(), Sum::default());
            dividend.add(d(a));
            divisor.add(d(b));
            dividend.over(divisor).map(|quotient| quotient.to_string())
        };
        assert_eq!(over("1", "8").unwrap(), "0.125");
        assert_eq!(over("2", "3").unwrap(), "0.6666666666666666666666666667");
        assert_eq!(over("1", "0"), None);
        assert_eq!(
            rounded((15, 29)).unwrap().to_string(),
            "0.0000000000000000000000000002"
        );
        assert_eq!(
            rounded((-14, 29)).unwrap().to_string(),
            "-0.0000000000000000000000000001"
        );
        assert_eq!(rounded((1 << 96, 0)), None);
    }

    #[test]
    fn doubles_are_the_nearest() {
        for text in [
            "0.1",
            "927.9630000000001",
            "-373.4",
            "79228162514264337593543950335",
            "0.0000000000000000000000000001",
            "9007199254740993",
            "1.2345678901234567890123456789",
        ] {
            assert_eq!(to_double(d(text)), text.parse::<f64>().unwrap(), "{text}");
        }
    }
}
