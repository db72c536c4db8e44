//! The tables of the settings that are about connections: TLS, and rates.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Size;

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
