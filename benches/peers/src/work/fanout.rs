//! Deliveries per second from one writer to many subscribers, each on a connection of its own. A
//! closed loop: the writer stays at most a window ahead of the slowest subscriber, so that a
//! system without flow control is not driven to drop records.

use std::{
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::task::JoinSet;

use super::{Bench, Figures, Goal, SILENCE, follow, join};
use crate::{
    record::{LEN, Records},
    system::{System, Writer},
    tally::{Care, Tally},
};

/// Records on their way to all subscribers together, within bounds for each.
const IN_FLIGHT: u64 = 8_000_000;
const LEAST: u64 = 8_192;
const MOST: u64 = 65_536;

impl<S: System> Bench<'_, S> {
    pub async fn fanout(&self, subscribers: usize, time: Duration) -> Result<Figures> {
        self.system.prepare(self.port, 1).await?;
        let goal = Goal::open();
        let progress: Vec<Arc<AtomicU64>> = (0..subscribers).map(|_| Arc::default()).collect();
        let mut readers = JoinSet::new();
        for (at, progress) in progress.iter().enumerate() {
            let reader = self.system.reader(self.port, 0).await?;
            let care = if at == 0 { Care::Content } else { Care::Order };
            let tally = Tally::new(0, care, None);
            readers.spawn(follow(reader, tally, goal.clone(), Arc::clone(progress)));
        }
        let writer = self.system.writer(self.port, 0).await?;
        let cpu = self.cpu()?;
        let start = Instant::now();
        let writing = tokio::spawn(write(writer, progress.clone(), goal, start + time));
        let ended = join(readers, &progress).await;
        // A writer that failed is why the readers got nothing.
        let written = writing.await?.context("the writer")?;
        let ended = ended?;
        let last = ended
            .iter()
            .map(|(_, at)| *at)
            .max()
            .context("no subscribers")?;
        let delivered = ended.iter().map(|(tally, _)| tally.seen()).sum();
        let figures = self.figures(delivered, (last - start).as_secs_f64(), cpu)?;
        for (tally, _) in ended {
            tally.prove(written, 0)?;
        }
        Ok(figures)
    }
}

async fn write<W: Writer>(
    mut writer: W,
    progress: Vec<Arc<AtomicU64>>,
    goal: Goal,
    until: Instant,
) -> Result<u64> {
    let mut records = Records::new(0, 0);
    let size = writer.batch();
    let mut batch = Vec::with_capacity(size * LEN);
    let window = (IN_FLIGHT / progress.len() as u64).clamp(LEAST, MOST);
    while Instant::now() < until {
        records.fill(&mut batch, size);
        writer.send(&batch).await?;
        room(records.made(), window, &progress).await?;
    }
    goal.set(records.made() + size as u64);
    records.fill(&mut batch, size);
    writer.send(&batch).await?;
    writer.settle().await?;
    Ok(records.made())
}

/// Waits until the slowest subscriber is at most a window behind.
async fn room(made: u64, window: u64, progress: &[Arc<AtomicU64>]) -> Result<()> {
    let start = Instant::now();
    let behind = |one: &Arc<AtomicU64>| one.load(Ordering::Relaxed) + window < made;
    while progress.iter().any(behind) {
        ensure!(
            start.elapsed() < SILENCE,
            "a subscriber got nothing for {SILENCE:?}"
        );
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    Ok(())
}
