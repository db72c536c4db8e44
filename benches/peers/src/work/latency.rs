//! The time from when a record was due to when a subscriber has it, at a fixed rate: an open loop,
//! so that a stall counts against every record that was due meanwhile.

use std::{
    sync::Arc,
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{runtime, sync::oneshot, task::JoinSet};

use super::{Bench, Figures, Goal, Latency, follow, join};
use crate::{
    pace::Pace,
    record::{LEN, Records},
    system::{System, Writer},
    tally::{Care, Tally, Timing},
};

/// From everything being ready to the first record.
const LEAD: Duration = Duration::from_millis(50);
/// Of a run of two seconds and more; a quarter of a shorter one.
const WARMUP: Duration = Duration::from_millis(500);

impl<S: System> Bench<'_, S> {
    pub async fn latency(&self, rate: u64, subscribers: usize, time: Duration) -> Result<Figures> {
        self.system.prepare(self.port, 1).await?;
        let mut connected = Vec::with_capacity(subscribers);
        for _ in 0..subscribers {
            connected.push(self.system.reader(self.port, 0).await?);
        }
        let cpu = self.cpu()?;
        let interval = 1_000_000_000 / rate;
        let goal = Goal::of((rate as f64 * time.as_secs_f64()) as u64);
        let start = Instant::now() + LEAD;
        let warm_nanos = WARMUP.min(time / 4).as_nanos() as u64;
        let timing = Some(Timing { start, warm_nanos });
        let progress: Vec<Arc<AtomicU64>> = (0..subscribers).map(|_| Arc::default()).collect();
        let mut readers = JoinSet::new();
        for (at, (reader, progress)) in connected.into_iter().zip(&progress).enumerate() {
            let care = if at == 0 { Care::Content } else { Care::Order };
            let tally = Tally::new(0, care, timing);
            readers.spawn(follow(reader, tally, goal.clone(), Arc::clone(progress)));
        }
        let writing = self.write_on_own_thread(start, interval, goal);
        let ended = join(readers, &progress).await;
        let written = writing.await.context("the writer's thread ended")??;
        let ended = ended?;
        let last = ended
            .iter()
            .map(|(_, at)| *at)
            .max()
            .context("no subscribers")?;
        let delivered = ended.iter().map(|(tally, _)| tally.seen()).sum();
        let mut figures = self.figures(delivered, (last - start).as_secs_f64(), cpu)?;
        let mut micros = Vec::with_capacity(delivered as usize);
        for (tally, _) in ended {
            tally.prove(written, interval)?;
            micros.extend(tally.into_micros());
        }
        figures.latency = Some(percentiles(micros)?);
        Ok(figures)
    }

    /// Writes by the clock, whatever the readers' threads are busy with.
    fn write_on_own_thread(
        &self,
        start: Instant,
        interval: u64,
        goal: Goal,
    ) -> oneshot::Receiver<Result<u64>> {
        let (done, written) = oneshot::channel();
        let (system, port) = (self.system.clone(), self.port);
        let task = async move {
            let writer = system.writer(port, 0).await?;
            let pace = Pace::new(start, interval)?;
            write(writer, pace, goal.get()).await
        };
        std::thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            // Nobody waits for it any more when the readers have failed.
            done.send(
                runtime
                    .map_err(Into::into)
                    .and_then(|runtime| runtime.block_on(task)),
            )
            .ok();
        });
        written
    }
}

async fn write<W: Writer>(mut writer: W, pace: Pace, count: u64) -> Result<u64> {
    let mut records = Records::new(0, pace.interval());
    let mut batch = Vec::with_capacity(1000 * LEN);
    while records.made() < count {
        // After a stall all that was due goes out at once, in what the system takes as one batch.
        let due = pace.due().min(count) - records.made();
        let size = due.min(writer.batch() as u64) as usize;
        if size == 0 {
            pace.tick().await?;
            continue;
        }
        records.fill(&mut batch, size);
        writer.send(&batch).await?;
    }
    writer.settle().await?;
    Ok(records.made())
}

fn percentiles(mut micros: Vec<u32>) -> Result<Latency> {
    micros.sort_unstable();
    let at = |share: f64| -> Result<u32> {
        let index = ((micros.len() as f64 * share) as usize).min(micros.len().saturating_sub(1));
        micros.get(index).copied().context("no records arrived")
    };
    Ok(Latency {
        p50_micros: at(0.5)?,
        p90_micros: at(0.9)?,
        p99_micros: at(0.99)?,
        p999_micros: at(0.999)?,
        max_micros: at(1.0)?,
    })
}
