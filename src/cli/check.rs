//! `ringfeed check`: verifies a data directory while no server has it open.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use clap::Args;

use super::{exit::Outcome, plain};
use crate::store::{
    StoreError,
    sled::{CheckReport, LogReport, RingReport, check},
};

/// Verify a data directory offline: every file, every block of every ring
#[derive(Args, Debug)]
#[command(
    after_help = "Example: ringfeed check /var/lib/ringfeed\n\nExit codes: 0 sound · 1 damaged, or not to be read (a server has it open, say)"
)]
pub(super) struct CheckArgs {
    /// The server's --data-dir
    dir: PathBuf,
}

impl CheckArgs {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        let dir = self.dir.display();
        let report = match check(&self.dir) {
            Err(StoreError::Locked { .. }) => bail!("{dir} is in use: stop its server first"),
            report => report.with_context(|| format!("cannot check {dir}"))?,
        };
        write_report(&mut io::stdout().lock(), &report)?;
        if !report.is_sound() {
            bail!("{dir} is damaged: copy it as it is before a server opens it again");
        }
        Ok(Outcome::Done)
    }
}

fn write_report(out: &mut impl Write, report: &CheckReport) -> io::Result<()> {
    writeln!(out, "{}: format {}", report.dir.display(), report.format)?;
    report.logs.iter().try_for_each(|log| write_log(out, log))?;
    report
        .rings
        .iter()
        .try_for_each(|ring| write_ring(out, ring))?;
    let verdict = if report.is_sound() {
        "sound"
    } else {
        "DAMAGED"
    };
    writeln!(out, "{verdict}")
}

fn write_log(out: &mut impl Write, log: &LogReport) -> io::Result<()> {
    let state = match (log.damaged_at, log.torn) {
        (Some(at), _) => format!("DAMAGED at byte {at}"),
        (None, true) => "good; a crash cut its last write off, which loses nothing".to_owned(),
        (None, false) => "good".to_owned(),
    };
    let name = log.path.file_name().unwrap_or_default().display();
    let (frames, size) = (plain::count(log.frames), plain::bytes(log.bytes));
    writeln!(out, "{name}: {frames} frames, {size}, {state}")
}

fn write_ring(out: &mut impl Write, ring: &RingReport) -> io::Result<()> {
    writeln!(
        out,
        "ring {} (epoch {}): offsets {}..{}, {} records in {} blocks, {} read",
        ring.feed.0,
        ring.epoch,
        ring.head,
        ring.tail,
        plain::count(ring.records),
        plain::count(ring.blocks),
        plain::bytes(ring.bytes_read),
    )?;
    for block in &ring.bad {
        writeln!(out, "  block {} is DAMAGED: {}", block.number, block.reason)?;
    }
    Ok(())
}
