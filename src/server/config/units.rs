//! Bytes and times as people write them in settings.

use std::{fmt, time::Duration};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// Bytes as people write them: `256MiB`, `60000B`. Shown exactly, in the largest unit that fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size(pub u64);

impl Size {
    pub(super) const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        let fits = units
            .into_iter()
            .find(|(bits, _)| self.0 > 0 && self.0.is_multiple_of(1 << bits));
        let (bits, unit) = fits.unwrap_or((0, "B"));
        write!(f, "{}{unit}", self.0 >> bits)
    }
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size: ByteSize = text.parse()?;
        Ok(Self(size.as_u64()))
    }
}

impl Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        ByteSize::deserialize(from).map(|size| Self(size.as_u64()))
    }
}

/// A duration as people write it: `10s`, `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::SignedDuration::try_from(self.0) {
            Ok(duration) => write!(f, "{duration:#}"),
            Err(_) => write!(f, "{}s", self.0.as_secs()),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let parsed = text
            .parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|d| d.try_into().ok());
        let help = || format!("\"{text}\" is no duration; write for instance \"10s\" or \"24h\"");
        parsed
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(help()))
    }
}
