//! The settings of a server: defaults, then the file, then the environment, then flags.

mod auth;
mod exposure;
mod network;
mod sections;
mod trace;
mod units;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use figment::{
    Figment,
    providers::{Env, Format as _, Serialized, Toml},
};
use serde::{Deserialize, Serialize};

pub use self::{
    auth::{AuthConfig, FlagConfig, GrantConfig, JwtConfig},
    network::{ClientAuth, PrincipalConfig, RateConfig, TlsConfig},
    sections::{FeedsConfig, LimitsConfig, LogConfig, StoreConfig},
    trace::TraceConfig,
    units::{Size, Time},
};
use super::{around::Around, origins};
use crate::{
    hub::{AutoCreate, HubOptions},
    layers::{
        Anonymous, AuthError, AuthOptions, Authenticator, Certificates, FeatureFlags, Grant,
        RateLimits, TrustedProxies,
    },
    model::{Retention, compile_glob},
    store::{MAX_RECORD_BYTES, sled::SledOptions},
};

/// Prefix of the environment variables; `__` goes down a table: `RINGFEED_STORE__RING_BYTES`.
const ENV_PREFIX: &str = "RINGFEED_";
/// Variables with this prefix that are the clients'.
const CLIENT_VARIABLES: [&str; 7] = [
    "endpoint",
    "token",
    "token_file",
    "tls_ca",
    "tls_cert",
    "tls_key",
    "tls_domain",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// On disk.
    Sled,
    /// In memory: nothing outlives the process.
    Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Human,
    Json,
}

/// Whether anything is around calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layers {
    #[default]
    On,
    /// No identity, no limits, no metrics and logs of calls: to measure what these cost.
    Off,
}

/// Who can reach a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachable {
    /// Only this machine.
    Loopback,
    Network,
}

/// Everything that can be set. `ringfeed.example.toml` documents each entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub listen: SocketAddr,
    pub metrics_listen: SocketAddr,
    pub data_dir: PathBuf,
    pub engine: EngineKind,
    /// Beyond loopback, traffic is only unencrypted when that is said here.
    pub plaintext: bool,
    /// Beyond loopback, callers need no token only when that is said here.
    pub anonymous: bool,
    /// Host names that may be asked for, beside addresses; none: on loopback its names, else all.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call from elsewhere.
    pub cors_origins: Vec<String>,
    pub layers: Layers,
    pub heartbeat: Time,
    pub shutdown_deadline: Time,
    pub store: StoreConfig,
    pub feeds: FeedsConfig,
    pub limits: LimitsConfig,
    pub log: LogConfig,
    pub tls: TlsConfig,
    pub auth: AuthConfig,
    pub trace: TraceConfig,
    /// Names that callers may say to x-feature-flags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub feature_flags: Vec<FlagConfig>,
}

impl Default for Config {
    fn default() -> Self {
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self {
            listen: loopback(50_051),
            metrics_listen: loopback(9_464),
            data_dir: "ringfeed-data".into(),
            engine: EngineKind::Sled,
            plaintext: false,
            anonymous: false,
            allowed_hosts: vec![],
            cors_origins: vec![],
            layers: Layers::On,
            heartbeat: Time(Duration::from_secs(10)),
            shutdown_deadline: Time(Duration::from_secs(10)),
            store: StoreConfig::default(),
            feeds: FeedsConfig::default(),
            limits: LimitsConfig::default(),
            log: LogConfig::default(),
            tls: TlsConfig::default(),
            auth: AuthConfig::default(),
            trace: TraceConfig::default(),
            feature_flags: vec![],
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error("{0}")]
    Invalid(#[from] Box<figment::Error>),
    #[error("{name} is {value}; {advice}")]
    Value {
        name: &'static str,
        value: String,
        advice: &'static str,
    },
    #[error(
        "{listen} can be reached from the network, and {missing}; listen on 127.0.0.1, or allow it with {flag}"
    )]
    Exposed {
        listen: SocketAddr,
        missing: &'static str,
        flag: &'static str,
    },
}

impl Config {
    /// Reads the file, where one is named, and the environment; `flags` go over both.
    pub fn load(file: Option<&Path>, flags: &impl Serialize) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        let config: Self = figment
            .merge(
                Env::prefixed(ENV_PREFIX)
                    .ignore(&CLIENT_VARIABLES)
                    .ignore(&["config"])
                    .split("__"),
            )
            .merge(Serialized::defaults(flags))
            .extract()
            .map_err(Box::new)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let value = |name, value: String, advice| {
            Err(ConfigError::Value {
                name,
                value,
                advice,
            })
        };
        let record = self.limits.record_bytes.0;
        if record == 0 || record > MAX_RECORD_BYTES as u64 {
            return value(
                "limits.record_bytes",
                record.to_string(),
                "it is 1 to 60000",
            );
        }
        if self.shutdown_deadline.0.is_zero() {
            return value(
                "shutdown_deadline",
                "0".into(),
                "give streams time to end, say 10s",
            );
        }
        if self.heartbeat.0 < Duration::from_millis(100) {
            return value(
                "heartbeat",
                self.heartbeat.to_string(),
                "it is at least 100ms",
            );
        }
        if self.limits.pending_bytes.0 < 2 << 20 {
            let pending = self.limits.pending_bytes.to_string();
            return value("limits.pending_bytes", pending, "it is at least 2 MiB");
        }
        // A record of the greatest size has to fit.
        if self.limits.publish_window.0 < 64 << 10 {
            let window = self.limits.publish_window.to_string();
            return value("limits.publish_window", window, "it is at least 64 KiB");
        }
        for flag in &self.feature_flags {
            if let Err(error) = compile_glob(&flag.principals) {
                return value("feature_flags.principals", error.glob, "it is no glob");
            }
        }
        let origin = |text: &&String| !origins::is_origin(text);
        if let Some(other) = self.cors_origins.iter().find(origin) {
            let advice = "write origins as browsers do: https://dash.example.com";
            return value("cors_origins", other.clone(), advice);
        }
        self.tls.check()?;
        if self.layers == Layers::Off && self.reachable() == Reachable::Network {
            let advice = "without them anybody may do everything: it is for measuring on loopback";
            return value("layers", "off".into(), advice);
        }
        self.rate_limits()?;
        self.check_exposure()?;
        self.authenticator().map(drop)
    }

    /// What others could read or write is only open to them when that was said.
    fn check_exposure(&self) -> Result<(), ConfigError> {
        if self.reachable() == Reachable::Loopback {
            return Ok(());
        }
        let exposed = |missing, flag| {
            Err(ConfigError::Exposed {
                listen: self.listen,
                missing,
                flag,
            })
        };
        if !self.plaintext && !self.tls.is_on() {
            return exposed("traffic would be unencrypted", "--plaintext");
        }
        if !self.anonymous && !self.auth_options().has_source() {
            return exposed("anybody could call without a token", "--anonymous");
        }
        Ok(())
    }

    /// What knows callers. Reads the files of [auth].
    pub fn authenticator(&self) -> Result<Authenticator, ConfigError> {
        Ok(Authenticator::new(self.auth_options())?)
    }

    fn auth_options(&self) -> AuthOptions {
        let auth = &self.auth;
        let grants = auth.grants.iter().map(|grant| Grant {
            principals: grant.principals.clone(),
            scopes: grant.scopes.clone(),
        });
        AuthOptions {
            token_file: auth.token_file.clone(),
            jwt: auth.jwt.options(),
            certificates: match self.tls.client_ca {
                Some(_) => Certificates::Shown,
                None => Certificates::None,
            },
            trusted_proxies: auth.trusted_proxies.clone(),
            grants: grants.collect(),
            anonymous: match self.anonymous {
                true => Anonymous::Allowed,
                false => Anonymous::Refused,
            },
            anonymous_scopes: auth.anonymous_scopes.clone(),
        }
    }

    /// What is around calls.
    pub(in crate::server) fn around(
        &self,
        authenticator: &Arc<Authenticator>,
    ) -> Result<Option<Around>, ConfigError> {
        if self.layers == Layers::Off {
            tracing::warn!("layers are off: no identity, no limits, no metrics of calls");
            return Ok(None);
        }
        let proxies = TrustedProxies::parse(&self.auth.trusted_proxies);
        let proxies = proxies.map_err(AuthError::from)?;
        Ok(Some(Around {
            authenticator: Arc::clone(authenticator),
            flags: self.feature_flags(),
            trusted: Arc::new(move |peer| proxies.is_trusted(peer)),
            load: self.limits.load_limits(),
            rates: self.rate_limits()?,
        }))
    }

    fn rate_limits(&self) -> Result<RateLimits, ConfigError> {
        let limits = self.limits.rate_limits();
        limits.map_err(|invalid| ConfigError::Value {
            name: "limits.principals.names",
            value: invalid.glob,
            advice: "names are globs of principals",
        })
    }

    pub fn reachable(&self) -> Reachable {
        if self.listen.ip().is_loopback() {
            Reachable::Loopback
        } else {
            Reachable::Network
        }
    }

    /// `check` saw that they can be read.
    pub(in crate::server) fn feature_flags(&self) -> FeatureFlags {
        let flags = self.feature_flags.iter();
        FeatureFlags::new(flags.map(|flag| (&*flag.name, &*flag.principals))).unwrap_or_default()
    }

    pub fn hub_options(&self) -> HubOptions {
        let bytes = |size: Size| usize::try_from(size.0).unwrap_or(usize::MAX);
        let by_default = match self.reachable() {
            Reachable::Loopback => AutoCreate::Yes,
            Reachable::Network => AutoCreate::No,
        };
        HubOptions {
            retention: Retention {
                max_bytes: self.feeds.ring_bytes.0,
                max_age: None,
            },
            visibility: self.feeds.visibility,
            auto_create: self.feeds.auto_create.unwrap_or(by_default),
            max_total_bytes: self.store.max_total_bytes.0,
            max_feeds: self.limits.feeds,
            max_keys_per_feed: self.limits.keys_per_feed,
            max_latest_bytes_per_feed: bytes(self.limits.latest_bytes_per_feed),
            max_producers_per_feed: self.limits.producers_per_feed,
            max_cursors_per_feed: self.limits.cursors_per_feed,
            max_key_bytes: bytes(self.limits.key_bytes),
            max_record_bytes: bytes(self.limits.record_bytes),
            max_event_time_ahead: self.limits.event_time_ahead.0,
            window_bytes: bytes(self.limits.window_bytes),
            view_bytes: bytes(self.limits.view_bytes),
            max_pending_bytes: bytes(self.limits.pending_bytes),
            ..HubOptions::default()
        }
    }

    pub(in crate::server) fn sled_options(&self) -> SledOptions {
        SledOptions {
            cache_bytes: usize::try_from(self.store.cache_bytes.0).unwrap_or(usize::MAX),
            reserve_bytes: self.store.reserve_bytes.0,
            ..SledOptions::new(self.data_dir.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ringfeed.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(Some(&file), &serde_json::json!({}))
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        let config = Config::default();
        assert_eq!(parse(&toml::to_string(&config).unwrap()).unwrap(), config);
    }

    #[test]
    fn the_example_documents_every_entry_with_its_default() {
        let example = include_str!("../../../ringfeed.example.toml");
        assert_eq!(parse(example).unwrap(), Config::default());
        let shown: toml::Table =
            toml::from_str(&toml::to_string(&Config::default()).unwrap()).unwrap();
        let documented: toml::Table = toml::from_str(example).unwrap();
        let names = |table: &toml::Table| {
            let mut names: Vec<String> = table.keys().cloned().collect();
            for (name, value) in table {
                names.extend(
                    value
                        .as_table()
                        .into_iter()
                        .flatten()
                        .map(|(k, _)| format!("{name}.{k}")),
                );
            }
            names.sort();
            names
        };
        assert_eq!(names(&documented), names(&shown));
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text| parse(text).unwrap_err().to_string();
        assert!(error("lissten = 1").contains("lissten"));
        assert!(error("heartbeat = \"fast\"").contains("\"10s\""));
        assert!(error("listen = \"0.0.0.0:1\"").contains("--plaintext"));
        assert!(error("listen = \"0.0.0.0:1\"\nplaintext = true").contains("--anonymous"));
        let open = "listen = \"0.0.0.0:1\"\nplaintext = true\nanonymous = true\nlayers = \"off\"";
        assert!(error(open).contains("loopback"));
        let glob = "[[limits.principals]]\nnames = [\"a[\"]";
        assert!(error(glob).contains("limits.principals.names is a["));
        let flag = "[[feature_flags]]\nname = \"x\"\nprincipals = \"[\"";
        assert!(error(flag).contains("glob"));
        assert!(error("cors_origins = [\"*\"]").contains("https://"));
        assert!(error("[tls]\ncert = \"x.pem\"").contains("tls.key"));
        assert!(error("[tls]\nclient_ca = \"x.pem\"").contains("tls.cert"));
        assert!(error("[tls]\ncert = \"no.pem\"\nkey = \"no.pem\"").contains("no.pem"));
        assert!(error("[tls]\nclient_auth = \"required\"").contains("tls.client_ca"));
        assert!(error("[limits]\nrecord_bytes = \"1MiB\"").contains("60000"));
        let auth = |text: &str| parse(&format!("[auth]\n{text}")).unwrap_err().to_string();
        assert!(auth("token_file = \"/nowhere\"").contains("auth.token_file /nowhere"));
        assert!(
            auth("anonymous_scopes = [\"look:*\"]").contains("auth.anonymous_scopes: \"look:*\"")
        );
        assert!(auth("trusted_proxies = [\"10.0.0.0/99\"]").contains("auth.trusted_proxies"));
        assert!(
            auth("[[auth.grants]]\nprincipals = \"a[\"\nscopes = []")
                .contains("auth.grants: \"a[\"")
        );
        let jwt = "[auth.jwt]\nalgorithms = [\"HS256\"]";
        assert!(error(jwt).contains("auth.jwt: one of key_file"));
        assert!(error("[auth.jwt]\nkey_file = \"x\"").contains("auth.jwt: algorithms are missing"));
    }

    #[test]
    fn beyond_loopback_what_is_open_was_said_so() {
        let tokens = tempfile::NamedTempFile::new().unwrap();
        let with_tokens = format!("[auth]\ntoken_file = {:?}", tokens.path());
        let open = "listen = \"0.0.0.0:1\"\n";
        let tls = format!("[tls]\ncert = {0:?}\nkey = {0:?}\n", tokens.path());
        let tls = tls.as_str();
        let (plain, anyone) = ("plaintext = true\n", "anonymous = true\n");
        for (parts, refused, warnings) in [
            (vec![], None, 0),
            (vec![anyone, plain], None, 0),
            (vec![open], Some("--plaintext"), 0),
            (vec![open, tls], Some("--anonymous"), 0),
            (vec![open, &with_tokens], Some("--plaintext"), 0),
            (vec![open, plain], Some("--anonymous"), 0),
            (vec![open, plain, anyone], None, 3),
            (vec![open, plain, &with_tokens], None, 1),
            (vec![open, plain, anyone, &with_tokens], None, 3),
            (vec![open, anyone, tls], None, 2),
            (vec![open, tls, &with_tokens], None, 0),
        ] {
            match (parse(&parts.concat()), refused) {
                (Ok(config), None) => {
                    assert_eq!(config.open_to_the_network().len(), warnings, "{parts:?}");
                }
                (Err(error), Some(flag)) => {
                    assert!(error.to_string().contains(flag), "{parts:?}: {error}");
                }
                (loaded, _) => panic!("{parts:?}: {loaded:?}"),
            }
        }
    }
}
