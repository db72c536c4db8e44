//! Exact conversions between the wire's types and those of the standard library, `rust_decimal`
//! and RFC 3339. For everyone who reads or writes records.

use std::time::Duration;

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::v1;
use crate::model::{DecimalOutOfRange, DecimalParts, UnixNanos};

const NANOS_PER_SECOND: i128 = 1_000_000_000;
const MAX_SCALE: i64 = 28;

impl From<Decimal> for v1::Decimal {
    fn from(decimal: Decimal) -> Self {
        let DecimalParts { units, scale, high } = decimal.into();
        Self { units, scale, high }
    }
}

impl TryFrom<&v1::Decimal> for Decimal {
    type Error = DecimalOutOfRange;

    fn try_from(wire: &v1::Decimal) -> Result<Self, DecimalOutOfRange> {
        let &v1::Decimal { units, scale, high } = wire;
        DecimalParts { units, scale, high }.try_into()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDecimal {
    #[error("is not a decimal number")]
    Syntax,
    #[error("has more than 28 digits behind the point, or some 29 in all: it would not stay exact")]
    Range,
}

/// Reads `-12.50` or `5.40E-05`, keeping every digit and the scale; never rounds.
pub fn parse_decimal(text: &str) -> Result<v1::Decimal, InvalidDecimal> {
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (
            digits,
            exponent.parse().map_err(|_error| InvalidDecimal::Syntax)?,
        ),
        None => (text, 0),
    };
    if !is_plain_number(digits) {
        return Err(InvalidDecimal::Syntax);
    }
    let decimal = Decimal::from_str_exact(digits).map_err(|_error| InvalidDecimal::Range)?;
    Ok(shifted(decimal, exponent)?.into())
}

/// A sign, digits and one point: `rust_decimal` would read `1_000` too, no number in a data file.
fn is_plain_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    digits(whole) && digits(fraction) && whole.len() + fraction.len() > 0
}

/// `decimal` · 10^`exponent`, exactly.
fn shifted(decimal: Decimal, exponent: i32) -> Result<Decimal, InvalidDecimal> {
    let scale = i64::from(decimal.scale()) - i64::from(exponent);
    if !(-MAX_SCALE..=MAX_SCALE).contains(&scale) {
        return Err(InvalidDecimal::Range);
    }
    let grow = u32::try_from(-scale).unwrap_or(0);
    let keep = u32::try_from(scale).unwrap_or(0);
    10_i128
        .checked_pow(grow)
        .and_then(|factor| decimal.mantissa().checked_mul(factor))
        .and_then(|mantissa| Decimal::try_from_i128_with_scale(mantissa, keep).ok())
        .ok_or(InvalidDecimal::Range)
}

/// The decimal as text, scale kept. One that no decimal can hold (the server refuses it) shows
/// its parts.
pub fn decimal_text(wire: &v1::Decimal) -> String {
    Decimal::try_from(wire).map_or_else(
        |_| {
            format!(
                "({} * 2^64 + {}) / 10^{}",
                wire.high, wire.units, wire.scale
            )
        },
        |decimal| decimal.to_string(),
    )
}

/// RFC 3339 in UTC with all nine digits; holds every `i64` of nanoseconds (1677 to 2262).
pub fn time_text(nanos: UnixNanos) -> String {
    let time = Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default();
    format!("{time:.9}")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTime {
    #[error(
        "is not a time; write RFC 3339 with a zone (2016-05-25T13:30:00.023Z) or nanoseconds since 1970 (1464183000023000000)"
    )]
    Syntax,
    #[error("lies outside the years 1677 to 2262")]
    Range,
}

/// Reads RFC 3339 with an offset or `Z`, or whole nanoseconds since the Unix epoch.
pub fn parse_time(text: &str) -> Result<UnixNanos, InvalidTime> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map_err(|_error| InvalidTime::Range);
    }
    let time: Timestamp = text.parse().map_err(|_error| InvalidTime::Syntax)?;
    unix_nanos(time)
}

/// The timestamp in nanoseconds, where they fit 64 bits.
pub fn unix_nanos(time: Timestamp) -> Result<UnixNanos, InvalidTime> {
    i64::try_from(time.as_nanosecond()).map_err(|_error| InvalidTime::Range)
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: write for instance 250ms, 10m, 2h or 7d")]
pub struct InvalidDuration(String);

/// Reads `250ms`, `10m`, `7d`, `1h30m`.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let bad = || InvalidDuration(text.to_owned());
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let number = take(&mut rest, |c| c.is_ascii_digit() || c == '.');
        let number: f64 = number.parse().map_err(|_invalid| bad())?;
        let seconds = match take(&mut rest, |c| c.is_ascii_alphabetic()) {
            "ms" => 0.001,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return Err(bad()),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_range| bad())?;
        total = total.checked_add(part).ok_or_else(bad)?;
    }
    Ok(total)
}

/// Takes what the text begins with, and the blanks behind it.
fn take<'t>(text: &mut &'t str, is: impl Fn(char) -> bool) -> &'t str {
    let end = text.find(|c| !is(c)).unwrap_or(text.len());
    let (taken, rest) = text.split_at(end);
    *text = rest.trim_start();
    taken
}

/// The wire's duration; beyond what it can hold, its greatest.
pub fn wire_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// The duration, unless it is negative.
pub fn std_duration(wire: &prost_types::Duration) -> Option<Duration> {
    let total = i128::from(wire.seconds) * NANOS_PER_SECOND + i128::from(wire.nanos);
    let seconds = u64::try_from(total.div_euclid(NANOS_PER_SECOND)).ok()?;
    let nanos = u32::try_from(total.rem_euclid(NANOS_PER_SECOND)).ok()?;
    Some(Duration::new(seconds, nanos))
}

/// The wire's timestamp.
pub fn wire_timestamp(nanos: UnixNanos) -> prost_types::Timestamp {
    let nanos = i128::from(nanos);
    prost_types::Timestamp {
        seconds: i64::try_from(nanos.div_euclid(NANOS_PER_SECOND)).unwrap_or(0),
        nanos: i32::try_from(nanos.rem_euclid(NANOS_PER_SECOND)).unwrap_or(0),
    }
}

/// The timestamp in nanoseconds, where they fit 64 bits.
pub fn timestamp_nanos(wire: &prost_types::Timestamp) -> Option<UnixNanos> {
    let total = i128::from(wire.seconds) * NANOS_PER_SECOND + i128::from(wire.nanos);
    i64::try_from(total).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> String {
        parse_decimal(text).map_or_else(|error| error.to_string(), |d| decimal_text(&d))
    }

    #[test]
    fn decimals_keep_their_digits_and_scale() {
        for text in [
            "0",
            "0.10000000",
            "-7999.0",
            "927.9630000000001",
            "4.186662803811",
        ] {
            assert_eq!(read(text), text);
        }
        assert_eq!(
            read("79228162514264337593543950335"),
            "79228162514264337593543950335"
        );
        assert_eq!(read("-0.43349799999999994"), "-0.43349799999999994");
        assert_eq!(read("+1.5"), "1.5");
        assert_eq!(read(".5"), "0.5");
    }

    #[test]
    fn scientific_notation_is_exact() {
        assert_eq!(read("5.40E-05"), "0.0000540");
        assert_eq!(read("1.5e3"), "1500");
        assert_eq!(read("1e28"), "10000000000000000000000000000");
    }

    #[test]
    fn what_is_no_exact_decimal_is_refused() {
        for text in [
            "", "-", ".", "1_000", "NaN", "1,5", "1e", "0x10", " 1", "1e5e5", "1-1",
        ] {
            assert_eq!(parse_decimal(text), Err(InvalidDecimal::Syntax), "{text}");
        }
        for text in [
            "79228162514264337593543950336",
            "1e29",
            "1e-29",
            "1e2147483647",
        ] {
            assert_eq!(parse_decimal(text), Err(InvalidDecimal::Range), "{text}");
        }
        let digits = "0.12345678901234567890123456789";
        assert_eq!(parse_decimal(digits), Err(InvalidDecimal::Range));
    }

    #[test]
    fn durations_have_units() {
        let of = |text| parse_duration(text).ok();
        assert_eq!(of("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(of("1h30m"), Some(Duration::from_secs(5_400)));
        assert_eq!(of("7 d"), Some(Duration::from_secs(604_800)));
        for bad in ["", "10", "m", "-1s", "1.2.3s", "1y", "1e3s"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_are_rfc_3339_with_nine_digits() {
        assert_eq!(
            time_text(1_464_183_000_023_000_000),
            "2016-05-25T13:30:00.023000000Z"
        );
        assert_eq!(time_text(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(
            parse_time("2016-05-25T06:30:00.023-07:00"),
            Ok(1_464_183_000_023_000_000)
        );
        assert_eq!(
            parse_time("1723161254024619568"),
            Ok(1_723_161_254_024_619_568)
        );
        assert_eq!(
            parse_time("1962-01-02T00:00:00Z"),
            Ok(-252_374_400_000_000_000)
        );
        assert_eq!(parse_time("2016-05-25T13:30:00"), Err(InvalidTime::Syntax));
        assert_eq!(parse_time("3000-01-01T00:00:00Z"), Err(InvalidTime::Range));
    }

    proptest! {
        #[test]
        fn times_round_trip(nanos in any::<i64>()) {
            prop_assert_eq!(parse_time(&time_text(nanos)), Ok(nanos));
            prop_assert_eq!(parse_time(&nanos.to_string()), Ok(nanos));
            prop_assert_eq!(timestamp_nanos(&wire_timestamp(nanos)), Some(nanos));
        }

        #[test]
        fn durations_round_trip(seconds in 0..=i64::MAX as u64, nanos in 0..1_000_000_000_u32) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(std_duration(&wire_duration(duration)), Some(duration));
        }
    }

    #[test]
    fn the_ends_of_time_round_trip() {
        for nanos in [i64::MIN, i64::MAX, 0, -1] {
            assert_eq!(parse_time(&time_text(nanos)), Ok(nanos));
        }
    }
}
