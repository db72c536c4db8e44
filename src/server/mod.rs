//! The process: bind, stack, serve, drain; and the pages beside gRPC.

mod admin;
mod config;
mod gather;
mod page;
mod prometheus;
mod routes;
mod serve;

pub use config::{Config, ConfigError, EngineKind, LogFormat, Reachable, Size, Time};
pub use serve::{ServeError, Server};
