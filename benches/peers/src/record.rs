//! The record every system moves: 112 bytes that follow from a lane and a number, so that a reader
//! can say what it should have seen.

use anyhow::{Context as _, Result};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of one record, as a tick with a key, a time and two prices has on ringfeed's wire.
pub const LEN: usize = 112;
const HEAD: usize = 24;
/// Two pages of noise; a record's body starts anywhere in the first.
const NOISE: usize = 8192;

/// What the first 24 bytes of a record say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub lane: u64,
    pub number: u64,
    /// Nanoseconds after the run's start when this record was due; 0 without a schedule.
    pub due: u64,
}

impl Head {
    pub fn read(record: &[u8]) -> Result<Self> {
        let word = |at: usize| -> Result<u64> {
            let bytes = record
                .get(at..at + 8)
                .context("a record shorter than its head")?;
            Ok(u64::from_le_bytes(bytes.try_into()?))
        };
        Ok(Self {
            lane: word(0)?,
            number: word(8)?,
            due: word(16)?,
        })
    }
}

/// Makes the records of one lane, in order.
#[derive(Debug, Clone)]
pub struct Records {
    noise: Vec<u8>,
    lane: u64,
    next: u64,
    /// Nanoseconds between two due times; 0 without a schedule.
    interval: u64,
}

impl Records {
    pub fn new(lane: usize, interval: u64) -> Self {
        let mut noise = Vec::with_capacity(NOISE);
        let mut word = 0x9e37_79b9_7f4a_7c15_u64;
        while noise.len() < NOISE {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            noise.extend_from_slice(&word.to_le_bytes());
        }
        Self {
            noise,
            lane: lane as u64,
            next: 0,
            interval,
        }
    }

    /// How many were made.
    pub fn made(&self) -> u64 {
        self.next
    }

    /// The next `count` records, one after the other, into `batch`.
    pub fn fill(&mut self, batch: &mut Vec<u8>, count: usize) {
        batch.clear();
        for _ in 0..count {
            let from = (self.next.wrapping_mul(31) % (NOISE - LEN) as u64) as usize;
            batch.extend_from_slice(&self.lane.to_le_bytes());
            batch.extend_from_slice(&self.next.to_le_bytes());
            batch.extend_from_slice(&(self.next * self.interval).to_le_bytes());
            batch.extend_from_slice(&self.noise[from..from + LEN - HEAD]);
            self.next += 1;
        }
    }
}

/// A hash over records in order: one byte changed, lost, doubled or swapped makes another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rolling(u64);

impl Rolling {
    pub fn add(&mut self, record: &[u8]) {
        self.0 = self.0.rotate_left(5).wrapping_mul(0x100_0000_01b3) ^ xxh3_64(record);
    }

    /// Of the first `count` records of a lane.
    pub fn of(lane: usize, interval: u64, count: u64) -> Self {
        let mut records = Records::new(lane, interval);
        let mut rolling = Self::default();
        let mut one = Vec::with_capacity(LEN);
        for _ in 0..count {
            records.fill(&mut one, 1);
            rolling.add(&one);
        }
        rolling
    }
}
