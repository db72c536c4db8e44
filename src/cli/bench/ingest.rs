//! `bench ingest`: how fast records become durable, or how long a lone one takes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use tokio::task::JoinSet;

use super::{
    args::{CommonArgs, seconds},
    bed::{Bed, End},
    crowd::{Crowd, Goal, Member, Wanted},
    limits,
    load::{Load, MAX_STREAMS},
    meter::{Stretch, memory},
    pace::{Pace, Until},
    report::Report,
    subscriber::{Latencies, Subscriber},
    uploader::{Sent, upload},
    verify::{Verified, Verifier},
    wire::Uplink,
};

const RECORDS: u64 = 4_000_000;
const LONE_RECORDS: u64 = 1_000;

/// How fast uploads become durable: closed loop, whole uploads with their summary
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  ringfeed bench ingest\n  ringfeed bench ingest --streams 1 --batch 1 --records 1000000\n  ringfeed bench ingest --lone"
)]
pub(super) struct IngestArgs {
    /// Uploads at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=MAX_STREAMS as i64))]
    streams: u16,
    /// Connections they share [default: one each]
    #[arg(long)]
    connections: Option<u16>,
    /// Records of all uploads together [default: 4,000,000; lone: 1,000]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    records: Option<u64>,
    /// End the uploads after this long, if that is sooner
    #[arg(long, alias = "seconds", value_name = "DURATION", value_parser = seconds)]
    duration: Option<Duration>,
    /// Name the uploaders, so that records are numbered and stored once
    #[arg(long)]
    numbered: bool,
    /// Latency of a single record: one call after the other, each waits for the flush
    #[arg(long, conflicts_with_all = ["streams", "connections", "numbered"])]
    lone: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

impl IngestArgs {
    /// Whole uploads of so many records.
    pub(super) fn of(common: CommonArgs, records: u64) -> Self {
        Self {
            streams: 4,
            connections: None,
            records: Some(records),
            duration: None,
            numbered: false,
            lone: false,
            common,
        }
    }

    pub(super) async fn run(&self, bed: &Bed) -> anyhow::Result<Report> {
        if self.lone {
            return self.run_lone(bed).await;
        }
        let streams = usize::from(self.streams);
        let mut loads = self.common.loads(&bed.feed, streams)?;
        for (stream, load) in loads.iter_mut().enumerate().filter(|_| self.numbered) {
            load.producer = Some(format!("bench-{stream}"));
        }
        let records = self.records.unwrap_or(RECORDS);
        let first = loads.first().context("there are no uploads")?;
        bed.create_feed(self.common.ring_bytes(first, records))
            .await?;
        let uplinks = self.uplinks(bed).await?;

        let raw = limits::append_bytes_per_second(bed.disk())?;
        let stretch = Stretch::begin(bed.pid);
        let sent = self.upload(&loads, uplinks, records).await?;
        let cost = stretch.end();
        let memory = memory(bed.pid);
        let verified = verify(bed, &self.common, &loads, &sent).await?;

        let mut report = Report::new("ingest");
        self.common.describe(&mut report);
        report.option("streams", self.streams);
        report.option("connections", self.connections());
        report.option("numbered", self.numbered);
        let (records, bytes) = total(&sent);
        let seconds = cost.elapsed.as_secs_f64();
        report.put("records", records);
        report.cost(cost, records);
        report.main_figure("records_per_second", records as f64 / seconds);
        let rate = bytes as f64 / seconds;
        report.figure("bytes_per_second", rate);
        report.figure("raw_append_bytes_per_second", raw);
        report.figure("share_of_raw_append", rate / raw);
        report.memory(memory);
        report.verified(verified);
        Ok(report)
    }

    fn connections(&self) -> u16 {
        let connections = self.connections.unwrap_or(self.streams);
        connections.clamp(1, self.streams)
    }

    async fn uplinks(&self, bed: &Bed) -> anyhow::Result<Vec<Uplink>> {
        let mut uplinks = Vec::new();
        for _ in 0..self.connections() {
            uplinks.push(Uplink::open(&bed.target).await?);
        }
        Ok(uplinks)
    }

    /// Runs all uploads; says what each of them sent.
    async fn upload(
        &self,
        loads: &[Load],
        uplinks: Vec<Uplink>,
        records: u64,
    ) -> anyhow::Result<Vec<Sent>> {
        let streams = u64::from(self.streams);
        let time = self.duration.map(|duration| Instant::now() + duration);
        let packing = self.common.packing();
        let mut uploads = JoinSet::new();
        for (stream, load) in (0_u64..).zip(loads.iter().cloned()) {
            let more = u64::from(stream < records % streams);
            let records = records / streams + more;
            let mut pace = Pace::Full(Until { records, time });
            let uplink = usize::try_from(stream)? % uplinks.len().max(1);
            let uplink = uplinks
                .get(uplink)
                .context("there is no connection")?
                .clone();
            uploads.spawn(async move {
                let sent = upload(&uplink, &load, packing, &mut pace).await?;
                anyhow::Ok((stream, sent))
            });
        }
        let mut sent = Vec::with_capacity(loads.len());
        while let Some(done) = uploads.join_next().await {
            sent.push(done.context("an upload failed")??);
        }
        sent.sort_by_key(|(stream, _)| *stream);
        Ok(sent.into_iter().map(|(_, sent)| sent).collect())
    }

    async fn run_lone(&self, bed: &Bed) -> anyhow::Result<Report> {
        let loads = self.common.loads(&bed.feed, 1)?;
        let load = loads.first().context("there is no upload")?;
        let records = self.records.unwrap_or(LONE_RECORDS);
        bed.create_feed(self.common.ring_bytes(load, records))
            .await?;
        let uplink = Uplink::open(&bed.target).await?;
        let mut nanos = Latencies::histogram()?;
        let end = self.duration.map(|duration| Instant::now() + duration);
        let mut sent = Sent::default();
        let stretch = Stretch::begin(bed.pid);
        while sent.records < records && end.is_none_or(|end| Instant::now() < end) {
            let start = Instant::now();
            sent = lone(&uplink, load, sent).await?;
            let elapsed = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            nanos.saturating_record(elapsed);
        }
        let cost = stretch.end();
        let memory = memory(bed.pid);
        let verified = verify(bed, &self.common, &loads, &[sent]).await?;

        let mut report = Report::new("ingest_lone");
        self.common.describe(&mut report);
        report.put("records", sent.records);
        report.cost(cost, sent.records);
        let rate = sent.records as f64 / cost.elapsed.as_secs_f64();
        report.figure("records_per_second", rate);
        report.latencies(&nanos);
        report.memory(memory);
        report.verified(verified);
        Ok(report)
    }
}

/// One record in a call of its own, until it is acknowledged.
async fn lone(uplink: &Uplink, load: &Load, sent: Sent) -> anyhow::Result<Sent> {
    let mut message = bytes::BytesMut::new();
    load.lone(sent.records, &mut message);
    let bytes = message.len() as u64;
    let mut call = uplink.call().await?;
    call.send(message.freeze()).await?;
    let summary = call.finish().await?;
    ensure!(summary.stored == 1, "a lone record was not stored");
    Ok(Sent {
        records: sent.records + 1,
        bytes: sent.bytes + bytes,
    })
}

fn total(sent: &[Sent]) -> (u64, u64) {
    let records = sent.iter().map(|sent| sent.records).sum();
    (records, sent.iter().map(|sent| sent.bytes).sum())
}

/// Reads everything back and compares it with what was sent.
pub(super) async fn verify(
    bed: &Bed,
    common: &CommonArgs,
    loads: &[Load],
    sent: &[Sent],
) -> anyhow::Result<Verified> {
    let mut crowd = Crowd::connect(&bed.target, common.windows(), 1).await?;
    let subscriber = Subscriber::verifying(Verifier::new(loads));
    crowd.subscribe([Wanted {
        request: bed.request(End::Now, vec![]),
        member: Member::of_all(subscriber),
    }]);
    let crowd = crowd.until(Goal::Ended).await?;
    let sent: Vec<u64> = sent.iter().map(|sent| sent.records).collect();
    crowd.verified(&sent)
}
