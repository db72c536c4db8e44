//! How an append is cut into blocks, the unit of write, checksum and eviction, and how many blocks
//! a ring holds. Pure values, shared by the engines so that they cut and evict alike.

use crate::model::{Chunk, MarkNote, MarkRun, Offset, Span, UnixNanos};

use super::{StoreError, Unit};

/// Bytes of a block as it rests, all included: a sled slab slot is 65,536, and a value just over
/// that would waste half of the next size.
pub(super) const BLOCK_BYTES: usize = 65_000;
/// Bytes before the marks.
pub(super) const HEADER_BYTES: usize = 96;
pub(super) const MARK_BYTES: usize = 20;
/// A block is sealed early when more producers than this wrote into it.
pub(super) const MAX_MARKS: usize = 100;
/// The greatest event time is also kept over groups of this many blocks, so that a search by event
/// time reads one block of a group and not all.
pub(super) const GROUP: u64 = 64;
/// A frame is at least this long: tag, length, the server's fields.
const MIN_FRAME_BYTES: usize = 20;
/// No block holds more records than this.
pub(super) const MAX_BLOCK_RECORDS: u64 = (BLOCK_BYTES / MIN_FRAME_BYTES) as u64;

/// What a slot takes on disk.
pub(super) const SLOT_BYTES: u64 = 65_536;
pub(super) const MIN_RING_BYTES: u64 = 1 << 20;
const MAX_SPARE: u64 = 64;

/// Slots of a ring of a given size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Slots on disk.
    pub slots: u64,
    /// Slots that blocks written since the last flush may take while everything that was readable
    /// at that flush stays readable.
    pub spare: u64,
}

impl Geometry {
    pub(super) fn of(max_bytes: u64) -> Result<Self, StoreError> {
        if max_bytes < MIN_RING_BYTES {
            return Err(StoreError::RingTooSmall {
                asked: max_bytes,
                min: MIN_RING_BYTES,
            });
        }
        let slots = max_bytes / SLOT_BYTES;
        let spare = (slots / 8).clamp(2, MAX_SPARE);
        Ok(Self { slots, spare })
    }

    /// The oldest block that is kept when `tail` is the newest.
    pub(super) fn oldest(self, tail: u64) -> u64 {
        (tail + 1).saturating_sub(self.slots - self.spare)
    }
}

/// Consecutive records and how far their producers came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Rises by one from block to block of a ring.
    pub number: u64,
    pub base: Offset,
    pub count: u32,
    pub first_ingest: UnixNanos,
    pub last_ingest: UnixNanos,
    /// Not below the event time of any record in the block; `i64::MIN` in an empty one.
    pub max_event: UnixNanos,
    /// The same over this block and those before it in its group.
    pub group_event: UnixNanos,
    /// The records from here on are part of a batch that goes on in the next block.
    pub unfinished: Option<Offset>,
    pub marks: Vec<MarkNote>,
    /// The marks as they were before an unfinished batch.
    pub undo: Vec<MarkNote>,
    /// The frames of the records.
    pub body: Vec<u8>,
}

impl Block {
    /// A block without records. `group_event` is that of the block before it.
    pub(super) fn new(number: u64, base: Offset, ingest: UnixNanos, group: UnixNanos) -> Self {
        Self {
            number,
            base,
            count: 0,
            first_ingest: ingest,
            last_ingest: ingest,
            max_event: UnixNanos::MIN,
            group_event: if number.is_multiple_of(GROUP) {
                UnixNanos::MIN
            } else {
                group
            },
            unfinished: None,
            marks: Vec::new(),
            undo: Vec::new(),
            body: Vec::new(),
        }
    }

    /// The block after this one.
    pub(super) fn next(&self) -> Self {
        Self::new(
            self.number + 1,
            self.end(),
            self.last_ingest,
            self.group_event,
        )
    }

    pub(super) fn end(&self) -> Offset {
        self.base + u64::from(self.count)
    }

    /// Takes out the unfinished batch, which begins at `to`. The times of an emptied
    /// block stay, so that times keep rising from block to block.
    pub(super) fn truncate(&mut self, to: Offset) {
        self.unfinished = None;
        self.marks = std::mem::take(&mut self.undo);
        if to >= self.end() {
            return;
        }
        let Some(chunk) = Chunk::parse(self.base, std::mem::take(&mut self.body).into()) else {
            self.count = 0;
            return;
        };
        let kept = chunk.slice(Span::new(self.base, to));
        self.body = kept.body().to_vec();
        self.count = u32::try_from(kept.len()).unwrap_or(u32::MAX);
        if self.count == 0 {
            self.base = to;
            self.max_event = UnixNanos::MIN;
        }
        // A frame ends with its ingest time.
        if let Some(time) = self.body.last_chunk() {
            self.last_ingest = UnixNanos::from_le_bytes(*time);
        }
    }

    fn has_mark_of(&self, producer: u32) -> bool {
        self.marks.iter().any(|mark| mark.producer == producer)
    }

    fn note(&mut self, mark: MarkNote) {
        match self.marks.iter_mut().find(|m| m.producer == mark.producer) {
            Some(known) => *known = mark,
            None => self.marks.push(mark),
        }
    }
}

/// Whether an append is all in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packed {
    All,
    /// The block is full; go on with the next.
    More,
}

/// Cuts one append into blocks.
#[derive(Debug)]
pub(super) struct Packer<'a> {
    chunk: &'a Chunk,
    event_times: &'a [UnixNanos],
    marks: &'a [MarkRun],
    ingest_time: UnixNanos,
    unit: Unit,
    /// How many records are in blocks.
    done: usize,
}

impl<'a> Packer<'a> {
    /// `chunk` and `event_times` are what the records of the append became.
    pub(super) fn new(
        chunk: &'a Chunk,
        event_times: &'a [UnixNanos],
        marks: &'a [MarkRun],
        ingest_time: UnixNanos,
        unit: Unit,
    ) -> Self {
        Self {
            chunk,
            event_times,
            marks,
            ingest_time,
            unit,
            done: 0,
        }
    }

    /// Moves what fits into `block`.
    pub(super) fn fill(&mut self, block: &mut Block) -> Packed {
        let before = match self.unit {
            Unit::Batch => block.marks.clone(),
            Unit::Record => Vec::new(),
        };
        let end = self.fitting(block);
        let moved = end > self.done;
        if moved {
            self.take(block, end);
        }
        if end == self.chunk.len() {
            return Packed::All;
        }
        if moved && self.unit == Unit::Batch {
            block.unfinished = Some(self.chunk.span().from);
            block.undo = before;
        }
        Packed::More
    }

    /// The first record that does not fit into `block` any more; notes the marks of those before.
    fn fitting(&self, block: &mut Block) -> usize {
        let undo = match self.unit {
            Unit::Batch => block.marks.len(),
            Unit::Record => 0,
        };
        let mut size = HEADER_BYTES + block.body.len() + undo * MARK_BYTES;
        let mut at = self.done;
        while at < self.chunk.len() {
            let (end, run) = self.stretch(at);
            let new = run.is_some_and(|run| !block.has_mark_of(run.producer));
            let marks = block.marks.len() + usize::from(new);
            let room = BLOCK_BYTES.saturating_sub(size + marks * MARK_BYTES);
            let part = self.part(at, end);
            let fit = match marks <= MAX_MARKS {
                true => part.fitting(room),
                false => 0,
            };
            if fit == 0 {
                break;
            }
            if let Some(mark) = run.and_then(|run| run.at(at + fit - 1)) {
                block.note(mark);
            }
            size += self.part(at, at + fit).body_len();
            at += fit;
            if at < end {
                break;
            }
        }
        at
    }

    /// Up to where the records from `at` on are of one run, and which; or of none.
    fn stretch(&self, at: usize) -> (usize, Option<&'a MarkRun>) {
        let next = self.marks.partition_point(|run| run.records.end <= at);
        match self.marks.get(next) {
            Some(run) if run.records.start <= at => (run.records.end, Some(run)),
            Some(run) => (run.records.start, None),
            None => (self.chunk.len(), None),
        }
    }

    fn part(&self, from: usize, to: usize) -> Chunk {
        let base = self.chunk.span().from;
        self.chunk
            .slice(Span::new(base + from as u64, base + to as u64))
    }

    fn take(&mut self, block: &mut Block, end: usize) {
        let part = self.part(self.done, end);
        if block.count == 0 {
            block.base = part.span().from;
            block.first_ingest = self.ingest_time;
        }
        block.body.extend_from_slice(part.bytes());
        block.count += u32::try_from(part.len()).unwrap_or(u32::MAX);
        block.last_ingest = self.ingest_time;
        let times = self.event_times.get(self.done..end).unwrap_or_default();
        let newest = times.iter().copied().max().unwrap_or(UnixNanos::MIN);
        block.max_event = block.max_event.max(newest);
        block.group_event = block.group_event.max(block.max_event);
        self.done = end;
    }
}
