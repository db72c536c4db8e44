//! Credit that a device gets later, because it is over its rate.

use std::collections::VecDeque;

use tokio::time::{Instant, sleep_until};

/// Times that are kept apart; beyond it the last of them are granted together.
const MAX_TIMES: usize = 64;

/// In the order in which it falls due.
#[derive(Debug, Default)]
pub(super) struct Held(VecDeque<(Instant, u64)>);

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn put(&mut self, due: Instant, bytes: u64) {
        let full = self.0.len() >= MAX_TIMES;
        match self.0.back_mut() {
            Some((last, held)) if full || due <= *last => {
                *last = due.max(*last);
                *held += bytes;
            }
            _ => self.0.push_back((due, bytes)),
        }
    }

    /// Comes back when some of it is due.
    pub(super) async fn due(&self) {
        match self.0.front() {
            Some((due, _)) => sleep_until(*due).await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn take_due(&mut self) -> u64 {
        let now = Instant::now();
        let due = self.0.iter().take_while(|(due, _)| *due <= now).count();
        self.0.drain(..due).map(|(_, bytes)| bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn credit_is_due_in_time_and_none_is_lost() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut held = Held::default();
        held.put(at(1), 10);
        held.put(at(3), 5);
        // What others gave back may let a later one fall due earlier: it waits its turn.
        held.put(at(2), 7);
        assert_eq!(held.take_due(), 0);
        held.due().await;
        assert_eq!(
            (start.elapsed(), held.take_due()),
            (Duration::from_secs(1), 10)
        );
        held.due().await;
        assert_eq!(
            (start.elapsed(), held.take_due()),
            (Duration::from_secs(3), 12)
        );
        assert!(held.is_empty());
        for n in 0..1_000 {
            held.put(at(10 + n), 1);
        }
        assert_eq!(held.0.len(), MAX_TIMES);
        tokio::time::advance(Duration::from_secs(2_000)).await;
        assert_eq!(held.take_due(), 1_000);
    }
}
