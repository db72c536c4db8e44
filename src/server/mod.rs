//! The process: bind, stack, serve, drain; and the pages beside gRPC.

mod admin;
mod config;
mod gather;
mod page;
mod prometheus;
mod routes;
mod serve;
mod web;

pub use config::{
    AuthConfig, ClientAuth, Config, ConfigError, EngineKind, FeedsConfig, FlagConfig, GrantConfig,
    JwtConfig, LimitsConfig, LogConfig, LogFormat, RateConfig, Reachable, Size, StoreConfig, Time,
    TlsConfig, TraceConfig,
};
pub use serve::{ServeError, Server};
