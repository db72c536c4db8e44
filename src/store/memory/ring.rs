//! One ring in memory: whole blocks in a queue.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use crate::{
    model::{Bounds, Chunk, Frames, Offset, Span, UnixNanos, Visibility},
    store::{
        Clock, Read, RingSpec, StoreError, StoredBlock,
        block::{Block, Geometry, SLOT_BYTES},
        gone::{Gone, RESERVE_AHEAD},
    },
};

#[derive(Clone, Debug)]
pub(super) struct RingData {
    pub(super) max_bytes: u64,
    visibility: Visibility,
    /// Offsets below it may have been seen: `Some` while an `Immediate` ring is in use.
    pub(super) reserved: Option<Offset>,
    geometry: Geometry,
    /// From the block that holds the head to the tail block.
    blocks: VecDeque<Arc<Block>>,
    gone: Gone,
    /// The first block that was not there at the last flush.
    settled: u64,
    /// The first block after the last resize.
    switch: u64,
    changed: bool,
}

impl RingData {
    pub(super) fn new(spec: RingSpec) -> Result<Self, StoreError> {
        Ok(Self {
            max_bytes: spec.max_bytes,
            visibility: spec.visibility,
            reserved: None,
            geometry: Geometry::of(spec.max_bytes)?,
            blocks: VecDeque::new(),
            gone: Gone::default(),
            settled: 0,
            switch: 0,
            changed: true,
        })
    }

    pub(super) fn tail(&self) -> Offset {
        let end = self.blocks.back().map_or(0, |block| block.end());
        end.max(self.gone.tail())
    }

    fn head(&self) -> Offset {
        let tail = self.tail();
        let base = self.blocks.front().map_or(tail, |block| block.base);
        base.max(self.gone.head()).min(tail)
    }

    pub(super) fn bounds(&self) -> Bounds {
        let (head, tail) = (self.head(), self.tail());
        let blocks = if head == tail { 0 } else { self.blocks.len() };
        Bounds {
            head,
            tail,
            bytes: blocks as u64 * SLOT_BYTES,
        }
    }

    pub(super) fn last_ingest_time(&self) -> Option<UnixNanos> {
        self.blocks.back().map(|block| block.last_ingest)
    }

    pub(super) fn set_visibility(&mut self, visibility: Visibility) {
        self.visibility = visibility;
        if visibility == Visibility::Durable && self.reserved.take().is_some() {
            self.changed = true;
        }
    }

    /// Reserves offsets up to `to`; true when that must become durable first.
    pub(super) fn reserve(&mut self, to: Offset) -> bool {
        let needed =
            self.visibility == Visibility::Immediate && self.reserved.is_none_or(|r| r < to);
        if needed {
            self.reserved = Some(to + RESERVE_AHEAD);
            self.changed = true;
        }
        needed
    }

    /// The block that the next records go into.
    pub(super) fn open_block(&self, ingest_time: UnixNanos) -> Block {
        match self.blocks.back() {
            Some(last) if last.number < self.switch => last.next(),
            Some(last) if last.end() < self.tail() => Block {
                base: self.tail(),
                ..last.next()
            },
            Some(last) => Block::clone(last),
            None => Block::new(self.switch, self.tail(), ingest_time, UnixNanos::MIN),
        }
    }

    pub(super) fn must_flush_before(&self, number: u64) -> bool {
        number >= self.settled + self.geometry.spare
    }

    pub(super) fn store(&mut self, block: Block) {
        self.changed = true;
        if self.blocks.back().is_some_and(|b| b.number == block.number) {
            self.blocks.pop_back();
        }
        self.blocks.push_back(Arc::new(block));
    }

    pub(super) fn is_unsettled(&self) -> bool {
        self.changed
    }

    /// What was staged is durable now: evicts what is no longer kept.
    pub(super) fn settle(&mut self) {
        self.changed = false;
        if let Some(last) = self.blocks.back() {
            self.settled = last.number + 1;
            let oldest = self.geometry.oldest(last.number);
            self.evict(|block| block.number < oldest);
        }
    }

    /// Drops leading blocks, never the last one.
    fn evict(&mut self, gone: impl Fn(&Block) -> bool) {
        while self.blocks.len() > 1 && self.blocks.front().is_some_and(|b| gone(b)) {
            self.blocks.pop_front();
        }
    }

    /// What a restart does: cuts an unfinished batch, and loses what had been reserved.
    pub(super) fn recover(&mut self) {
        if let Some(from) = self.blocks.back().and_then(|block| block.unfinished) {
            for block in &mut self.blocks {
                if from < block.end() {
                    Arc::make_mut(block).truncate(from);
                }
            }
        }
        if let Some(ceiling) = self.reserved.take() {
            self.gone.lose(Span::new(self.tail(), ceiling));
        }
    }

    /// The last block that begins at or before `offset`.
    fn block_at(&self, offset: Offset) -> Option<&Arc<Block>> {
        let after = self.blocks.partition_point(|b| b.base <= offset);
        self.blocks.get(after.checked_sub(1)?)
    }

    pub(super) fn read(&self, from: Offset, max_bytes: usize) -> Read {
        let Bounds { head, tail, .. } = self.bounds();
        if from >= tail {
            return Read::AtTail;
        }
        if from < head {
            return Read::Gap(self.gone.below(from, head));
        }
        if let Some(gap) = self.gone.lost_at(from) {
            return Read::Gap(gap);
        }
        let block = self.block_at(from).map(|block| chunk(block));
        let records = block.map(|c| c.slice(Span::new(from, tail)).prefix(max_bytes));
        records.map_or(Read::AtTail, Read::Records)
    }

    pub(super) fn blocks_from(&self, from: Offset) -> Vec<StoredBlock> {
        self.blocks
            .iter()
            .filter(|block| block.end() > from.max(self.head()) && block.count > 0)
            .map(|block| StoredBlock {
                records: chunk(block),
                marks: block.marks.clone(),
            })
            .collect()
    }

    pub(super) fn seek(&self, clock: Clock, time: UnixNanos) -> Offset {
        let reaches = |block: &&Arc<Block>| match clock {
            Clock::Event => block.max_event >= time,
            Clock::Ingest => block.last_ingest >= time,
        };
        let head = self.head();
        let mut readable = (self.blocks.iter()).filter(|b| b.end() > head && b.count > 0);
        let found = readable.find(reaches);
        found.map_or_else(|| self.tail(), |block| block.base.max(head))
    }

    pub(super) fn trim(&mut self, before: Offset) {
        self.gone.trimmed = self.gone.trimmed.max(before.min(self.tail()));
        self.pass_head();
    }

    pub(super) fn expire(&mut self, time: UnixNanos) {
        let kept = self.blocks.iter().find(|block| block.last_ingest >= time);
        let head = kept.map_or_else(|| self.tail(), |block| block.base);
        self.gone.expired = self.gone.expired.max(head);
        self.pass_head();
    }

    fn pass_head(&mut self) {
        self.changed = true;
        let head = self.gone.head();
        while self.blocks.get(1).is_some_and(|next| next.base <= head) {
            self.blocks.pop_front();
        }
    }

    pub(super) fn resize(&mut self, max_bytes: u64) -> Result<(), StoreError> {
        let geometry = Geometry::of(max_bytes)?;
        if self.blocks.front().is_some_and(|b| b.number < self.switch) {
            return Err(StoreError::Resizing);
        }
        self.changed = true;
        self.max_bytes = max_bytes;
        self.geometry = geometry;
        if let Some(last) = self.blocks.back() {
            let oldest = geometry.oldest(last.number);
            self.switch = last.number + 1;
            self.evict(|block| block.number < oldest);
        }
        Ok(())
    }
}

fn chunk(block: &Block) -> Chunk {
    let body = Bytes::copy_from_slice(&block.body);
    // The body was built from frames: it parses.
    Chunk::parse(block.base, body).unwrap_or_else(|| Frames::default().seal(block.base, 0).0)
}
