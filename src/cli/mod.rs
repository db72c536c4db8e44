//! cli

pub mod mapping;
pub mod output;
