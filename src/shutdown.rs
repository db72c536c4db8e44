//! An orderly stop: named steps, one after the other, within one deadline.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout_at};

/// The steps of one stop. Each logs how it went; what is late is left behind.
#[derive(Debug)]
pub struct Shutdown {
    start: Instant,
    deadline: Instant,
    late: Vec<&'static str>,
}

impl Shutdown {
    pub fn begin(within: Duration) -> Self {
        let start = Instant::now();
        tracing::info!(deadline_s = within.as_secs_f64(), "stopping");
        Self {
            start,
            deadline: start + within,
            late: vec![],
        }
    }

    /// Runs one step until it is done or the deadline is there; `None` when it was late.
    pub async fn step<T>(
        &mut self,
        name: &'static str,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let done = timeout_at(self.deadline, work).await.ok();
        let after_ms = self.start.elapsed().as_millis();
        match done {
            Some(_) => tracing::info!(step = name, after_ms, "stopped"),
            None => {
                tracing::warn!(step = name, after_ms, "did not stop in time");
                self.late.push(name);
            }
        }
        done
    }

    /// What did not end in time.
    pub fn late(&self) -> &[&'static str] {
        &self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_late_step_does_not_hold_up_the_stop() {
        let start = Instant::now();
        let mut shutdown = Shutdown::begin(Duration::from_secs(10));
        assert_eq!(shutdown.step("quick", async { 1 }).await, Some(1));
        assert_eq!(
            shutdown.step("stuck", std::future::pending::<()>()).await,
            None
        );
        assert_eq!(shutdown.step("ready", async { 2 }).await, Some(2));
        assert_eq!(start.elapsed(), Duration::from_secs(10));
        assert_eq!(shutdown.late(), ["stuck"]);
    }
}
