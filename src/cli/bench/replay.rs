//! `bench replay`: how fast readers get what is stored.

use std::fs;

use anyhow::{Context as _, ensure};
use clap::Args;

use super::{
    args::CommonArgs,
    bed::{Bed, End},
    crowd::{Crowd, Goal, Member, Wanted},
    ingest::verify,
    limits,
    load::Load,
    meter::{Stretch, memory},
    pace::{Pace, Until},
    report::Report,
    subscriber::Subscriber,
    uploader::{Sent, upload},
    verify::Verifier,
    wire::Uplink,
};
use crate::cli::exit::Usage;

/// How fast stored records are read, from the oldest to the newest
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:\n  ringfeed bench replay --records 4000000 --cold")]
pub(super) struct ReplayArgs {
    /// Records stored
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Readers, each on a connection of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    readers: u16,
    /// Start our own server again first and, as root, drop the page cache
    #[arg(long, conflicts_with = "endpoint")]
    cold: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Whether the kernel let go of what it had read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageCache {
    Kept,
    Dropped,
}

impl ReplayArgs {
    pub(super) async fn run(&self, bed: &mut Bed) -> anyhow::Result<Report> {
        if self.cold && self.common.engine != "sled" {
            let forgets = "--cold starts the server again, and this store forgets with it";
            return Err(Usage::new(forgets).into());
        }
        let loads = self.common.loads(&bed.feed, 1)?;
        let load = loads.first().context("there is no upload")?;
        let ring = self.common.ring_bytes(load, self.records);
        bed.create_feed(ring).await?;
        let (sent, cache) = self.store(bed, load).await?;
        let loopback = limits::loopback_bytes_per_second()?;

        let readers = usize::from(self.readers);
        let mut crowd = Crowd::connect(&bed.target, self.common.windows(), readers).await?;
        crowd.subscribe((0..readers).map(|i| reader(bed, load, i)));
        let stretch = Stretch::begin(bed.pid);
        let crowd = crowd.until(Goal::Ended).await?;
        let cost = stretch.end();
        let memory = memory(bed.pid);
        crowd.check(sent.records)?;
        let verified = crowd.verified(&[sent.records])?;
        if readers > 1 {
            let again = verify(bed, &self.common, &loads, &[sent]).await?;
            ensure!(again == verified, "two readers got different records");
        }

        let mut report = Report::new("replay");
        self.common.describe(&mut report);
        report.option("readers", self.readers);
        report.option("cold", self.cold);
        report.put("records", sent.records);
        report.deliveries(&crowd, cost, loopback);
        report.put("page_cache_dropped", cache == PageCache::Dropped);
        report.memory(memory);
        report.verified(verified);
        Ok(report)
    }

    /// Stores the records, and makes the server forget them if that is wanted.
    async fn store(&self, bed: &mut Bed, load: &Load) -> anyhow::Result<(Sent, PageCache)> {
        let uplink = Uplink::open(&bed.target).await?;
        let (records, time) = (self.records, None);
        let mut pace = Pace::Full(Until { records, time });
        let sent = upload(&uplink, load, self.common.packing(), &mut pace).await?;
        if !self.cold {
            return Ok((sent, PageCache::Kept));
        }
        bed.restart().await?;
        Ok((sent, drop_page_cache()))
    }
}

/// The first reader looks at every record.
fn reader(bed: &Bed, load: &Load, index: usize) -> Wanted {
    let subscriber = match index {
        0 => Subscriber::verifying(Verifier::new(std::slice::from_ref(load))),
        _ => Subscriber::counting(),
    };
    Wanted {
        request: bed.request(End::Now, vec![]),
        member: Member::of_all(subscriber),
    }
}

fn drop_page_cache() -> PageCache {
    rustix::fs::sync();
    match fs::write("/proc/sys/vm/drop_caches", "1") {
        Ok(()) => PageCache::Dropped,
        Err(_) => PageCache::Kept,
    }
}
