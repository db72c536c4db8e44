//! Runs one work on one peer and prints what it found as a line of JSON. `run` beside this project
//! calls it for every system in turn, next to ringfeed's own bench.

mod disk;
mod nats;
mod pace;
mod process;
mod record;
mod redis;
mod s2;
mod system;
mod tally;
mod wire;
mod work;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::json;

use self::{
    nats::jetstream::{Fsync, JetStream, Publish},
    redis::Redis,
    work::{Outcome, Work},
};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Where the servers and this run's data lie
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Place {
    /// Directory with nats-server, redis-server and s2-lite
    #[arg(long, global = true, default_value = "target/peers-tools/bin")]
    tools: PathBuf,
    /// Directory on the disk to measure; the run's own is made in it and removed
    #[arg(long, global = true, default_value = ".")]
    data: PathBuf,
    /// Threads of the clients [default: one a core]
    #[arg(long, global = true)]
    threads: Option<usize>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Acknowledged records per second
    Ingest {
        system: Peer,
        #[arg(long, default_value_t = 1)]
        connections: usize,
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
    /// Stored records per second to one reader
    Replay {
        system: Peer,
        #[arg(long, default_value_t = 1_000_000)]
        records: u64,
    },
    /// Deliveries per second to many subscribers
    Fanout {
        system: Peer,
        #[arg(long, default_value_t = 1)]
        subscribers: usize,
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
    /// Time from due to delivered at a fixed rate
    Latency {
        system: Peer,
        #[arg(long, default_value_t = 10_000)]
        rate: u64,
        #[arg(long, default_value_t = 1)]
        subscribers: usize,
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
    /// What the disk does by itself
    Disk,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Peer {
    Nats,
    JetstreamAlwaysAsync,
    JetstreamAlwaysAtomic,
    JetstreamAlwaysFast,
    JetstreamFast,
    RedisAlways,
    RedisEverysec,
    S2,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = cli.place.threads {
        runtime.worker_threads(threads);
    }
    let runtime = runtime.enable_all().build()?;
    let (name, peer, work) = match cli.command {
        Command::Disk => return disk(&cli.place),
        Command::Ingest {
            system,
            connections,
            seconds,
        } => {
            let time = Duration::from_secs_f64(seconds);
            ("ingest", system, Work::Ingest { connections, time })
        }
        Command::Replay { system, records } => ("replay", system, Work::Replay { records }),
        Command::Fanout {
            system,
            subscribers,
            seconds,
        } => {
            let time = Duration::from_secs_f64(seconds);
            ("fanout", system, Work::Fanout { subscribers, time })
        }
        Command::Latency {
            system,
            rate,
            subscribers,
            seconds,
        } => {
            let time = Duration::from_secs_f64(seconds);
            (
                "latency",
                system,
                Work::Latency {
                    rate,
                    subscribers,
                    time,
                },
            )
        }
    };
    let data = cli.place.data.join(format!("peers-{}", std::process::id()));
    std::fs::create_dir_all(&data).with_context(|| data.display().to_string())?;
    let data = data.canonicalize()?;
    let outcome = runtime.block_on(measure(peer, work, &cli.place, &data));
    std::fs::remove_dir_all(&data)?;
    let mut line = serde_json::to_value(outcome?)?;
    line["work"] = json!(name);
    line["system"] = json!(
        peer.to_possible_value()
            .map(|value| value.get_name().to_owned())
    );
    println!("{line}");
    Ok(())
}

async fn measure(peer: Peer, work: Work, place: &Place, data: &std::path::Path) -> Result<Outcome> {
    let tools = &place.tools;
    let jetstream = |fsync, publish| JetStream { fsync, publish };
    match peer {
        Peer::Nats => work::run(nats::Core, work, tools, data).await,
        Peer::JetstreamAlwaysAsync => {
            work::run(jetstream(Fsync::Always, Publish::Async), work, tools, data).await
        }
        Peer::JetstreamAlwaysAtomic => {
            work::run(jetstream(Fsync::Always, Publish::Atomic), work, tools, data).await
        }
        Peer::JetstreamAlwaysFast => {
            work::run(jetstream(Fsync::Always, Publish::Fast), work, tools, data).await
        }
        Peer::JetstreamFast => {
            work::run(jetstream(Fsync::Default, Publish::Fast), work, tools, data).await
        }
        Peer::RedisAlways => work::run(Redis::Always, work, tools, data).await,
        Peer::RedisEverysec => work::run(Redis::Everysec, work, tools, data).await,
        Peer::S2 => work::run(s2::S2, work, tools, data).await,
    }
}

fn disk(place: &Place) -> Result<()> {
    let time = Duration::from_secs(2);
    let append = disk::append_bytes_per_second(&place.data, 1 << 20, time)?;
    let fdatasync = disk::fdatasync_micros(&place.data)?;
    println!(
        "{}",
        json!({ "fdatasync_micros": fdatasync, "append_bytes_per_second": append })
    );
    Ok(())
}
