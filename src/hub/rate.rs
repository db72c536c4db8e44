//! How fast something goes, of late: an exponentially weighted mean.

use std::time::{Duration, Instant};

/// Half of the weight lies on the last seven seconds.
const MEAN_OVER: Duration = Duration::from_secs(10);

/// Events per second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    per_second: f64,
    at: Instant,
}

impl Rate {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            per_second: 0.0,
            at: now,
        }
    }

    pub(crate) fn add(&mut self, events: u64, now: Instant) {
        self.per_second = self.get(now) + events as f64 / MEAN_OVER.as_secs_f64();
        self.at = now;
    }

    pub(crate) fn get(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at).as_secs_f64();
        self.per_second * (-age / MEAN_OVER.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_is_measured_and_forgotten() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        let mut now = start;
        for _ in 0..600 {
            now += Duration::from_millis(100);
            rate.add(50, now);
        }
        assert!((rate.get(now) - 500.0).abs() < 10.0, "{}", rate.get(now));
        assert!(rate.get(now + Duration::from_secs(120)) < 0.01);
    }
}
