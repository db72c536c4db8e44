//! Plays recordings into feeds: paced, acknowledged as it goes, and undisturbed by a server that
//! is killed.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use prost::Message as _;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    account::Accounts,
    tape::{Tape, shifted},
};
use crate::{
    client::{Connection, FirstConnect, UploadOptions, Uploader},
    model,
    proto::v1,
};

const TICK: Duration = Duration::from_millis(50);
/// Ticks between two waits for the server's word that all is durable.
const TICKS_PER_COMMIT: u32 = 5;

/// Which times the records get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Times {
    /// Now; the recorded time is kept as the source's.
    Shifted,
    AsRecorded,
}

/// How long it plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passes {
    One,
    /// Again and again, until it is stopped.
    Endless,
}

#[derive(Clone, Debug)]
pub(super) struct Player {
    pub connection: Connection,
    pub accounts: Arc<Accounts>,
    pub times: Times,
    pub passes: Passes,
    /// How long one pass takes.
    pub pass: Duration,
    pub stop: CancellationToken,
}

impl Player {
    /// Plays a tape to its end, or until it is stopped; all of it is durable then.
    pub(super) async fn play(self, tape: Arc<Tape>) -> anyhow::Result<()> {
        let mut options = UploadOptions::to(tape.feed.as_str()).producer("demo");
        options.retry.first = FirstConnect::Retry;
        let mut uploader = Uploader::new(self.connection.clone(), options);
        while !self.stop.is_cancelled() {
            self.pass(&tape, &mut uploader).await?;
            if self.passes == Passes::One {
                break;
            }
        }
        self.commit(&tape.feed, &mut uploader).await
    }

    async fn pass(&self, tape: &Tape, uploader: &mut Uploader) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut played = 0;
        for n in 1_u32.. {
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                _ = tick.tick() => {}
            }
            let part = (start.elapsed().as_secs_f64() / self.pass.as_secs_f64()).min(1.0);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a part of a length"
            )]
            let due = (tape.records.len() as f64 * part) as usize;
            for record in tape.records.get(played..due).unwrap_or_default() {
                self.send(&tape.feed, record, uploader).await?;
            }
            played = due;
            uploader
                .push_out()
                .await
                .with_context(|| tape.feed.clone())?;
            if n % TICKS_PER_COMMIT == 0 || played == tape.records.len() {
                self.commit(&tape.feed, uploader).await?;
            }
            if played == tape.records.len() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn send(
        &self,
        feed: &str,
        record: &v1::Record,
        uploader: &mut Uploader,
    ) -> anyhow::Result<()> {
        let bytes: Bytes = match self.times {
            Times::Shifted => shifted(record, model::now()).encode_to_vec().into(),
            Times::AsRecorded => record.encode_to_vec().into(),
        };
        self.accounts.send(feed, bytes.clone());
        uploader.send(bytes).await.with_context(|| feed.to_owned())
    }

    async fn commit(&self, feed: &str, uploader: &mut Uploader) -> anyhow::Result<()> {
        let summary = uploader.commit().await.with_context(|| feed.to_owned())?;
        self.accounts.change(feed, |figures| {
            figures.acked = summary.stored;
            figures.refused = summary.refused;
        });
        Ok(())
    }
}
