//! The tables of the settings that are about connections: TLS, and rates.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{LimitsConfig, Size};
use crate::{
    layers::{LoadLimits, RateLimits, Rates},
    model::{Globs, InvalidGlob},
};

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// They may.
    #[default]
    Optional,
    /// Without one there is no connection.
    Required,
}

/// PEM files; read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// The server's certificate and those between it and a root. Absent: no TLS.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Whose client certificates are trusted. Absent: none are asked for.
    pub client_ca: Option<PathBuf>,
    pub client_auth: ClientAuth,
}

/// What one principal, or one peer, may do; 0: as much as it wants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateConfig {
    pub calls_per_second: u32,
    /// Records ingested.
    pub records_per_second: u32,
    /// Bytes ingested.
    pub bytes_per_second: Size,
    /// Open at the same time.
    pub streams: u32,
    /// Open at the same time.
    pub connections: u32,
}

/// Principals with rates of their own, instead of `per_principal`. The first entry that matches
/// counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrincipalConfig {
    /// Globs.
    pub names: Vec<String>,
    pub rates: RateConfig,
}

impl From<&RateConfig> for Rates {
    fn from(config: &RateConfig) -> Self {
        Self {
            calls_per_second: config.calls_per_second,
            records_per_second: config.records_per_second,
            bytes_per_second: config.bytes_per_second.0,
            streams: config.streams,
        }
    }
}

impl LimitsConfig {
    pub(in crate::server) fn rate_limits(&self) -> Result<RateLimits, InvalidGlob> {
        let principals = self.principals.iter();
        let principals =
            principals.map(|own| Ok((Globs::new(&own.names)?, Rates::from(&own.rates))));
        Ok(RateLimits {
            per_principal: Rates::from(&self.per_principal),
            per_peer: Rates::from(&self.per_peer),
            principals: principals.collect::<Result<_, _>>()?,
        })
    }

    pub(in crate::server) fn load_limits(&self) -> LoadLimits {
        LoadLimits {
            streams: self.streams,
            incomplete_bytes: self.incomplete_bytes.0,
        }
    }
}
