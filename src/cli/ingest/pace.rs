//! When the next row is due: at once, at a rate, or at its recorded distance from the first one.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    cli::args::{Rate, Speed},
    model::UnixNanos,
};

#[derive(Debug)]
pub(super) struct Pace {
    kind: Kind,
    begun: Option<Instant>,
}

#[derive(Debug)]
enum Kind {
    Full,
    Rate {
        per_second: f64,
        sent: f64,
    },
    Speed {
        times: f64,
        first: Option<UnixNanos>,
    },
}

impl Pace {
    pub(super) fn new(rate: Option<Rate>, speed: Option<Speed>) -> Self {
        let kind = match (rate, speed) {
            (Some(Rate(per_second)), _) => Kind::Rate {
                per_second,
                sent: 0.0,
            },
            (None, Some(Speed(times))) => Kind::Speed { times, first: None },
            (None, None) => Kind::Full,
        };
        Self { kind, begun: None }
    }

    /// When a row of so many records is due; `None`: at once.
    pub(super) fn due(
        &mut self,
        records: usize,
        event_time: Option<UnixNanos>,
        now: Instant,
    ) -> Option<Instant> {
        let begun = *self.begun.get_or_insert(now);
        let seconds = match &mut self.kind {
            Kind::Full => return None,
            Kind::Rate { per_second, sent } => {
                let seconds = *sent / *per_second;
                *sent += f64::from(u32::try_from(records).unwrap_or(u32::MAX));
                seconds
            }
            Kind::Speed { times, first } => {
                let time = event_time?;
                let passed = time.saturating_sub(*first.get_or_insert(time));
                Duration::from_nanos(u64::try_from(passed).unwrap_or(0)).as_secs_f64() / *times
            }
        };
        begun.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(pace: &mut Pace, begun: Instant, records: usize, time: i64) -> Option<u128> {
        let due = pace.due(records, Some(time), begun)?;
        Some(due.duration_since(begun).as_millis())
    }

    #[test]
    fn a_rate_counts_records_of_wide_rows() {
        let now = Instant::now();
        let mut pace = Pace::new(Some(Rate(100.0)), None);
        assert_eq!(millis(&mut pace, now, 10, 0), Some(0));
        assert_eq!(millis(&mut pace, now, 1, 0), Some(100));
        assert_eq!(millis(&mut pace, now, 1, 0), Some(110));
    }

    #[test]
    fn a_speed_keeps_distances_and_waits_for_no_earlier_time() {
        let now = Instant::now();
        let mut pace = Pace::new(None, Some(Speed(10.0)));
        let second = 1_000_000_000;
        assert_eq!(millis(&mut pace, now, 1, 50 * second), Some(0));
        assert_eq!(millis(&mut pace, now, 1, 60 * second), Some(1_000));
        assert_eq!(millis(&mut pace, now, 1, 40 * second), Some(0));
        assert_eq!(pace.due(1, None, now), None);
    }

    #[test]
    fn full_speed_waits_for_nothing() {
        assert_eq!(Pace::new(None, None).due(1, Some(5), Instant::now()), None);
    }
}
