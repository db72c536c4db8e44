//! Acknowledged records per second: every connection writes its own lane as fast as the system
//! takes it; afterwards each lane is read back whole.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::task::JoinSet;

use super::{Bench, Figures, Goal, follow, join};
use crate::{
    record::{LEN, Records},
    system::{System, Writer},
    tally::{Care, Tally},
};

impl<S: System> Bench<'_, S> {
    pub async fn ingest(&self, connections: usize, time: Duration) -> Result<Figures> {
        self.system.prepare(self.port, connections).await?;
        let mut writers = Vec::with_capacity(connections);
        for lane in 0..connections {
            writers.push(self.system.writer(self.port, lane).await?);
        }
        let cpu = self.cpu()?;
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for (lane, writer) in writers.into_iter().enumerate() {
            tasks.spawn(async move { Ok((lane, write(writer, lane, start + time).await?)) });
        }
        let written: Result<Vec<(usize, u64)>> = tasks.join_all().await.into_iter().collect();
        let (written, seconds) = (written?, start.elapsed().as_secs_f64());
        let total = written.iter().map(|(_, records)| records).sum();
        let figures = self.figures(total, seconds, cpu)?;
        for (lane, records) in written {
            self.read_back(lane, records).await?;
        }
        Ok(figures)
    }

    async fn read_back(&self, lane: usize, records: u64) -> Result<()> {
        let reader = self.system.reader(self.port, lane).await?;
        let tally = Tally::new(lane, Care::Content, None);
        let progress = [Arc::default()];
        let mut readers = JoinSet::new();
        readers.spawn(follow(
            reader,
            tally,
            Goal::of(records),
            Arc::clone(&progress[0]),
        ));
        for (tally, _) in join(readers, &progress).await? {
            tally.prove(records, 0)?;
        }
        Ok(())
    }
}

async fn write<W: Writer>(mut writer: W, lane: usize, until: Instant) -> Result<u64> {
    let mut records = Records::new(lane, 0);
    let size = writer.batch();
    let mut batch = Vec::with_capacity(size * LEN);
    while Instant::now() < until {
        records.fill(&mut batch, size);
        writer.send(&batch).await?;
    }
    writer.settle().await?;
    Ok(records.made())
}
