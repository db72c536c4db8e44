//! The tables of the settings that are about connections: TLS, and rates.

use std::{fs::File, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{ConfigError, LimitsConfig, Size};
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

impl TlsConfig {
    /// Whether connections are encrypted.
    pub fn is_on(&self) -> bool {
        self.cert.is_some()
    }

    /// Whether the entries fit and the files are there. What is in them is seen at the start.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let error = |name, value: &str, advice| {
            let value = value.to_owned();
            Err(ConfigError::Value {
                name,
                value,
                advice,
            })
        };
        match (&self.cert, &self.key) {
            (Some(_), None) => return error("tls.key", "not set", "tls.cert needs its key"),
            (None, Some(_)) => {
                return error("tls.cert", "not set", "tls.key needs its certificate");
            }
            (None, None) if self.client_ca.is_some() => {
                let advice = "tls.client_ca needs tls.cert and tls.key";
                return error("tls.cert", "not set", advice);
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        if self.client_auth == ClientAuth::Required && self.client_ca.is_none() {
            let advice = "tls.client_auth = \"required\" needs somebody to trust";
            return error("tls.client_ca", "not set", advice);
        }
        let files = [
            ("tls.cert", &self.cert),
            ("tls.key", &self.key),
            ("tls.client_ca", &self.client_ca),
        ];
        for (name, path) in files {
            if let Some(path) = path
                && let Err(cause) = File::open(path)
            {
                let value = format!("{}: {cause}", path.display());
                return error(name, &value, "give a PEM file that can be read");
            }
        }
        Ok(())
    }
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
            connections: config.connections,
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
