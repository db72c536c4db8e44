//! The server as commands see it: calls whose errors already say what to do, and the user's wish
//! to stop.

use anyhow::{Context as _, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};

use super::{
    args::ConnectArgs,
    exit::{self, Usage},
    telemetry,
};
use crate::client::{CatalogClient, Connection, FeedClient, SubscribeError};

/// A connection whose errors are for people.
#[derive(Clone, Debug)]
pub(super) struct Remote(Connection);

impl Remote {
    pub(super) fn new(args: &ConnectArgs) -> anyhow::Result<Self> {
        telemetry::begin(&args.telemetry)?;
        let options = args.options()?;
        let connection =
            Connection::new(&options).map_err(|error| Usage::new(error.to_string()))?;
        Ok(Self(connection))
    }

    pub(super) fn connection(&self) -> Connection {
        self.0.clone()
    }

    /// A call of the catalog.
    pub(super) async fn catalog<T, F>(&self, make: impl Fn(CatalogClient) -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let answer = self.0.call(|catalog, _| make(catalog)).await;
        answer.map_err(|status| self.explain(&status))
    }

    /// A call of the feed service with one answer.
    pub(super) async fn feed<T, F>(&self, make: impl Fn(FeedClient) -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let answer = self.0.call(|_, feed| make(feed)).await;
        answer.map_err(|status| self.explain(&status))
    }

    pub(super) fn explain(&self, status: &Status) -> anyhow::Error {
        exit::explain(status, self.0.endpoint())
    }

    /// Why a stream ended for good.
    pub(super) fn explain_end(&self, error: SubscribeError) -> anyhow::Error {
        match error {
            SubscribeError::Status(status) | SubscribeError::Dismissed { status, .. } => {
                self.explain(&status)
            }
            error @ (SubscribeError::Broken(_)
            | SubscribeError::Refused { .. }
            | SubscribeError::Request(_)) => anyhow!(error),
        }
    }
}

/// Cancelled by the first SIGINT or SIGTERM; the second one ends the process at once.
pub(super) fn stop_signal() -> anyhow::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to signals")?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if told.is_cancelled() {
                exit_now();
            }
            told.cancel();
        }
    });
    Ok(stop)
}

#[expect(clippy::exit, reason = "asked twice: whatever hangs is not waited for")]
fn exit_now() -> ! {
    std::process::exit(130);
}
