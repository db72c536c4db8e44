//! stub
mod options;
pub use options::SledOptions;
#[derive(Debug)]
pub struct SledEngine;
