//! The works: each the same for every system, each ending in a proof that nothing was lost.

mod fanout;
mod ingest;
mod latency;
mod replay;

use std::{
    path::Path,
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    disk,
    process::{Server, cpu_seconds},
    system::{Reader, Site, System},
    tally::Tally,
};

/// A reader that got nothing for this long will get nothing more.
const SILENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy)]
pub enum Work {
    Ingest {
        connections: usize,
        time: Duration,
    },
    Replay {
        records: u64,
    },
    Fanout {
        subscribers: usize,
        time: Duration,
    },
    Latency {
        rate: u64,
        subscribers: usize,
        time: Duration,
    },
}

/// What a work found; the fields that do not apply stay out of the JSON.
#[derive(Debug, Default, Serialize)]
pub struct Figures {
    /// Moved and proven: written, replayed or delivered.
    pub records: u64,
    pub seconds: f64,
    pub records_per_second: f64,
    pub server_cpu_seconds: f64,
    pub server_cpu_seconds_per_million: f64,
    pub client_cpu_seconds_per_million: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
}

#[derive(Debug, Serialize)]
pub struct Latency {
    pub p50_micros: u32,
    pub p90_micros: u32,
    pub p99_micros: u32,
    pub p999_micros: u32,
    pub max_micros: u32,
}

#[derive(Debug, Serialize)]
pub struct Outcome {
    #[serde(flatten)]
    pub figures: Figures,
    pub fdatasync_micros_before: u64,
    pub fdatasync_micros_after: u64,
    pub server_peak_bytes: u64,
    pub server_command: String,
}

/// A running server, and what measures it.
#[derive(Debug)]
pub struct Bench<'a, S> {
    system: S,
    server: &'a Server,
    port: u16,
}

/// Runs one work on one system from an empty directory.
pub async fn run<S: System>(system: S, work: Work, tools: &Path, data: &Path) -> Result<Outcome> {
    let port = free_port()?;
    let site = Site { tools, data, port };
    let before = disk::fdatasync_micros(data)?;
    let server = Server::start(&system, &site).await?;
    let bench = Bench {
        system,
        server: &server,
        port,
    };
    let figures = match work {
        Work::Ingest { connections, time } => bench.ingest(connections, time).await,
        Work::Replay { records } => bench.replay(records).await,
        Work::Fanout { subscribers, time } => bench.fanout(subscribers, time).await,
        Work::Latency {
            rate,
            subscribers,
            time,
        } => bench.latency(rate, subscribers, time).await,
    };
    let figures = figures.with_context(|| server.command.clone())?;
    let (server_peak_bytes, server_command) = (server.peak_bytes()?, server.command.clone());
    server.stop().await?;
    Ok(Outcome {
        figures,
        fdatasync_micros_before: before,
        fdatasync_micros_after: disk::fdatasync_micros(data)?,
        server_peak_bytes,
        server_command,
    })
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port())
}

impl<S: System> Bench<'_, S> {
    /// To be called when the timed part begins.
    fn cpu(&self) -> Result<Cpu> {
        let (server, client) = (self.server.cpu_seconds()?, cpu_seconds("self")?);
        Ok(Cpu { server, client })
    }

    /// The figures of `records` moved since `cpu` was taken.
    fn figures(&self, records: u64, seconds: f64, cpu: Cpu) -> Result<Figures> {
        let now = self.cpu()?;
        let (server, client) = (now.server - cpu.server, now.client - cpu.client);
        let per_million = |seconds: f64| seconds / records as f64 * 1e6;
        Ok(Figures {
            records,
            seconds,
            records_per_second: records as f64 / seconds,
            server_cpu_seconds: server,
            server_cpu_seconds_per_million: per_million(server),
            client_cpu_seconds_per_million: per_million(client),
            latency: None,
        })
    }
}

/// CPU seconds used so far.
#[derive(Debug, Clone, Copy)]
struct Cpu {
    server: f64,
    client: f64,
}

/// How many records the writer will have written: known only once it nears its end.
#[derive(Debug, Clone)]
struct Goal(Arc<AtomicU64>);

impl Goal {
    fn open() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }

    fn of(records: u64) -> Self {
        Self(Arc::new(AtomicU64::new(records)))
    }

    /// To be called before the last records are sent, so that they wake every reader to see it.
    fn set(&self, records: u64) {
        self.0.store(records, Ordering::Release);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn reached(&self, seen: u64) -> bool {
        seen >= self.get()
    }
}

/// Reads until the goal; hands back what was seen and when the last of it came.
async fn follow<R: Reader>(
    mut reader: R,
    mut tally: Tally,
    goal: Goal,
    progress: Arc<AtomicU64>,
) -> Result<(Tally, Instant)> {
    while !goal.reached(tally.seen()) {
        reader.read(|record| tally.record(record)).await?;
        progress.store(tally.seen(), Ordering::Relaxed);
    }
    Ok((tally, Instant::now()))
}

/// Waits for every reader; one that falls silent has lost records.
async fn join(
    mut readers: JoinSet<Result<(Tally, Instant)>>,
    progress: &[Arc<AtomicU64>],
) -> Result<Vec<(Tally, Instant)>> {
    let mut ended = Vec::with_capacity(progress.len());
    let seen = || progress.iter().map(|one| one.load(Ordering::Relaxed));
    let mut before = seen().sum::<u64>();
    loop {
        match tokio::time::timeout(SILENCE, readers.join_next()).await {
            Ok(Some(one)) => ended.push(one??),
            Ok(None) => return Ok(ended),
            Err(_) if seen().sum::<u64>() > before => before = seen().sum(),
            Err(_) => bail!(
                "{} readers got nothing for {SILENCE:?}; the furthest saw {:?}, the last {:?}",
                readers.len(),
                seen().max(),
                seen().min()
            ),
        }
    }
}
