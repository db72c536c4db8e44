//! What the disk does by itself, so that durable figures can be read beside it.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

const APPENDS: usize = 50;
const PAGE: [u8; 4096] = [7; 4096];

/// The median of 50 times appending 4 KiB to a file and calling fdatasync, in microseconds.
pub fn fdatasync_micros(directory: &Path) -> Result<u64> {
    let path = directory.join("fdatasync.probe");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let mut micros = Vec::with_capacity(APPENDS);
    for _ in 0..APPENDS {
        let start = Instant::now();
        file.write_all(&PAGE)?;
        file.sync_data()?;
        micros.push(start.elapsed().as_micros() as u64);
    }
    std::fs::remove_file(path)?;
    micros.sort_unstable();
    micros.get(APPENDS / 2).copied().context("no appends")
}

/// Bytes per second of appending `chunk` bytes and calling fdatasync, over and over.
pub fn append_bytes_per_second(directory: &Path, chunk: usize, time: Duration) -> Result<f64> {
    let path = directory.join("append.probe");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let bytes = vec![7; chunk];
    let start = Instant::now();
    let mut written = 0_usize;
    while start.elapsed() < time {
        file.write_all(&bytes)?;
        file.sync_data()?;
        written += chunk;
    }
    let rate = written as f64 / start.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}
