//! The promises of ringfeed, each proved on the real binary over real connections. `harness`
//! starts and ends servers; every other module is about one promise.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::unnecessary_wraps,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and reads best as one story"
)]

mod access;
mod at_speed;
mod bad_input;
mod bars;
mod bench;
mod bounded;
mod browser;
mod catalog;
mod cli;
mod cli_views;
mod connections;
mod context;
mod crash;
mod cursors;
mod cut;
mod demo;
mod disk_full;
mod harness;
mod histories;
mod hostile;
mod identity;
mod immediate;
mod ingest;
mod limits;
mod metrics;
mod policies;
mod publish;
mod quiet;
mod scrape;
mod selectors;
mod session;
mod slow;
mod small_frames;
mod stop;
mod subscribe;
mod tls;
mod tracing;
mod two_ways;
