//! `ringfeed bench`: measures a server, and fails when it lost, doubled or changed anything.
//!
//! ```text
//! ingest fanout replay latency idle snapshot layers   one file per work
//!   Bed ............ the server: a child of ours, or one that runs
//!   Load, Pace ..... what is sent, and when; uploader sends it
//!   Crowd .......... subscribers on connections; Verifier looks at every record
//!   Stretch, limits  what it cost, and what the machine allows
//!   Report ......... JSON or a table, with the ratios to an earlier run
//! ```

mod alarm;
mod args;
mod bed;
mod collector;
mod compare;
mod crowd;
mod fanout;
mod idle;
mod ingest;
mod latency;
mod layers;
mod limits;
mod load;
mod meter;
mod pace;
mod payload;
mod replay;
mod report;
mod snapshot;
mod subscriber;
mod uploader;
mod verify;
mod wire;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{runtime, time::timeout};
use tokio_util::sync::CancellationToken;

use self::{args::CommonArgs, bed::Bed, compare::Ratios, report::Report};
use super::{exit::Outcome, remote::stop_signal};

/// Measure a server: its own on this machine, or one that runs
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Each work starts a server of its own in a directory of its own, unless --endpoint names one.\nEverything it moves is verified; a run that lost, doubled or changed a record fails.\n\nExample:\n  ringfeed bench fanout --subscribers 100"
)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    work: Work,
}

#[derive(Clone, Debug, Subcommand)]
enum Work {
    Ingest(Box<ingest::IngestArgs>),
    Fanout(Box<fanout::FanoutArgs>),
    Replay(Box<replay::ReplayArgs>),
    Latency(Box<latency::LatencyArgs>),
    Idle(Box<idle::IdleArgs>),
    Snapshot(Box<snapshot::SnapshotArgs>),
    Layers(Box<layers::LayersArgs>),
}

impl BenchArgs {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        allow_many_connections();
        let threads = self.work.common().threads;
        let mut runtime = match threads {
            // One thread has no others to wake.
            1 => runtime::Builder::new_current_thread(),
            _ => runtime::Builder::new_multi_thread(),
        };
        let runtime = runtime
            .worker_threads(usize::from(threads))
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(self.measure())
    }

    async fn measure(&self) -> anyhow::Result<Outcome> {
        let stop = stop_signal()?;
        let common = self.work.common();
        let mut runs = Vec::new();
        for _ in 0..common.runs {
            match self.work.run_once(&stop).await? {
                Some(report) => runs.push(report),
                None => return Ok(Outcome::Interrupted),
            }
        }
        let report = Report::median(runs)
            .context("there was no run")?
            .into_json();
        let compare = common.compare.as_ref();
        let ratios = compare
            .map(|path| Ratios::load(path, &report))
            .transpose()?;
        report::print(&report, ratios.as_ref(), common.json)?;
        Ok(Outcome::Done)
    }
}

/// As many as the system lets us and the server we start: a connection takes a descriptor in both.
fn allow_many_connections() {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, files) {
        tracing::debug!(%error, "the limit of open files stays");
    }
}

impl Work {
    fn common(&self) -> &CommonArgs {
        match self {
            Self::Ingest(args) => &args.common,
            Self::Fanout(args) => &args.common,
            Self::Replay(args) => &args.common,
            Self::Latency(args) => &args.common,
            Self::Idle(args) => &args.common,
            Self::Snapshot(args) => &args.common,
            Self::Layers(args) => &args.common,
        }
    }

    /// One run on a server that has just started; `None` when it was interrupted.
    async fn run_once(&self, stop: &CancellationToken) -> anyhow::Result<Option<Report>> {
        let mut bed = Bed::make(self.common()).await?;
        let limit = self.common().limit;
        let outcome = tokio::select! {
            report = timeout(limit, Box::pin(self.run_on(&mut bed))) => {
                Some(report.context("the run took longer than --limit").flatten())
            }
            () = stop.cancelled() => None,
        };
        let cleared = bed.clear().await;
        let Some(report) = outcome.transpose()? else {
            return Ok(None);
        };
        cleared?;
        bed.stop().await?;
        Ok(Some(report))
    }

    /// The work, with the disk's flush before and after.
    async fn run_on(&self, bed: &mut Bed) -> anyhow::Result<Report> {
        let before = limits::fdatasync_micros(bed.disk())?;
        let mut report = match self {
            Self::Ingest(args) => args.run(bed).await?,
            Self::Fanout(args) => args.run(bed).await?,
            Self::Replay(args) => args.run(bed).await?,
            Self::Latency(args) => args.run(bed).await?,
            Self::Idle(args) => args.run(bed).await?,
            Self::Snapshot(args) => args.run(bed).await?,
            Self::Layers(args) => args.run(bed).await?,
        };
        report.figure("fdatasync_micros_before", before);
        let after = limits::fdatasync_micros(bed.disk())?;
        report.figure("fdatasync_micros_after", after);
        Ok(report)
    }
}
