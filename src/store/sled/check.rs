//! Verifies a data directory offline: sled's own files first, then every block of every ring.
//! Rings are only read; the database is opened, which rewrites its metadata files.

use std::path::{Path, PathBuf};

use crate::{
    model::{Epoch, FeedId, INGEST_TIME_TAG, OFFSET_TAG, Offset, SERVER_FIELDS_LEN, UnixNanos},
    store::{Space, StoreError},
};

use super::{
    directory::{self, DATABASE},
    format::{Fault, Stored},
    keys::feed_of_state,
    logs::{self, LogReport},
    options::SledOptions,
    recover::{Found, LoadError, Slots, load},
    seam::Seam,
    state::RingState,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    pub dir: PathBuf,
    pub format: u32,
    pub logs: Vec<LogReport>,
    /// Empty when a log is damaged: the database is not opened then, since that would throw away
    /// what lies behind the damage.
    pub rings: Vec<RingReport>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingReport {
    pub feed: FeedId,
    pub epoch: Epoch,
    /// Good ones.
    pub blocks: u64,
    /// In good blocks, from the head on.
    pub records: u64,
    pub head: Offset,
    pub tail: Offset,
    pub bytes_read: u64,
    pub bad: Vec<BadBlock>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadBlock {
    pub number: u64,
    pub reason: String,
}

impl CheckReport {
    /// Nothing that was durable is missing or damaged.
    pub fn is_sound(&self) -> bool {
        let logs = self.logs.iter().all(|log| log.damaged_at.is_none());
        logs && self.rings.iter().all(|ring| ring.bad.is_empty())
    }
}

/// Verifies `dir`, which no server may have open (`Locked`). It must be a data directory.
pub fn check(dir: &Path) -> Result<CheckReport, StoreError> {
    let Some(format) = directory::read_format(dir)? else {
        return Err(StoreError::Damaged {
            what: dir.display().to_string(),
            detail: "it is not a data directory of ringfeed: it has no FORMAT file".to_owned(),
        });
    };
    let lock = directory::lock(dir)?;
    let metadata = dir.join(DATABASE).join("metadata");
    let logs = logs::verify(&metadata).map_err(|e| directory::failed("read", &metadata, e))?;
    directory::unlock(&lock);
    let mut report = CheckReport {
        dir: dir.to_owned(),
        format,
        logs,
        rings: Vec::new(),
    };
    if report.is_sound() {
        let seam = Seam::open(SledOptions::new(dir))?;
        for (key, state) in seam.scan(Space::Heads, &[])? {
            if let Some(feed) = feed_of_state(&key) {
                let state = RingState::decode(&state)?;
                report.rings.push(check_ring(&seam, feed, &state)?);
            }
        }
    }
    Ok(report)
}

fn check_ring(seam: &Seam, feed: FeedId, state: &RingState) -> Result<RingReport, StoreError> {
    let before = seam.io().block_bytes_read;
    let slots = Slots {
        seam,
        feed,
        epoch: state.epoch,
    };
    let Found { block, bad } = slots.newest(state)?;
    let end = block.as_ref().map_or(0, |block| block.end());
    let newest = block.map_or(state.layout.first, |block| block.number + 1) + bad;
    let mut walk = Walk {
        state,
        end: None,
        last_ingest: UnixNanos::MIN,
        report: RingReport {
            feed,
            epoch: state.epoch,
            blocks: 0,
            records: 0,
            head: state.gone.head(),
            tail: end.max(state.gone.tail()),
            bytes_read: 0,
            bad: Vec::new(),
        },
    };
    if let Some(last) = newest.checked_sub(1) {
        for number in state.oldest(last)..newest {
            walk.block(seam, number)?;
        }
    }
    let mut report = walk.report;
    if seam.lost_tails() || state.shaken {
        let reason = "a note of growing blocks is damaged: newer records may be lost".to_owned();
        report.bad.push(BadBlock {
            number: newest,
            reason,
        });
    }
    report.bytes_read = seam.io().block_bytes_read - before;
    Ok(report)
}

/// From block to block of a ring.
struct Walk<'a> {
    state: &'a RingState,
    /// Where the block before ended; `None` at the first one and behind a bad one.
    end: Option<Offset>,
    last_ingest: UnixNanos,
    report: RingReport,
}

impl Walk<'_> {
    fn block(&mut self, seam: &Seam, number: u64) -> Result<(), StoreError> {
        let layout = self.state.layout_of(number);
        let home = self.state.home(self.report.feed, layout);
        let loaded = match load(seam, layout, number, home) {
            Ok(stored) => self.verify(number, &stored),
            Err(LoadError::Fault(fault)) => Err(fault.to_string()),
            Err(LoadError::Store(e)) => return Err(e),
        };
        match loaded {
            Ok(()) => self.report.blocks += 1,
            Err(reason) => {
                self.end = None;
                self.report.bad.push(BadBlock { number, reason });
            }
        }
        Ok(())
    }

    fn verify(&mut self, number: u64, stored: &Stored) -> Result<(), String> {
        let block = &stored.head;
        if block.number != number {
            let found = block.number;
            return Err(Fault::Number { found }.to_string());
        }
        let base = block.base;
        let expected = self.end.unwrap_or(base);
        let follows = base == expected || self.state.gone.lost_ends_at(base);
        if base < expected || !follows {
            return Err(format!("it begins at {base}, not at {expected}"));
        }
        let chunk = stored.chunk().map_err(|fault| fault.to_string())?;
        for (offset, record) in chunk.records() {
            let ingest = server_fields(&record, offset)
                .ok_or_else(|| format!("the record at {offset} lacks its offset or ingest time"))?;
            if ingest < self.last_ingest {
                return Err(format!("the ingest time falls back at {offset}"));
            }
            self.last_ingest = ingest;
        }
        if self.end.is_none() && self.report.blocks == 0 {
            self.report.head = self.report.head.max(base);
        }
        self.end = Some(block.end());
        let from = self.report.head.max(base);
        self.report.records += block.end().saturating_sub(from);
        Ok(())
    }
}

/// The ingest time of a record, when it ends as a record at `offset` should.
fn server_fields(record: &[u8], offset: Offset) -> Option<UnixNanos> {
    let at = record.len().checked_sub(SERVER_FIELDS_LEN)?;
    let (tag, rest) = record.get(at..)?.split_first()?;
    let (own, rest) = rest.split_first_chunk()?;
    let (time_tag, rest) = rest.split_first()?;
    let good = (*tag, *time_tag) == (OFFSET_TAG, INGEST_TIME_TAG);
    let good = good && u64::from_le_bytes(*own) == offset;
    let time = rest.first_chunk()?;
    good.then(|| UnixNanos::from_le_bytes(*time))
}
