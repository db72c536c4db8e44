//! The process: bind, stack, serve, drain; and the pages beside gRPC.

mod admin;
mod around;
mod config;
mod connection;
mod gather;
mod guard;
mod hosts;
mod json;
mod listen;
mod log;
mod origins;
mod otlp;
mod page;
mod prometheus;
mod routes;
mod seats;
mod serve;
mod tls;
mod web;

pub use around::Around;
pub use config::{
    AuthConfig, ClientAuth, Config, ConfigError, EngineKind, FeedsConfig, FlagConfig, GrantConfig,
    JwtConfig, Layers, LimitsConfig, LogConfig, LogFormat, PrincipalConfig, RateConfig, Reachable,
    Size, StoreConfig, Time, TlsConfig, TraceConfig,
};
pub use log::{LogError, LogLevel};
pub use otlp::{Otlp, OtlpError};
pub use serve::{ServeError, Server};
pub use tls::TlsError;
