//! From a time to keep records to the bytes of a ring, and back.

use std::time::Duration;

use anyhow::bail;
use clap::Args;

use crate::{
    cli::{
        args::{Rate, duration},
        exit::{Usage, note},
        plain,
    },
    proto::{convert::std_duration, v1},
};

/// A reading with its overhead on disk.
const ASSUMED_RECORD_BYTES: f64 = 80.0;
const ASSUMED_RATE: f64 = 100.0;
/// Rings are whole blocks, and rates vary.
const MARGIN: f64 = 1.2;
const MIN_BYTES: u64 = 1 << 20;

#[derive(Args, Debug)]
pub(super) struct RetainArgs {
    /// Size the ring to last this long, at the present rate or the assumed one
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    retain: Option<Duration>,
    /// Rate to assume for --retain, in records; 100/s where nothing is known
    #[arg(long, value_name = "RATE", requires = "retain")]
    assume: Option<Rate>,
}

impl RetainArgs {
    pub(super) fn is_asked(&self) -> bool {
        self.retain.is_some()
    }

    /// The bytes of a ring that lasts as long as asked; says on stderr how they come about.
    pub(super) fn bytes(&self, feed: Option<&v1::Feed>) -> anyhow::Result<Option<u64>> {
        let Some(retain) = self.retain else {
            return Ok(None);
        };
        if retain.is_zero() {
            bail!(Usage::new("--retain is longer than nothing"));
        }
        let present = feed.map(|feed| feed.bytes_per_second).filter(|&r| r > 0.0);
        let (per_second, basis) = match (self.assume, present) {
            (None, Some(present)) => (present, "at the present rate".to_owned()),
            (assume, _) => {
                let rate = assume.map_or(ASSUMED_RATE, |rate| rate.0);
                let basis = format!(
                    "assuming {} of {ASSUMED_RECORD_BYTES} bytes (change that with --assume)",
                    plain::rate(rate)
                );
                (rate * ASSUMED_RECORD_BYTES, basis)
            }
        };
        let bytes = estimate(per_second, retain);
        let (size, time) = (plain::bytes(bytes), plain::duration(retain));
        note(&format!("{size} for {time} {basis}"));
        Ok(Some(bytes))
    }
}

fn estimate(bytes_per_second: f64, retain: Duration) -> u64 {
    let bytes = whole(bytes_per_second * retain.as_secs_f64() * MARGIN);
    bytes.next_multiple_of(MIN_BYTES).max(MIN_BYTES)
}

/// Rounded, within what a `u64` has.
pub(super) fn whole(number: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to what fits"
    )]
    let whole = number.clamp(0.0, 1e18).round() as u64;
    whole
}

/// `≈ 2 h 10 m`; `None` when nothing comes in.
pub(super) fn lasts(feed: &v1::Feed) -> Option<String> {
    let lasts = feed.ring_duration.as_ref().and_then(std_duration)?;
    Some(format!("≈ {}", plain::duration(lasts)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_for_a_week_has_a_margin_and_whole_mebibytes() {
        let week = Duration::from_secs(604_800);
        assert_eq!(estimate(8_000.0, week) % MIN_BYTES, 0);
        assert!(estimate(8_000.0, week) >= 5_806_080_000);
        assert_eq!(estimate(0.001, Duration::from_secs(1)), MIN_BYTES);
    }

    #[test]
    fn the_present_rate_is_taken_before_the_assumed_one() {
        let feed = v1::Feed {
            bytes_per_second: 1_048_576.0,
            ..v1::Feed::default()
        };
        let args = |assume| RetainArgs {
            retain: Some(Duration::from_secs(100)),
            assume,
        };
        assert_eq!(args(None).bytes(Some(&feed)).unwrap(), Some(120 << 20));
        let assumed = args(Some(Rate(10.0))).bytes(Some(&feed)).unwrap();
        assert_eq!(assumed, Some(1 << 20));
    }
}
