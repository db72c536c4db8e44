//! Finding the end of a ring without reading it: slots are written in order, so the last block is
//! where the numbers fall back by one turn.

use crate::{
    model::{FeedId, Offset, Span},
    store::{
        StoreError,
        block::{Block, MAX_BLOCK_RECORDS},
    },
};

use super::{
    core::Core,
    format::{Fault, Home, Stored, decode, encode},
    index::{Entry, Index},
    ring::View,
    seam::{Seam, SlotError},
    state::{Layout, RingState},
};

/// A ring as it was found.
pub(super) struct Recovered {
    pub(super) view: View,
    /// The tail block, where it is good.
    pub(super) block: Option<Block>,
}

impl Recovered {
    pub(super) fn empty(state: RingState) -> Self {
        let next = state.layout.first;
        Self::at(state, next, None, 0)
    }

    fn at(state: RingState, next: u64, block: Option<Block>, end: Offset) -> Self {
        let tail = end.max(state.gone.tail());
        let mut index = Index::default();
        if let Some(block) = &block {
            index.insert(Entry::of(block));
        }
        let head_block = next.checked_sub(1).map_or(0, |newest| state.oldest(newest));
        let view = View {
            index,
            tail,
            next,
            settled: next,
            head_block,
            head_base: tail,
            last_ingest: block.as_ref().map(|block| block.last_ingest),
            state,
        };
        Self { view, block }
    }
}

/// The newest good block, and how many bad ones seem to follow.
pub(super) struct Found {
    pub(super) block: Option<Block>,
    pub(super) bad: u64,
}

pub(super) fn recover(
    core: &Core,
    feed: FeedId,
    mut state: RingState,
) -> Result<Recovered, StoreError> {
    let slots = Slots {
        seam: &core.seam,
        feed,
        epoch: state.epoch,
    };
    let Found { mut block, bad } = slots.newest(&state)?;
    if let Some(last) = &mut block
        && let Some(from) = last.unfinished
    {
        *last = slots.cut(&state, last, from)?;
        core.seam.flush()?;
    }
    let next = block.as_ref().map_or(state.layout.first, |b| b.number + 1) + bad;
    let end = block.as_ref().map_or(0, Block::end);
    let mut tail = end.max(state.gone.tail());
    let before = state.clone();
    let lost = bad + u64::from(std::mem::take(&mut state.shaken));
    if lost > 0 {
        // What they held was handed out: its offsets are not used again.
        let beyond = tail + lost * MAX_BLOCK_RECORDS;
        state.gone.lose(Span::new(tail, beyond));
        tail = beyond;
    }
    if let Some(ceiling) = state.reserved.take() {
        state.gone.lose(Span::new(tail, ceiling));
    }
    if state != before {
        core.put_state(feed, &state)?;
    }
    Ok(Recovered::at(state, next, block, end))
}

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Empty,
    Holds(u64),
    Bad,
}

/// The slots of one ring.
pub(super) struct Slots<'a> {
    pub(super) seam: &'a Seam,
    pub(super) feed: FeedId,
    pub(super) epoch: u64,
}

impl Slots<'_> {
    pub(super) fn newest(&self, state: &RingState) -> Result<Found, StoreError> {
        let layout = state.layout;
        if let Some(number) = self.last_number(layout)? {
            let bad = self.bad_after(layout, number)?;
            return Ok(Found {
                block: self.block(layout, number)?,
                bad,
            });
        }
        let bad = self.bad_from(layout, 0)?;
        let block = match (state.previous, layout.first.checked_sub(1)) {
            (Some(previous), Some(last)) => self.block(previous.layout, last)?,
            (Some(_) | None, _) => None,
        };
        Ok(Found { block, bad })
    }

    /// The number of the newest good block of a layout.
    fn last_number(&self, layout: Layout) -> Result<Option<u64>, StoreError> {
        let Some((anchor, Slot::Holds(number))) = self.good_from(layout, 0, layout.slots)? else {
            return Ok(None);
        };
        let turn = number - anchor;
        let (mut low, mut high) = (anchor, layout.slots);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match self.good_from(layout, middle, high)? {
                Some((slot, Slot::Holds(number))) if number == turn + slot => low = slot,
                Some(_) | None => high = middle,
            }
        }
        Ok(Some(turn + low))
    }

    /// The first slot in `from..to` that is not bad.
    fn good_from(
        &self,
        layout: Layout,
        from: u64,
        to: u64,
    ) -> Result<Option<(u64, Slot)>, StoreError> {
        for slot in from..to {
            let found = self.look(layout, slot)?;
            if found != Slot::Bad {
                return Ok(Some((slot, found)));
            }
        }
        Ok(None)
    }

    /// How many bad slots there are from `slot` on.
    fn bad_from(&self, layout: Layout, slot: u64) -> Result<u64, StoreError> {
        let mut bad = 0;
        while slot + bad < layout.slots && self.look(layout, slot + bad)? == Slot::Bad {
            bad += 1;
        }
        Ok(bad)
    }

    /// How many bad slots follow block `number`.
    fn bad_after(&self, layout: Layout, number: u64) -> Result<u64, StoreError> {
        let slot = layout.slot(number) + 1;
        if slot < layout.slots {
            return self.bad_from(layout, slot);
        }
        let bad = self.bad_from(layout, 0)?;
        Ok(bad.min(layout.slots - 1))
    }

    fn look(&self, layout: Layout, slot: u64) -> Result<Slot, StoreError> {
        match self.load(layout, layout.first + slot) {
            Ok(stored) if layout.slot(stored.head.number) == slot => {
                Ok(Slot::Holds(stored.head.number))
            }
            Ok(_) => Ok(Slot::Bad),
            Err(LoadError::Fault(Fault::Empty)) => Ok(Slot::Empty),
            Err(LoadError::Fault(Fault::Newer { found })) => Err(newer(found)),
            Err(LoadError::Fault(_)) => Ok(Slot::Bad),
            Err(LoadError::Store(e)) => Err(e),
        }
    }

    fn block(&self, layout: Layout, number: u64) -> Result<Option<Block>, StoreError> {
        match self.load(layout, number) {
            Ok(stored) => Ok(Some(stored.into_block()).filter(|b| b.number == number)),
            Err(LoadError::Fault(_)) => Ok(None),
            Err(LoadError::Store(e)) => Err(e),
        }
    }

    fn load(&self, layout: Layout, number: u64) -> Result<Stored, LoadError> {
        let home = self.home(layout);
        load(self.seam, layout, number, home)
    }

    fn home(&self, layout: Layout) -> Home {
        Home {
            feed: self.feed,
            generation: layout.generation,
            epoch: self.epoch,
        }
    }

    /// Takes an unfinished batch out of the blocks up to `last`. The last one is rewritten last:
    /// as long as it says unfinished, the cut begins anew. Returns it as it is then.
    fn cut(&self, state: &RingState, last: &Block, from: Offset) -> Result<Block, StoreError> {
        let oldest = state.oldest(last.number);
        let mut blocks = vec![last.clone()];
        while let Some(number) = blocks.last().filter(|b| b.base > from).map(|b| b.number)
            && number > oldest
        {
            match self.block(state.layout_of(number - 1), number - 1)? {
                Some(block) => blocks.push(block),
                None => break,
            }
        }
        let mut left = last.clone();
        for mut block in blocks.into_iter().rev() {
            block.truncate(from);
            let layout = state.layout_of(block.number);
            let key = layout.key(self.feed, block.number);
            let bytes = encode(&block, self.home(layout));
            self.seam.put_block(key, bytes)?;
            left = block;
        }
        Ok(left)
    }
}

/// Why a block could not be loaded.
pub(super) enum LoadError {
    Fault(Fault),
    Store(StoreError),
}

/// Reads the block in the slot of block `number`; it may hold another one of its turns.
pub(super) fn load(
    seam: &Seam,
    layout: Layout,
    number: u64,
    home: Home,
) -> Result<Stored, LoadError> {
    let key = layout.key(home.feed, number);
    let bytes = seam.get_block(&key).map_err(|e| match e {
        SlotError::Unreadable(cause) => LoadError::Fault(Fault::Unreadable(cause)),
        SlotError::Store(e) => LoadError::Store(e),
    })?;
    let bytes = bytes.ok_or(LoadError::Fault(Fault::Empty))?;
    decode(bytes, home).map_err(LoadError::Fault)
}

fn newer(found: u16) -> StoreError {
    StoreError::NewerFormat {
        what: "a block".to_owned(),
        found: found.into(),
        known: super::format::FORMAT.into(),
    }
}
