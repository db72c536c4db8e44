//! What several commands take: where the server is, and values with units.

use std::{fs, path::PathBuf, str::FromStr, time::Duration};

use anyhow::Context as _;
use clap::Args;

use super::{exit::Usage, telemetry::TelemetryArgs};
use crate::{
    client::{ConnectOptions, TlsOptions, Token},
    proto::convert::parse_duration,
};

/// Where the server is, and who we are to it. Of commands with commands of their own, before or behind
/// those.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub(super) struct ConnectArgs {
    /// Server to talk to; repeat it to name others to fall back on
    #[arg(
        long,
        global = true,
        env = "RINGFEED_ENDPOINT",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:50051"
    )]
    pub(super) endpoint: Vec<String>,
    /// Bearer token; the environment keeps it out of the process list
    #[arg(
        long,
        global = true,
        env = "RINGFEED_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub(super) token: Option<Token>,
    /// File with the bearer token; read again when it changes, so that it can be replaced meanwhile
    #[arg(
        long,
        global = true,
        env = "RINGFEED_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "token"
    )]
    pub(super) token_file: Option<PathBuf>,
    /// PEM file of the certificates to trust; https:// needs it
    #[arg(long, global = true, env = "RINGFEED_TLS_CA", value_name = "FILE")]
    pub(super) tls_ca: Option<PathBuf>,
    /// PEM file of our own certificate
    #[arg(
        long,
        global = true,
        env = "RINGFEED_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub(super) tls_cert: Option<PathBuf>,
    /// PEM file of its key
    #[arg(
        long,
        global = true,
        env = "RINGFEED_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub(super) tls_key: Option<PathBuf>,
    /// Name in the server's certificate, if it is not the endpoint's host
    #[arg(long, global = true, env = "RINGFEED_TLS_DOMAIN", value_name = "NAME")]
    pub(super) tls_domain: Option<String>,
    #[command(flatten)]
    pub(super) telemetry: TelemetryArgs,
}

impl ConnectArgs {
    pub(super) fn options(&self) -> anyhow::Result<ConnectOptions> {
        let read = |path: &PathBuf| {
            fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let cert = self.tls_cert.as_ref().map(read).transpose()?;
        let key = self.tls_key.as_ref().map(read).transpose()?;
        Ok(ConnectOptions {
            endpoints: self.endpoint.clone(),
            token: self.token.clone(),
            token_file: self.token_file.clone(),
            tls: TlsOptions {
                ca: self.tls_ca.as_ref().map(read).transpose()?,
                identity: cert.zip(key),
                domain: self.tls_domain.clone(),
            },
            ..ConnectOptions::default()
        })
    }
}

fn prefix(text: &str, is: impl Fn(char) -> bool) -> &str {
    let end = text.find(|c| !is(c)).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// Reads `250ms`, `10m`, `7d`, `1h30m`.
pub(super) fn duration(text: &str) -> Result<Duration, Usage> {
    parse_duration(text).map_err(|error| Usage::new(error.to_string()))
}

/// Reads `1048576`, `256MiB`, `10 GB`.
pub(super) fn bytes(text: &str) -> Result<u64, Usage> {
    let bad = || {
        Usage::new(format!(
            "{text:?} is not a size: write for instance 64MiB, 2GiB or a number of bytes"
        ))
    };
    let text = text.trim();
    let digits = prefix(text, |c| c.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_invalid| bad())?;
    let unit = text.get(digits.len()..).unwrap_or_default().trim();
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(bad()),
    };
    number.checked_mul(factor).ok_or_else(bad)
}

/// Records per second, above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate(pub(super) f64);

impl FromStr for Rate {
    type Err = Usage;

    /// Reads `500/s`, `30/m`, `500`.
    fn from_str(text: &str) -> Result<Self, Usage> {
        let (number, per) = text.split_once('/').unwrap_or((text, "s"));
        let seconds = match per.trim() {
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3_600.0,
            _ => f64::NAN,
        };
        let rate = number.trim().parse().unwrap_or(f64::NAN) / seconds;
        positive(rate).map(Self).ok_or_else(|| {
            Usage::new(format!(
                "{text:?} is not a rate: write for instance 500/s or 30/m"
            ))
        })
    }
}

/// How much faster than recorded, above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Speed(pub(super) f64);

impl FromStr for Speed {
    type Err = Usage;

    /// Reads `10x`, `0.5x`, `10`.
    fn from_str(text: &str) -> Result<Self, Usage> {
        let number = text.trim().trim_end_matches(['x', 'X']);
        let speed = number.parse().unwrap_or(f64::NAN);
        positive(speed)
            .map(Self)
            .ok_or_else(|| Usage::new(format!("{text:?} is not a speed: write for instance 10x")))
    }
}

fn positive(number: f64) -> Option<f64> {
    (number.is_finite() && number > 0.0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_or_decimal_as_they_say() {
        assert_eq!(bytes("256MiB").unwrap(), 256 << 20);
        assert_eq!(bytes("10 GB").unwrap(), 10_000_000_000);
        assert_eq!(bytes("1048576").unwrap(), 1 << 20);
        for bad in ["", "MiB", "1.5GiB", "-1", "99999999TiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_and_speeds_are_above_zero() {
        assert_eq!("500/s".parse(), Ok(Rate(500.0)));
        assert_eq!("30/m".parse(), Ok(Rate(0.5)));
        assert_eq!("10x".parse(), Ok(Speed(10.0)));
        assert_eq!("0.5".parse(), Ok(Speed(0.5)));
        for bad in ["0", "-1/s", "x", "5/d", "inf", "nan"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
            assert!(bad.parse::<Speed>().is_err(), "{bad}");
        }
    }
}
