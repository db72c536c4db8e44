//! The reference engine: the contract in its plainest form, for tests and `--engine memory`.
#[derive(Debug)]
pub struct MemoryEngine;
