//! `bench idle`: what a subscriber costs that waits.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use tokio::time::sleep;

use super::{
    args::CommonArgs,
    bed::{Bed, End},
    crowd::{Crowd, Goal, Member, Wanted},
    load::Load,
    meter::{Memory, Stretch, memory},
    pace::{Pace, Until},
    report::Report,
    subscriber::Subscriber,
    uploader::upload,
    verify::Verifier,
    wire::Uplink,
};

/// Sent in the end: who waits must still get what comes.
const RECORDS: u64 = 100;
const LOOK: Duration = Duration::from_millis(100);
/// Memory that stays for so many looks has settled.
const STILL: usize = 5;
const LOOKS: usize = 50;

/// Memory of subscribers that wait, on connections they share or their own
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  ringfeed bench idle --subscribers 10000 --connections 10\n  ringfeed bench idle --subscribers 1000 --connections 1000"
)]
pub(super) struct IdleArgs {
    /// Subscribers
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    subscribers: u32,
    /// Connections they share
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    #[command(flatten)]
    pub common: CommonArgs,
}

impl IdleArgs {
    pub(super) async fn run(&self, bed: &Bed) -> anyhow::Result<Report> {
        let loads = self.common.loads(&bed.feed, 1)?;
        let load = loads.first().context("there is no upload")?;
        bed.create_feed(self.common.ring_bytes(load, 0)).await?;
        // What the first connection and the first follower cost is not theirs.
        let first = self.crowd(bed, load, 1, 1).await?;
        let before = settled(bed.pid).await;
        let connections = self.connections.min(self.subscribers);
        let crowd = self.crowd(bed, load, self.subscribers, connections).await?;
        let stretch = Stretch::begin(bed.pid);
        let mut running = crowd.run(Goal::Open);
        let after = tokio::select! {
            after = settled(bed.pid) => after,
            failure = running.failure() => return Err(failure),
        };
        let cost = stretch.end();
        drop(first);

        let uplink = Uplink::open(&bed.target).await?;
        let (records, time) = (RECORDS, None);
        let mut pace = Pace::Full(Until { records, time });
        let sent = upload(&uplink, load, self.common.packing(), &mut pace).await?;
        running.aim(Goal::Sent(sent.records));
        let crowd = running.finish().await?;
        crowd.check(sent.records)?;
        let verified = crowd.verified(&[sent.records])?;

        let mut report = Report::new("idle");
        self.common.describe(&mut report);
        report.option("subscribers", self.subscribers);
        report.option("connections", connections);
        report.put("records", sent.records);
        report.put("deliveries", crowd.delivered().0);
        report.cost(cost, u64::from(self.subscribers));
        if let (Some(before), Some(after)) = (before, after) {
            let grown = after.resident as f64 - before.resident as f64;
            let each = grown / f64::from(self.subscribers);
            report.main_figure("server_bytes_per_subscriber", each);
            report.put("server_rss_bytes_before", before.resident);
        }
        report.memory(after);
        report.verified(verified);
        Ok(report)
    }

    async fn crowd(
        &self,
        bed: &Bed,
        load: &Load,
        subscribers: u32,
        connections: u32,
    ) -> anyhow::Result<Crowd> {
        let windows = self.common.windows();
        let mut crowd = Crowd::connect(&bed.target, windows, connections as usize).await?;
        ensure!(subscribers > 0, "nobody subscribes");
        crowd.subscribe((0..subscribers).map(|_| Wanted {
            request: bed.request(End::Never, vec![]),
            member: Member::of_all(Subscriber::verifying(Verifier::new(std::slice::from_ref(
                load,
            )))),
        }));
        crowd.until(Goal::CaughtUp).await
    }
}

/// Memory once it moves no more, or after some seconds.
async fn settled(pid: Option<u32>) -> Option<Memory> {
    let mut last = memory(pid)?;
    let mut still = 0;
    for _ in 0..LOOKS {
        sleep(LOOK).await;
        let now = memory(pid)?;
        still = if now.resident == last.resident {
            still + 1
        } else {
            0
        };
        last = now;
        if still == STILL {
            break;
        }
    }
    Some(last)
}
