//! How the stream is doing: connection, rates, lag, gaps, the ring.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    cli::remarks::gap_text,
    client::GapEntry,
    model::GapReason,
    proto::{convert::std_duration, v1},
};

/// Seconds that a rate is measured over.
const WINDOW: usize = 5;

/// Where the stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    /// The latest of each key come in.
    Loading,
    CatchingUp,
    Live,
    Reconnecting {
        reason: String,
        since: Instant,
        /// When it is tried again.
        again: Instant,
    },
}

/// What was missed.
#[derive(Clone, Debug, Default)]
pub(super) struct Gaps {
    pub(super) gaps: u64,
    pub(super) offsets: u64,
    /// The last one's reason, and all of it in words.
    pub(super) last: Option<(GapReason, String)>,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) phase: Phase,
    pub(super) reconnects: u64,
    pub(super) gaps: Gaps,
    /// The last heartbeat.
    pub(super) heartbeat: Option<v1::Heartbeat>,
    /// What the caller may not see, in words.
    pub(super) narrowed: Option<String>,
    /// Records that came, those of the snapshot aside.
    pub(super) records: u64,
    settled: Meter,
    came: Meter,
}

impl Link {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Connecting,
            reconnects: 0,
            gaps: Gaps::default(),
            heartbeat: None,
            narrowed: None,
            records: 0,
            settled: Meter::new(now),
            came: Meter::new(now),
        }
    }

    /// Offsets of the feed were settled, and so many records came of them.
    pub(super) fn settle(&mut self, offsets: u64, records: u64, now: Instant) {
        self.records += records;
        self.settled.add(offsets, now);
        self.came.add(records, now);
    }

    pub(super) fn miss(&mut self, feed: &str, gap: &GapEntry) {
        self.gaps.gaps += 1;
        self.gaps.offsets += gap.span.len();
        self.gaps.last = Some((gap.reason, gap_text(feed, gap)));
    }

    pub(super) fn broke(&mut self, reason: String, delay: Duration, now: Instant) {
        let since = match &self.phase {
            Phase::Reconnecting { since, .. } => *since,
            Phase::Connecting | Phase::Loading | Phase::CatchingUp | Phase::Live => now,
        };
        self.phase = Phase::Reconnecting {
            reason,
            since,
            again: now + delay,
        };
    }

    /// Something came: there is a connection.
    pub(super) fn hears(&mut self) {
        match self.phase {
            Phase::Connecting => self.phase = Phase::Loading,
            Phase::Reconnecting { .. } => {
                self.reconnects += 1;
                self.phase = Phase::CatchingUp;
            }
            Phase::Loading | Phase::CatchingUp | Phase::Live => {}
        }
    }

    /// Records of the feed per second, and those of them that came.
    pub(super) fn rates(&self, now: Instant) -> (f64, f64) {
        (self.settled.rate(now), self.came.rate(now))
    }

    /// Oldest and next offset of the ring.
    pub(super) fn ring(&self) -> Option<(u64, u64)> {
        let heartbeat = self.heartbeat.as_ref()?;
        let oldest = heartbeat.oldest.as_ref()?.offset;
        Some((oldest, heartbeat.next.as_ref()?.offset))
    }

    /// How far what came is behind what there is: records, and their age.
    pub(super) fn lag(&self) -> Option<(u64, Duration)> {
        let heartbeat = self.heartbeat.as_ref()?;
        let lag = heartbeat.lag.as_ref().and_then(std_duration);
        Some((heartbeat.lag_records, lag.unwrap_or_default()))
    }

    /// When eviction reaches us, where that is in sight.
    pub(super) fn eviction(&self) -> Option<Duration> {
        let heartbeat = self.heartbeat.as_ref()?;
        heartbeat.eviction_eta.as_ref().and_then(std_duration)
    }
}

/// Counts over the last few seconds.
#[derive(Debug)]
struct Meter {
    begin: Instant,
    counts: [u64; WINDOW],
    /// The second that is counted now, from `begin`.
    second: u64,
}

impl Meter {
    fn new(begin: Instant) -> Self {
        Self {
            begin,
            counts: [0; WINDOW],
            second: 0,
        }
    }

    fn add(&mut self, count: u64, now: Instant) {
        let second = (now - self.begin).as_secs();
        for passed in (self.second + 1..=second).rev().take(WINDOW) {
            *self.at(passed) = 0;
        }
        self.second = second;
        *self.at(second) += count;
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder of its length")]
    fn at(&mut self, second: u64) -> &mut u64 {
        let at = usize::try_from(second % WINDOW as u64).unwrap_or(0);
        &mut self.counts[at]
    }

    fn rate(&self, now: Instant) -> f64 {
        let passed = (now - self.begin).as_secs_f64();
        let second = (now - self.begin).as_secs();
        let window = WINDOW as u64;
        let oldest = (second + 1).saturating_sub(window);
        let kept = (oldest..=second).filter(|second| *second <= self.second);
        let kept = kept.filter(|second| *second + window > self.second);
        let counts = kept.filter_map(|second| {
            let at = usize::try_from(second % window).ok()?;
            self.counts.get(at)
        });
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let sum = counts.sum::<u64>() as f64;
        #[expect(clippy::cast_precision_loss, reason = "seconds of a session")]
        let span = passed - oldest as f64;
        sum / span.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;

    #[test]
    fn a_rate_is_of_the_last_few_seconds() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut meter = Meter::new(begin);
        assert_eq!(meter.rate(at(0)), 0.0);
        for second in 0..10 {
            meter.add(100, at(second * 1_000));
        }
        assert!((meter.rate(at(9_999)) - 100.0).abs() < 1.0);
        assert!((meter.rate(at(12_999)) - 40.0).abs() < 1.0, "two of five");
        assert_eq!(meter.rate(at(20_000)), 0.0);
        meter.add(50, at(60_000));
        assert!((meter.rate(at(60_999)) - 10.0).abs() < 0.1);
    }

    #[test]
    fn a_lost_connection_counts_from_its_first_failure() {
        let begin = Instant::now();
        let mut link = Link::new(begin);
        link.hears();
        assert_eq!(link.phase, Phase::Loading);
        let second = Duration::from_secs(1);
        link.broke("gone".to_owned(), second, begin + second);
        link.broke("refused".to_owned(), 5 * second, begin + 3 * second);
        let expected = Phase::Reconnecting {
            reason: "refused".to_owned(),
            since: begin + second,
            again: begin + 8 * second,
        };
        assert_eq!(link.phase, expected);
        link.hears();
        assert_eq!((&link.phase, link.reconnects), (&Phase::CatchingUp, 1));
    }

    #[test]
    fn gaps_add_up_and_the_last_one_is_told() {
        let mut link = Link::new(Instant::now());
        let gap = |from, to, reason| GapEntry {
            epoch: 1,
            span: Span::new(from, to),
            count: None,
            reason,
            oldest: None,
        };
        link.miss("f", &gap(0, 10, GapReason::Evicted));
        link.miss("f", &gap(20, 25, GapReason::Lost));
        assert_eq!((link.gaps.gaps, link.gaps.offsets), (2, 15));
        let (reason, last) = link.gaps.last.unwrap();
        assert_eq!(reason, GapReason::Lost);
        assert!(
            last.contains("20..25 were lost in an unclean stop"),
            "{last}"
        );
    }
}
