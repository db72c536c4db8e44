//! `ringfeed check DIR`: verifies a data directory offline.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::bail;
use clap::Args;

use super::exit::Outcome;
use crate::store::sled::{CheckReport, RingReport, check};

/// Verify a data directory offline: its logs, and every block of every ring.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Example:\n  ringfeed check ringfeed-data\n\nStop the server first. Nothing in the rings is changed."
)]
pub(super) struct CheckArgs {
    /// The server's --data-dir.
    dir: PathBuf,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<Outcome> {
    let report = check(&args.dir)?;
    print(&report, io::stdout().lock())?;
    if report.is_sound() {
        return Ok(Outcome::Done);
    }
    bail!(
        "{} is damaged: what is bad is a gap to followers, the rest is served",
        args.dir.display()
    )
}

fn print(report: &CheckReport, mut out: impl Write) -> io::Result<()> {
    for log in &report.logs {
        let state = match (log.damaged_at, log.torn) {
            (Some(at), _) => format!("DAMAGED at byte {at}"),
            (None, true) => "good; its last write was cut off, which a kill may do".to_owned(),
            (None, false) => "good".to_owned(),
        };
        writeln!(
            out,
            "log {}: {} frames, {state}",
            log.path.display(),
            log.frames
        )?;
    }
    report
        .rings
        .iter()
        .try_for_each(|ring| print_ring(ring, &mut out))
}

fn print_ring(ring: &RingReport, out: &mut impl Write) -> io::Result<()> {
    let state = if ring.bad.is_empty() {
        "good"
    } else {
        "DAMAGED"
    };
    writeln!(
        out,
        "ring {}: {state}, {} blocks, {} records, offsets {}..{}, {} bytes read",
        ring.feed.0, ring.blocks, ring.records, ring.head, ring.tail, ring.bytes_read
    )?;
    for bad in &ring.bad {
        writeln!(out, "  block {}: {}", bad.number, bad.reason)?;
    }
    Ok(())
}
