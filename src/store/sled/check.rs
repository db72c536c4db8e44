//! Verifying a data directory offline.
use crate::store::StoreError;
use std::path::Path;
#[derive(Debug)]
pub struct BadBlock;
#[derive(Debug)]
pub struct CheckReport;
#[derive(Debug)]
pub struct LogReport;
#[derive(Debug)]
pub struct RingReport;
pub fn check(_dir: &Path) -> Result<CheckReport, StoreError> {
    Ok(CheckReport)
}
