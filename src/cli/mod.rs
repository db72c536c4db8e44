//! cli

pub mod demo;
pub mod mapping;
pub mod output;
pub mod serve;
