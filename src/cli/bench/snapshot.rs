//! `bench snapshot`: how soon a subscriber has the latest record of each key while others write.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use tokio::time::sleep;

use super::{
    args::{CommonArgs, seconds},
    bed::Bed,
    ingest::verify,
    latency::{due_in, upload_on_own_thread},
    load::Clock,
    meter::{Stretch, memory},
    report::Report,
    subscriber::Latencies,
};
use crate::{
    client::{Event, RetryOptions, Subscription, record_offset},
    model::{Offset, now},
    proto::v1,
};

const TICK: Duration = Duration::from_millis(1);

/// How soon a subscriber has the latest record of each key, while others write
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:\n  ringfeed bench snapshot --keys 100000 --rate 50000")]
pub(super) struct SnapshotArgs {
    /// Records per second that are written meanwhile
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: u64,
    /// How long that is
    #[arg(long, alias = "seconds", value_name = "DURATION", default_value = "5s", value_parser = seconds)]
    duration: Duration,
    /// Live records that each subscriber takes after its snapshot
    #[arg(long, default_value_t = 1_000)]
    live: u64,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What subscribers saw, one after another.
struct Seen {
    snapshots: u64,
    records: u64,
    first: Histogram<u64>,
    complete: Histogram<u64>,
}

impl SnapshotArgs {
    pub(super) async fn run(&self, bed: &Bed) -> anyhow::Result<Report> {
        let mut loads = self.common.loads(&bed.feed, 1)?;
        let load = loads.first_mut().context("there is no upload")?;
        let keys = load.pool.keys().len() as u64;
        let records = keys + due_in(self.rate, self.duration);
        bed.create_feed(self.common.ring_bytes(load, records))
            .await?;
        // One record of each key is due already.
        let lead = Duration::from_secs_f64(keys as f64 / self.rate as f64);
        let lead = i64::try_from(lead.as_nanos()).unwrap_or(i64::MAX);
        load.clock = Clock {
            start: now().saturating_sub(lead),
            per_second: self.rate,
        };

        let stretch = Stretch::begin(bed.pid);
        let writing = upload_on_own_thread(bed, &self.common, load.clone(), records, TICK);
        let seen = self.subscribe_while_written(bed, keys, records);
        let (uploaded, seen) = tokio::join!(writing, seen);
        let sent = uploaded.context("the uploader failed")??.sent;
        let cost = stretch.end();
        let (seen, memory) = (seen?, memory(bed.pid));
        ensure!(seen.snapshots > 0, "no snapshot fits into --duration");
        let verified = verify(bed, &self.common, &loads, &[sent]).await?;

        let mut report = Report::new("snapshot");
        self.common.describe(&mut report);
        report.option("rate", self.rate);
        report.option("live", self.live);
        report.put("records", sent.records);
        report.put("snapshots", seen.snapshots);
        report.put("snapshot_records", seen.records);
        report.cost(cost, seen.records);
        report.latencies(&seen.first);
        report.quantiles("complete_micros", &seen.complete);
        report.memory(memory);
        report.verified(verified);
        Ok(report)
    }

    /// Takes snapshots one after another, from when each key has a record until all is written.
    async fn subscribe_while_written(
        &self,
        bed: &Bed,
        keys: u64,
        records: u64,
    ) -> anyhow::Result<Seen> {
        let mut seen = Seen {
            snapshots: 0,
            records: 0,
            first: Latencies::histogram()?,
            complete: Latencies::histogram()?,
        };
        loop {
            let next = bed.next_offset().await?;
            if next >= records {
                return Ok(seen);
            }
            if next < keys {
                sleep(TICK).await;
                continue;
            }
            self.subscribe(bed, (keys, records), &mut seen).await?;
        }
    }

    /// One subscription: its snapshot, then live records, all of it checked.
    async fn subscribe(
        &self,
        bed: &Bed,
        (keys, records): (u64, u64),
        seen: &mut Seen,
    ) -> anyhow::Result<()> {
        let selector = v1::Selector {
            feed: bed.feed.clone(),
            start: Some(v1::Start {
                from: Some(v1::start::From::Snapshot(v1::SnapshotStart {})),
            }),
            ..Default::default()
        };
        let request = v1::SubscribeRequest {
            selectors: vec![selector],
            ..Default::default()
        };
        let begun = Instant::now();
        let retry = RetryOptions::default();
        let mut subscription = Subscription::new(bed.connection()?, request, retry)?;
        let mut offsets: Vec<Offset> = vec![];
        let (mut live, mut wanted) = (0, self.live.max(1));
        while live < wanted {
            let event = subscription.next().await?;
            match event.context("the subscription ended")? {
                Event::Snapshot { batch, .. } => {
                    if offsets.is_empty() {
                        seen.first.saturating_record(nanos(begun.elapsed()));
                    }
                    let found = batch.records.iter().filter_map(|r| record_offset(r));
                    offsets.extend(found);
                }
                Event::SnapshotComplete { as_of, .. } => {
                    seen.complete.saturating_record(nanos(begun.elapsed()));
                    seen.snapshots += 1;
                    seen.records += offsets.len() as u64;
                    check(&mut offsets, keys, as_of.offset)?;
                    // No more than will come.
                    wanted = wanted.min(records - as_of.offset);
                }
                Event::Records { records, .. } => live += records.len() as u64,
                Event::Gap { gap, .. } => anyhow::bail!("a gap: {gap:?}"),
                Event::Disconnected { reason, .. } => anyhow::bail!("it broke: {reason}"),
                Event::CaughtUp { .. }
                | Event::Heartbeat { .. }
                | Event::KeyInfo(_)
                | Event::Bars { .. }
                | Event::ModeChanged { .. }
                | Event::Narrowed { .. }
                | Event::SelectorEnded { .. } => {}
            }
        }
        Ok(())
    }
}

/// Keys come in turn, so the latest record of each is among the last ones, without a hole.
fn check(offsets: &mut [Offset], keys: u64, as_of: Offset) -> anyhow::Result<()> {
    offsets.sort_unstable();
    let expected = as_of.saturating_sub(keys)..as_of;
    ensure!(
        offsets.iter().copied().eq(expected.clone()),
        "a snapshot as of {as_of} has {} records, and not just {expected:?}",
        offsets.len()
    );
    Ok(())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
