//! The tables of the settings that are about callers: who they are, and what they may do.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::Time;
use crate::layers::JwtOptions;

/// Where callers' identities come from. With none of it, everybody may do everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// Tokens made by `ringfeed token create`; read again when it changes.
    pub token_file: Option<PathBuf>,
    /// Of callers without credentials, where `anonymous` allows them.
    pub anonymous_scopes: Vec<String>,
    /// Networks (`10.0.0.0/8`) and certificate names of proxies whose x-forwarded-client-cert and
    /// x-user-id are believed.
    pub trusted_proxies: Vec<String>,
    pub jwt: JwtConfig,
    /// Scopes of principals that bring none: those of certificates, proxies, and tokens without a
    /// claim.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<GrantConfig>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JwtConfig {
    /// Of HS256, RS256, ES256, EdDSA. None: no JWT is accepted.
    pub algorithms: Vec<String>,
    /// A PEM public key, or for HS256 the secret. Only one of the three key sources is set.
    pub key_file: Option<PathBuf>,
    pub jwks_file: Option<PathBuf>,
    pub jwks_url: Option<String>,
    pub issuer: Option<String>,
    pub audience: Option<String>,
    /// How far clocks may differ.
    pub leeway: Time,
    /// The claim with scopes, a list or a text with spaces between them.
    pub scope_claim: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantConfig {
    /// A glob.
    pub principals: String,
    pub scopes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlagConfig {
    pub name: String,
    /// A glob: who may set it.
    pub principals: String,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            token_file: None,
            anonymous_scopes: vec!["*:*".into()],
            trusted_proxies: vec![],
            jwt: JwtConfig::default(),
            grants: vec![],
        }
    }
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            algorithms: vec![],
            key_file: None,
            jwks_file: None,
            jwks_url: None,
            issuer: None,
            audience: None,
            leeway: Time(Duration::from_secs(30)),
            scope_claim: "scope".into(),
        }
    }
}

impl JwtConfig {
    pub(super) fn options(&self) -> JwtOptions {
        JwtOptions {
            algorithms: self.algorithms.clone(),
            key_file: self.key_file.clone(),
            jwks_file: self.jwks_file.clone(),
            jwks_url: self.jwks_url.clone(),
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            leeway: self.leeway.0,
            scope_claim: self.scope_claim.clone(),
        }
    }
}
