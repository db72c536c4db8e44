//! One subscriber: counts what it gets and checks that it joins; some look at every record.

use anyhow::ensure;
use hdrhistogram::Histogram;

use super::{
    load::Clock,
    verify::Verifier,
    wire::{Head, Need, TakeMessage, head},
};
use crate::model::{UnixNanos, now};

/// What a subscriber got.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Received {
    /// One beyond the last offset that is settled.
    pub next: u64,
    pub records: u64,
    /// Of messages, their prefixes left out.
    pub bytes: u64,
    pub caught_up: bool,
}

#[derive(Debug, Default)]
pub(super) struct Subscriber {
    pub received: Received,
    /// Looks at every record.
    pub verifier: Option<Box<Verifier>>,
    /// Of a subscriber that looks at every record.
    pub latencies: Option<Box<Latencies>>,
}

/// Nanoseconds from a record's scheduled time to its arrival.
#[derive(Debug)]
pub(super) struct Latencies {
    pub nanos: Histogram<u64>,
    /// Records scheduled before are not timed.
    from: UnixNanos,
}

impl Latencies {
    /// Three digits that count, up to a minute.
    pub(super) fn histogram() -> anyhow::Result<Histogram<u64>> {
        Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
    }
}

impl Subscriber {
    pub(super) fn counting() -> Self {
        Self::default()
    }

    pub(super) fn verifying(verifier: Verifier) -> Self {
        Self {
            verifier: Some(Box::new(verifier)),
            ..Self::default()
        }
    }

    /// Whoever verifies now knows when records are due, and times those due at `from` or later.
    pub(super) fn begin(&mut self, clock: Clock, from: UnixNanos) -> anyhow::Result<()> {
        if let Some(verifier) = &mut self.verifier {
            verifier.begin(clock);
            let nanos = Latencies::histogram()?;
            self.latencies = Some(Box::new(Latencies { nanos, from }));
        }
        Ok(())
    }

    fn take(&mut self, found: Head, len: usize) -> anyhow::Result<()> {
        self.received.bytes += len as u64;
        match found {
            Head::Records { covers, count } => {
                let next = self.received.next;
                ensure!(
                    covers.from == next && covers.to >= next,
                    "a batch covers {}..{} where {next} was to come: records are lost or doubled",
                    covers.from,
                    covers.to
                );
                ensure!(
                    count <= covers.len(),
                    "a batch has more records than it covers"
                );
                self.received.next = covers.to;
                self.received.records += count;
            }
            Head::CaughtUp => self.received.caught_up = true,
            Head::Other => {}
        }
        Ok(())
    }

    fn look(&mut self, message: &[u8], found: Head) -> anyhow::Result<()> {
        let (Some(verifier), Head::Records { covers, count }) = (&mut self.verifier, found) else {
            return Ok(());
        };
        let Some(latencies) = &mut self.latencies else {
            return verifier.batch(message, covers, count, |_time| {});
        };
        let now = now();
        verifier.batch(message, covers, count, |scheduled| {
            if scheduled >= latencies.from {
                let nanos = u64::try_from(now.saturating_sub(scheduled)).unwrap_or(0);
                latencies.nanos.saturating_record(nanos);
            }
        })
    }
}

impl TakeMessage for Subscriber {
    fn part(&mut self, part: &[u8], len: usize) -> anyhow::Result<Need> {
        if self.verifier.is_some() {
            return Ok(Need::Whole);
        }
        match head(part, len)? {
            Some(found) => {
                self.take(found, len)?;
                Ok(Need::NoMore)
            }
            None => Ok(Need::Whole),
        }
    }

    fn whole(&mut self, message: &[u8]) -> anyhow::Result<()> {
        let found = head(message, message.len())?.unwrap_or(Head::Other);
        self.take(found, message.len())?;
        self.look(message, found)
    }
}
