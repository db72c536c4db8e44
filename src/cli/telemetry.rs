//! What a client command says of its own calls: lines on stderr with `--verbose`, spans to a
//! collector.

use std::{io, sync::Mutex};

use clap::Args;
use tracing_subscriber::EnvFilter;

use crate::server::Otlp;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub(super) struct TelemetryArgs {
    /// Say each call and its request id on stderr
    #[arg(long, global = true)]
    verbose: bool,
    /// Send spans of our calls there, by OTLP over gRPC
    #[arg(
        long,
        global = true,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "URL"
    )]
    otlp_endpoint: Option<String>,
}

impl TelemetryArgs {
    /// Whether lines would come between what a command draws.
    pub(super) fn writes_to_terminal(&self) -> bool {
        self.verbose && console::user_attended_stderr()
    }
}

/// Until the command has ended.
static OTLP: Mutex<Option<Otlp>> = Mutex::new(None);

/// Must be called within a tokio runtime.
pub(super) fn begin(args: &TelemetryArgs) -> anyhow::Result<()> {
    if args.verbose {
        let lines = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("ringfeed=debug"))
            .with_writer(io::stderr);
        // A second connection of this process finds it done.
        lines.try_init().ok();
    }
    if let (Some(endpoint), Ok(mut otlp)) = (&args.otlp_endpoint, OTLP.lock())
        && otlp.is_none()
    {
        *otlp = Some(Otlp::start("ringfeed-cli", endpoint, 1.0)?);
    }
    Ok(())
}

/// Sends what is left.
pub(super) async fn end() {
    let otlp = OTLP.lock().ok().and_then(|mut otlp| otlp.take());
    if let Some(otlp) = otlp {
        otlp.flush().await;
    }
}
