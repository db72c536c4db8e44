//! The blocks that still grow, and the notes that make their growth durable: what many slow feeds
//! add to their tail blocks goes into one note per flush, and into the slots later.
//!
//! ```text
//! note   crc 4 · for each block: slot 14 · kept 4 · head 2 · added 4 | head | added     little endian
//! ```
//! A block is its head (header and marks, written anew each time), the first `kept` bytes of its
//! body as they were, and what was added. A note counts for a slot only while it is newer than the
//! slot's object. Sum of notes: bounded, so that opening does not take longer with the years.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, Bytes};

use crate::model::FeedId;

use super::{
    format::{Growing, growing},
    keys::SlotKey,
};

/// A block goes into its slot when it grew by this much since it was last there.
const LARGE: usize = 32 << 10;
/// Blocks are folded into their slots, some with each flush, when the notes are larger than half
/// of this, and all of them at once at this.
const LIMIT: u64 = 48 << 20;
/// A note counts as at least this much: opening reads each.
const NOTE_BYTES: u64 = 1 << 10;
/// Of the growing blocks, one in so many is folded with a flush when the notes are at their limit.
const PACE: u64 = 8;
const CRC: usize = 4;

/// A block of which notes hold something newer than its slot.
#[derive(Debug)]
struct Tail {
    block: Bytes,
    /// Bytes added since it was last in its slot.
    added: usize,
    /// The notes that hold parts of it, oldest first.
    notes: Vec<u64>,
}

#[derive(Debug)]
struct Note {
    bytes: u64,
    /// Blocks that need it.
    live: usize,
}

/// The newest block of a ring that is in its slot as it is.
#[derive(Debug)]
struct Settled {
    slot: u64,
    is: Growing,
}

#[derive(Debug, Default)]
pub(super) struct Tails {
    growing: BTreeMap<SlotKey, Tail>,
    settled: BTreeMap<(FeedId, u16), Settled>,
    notes: BTreeMap<u64, Note>,
    bytes: u64,
}

/// What one flush does to the blocks staged.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Blocks that go into their slots.
    pub(super) whole: Vec<(SlotKey, Bytes)>,
    /// The note, if there is one.
    pub(super) note: Option<Vec<u8>>,
    /// Notes that nobody needs any more.
    pub(super) spent: Vec<u64>,
    noted: Vec<(SlotKey, Bytes, usize)>,
    removed: Vec<SlotKey>,
}

impl Tails {
    /// The block in `slot`, when notes hold something of it.
    pub(super) fn get(&self, slot: &SlotKey) -> Option<&Bytes> {
        self.growing.get(slot).map(|tail| &tail.block)
    }

    /// What to do with the staged blocks; `None` stands for one that is removed.
    pub(super) fn plan<'a>(
        &self,
        staged: impl Iterator<Item = (SlotKey, &'a Option<Bytes>)> + Clone,
    ) -> Plan {
        let mut plan = Plan::default();
        let mut due = self.due();
        due.extend(self.ended(staged.clone()));
        let mut note = vec![0; CRC];
        for (slot, block) in staged {
            let due = due.remove(&slot);
            let Some(block) = block else {
                plan.removed.push(slot);
                continue;
            };
            match self.growth(&slot, block).filter(|_| !due) {
                Some((kept, added)) => {
                    write_part(&mut note, &slot, block, kept);
                    plan.noted.push((slot, block.clone(), added));
                }
                None => plan.whole.push((slot, block.clone())),
            }
        }
        let due = due
            .into_iter()
            .filter_map(|slot| Some((slot, self.get(&slot)?.clone())));
        plan.whole.extend(due);
        if !plan.noted.is_empty() {
            let crc = crc32fast::hash(note.get(CRC..).unwrap_or_default());
            if let Some(place) = note.first_chunk_mut() {
                *place = crc.to_le_bytes();
            }
            plan.note = Some(note);
        }
        plan.spent = self.spent(&plan);
        plan
    }

    /// The blocks that grow no more, since their ring's next block is staged.
    fn ended<'a>(
        &self,
        staged: impl Iterator<Item = (SlotKey, &'a Option<Bytes>)>,
    ) -> Vec<SlotKey> {
        let mut newest = BTreeMap::new();
        let mut blocks = Vec::new();
        for (slot, block) in staged {
            let Some(is) = block.as_ref().and_then(|block| growing(block)) else {
                continue;
            };
            let newest = newest.entry((slot.feed, slot.generation)).or_insert(0);
            *newest = is.number.max(*newest);
            blocks.push((slot, is.number));
        }
        for (feed, generation) in newest.keys().copied() {
            let slot = |slot| SlotKey {
                feed,
                generation,
                slot,
            };
            let of_ring = self.growing.range(slot(0)..=slot(u64::MAX));
            let noted = of_ring.filter_map(|(slot, tail)| {
                let number = growing(&tail.block)?.number;
                Some((*slot, number))
            });
            blocks.extend(noted);
        }
        let ended = |(slot, number): &(SlotKey, u64)| {
            let newest = newest.get(&(slot.feed, slot.generation));
            newest.is_some_and(|newest| number < newest)
        };
        blocks.retain(ended);
        blocks.into_iter().map(|(slot, _)| slot).collect()
    }

    /// How much of `block` is durable, and how much its slot lacks then; `None` when it is better
    /// written as a whole.
    fn growth(&self, slot: &SlotKey, block: &Bytes) -> Option<(usize, usize)> {
        let is = growing(block)?;
        let body = block.get(is.head..)?;
        let (kept, before) = if let Some(tail) = self.growing.get(slot) {
            let was = growing(&tail.block).filter(|was| was.same_block(&is));
            let kept = was.and_then(|was| tail.block.get(was.head..));
            match kept.filter(|kept| body.starts_with(kept)) {
                Some(kept) => (kept.len(), tail.added),
                None => (0, 0),
            }
        } else {
            let settled = self.settled.get(&(slot.feed, slot.generation));
            let settled = settled.filter(|was| was.slot == slot.slot && was.is.same_block(&is));
            let kept = settled.map_or(0, |was| was.is.body);
            (kept, 0)
        };
        let added = before + body.len().checked_sub(kept)?;
        (added < LARGE).then_some((kept, added))
    }

    /// The blocks to fold with the next flush, those longest in notes first.
    fn due(&self) -> BTreeSet<SlotKey> {
        let half = LIMIT / 2;
        let over = self.bytes.saturating_sub(half).min(half);
        if over == 0 {
            return BTreeSet::new();
        }
        let pace = if over == half { 1 } else { PACE };
        let all = self.growing.len() as u64;
        let count = (all * over).div_ceil(half * pace);
        let mut oldest: Vec<_> = self
            .growing
            .iter()
            .map(|(slot, tail)| (tail.notes.first().copied(), *slot))
            .collect();
        oldest.sort_unstable();
        oldest.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        oldest.into_iter().map(|(_, slot)| slot).collect()
    }

    fn spent(&self, plan: &Plan) -> Vec<u64> {
        let mut left: BTreeMap<u64, usize> = self
            .notes
            .iter()
            .map(|(seq, note)| (*seq, note.live))
            .collect();
        let whole = plan.whole.iter().map(|(slot, _)| slot);
        for tail in whole
            .chain(&plan.removed)
            .filter_map(|slot| self.growing.get(slot))
        {
            for seq in &tail.notes {
                if let Some(live) = left.get_mut(seq) {
                    *live = live.saturating_sub(1);
                }
            }
        }
        left.retain(|_, live| *live == 0);
        left.into_keys().collect()
    }

    /// The flush `seq` did what was planned.
    pub(super) fn carry_out(&mut self, plan: Plan, seq: u64) {
        for (slot, block) in plan.whole {
            self.close(&slot);
            if let Some(is) = growing(&block) {
                let settled = Settled {
                    slot: slot.slot,
                    is,
                };
                self.settled.insert((slot.feed, slot.generation), settled);
            }
        }
        for slot in plan.removed {
            self.close(&slot);
            let ring = (slot.feed, slot.generation);
            if self
                .settled
                .get(&ring)
                .is_some_and(|was| was.slot == slot.slot)
            {
                self.settled.remove(&ring);
            }
        }
        for seq in plan.spent {
            if let Some(note) = self.notes.remove(&seq) {
                self.bytes -= note.bytes;
            }
        }
        if let Some(note) = plan.note {
            self.add_note(seq, note.len());
        }
        for (slot, block, added) in plan.noted {
            self.add_part(seq, slot, block, added);
        }
    }

    pub(super) fn add_note(&mut self, seq: u64, len: usize) {
        let bytes = (len as u64).max(NOTE_BYTES);
        self.bytes += bytes;
        self.notes.insert(seq, Note { bytes, live: 0 });
    }

    fn add_part(&mut self, seq: u64, slot: SlotKey, block: Bytes, added: usize) {
        if let Some(note) = self.notes.get_mut(&seq) {
            note.live += 1;
        }
        let tail = self.growing.entry(slot).or_insert_with(|| Tail {
            block: Bytes::new(),
            added,
            notes: Vec::new(),
        });
        (tail.block, tail.added) = (block, added);
        tail.notes.push(seq);
    }

    fn close(&mut self, slot: &SlotKey) {
        let Some(tail) = self.growing.remove(slot) else {
            return;
        };
        for seq in tail.notes {
            if let Some(note) = self.notes.get_mut(&seq) {
                note.live = note.live.saturating_sub(1);
            }
        }
    }

    /// Applies a part found in note `seq`, which is newer than the slot. `base` is what the slot
    /// holds. False when it does not fit on what there is.
    pub(super) fn replay(&mut self, seq: u64, part: &Part, base: Option<&Bytes>) -> bool {
        let now = self.get(&part.slot).or(base);
        let kept = match now.and_then(|block| block.get(growing(block)?.head..)) {
            Some(body) => body.get(..part.kept),
            None => (part.kept == 0).then_some(&[][..]),
        };
        let Some(kept) = kept else {
            return false;
        };
        let block = [&part.head, kept, &part.added].concat();
        let is = growing(&block);
        let in_slot = base
            .and_then(|block| growing(block))
            .filter(|was| is.is_some_and(|is| was.same_block(&is)));
        let body = block.len() - part.head.len();
        let added = body.saturating_sub(in_slot.map_or(0, |was| was.body));
        self.add_part(seq, part.slot, block.into(), added);
        true
    }
}

/// What a note holds of one block.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) slot: SlotKey,
    pub(super) kept: usize,
    head: Bytes,
    added: Bytes,
}

fn write_part(note: &mut Vec<u8>, slot: &SlotKey, block: &Bytes, kept: usize) {
    let head_len = growing(block).map_or(0, |is| is.head);
    let (head, body) = block.split_at_checked(head_len).unwrap_or_default();
    let added = body.get(kept..).unwrap_or_default();
    let number = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    note.extend_from_slice(&slot.to_bytes());
    note.extend_from_slice(&number(kept));
    note.extend_from_slice(&u16::try_from(head.len()).unwrap_or(u16::MAX).to_le_bytes());
    note.extend_from_slice(&number(added.len()));
    note.extend_from_slice(head);
    note.extend_from_slice(added);
}

/// The parts in a note; `None` when it is damaged.
pub(super) fn parts(mut note: Bytes) -> Option<Vec<Part>> {
    let crc = note.try_get_u32_le().ok()?;
    if crc != crc32fast::hash(&note) {
        return None;
    }
    let mut parts = Vec::new();
    while !note.is_empty() {
        let slot = note.get(..SlotKey::BYTES)?;
        let slot = SlotKey::from_bytes(slot)?;
        note.advance(SlotKey::BYTES);
        let kept = usize::try_from(note.try_get_u32_le().ok()?).ok()?;
        let head = usize::from(note.try_get_u16_le().ok()?);
        let added = usize::try_from(note.try_get_u32_le().ok()?).ok()?;
        if note.len() < head + added {
            return None;
        }
        parts.push(Part {
            slot,
            kept,
            head: note.split_to(head),
            added: note.split_to(added),
        });
    }
    Some(parts)
}
