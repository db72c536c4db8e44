//! Stored records per second to one reader, which checks all of them.

use std::{sync::Arc, time::Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use super::{Bench, Figures, Goal, follow, join};
use crate::{
    record::{LEN, Records},
    system::{System, Writer as _},
    tally::{Care, Tally},
};

impl<S: System> Bench<'_, S> {
    pub async fn replay(&self, count: u64) -> Result<Figures> {
        self.system.prepare(self.port, 1).await?;
        self.load(count).await?;
        let progress = [Arc::default()];
        let cpu = self.cpu()?;
        let start = Instant::now();
        let reader = self.system.reader(self.port, 0).await?;
        let tally = Tally::new(0, Care::Content, None);
        let mut readers = JoinSet::new();
        readers.spawn(follow(
            reader,
            tally,
            Goal::of(count),
            Arc::clone(&progress[0]),
        ));
        let ended = join(readers, &progress).await?;
        let seconds = start.elapsed().as_secs_f64();
        let figures = self.figures(count, seconds, cpu)?;
        for (tally, _) in ended {
            tally.prove(count, 0)?;
        }
        Ok(figures)
    }

    async fn load(&self, count: u64) -> Result<()> {
        let mut writer = self.system.writer(self.port, 0).await?;
        let mut records = Records::new(0, 0);
        let mut batch = Vec::with_capacity(writer.batch() * LEN);
        while records.made() < count {
            let size = (count - records.made()).min(writer.batch() as u64);
            records.fill(&mut batch, size as usize);
            writer.send(&batch).await?;
        }
        writer.settle().await
    }
}
