//! `bench fanout`: how fast many subscribers get what one uploader sends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::{
    args::{CommonArgs, name_of, seconds},
    bed::{Bed, End},
    crowd::{Crowd, Goal, Member, Wanted},
    limits,
    load::{Load, Selection},
    meter::{Cost, Stretch, memory},
    pace::{Pace, Until},
    report::Report,
    subscriber::Subscriber,
    uploader::{Sent, upload},
    verify::{Verified, Verifier},
    wire::Uplink,
};

const DURATION: Duration = Duration::from_secs(5);
/// Deliveries of the pass in which every subscriber looks at every record.
const VERIFIED_DELIVERIES: u64 = 2_000_000;

/// How fast subscribers get what one uploader sends: closed loop, as fast as the slowest follows
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  ringfeed bench fanout --subscribers 1000\n  ringfeed bench fanout --subscribers 100 --filter-percent 1 --filters distinct"
)]
pub(super) struct FanoutArgs {
    /// Subscribers
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    subscribers: u32,
    /// Connections they share [default: one for a hundred]
    #[arg(long)]
    connections: Option<u32>,
    /// Records sent, if that takes less than --duration [default: no limit]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    records: Option<u64>,
    /// How long the uploader sends [default: 5s, or until all of --records are sent]
    #[arg(long, alias = "seconds", value_name = "DURATION", value_parser = seconds)]
    duration: Option<Duration>,
    /// Records that the uploader may be ahead of the slowest subscriber [default: 131,072 at
    /// most, fewer for many subscribers]
    #[arg(long, value_name = "RECORDS", value_parser = clap::value_parser!(u64).range(1..))]
    ahead: Option<u64>,
    /// Each subscriber asks for so many percent of the keys
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    filter_percent: Option<u32>,
    /// Whether they ask for the same keys or each for others
    #[arg(long, value_enum, default_value = "same", requires = "filter_percent")]
    filters: Filters,
    #[command(flatten)]
    pub common: CommonArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Filters {
    Same,
    Distinct,
}

/// Which subscribers look at every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verify {
    First,
    All,
}

/// What one pass moved.
struct Pass {
    sent: Sent,
    crowd: Crowd,
}

impl Pass {
    fn check(&self) -> anyhow::Result<Verified> {
        self.crowd.check(self.sent.records)?;
        self.crowd.verified(&[self.sent.records])
    }
}

impl FanoutArgs {
    /// So many subscribers, for so long.
    pub(super) fn of(common: CommonArgs, subscribers: u32, duration: Duration) -> Self {
        Self {
            subscribers,
            connections: None,
            records: None,
            duration: Some(duration),
            ahead: None,
            filter_percent: None,
            filters: Filters::Same,
            common,
        }
    }

    pub(super) async fn run(&self, bed: &mut Bed) -> anyhow::Result<Report> {
        let loads = self.common.loads(&bed.feed, 1)?;
        let load = loads.first().context("there is no upload")?;
        let loopback = limits::loopback_bytes_per_second()?;
        bed.create_feed(self.common.ring_bytes(load, 0)).await?;
        let crowd = self.crowd(bed, load, Verify::First).await?;
        let uplink = Uplink::open(&bed.target).await?;

        let stretch = Stretch::begin(bed.pid);
        let pass = self.pass(&uplink, load, crowd, self.until()).await?;
        let cost = stretch.end();
        let memory = memory(bed.pid);
        let mut report = self.report(&pass, cost, loopback);
        report.memory(memory);
        report.verified(pass.check()?);
        drop(pass);
        self.verify_all(bed, &uplink, &mut report).await?;
        Ok(report)
    }

    fn report(&self, pass: &Pass, cost: Cost, loopback: f64) -> Report {
        let mut report = Report::new("fanout");
        self.describe(&mut report);
        let records = pass.sent.records;
        report.put("records", records);
        report.deliveries(&pass.crowd, cost, loopback);
        let seconds = cost.elapsed.as_secs_f64();
        report.figure("records_per_second", records as f64 / seconds);
        if let (Some(_), Some(server)) = (self.filter_percent, cost.server) {
            let scanned = records as f64 * f64::from(self.subscribers);
            report.figure(
                "server_cpu_nanos_per_record_scanned",
                server * 1e9 / scanned,
            );
        }
        report
    }

    /// The untimed pass: fewer records, and every subscriber looks at every one.
    async fn verify_all(
        &self,
        bed: &mut Bed,
        uplink: &Uplink,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        bed.next_feed(self.common.ring).await?;
        let loads = self.common.loads(&bed.feed, 1)?;
        let load = loads.first().context("there is no upload")?;
        let crowd = self.crowd(bed, load, Verify::All).await?;
        let most = VERIFIED_DELIVERIES / u64::from(self.subscribers);
        let until = Until {
            records: most.max(1_000).min(self.records.unwrap_or(u64::MAX)),
            time: None,
        };
        let pass = self.pass(uplink, load, crowd, until).await?;
        let mut records = 0;
        for member in pass.crowd.subscribers() {
            let verifier = member.subscriber.verifier.as_ref();
            let verified = verifier.context("a subscriber did not verify")?;
            records += verified.finish(&[pass.sent.records])?.records;
        }
        report.put("verified_deliveries_untimed", records);
        Ok(())
    }

    fn until(&self) -> Until {
        let duration = match (self.duration, self.records) {
            (None, Some(_)) => None,
            (duration, _) => Some(duration.unwrap_or(DURATION)),
        };
        Until {
            records: self.records.unwrap_or(u64::MAX),
            time: duration.map(|duration| Instant::now() + duration),
        }
    }

    /// What is on its way to all of them together stays within what they take in a second or so.
    fn ahead(&self) -> u64 {
        let shared = 16_000_000 / u64::from(self.subscribers);
        self.ahead.unwrap_or_else(|| shared.clamp(4_096, 131_072))
    }

    fn connections(&self) -> usize {
        let shared = self.subscribers.div_ceil(100);
        let connections = self.connections.unwrap_or(shared);
        connections.clamp(1, self.subscribers) as usize
    }

    /// Subscribers that have caught up with the empty feed.
    async fn crowd(&self, bed: &Bed, load: &Load, verify: Verify) -> anyhow::Result<Crowd> {
        let windows = self.common.windows();
        let mut crowd = Crowd::connect(&bed.target, windows, self.connections()).await?;
        let same = self.filter(load, 0).map(|(keys, s)| (keys, Arc::new(s)));
        let wanted = (0..self.subscribers).map(|i| {
            let filter = match self.filters {
                Filters::Same => same.clone(),
                Filters::Distinct => self.filter(load, i).map(|(keys, s)| (keys, Arc::new(s))),
            };
            let subscriber = match (verify, i) {
                (Verify::First, 1..) => Subscriber::counting(),
                (Verify::First, 0) | (Verify::All, _) => Subscriber::verifying(match &filter {
                    Some((_, s)) => Verifier::of_keys(load.clone(), s.as_ref().clone()),
                    None => Verifier::new(std::slice::from_ref(load)),
                }),
            };
            let (keys, selection) = filter.unzip();
            Wanted {
                request: bed.request(End::Never, keys.unwrap_or_default()),
                member: Member {
                    subscriber,
                    selection,
                },
            }
        });
        crowd.subscribe(wanted);
        crowd.until(Goal::CaughtUp).await
    }

    /// Keys that a subscriber asks for, where it does not ask for all.
    fn filter(&self, load: &Load, subscriber: u32) -> Option<(Vec<String>, Selection)> {
        let keys = load.pool.keys();
        let count = keys.len() * self.filter_percent? as usize / 100;
        let count = count.max(1);
        let first = subscriber as usize * count % keys.len().max(1);
        let wanted = |key: usize| (key + keys.len() - first) % keys.len() < count;
        let names = keys.iter().enumerate().filter(|(key, _)| wanted(*key));
        let names = names.map(|(_, name)| name.clone()).collect();
        Some((names, Selection::new(&load.pool, wanted)))
    }

    /// Sends to the subscribers until every one has everything.
    async fn pass(
        &self,
        uplink: &Uplink,
        load: &Load,
        crowd: Crowd,
        until: Until,
    ) -> anyhow::Result<Pass> {
        let mut running = crowd.run(Goal::Open);
        let mut pace = Pace::Followed {
            until,
            window: self.ahead().max(self.common.batch),
            progress: Arc::clone(&running.progress),
        };
        let sent = tokio::select! {
            sent = upload(uplink, load, self.common.packing(), &mut pace) => sent?,
            failure = running.failure() => return Err(failure),
        };
        running.aim(Goal::Sent(sent.records));
        let crowd = running.finish().await?;
        Ok(Pass { sent, crowd })
    }

    fn describe(&self, report: &mut Report) {
        self.common.describe(report);
        report.option("subscribers", self.subscribers);
        report.option("connections", self.connections());
        report.option("ahead", self.ahead());
        if let Some(percent) = self.filter_percent {
            report.option("filter_percent", percent);
            report.option("filters", name_of(&self.filters));
        }
    }
}
