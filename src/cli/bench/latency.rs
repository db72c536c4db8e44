//! `bench latency`: how long records take to subscribers at a given rate. Open loop: a record's
//! time is when it had to be sent, so a stall counts for all that waited behind it.

use std::{thread, time::Duration};

use anyhow::Context as _;
use clap::Args;
use hdrhistogram::Histogram;
use tokio::{runtime, sync::oneshot};

use super::{
    alarm::Alarm,
    args::{CommonArgs, seconds},
    bed::{Bed, End},
    crowd::{Crowd, Goal, Member, Wanted},
    load::{Clock, Load},
    meter::{Cost, Stretch, memory},
    pace::{Pace, Schedule},
    report::Report,
    subscriber::{Latencies, Subscriber},
    uploader::{Packing, Sent, upload},
    verify::Verifier,
    wire::{Target, Uplink},
};
use crate::{cli::args::duration, model::now};

/// From everything being ready to the first record.
const LEAD: Duration = Duration::from_millis(50);

/// How long records take to subscribers at a given rate: open loop, from the scheduled time
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Example:\n  ringfeed bench latency --rate 100000 --subscribers 100 --visibility immediate"
)]
pub(super) struct LatencyArgs {
    /// Records per second
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rate: u64,
    /// Subscribers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    subscribers: u32,
    /// Connections they share [default: one each, at most 100]
    #[arg(long)]
    connections: Option<u32>,
    /// Subscribers whose records are timed and verified one by one
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    sample: u32,
    /// How long records are sent
    #[arg(long, alias = "seconds", value_name = "DURATION", default_value = "5s", value_parser = seconds)]
    duration: Duration,
    /// Records of the first so much time are not timed
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = duration)]
    warmup: Duration,
    /// How often the uploader looks what is due; what is goes out in one message
    #[arg(long, value_name = "DURATION", default_value = "0.1ms", value_parser = duration)]
    tick: Duration,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What the uploader's thread has to say.
pub(super) struct Uploaded {
    pub sent: Sent,
    /// Nanoseconds that records were sent after their time.
    late: Histogram<u64>,
}

impl LatencyArgs {
    pub(super) async fn run(&self, bed: &Bed) -> anyhow::Result<Report> {
        let mut loads = self.common.loads(&bed.feed, 1)?;
        let load = loads.first_mut().context("there is no upload")?;
        let ring = self.common.ring_bytes(load, self.records());
        bed.create_feed(ring).await?;
        let mut crowd = self.crowd(bed, load).await?;
        let clock = Clock {
            start: now().saturating_add_unsigned(nanos(LEAD)),
            per_second: self.rate,
        };
        load.clock = clock;
        let from = clock.start.saturating_add_unsigned(nanos(self.warmup));
        for member in crowd.subscribers_mut() {
            member.subscriber.begin(clock, from)?;
        }

        let stretch = Stretch::begin(bed.pid);
        let mut running = crowd.run(Goal::Open);
        let (load, records) = (load.clone(), self.records());
        let uploading = upload_on_own_thread(bed, &self.common, load, records, self.tick);
        let uploaded = tokio::select! {
            uploaded = uploading => uploaded.context("the uploader failed")??,
            failure = running.failure() => return Err(failure),
        };
        running.aim(Goal::Sent(uploaded.sent.records));
        let crowd = running.finish().await?;
        let cost = stretch.end();
        let memory = memory(bed.pid);
        crowd.check(uploaded.sent.records)?;
        let verified = crowd.verified(&[uploaded.sent.records])?;

        let mut report = self.report(uploaded.sent, &crowd, cost);
        report.latencies(&crowd.latencies()?);
        report.quantiles("sent_late_micros", &uploaded.late);
        report.memory(memory);
        report.verified(verified);
        Ok(report)
    }

    fn report(&self, sent: Sent, crowd: &Crowd, cost: Cost) -> Report {
        let mut report = Report::new("latency");
        self.describe(&mut report);
        let (deliveries, _) = crowd.delivered();
        let seconds = cost.elapsed.as_secs_f64();
        report.put("records", sent.records);
        report.put("deliveries", deliveries);
        report.cost(cost, deliveries);
        report.figure("records_per_second", sent.records as f64 / seconds);
        report.figure("deliveries_per_second", deliveries as f64 / seconds);
        if let Some(server) = cost.server {
            report.figure("server_cores", server / seconds);
        }
        report
    }

    fn records(&self) -> u64 {
        due_in(self.rate, self.duration).max(1)
    }

    fn connections(&self) -> usize {
        let own = self.subscribers.min(100);
        let connections = self.connections.unwrap_or(own);
        connections.clamp(1, self.subscribers) as usize
    }

    async fn crowd(&self, bed: &Bed, load: &Load) -> anyhow::Result<Crowd> {
        let windows = self.common.windows();
        let mut crowd = Crowd::connect(&bed.target, windows, self.connections()).await?;
        // The sample is spread over all of them: whoever is served last is in it.
        let sample = self.sample.min(self.subscribers);
        let step = self.subscribers.div_ceil(sample);
        let wanted = (0..self.subscribers).map(|i| {
            let subscriber = if i % step == 0 || i + 1 == self.subscribers {
                Subscriber::verifying(Verifier::new(std::slice::from_ref(load)))
            } else {
                Subscriber::counting()
            };
            Wanted {
                request: bed.request(End::Never, vec![]),
                member: Member::of_all(subscriber),
            }
        });
        crowd.subscribe(wanted);
        crowd.until(Goal::CaughtUp).await
    }

    fn describe(&self, report: &mut Report) {
        self.common.describe(report);
        report.option("rate", self.rate);
        report.option("subscribers", self.subscribers);
        report.option("connections", self.connections());
        report.option("sample", self.sample);
        report.option("tick_micros", nanos(self.tick) / 1_000);
    }
}

/// Sends by the clock, whatever the subscribers' thread is busy with.
pub(super) fn upload_on_own_thread(
    bed: &Bed,
    common: &CommonArgs,
    load: Load,
    records: u64,
    tick: Duration,
) -> oneshot::Receiver<anyhow::Result<Uploaded>> {
    let (done, uploaded) = oneshot::channel();
    let (target, packing) = (bed.target.clone(), common.packing());
    thread::spawn(move || {
        // Nobody waits for it any more when the run has ended otherwise.
        done.send(upload_by_clock(&target, &load, packing, records, tick))
            .ok();
    });
    uploaded
}

/// Records of a rate in a time.
pub(super) fn due_in(rate: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    rate.saturating_mul(millis) / 1_000
}

fn upload_by_clock(
    target: &Target,
    load: &Load,
    packing: Packing,
    records: u64,
    tick: Duration,
) -> anyhow::Result<Uploaded> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let uplink = Uplink::open(target).await?;
        let mut pace = Pace::Scheduled(Box::new(Schedule {
            clock: load.clock,
            records,
            tick,
            alarm: Alarm::new()?,
            late: Latencies::histogram()?,
        }));
        let sent = upload(&uplink, load, packing, &mut pace).await?;
        let Pace::Scheduled(schedule) = pace else {
            anyhow::bail!("the upload had no schedule");
        };
        let late = schedule.late;
        Ok(Uploaded { sent, late })
    })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
