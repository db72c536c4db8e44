//! What the machine allows: the disk's flush, a file that is appended and flushed, loopback TCP.
//! Measured beside each run, because they move.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

const FLUSHES: usize = 50;
const FLUSH_BYTES: usize = 4 << 10;
const APPEND_BYTES: usize = 1 << 20;
const APPENDS: usize = 128;
const TRANSFER_BYTES: usize = 256 << 10;
const TRANSFER_FOR: Duration = Duration::from_millis(500);

/// Median of appending 4 KiB to a file and flushing it, in microseconds.
pub(super) fn fdatasync_micros(dir: &Path) -> anyhow::Result<f64> {
    let mut file = Scrap::create(dir, "flushes")?;
    let mut times = Vec::with_capacity(FLUSHES);
    for _ in 0..FLUSHES {
        let start = Instant::now();
        file.append(FLUSH_BYTES)?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let median = times.get(FLUSHES / 2).copied().unwrap_or_default();
    Ok(median.as_secs_f64() * 1e6)
}

/// Bytes per second of a file that is appended to and flushed after each MiB.
pub(super) fn append_bytes_per_second(dir: &Path) -> anyhow::Result<f64> {
    let mut file = Scrap::create(dir, "appends")?;
    let start = Instant::now();
    for _ in 0..APPENDS {
        file.append(APPEND_BYTES)?;
    }
    Ok((APPENDS * APPEND_BYTES) as f64 / start.elapsed().as_secs_f64())
}

/// A file that goes with us.
struct Scrap {
    file: File,
    path: std::path::PathBuf,
    bytes: Vec<u8>,
}

impl Scrap {
    fn create(dir: &Path, name: &str) -> anyhow::Result<Self> {
        let path = dir.join(format!("ringfeed-bench-{}.{name}", std::process::id()));
        let file = File::create(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        let bytes = vec![0x5a; APPEND_BYTES];
        Ok(Self { file, path, bytes })
    }

    fn append(&mut self, bytes: usize) -> anyhow::Result<()> {
        self.file
            .write_all(self.bytes.get(..bytes).unwrap_or_default())?;
        self.file.sync_data()?;
        Ok(())
    }
}

impl Drop for Scrap {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

/// Bytes per second of one TCP connection over loopback, from one thread to another.
pub(super) fn loopback_bytes_per_second() -> anyhow::Result<f64> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let sender = thread::spawn(move || -> std::io::Result<()> {
        let mut socket = TcpStream::connect(address)?;
        let bytes = vec![0x5a; TRANSFER_BYTES];
        let start = Instant::now();
        while start.elapsed() < TRANSFER_FOR {
            socket.write_all(&bytes)?;
        }
        Ok(())
    });
    let (mut socket, _) = listener.accept()?;
    let mut bytes = vec![0; TRANSFER_BYTES];
    let start = Instant::now();
    let mut total = 0;
    loop {
        let len = socket.read(&mut bytes)?;
        if len == 0 {
            break;
        }
        total += len;
    }
    let seconds = start.elapsed().as_secs_f64();
    let sent = sender.join();
    sent.map_err(|_panic| anyhow::anyhow!("the loopback sender failed"))??;
    Ok(total as f64 / seconds)
}
