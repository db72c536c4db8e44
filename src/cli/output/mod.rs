//! Printing records: a table for people, JSON lines and CSV for programs. For the commands that
//! show records, and `ingest`, which accepts both.

pub mod flat;
