//! cli

pub mod mapping;
pub mod output;
pub mod serve;
