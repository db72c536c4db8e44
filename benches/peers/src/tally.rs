//! What one reader saw of one lane, and whether that is what was written: every reader counts and
//! checks the order, a verifying one hashes the content as well.

use std::time::Instant;

use anyhow::{Result, bail, ensure};

use crate::record::{Head, LEN, Rolling};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// Count the records, and check that each follows the last.
    Order,
    /// And hash every byte.
    Content,
}

/// How a reader takes the time from when a record was due to when it is seen.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub start: Instant,
    /// Records that were due earlier than this after the start are not timed.
    pub warm_nanos: u64,
}

#[derive(Debug)]
pub struct Tally {
    lane: usize,
    care: Care,
    seen: u64,
    next: u64,
    missing: u64,
    repeated: u64,
    rolling: Rolling,
    timing: Option<Timing>,
    micros: Vec<u32>,
}

impl Tally {
    pub fn new(lane: usize, care: Care, timing: Option<Timing>) -> Self {
        Self {
            lane,
            care,
            seen: 0,
            next: 0,
            missing: 0,
            repeated: 0,
            rolling: Rolling::default(),
            timing,
            micros: Vec::new(),
        }
    }

    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The times from due to seen, in microseconds.
    pub fn into_micros(self) -> Vec<u32> {
        self.micros
    }

    pub fn record(&mut self, record: &[u8]) -> Result<()> {
        ensure!(
            record.len() == LEN,
            "a record of {} bytes, not {LEN}",
            record.len()
        );
        let head = Head::read(record)?;
        ensure!(
            head.lane == self.lane as u64,
            "lane {} got a record of {}",
            self.lane,
            head.lane
        );
        if head.number == self.next {
            self.next += 1;
        } else if head.number > self.next {
            self.missing += head.number - self.next;
            self.next = head.number + 1;
        } else {
            self.repeated += 1;
        }
        self.seen += 1;
        if self.care == Care::Content {
            self.rolling.add(record);
        }
        if let Some(timing) = self.timing
            && head.due >= timing.warm_nanos
        {
            let now = timing.start.elapsed().as_nanos() as u64;
            let late = now.saturating_sub(head.due) / 1000;
            self.micros.push(u32::try_from(late).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    /// Fails unless exactly the first `written` records of the lane were seen, once and in order.
    pub fn prove(&self, written: u64, interval: u64) -> Result<()> {
        let Self {
            seen,
            missing,
            repeated,
            ..
        } = *self;
        if seen != written || missing > 0 || repeated > 0 {
            bail!("{written} written, {seen} seen, {missing} missing, {repeated} repeated or late");
        }
        if self.care == Care::Content && self.rolling != Rolling::of(self.lane, interval, written) {
            bail!("{written} records came in order, but their content is not what was written");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Records;

    fn batch(count: usize) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        Records::new(0, 0).fill(&mut bytes, count);
        bytes.chunks_exact(LEN).map(<[u8]>::to_vec).collect()
    }

    fn verdict(records: &[Vec<u8>], written: u64) -> String {
        let mut tally = Tally::new(0, Care::Content, None);
        for record in records {
            tally.record(record).unwrap();
        }
        tally
            .prove(written, 0)
            .map_or_else(|error| error.to_string(), |()| "whole".to_owned())
    }

    #[test]
    fn every_record_once_and_in_order_is_whole() {
        assert_eq!(verdict(&batch(100), 100), "whole");
    }

    #[test]
    fn a_lost_record_fails_the_run() {
        let mut records = batch(100);
        records.remove(40);
        assert!(verdict(&records, 100).contains("99 seen, 1 missing"));
    }

    #[test]
    fn a_lost_last_record_fails_the_run() {
        assert!(verdict(&batch(99), 100).contains("99 seen, 0 missing"));
    }

    #[test]
    fn a_repeated_record_fails_the_run() {
        let mut records = batch(100);
        records.insert(41, records[40].clone());
        assert!(verdict(&records, 100).contains("101 seen, 0 missing, 1 repeated"));
    }

    #[test]
    fn a_changed_byte_fails_the_run() {
        let mut records = batch(100);
        records[99][111] ^= 1;
        assert!(verdict(&records, 100).contains("content"));
    }

    #[test]
    fn a_record_of_another_lane_is_refused() {
        let mut tally = Tally::new(1, Care::Order, None);
        assert!(tally.record(&batch(1)[0]).is_err());
    }
}
