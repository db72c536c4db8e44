//! ringfeed: live feeds of records, durable in a bounded ring, followed and resumed by offset.
//!
//! ```text
//! 0 words     model, errors, metrics,       pure values; the table of errors; every metric and
//!             trace, shutdown               every span as a verb; orderly stop
//! 1 doors     store, proto, layers          engines and rings; the wire; around each call
//! 2 service   hub     (mirror: client)      append, follow, latest; the other end of the wire
//! 3 wire      rpc                           one file per RPC: decode, one call, encode
//! 4 process   server                        bind, stack, serve, drain
//! roof        cli                           one file per command
//! ```
//!
//! Calls go down, records come back as values, nothing calls up; `tests/house.rs` holds it.

pub mod cli;
pub mod client;
pub mod errors;
pub mod hub;
pub mod layers;
pub mod metrics;
pub mod model;
pub mod proto;
pub mod rpc;
pub mod server;
pub mod shutdown;
pub mod store;
pub mod trace;
