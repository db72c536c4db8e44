//! `ringfeed serve`, `ringfeed config`: the server's process.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::server::{Config, EngineKind, LogLevel, Server, Size};

/// Serve feeds until SIGTERM or Ctrl-C.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Example:\n  ringfeed serve --data-dir /var/lib/ringfeed\n\nA second signal ends it at once."
)]
pub struct ServeArgs {
    /// Settings; every entry is documented in ringfeed.example.toml.
    #[arg(long, value_name = "FILE", env = "RINGFEED_CONFIG")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub flags: ServeFlags,
}

/// Flags over the file and the environment. What is not given stays.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct ServeFlags {
    /// gRPC, gRPC-Web and the status page [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Prometheus, /livez and /readyz [default: 127.0.0.1:9464].
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<SocketAddr>,
    /// Everything durable [default: ringfeed-data].
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// `sled` keeps records on disk, `memory` forgets them with the process [default: sled].
    #[arg(long, value_name = "ENGINE", value_parser = engine)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineKind>,
    /// Allow unencrypted traffic beyond this machine.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub plaintext: bool,
    /// Allow callers without a token beyond this machine.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feeds: Option<FeedsFlags>,
}

/// What a caller of `serve` inside this program sets of the feeds.
#[derive(Clone, Debug, Serialize)]
pub struct FeedsFlags {
    pub ring_bytes: Size,
}

/// Check or show the settings of a server.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum ConfigCommand {
    /// Check the settings without starting a server.
    Check(ServeArgs),
    /// Print the settings in force: defaults, file, environment and flags together.
    Show(ServeArgs),
}

fn engine(text: &str) -> Result<EngineKind, String> {
    match text {
        "sled" => Ok(EngineKind::Sled),
        "memory" => Ok(EngineKind::Memory),
        _ => Err("is neither sled nor memory".into()),
    }
}

/// Runs a server until it is told to stop.
pub async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let config = Config::load(args.config.as_deref(), &args.flags)?;
    let log_level = LogLevel::install(&config.log)?;
    follow_settings(args, log_level.clone())?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let server = Server::bind(config).await?.with_log_level(log_level);
    let address = server.address()?;
    tracing::info!(
        %address,
        metrics = %server.metrics_address()?,
        page = %format_args!("{}://{address}/", server.scheme()),
        "serving"
    );
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let (first, stop) = tokio::sync::oneshot::channel::<()>();
    let signals = async move {
        next().await;
        // A server that ended by itself does not listen any more.
        let _gone: Result<(), ()> = first.send(());
        next().await;
    };
    let stopped = async move { drop(stop.await) };
    tokio::select! {
        served = server.serve(stopped) => Ok(served?),
        () = signals => anyhow::bail!("ended at once by a second signal"),
    }
}

/// On SIGHUP, reads the settings again and takes over what can change while the server runs: the
/// level of the log. Must be called within a tokio runtime.
fn follow_settings(args: ServeArgs, log_level: LogLevel) -> anyhow::Result<()> {
    let mut hangups = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            if let Err(error) = reload(&args, &log_level) {
                tracing::error!("the settings stay as they were: {error:#}");
            }
        }
    });
    Ok(())
}

fn reload(args: &ServeArgs, log_level: &LogLevel) -> anyhow::Result<()> {
    let config = Config::load(args.config.as_deref(), &args.flags)?;
    if config.log.level != log_level.get() {
        log_level.set(&config.log.level)?;
    }
    tracing::info!("the settings were read again");
    Ok(())
}

/// Runs `config check` and `config show`.
pub fn config(args: ConfigArgs) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match args.command {
        ConfigCommand::Check(args) => {
            Config::load(args.config.as_deref(), &args.flags)?;
            writeln!(out, "the settings are good")?;
        }
        ConfigCommand::Show(args) => {
            let config = Config::load(args.config.as_deref(), &args.flags)?;
            write!(out, "{}", toml::to_string(&config)?)?;
        }
    }
    Ok(())
}
