//! The promises of ringfeed, each proved on the real binary over real connections. `harness`
//! starts and ends servers; every other module is about one promise.

mod bad_input;
mod bounded;
mod catalog;
mod crash;
mod disk_full;
mod harness;
mod immediate;
mod ingest;
mod metrics;
mod slow;
mod small_frames;
mod stop;
mod subscribe;
