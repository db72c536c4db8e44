//! What all works of the bench understand.

use std::{env, path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, ValueEnum};

use super::{
    load::{Clock, Load, Pool},
    payload::{self, PayloadArg},
    report::Report,
    uploader::Packing,
    wire::Windows,
};
use crate::{
    cli::{
        args::{bytes, duration},
        exit::Usage,
    },
    model::now,
    proto::v1,
};

/// Records that an uploader has ready, at least.
const POOL_RECORDS: usize = 4_096;
const MIN_RING_BYTES: u64 = 256 << 20;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Common")]
pub(super) struct CommonArgs {
    /// Measure this server instead of one of our own; host:port, without TLS
    #[arg(long, value_name = "ADDRESS")]
    pub endpoint: Option<String>,
    /// Process of that server, for its CPU time and memory
    #[arg(long, value_name = "PID", requires = "endpoint")]
    pub server_pid: Option<u32>,
    /// Where our own server keeps its data and the disk is measured [default: the system's]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Store of our own server: sled or memory
    #[arg(long, default_value = "sled", conflicts_with = "endpoint")]
    pub engine: String,
    /// When records become visible
    #[arg(long, value_enum, default_value = "durable")]
    pub visibility: Visible,
    /// Size of the feed's ring [default: what the run needs, at least 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub ring: Option<u64>,
    /// What the records carry
    #[arg(long, value_enum, default_value = "quote")]
    pub payload: PayloadArg,
    /// Send the records of this file, over and over; a mapping beside it is used
    #[arg(long, value_name = "FILE", conflicts_with_all = ["payload", "keys"])]
    pub fixture: Option<PathBuf>,
    /// Keys of the records
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub keys: u32,
    /// Records of a message
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=8_000))]
    pub batch: u64,
    /// Messages are joined to writes of this size; 0: each its own
    #[arg(long, value_name = "SIZE", default_value = "32KiB", value_parser = bytes)]
    pub pack: u64,
    /// HTTP/2 window of a subscription
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = bytes)]
    pub window: u64,
    /// Largest HTTP/2 frame that subscribers take
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = bytes)]
    pub frame: u64,
    /// Threads of the bench itself
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// Give up a run after this long
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub limit: Duration,
    /// Runs, of which the median is shown
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub runs: u16,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Show ratios to an earlier run: a file of what --json printed
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Visible {
    Durable,
    Immediate,
}

/// Reads a duration; a number alone is in seconds.
pub(super) fn seconds(text: &str) -> Result<Duration, Usage> {
    let bare: Result<f64, _> = text.parse();
    match bare.map(Duration::try_from_secs_f64) {
        Ok(Ok(duration)) => Ok(duration),
        _ => duration(text),
    }
}

/// The name of a value as it is written on the command line.
pub(super) fn name_of(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

impl CommonArgs {
    pub(super) fn disk(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(env::temp_dir)
    }

    pub(super) fn visibility(&self) -> v1::Visibility {
        match self.visibility {
            Visible::Durable => v1::Visibility::Durable,
            Visible::Immediate => v1::Visibility::Immediate,
        }
    }

    pub(super) fn packing(&self) -> Packing {
        Packing {
            batch: self.batch,
            bytes: usize::try_from(self.pack)
                .unwrap_or(usize::MAX)
                .min(8 << 20),
        }
    }

    pub(super) fn windows(&self) -> Windows {
        let within =
            |size: u64, least, most| u32::try_from(size).unwrap_or(u32::MAX).clamp(least, most);
        let stream = within(self.window, 64 << 10, 1 << 30);
        Windows {
            stream,
            connection: stream.saturating_mul(16).clamp(16 << 20, 1 << 30),
            // What HTTP/2 allows.
            frame: within(self.frame, 16 << 10, (16 << 20) - 1),
        }
    }

    /// The records of `streams` uploaders, numbered by a clock of nanoseconds.
    pub(super) fn loads(&self, feed: &str, streams: usize) -> anyhow::Result<Vec<Load>> {
        let keys = usize::try_from(self.keys)?;
        let records = match &self.fixture {
            Some(path) => payload::recorded(path)?,
            None => {
                let count = POOL_RECORDS.div_ceil(keys) * keys;
                payload::made_up(self.payload, keys, count)
            }
        };
        let clock = Clock::counting(now());
        let load = |stream| Load {
            feed: feed.to_owned(),
            producer: None,
            pool: Arc::new(Pool::new(stream, &records)),
            clock,
        };
        Ok((0..streams).map(load).collect())
    }

    /// Bytes of a ring that holds so many records of a load, or what was asked for.
    pub(super) fn ring_bytes(&self, load: &Load, records: u64) -> u64 {
        // Frames, blocks and half as much again, so that nothing is evicted.
        let record = load.pool.record_bytes() + 32;
        let needed = record.saturating_mul(records) / 2 * 3 + (64 << 20);
        self.ring.unwrap_or_else(|| needed.max(MIN_RING_BYTES))
    }

    /// Says in a report what was asked for.
    pub(super) fn describe(&self, report: &mut Report) {
        report.option("batch", self.batch);
        report.option("pack", self.pack);
        report.option("visibility", name_of(&self.visibility));
        match (&self.fixture, &self.endpoint) {
            (Some(path), _) => report.option("fixture", path.display().to_string()),
            (None, _) => {
                report.option("payload", name_of(&self.payload));
                report.option("keys", self.keys);
            }
        }
        match &self.endpoint {
            Some(endpoint) => report.option("endpoint", endpoint.clone()),
            None => report.option("engine", self.engine.clone()),
        }
        report.option("window", self.windows().stream);
        report.option("frame", self.windows().frame);
        report.option("threads", self.threads);
    }
}
