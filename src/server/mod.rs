//! The process: bind, stack, serve, drain; and the pages beside gRPC.

mod admin;
mod config;
mod connection;
mod gather;
mod listen;
mod page;
mod prometheus;
mod routes;
mod seats;
mod serve;
mod tls;

pub use config::{
    AuthConfig, ClientAuth, Config, ConfigError, EngineKind, FeedsConfig, FlagConfig, GrantConfig,
    JwtConfig, LimitsConfig, LogConfig, LogFormat, PrincipalConfig, RateConfig, Reachable, Size,
    StoreConfig, Time, TlsConfig, TraceConfig,
};
pub use serve::{ServeError, Server};
pub use tls::TlsError;
