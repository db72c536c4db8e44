//! Writing: an append is cut into blocks, each goes into its slot, the last one grows there.

use crate::{
    model::{Chunk, Offset, UnixNanos, Visibility},
    store::{
        Append, StoreError,
        block::{Block, Packed, Packer},
        gone::RESERVE_AHEAD,
    },
};

use super::{
    format::encode,
    index::Entry,
    ring::{SledRing, Writer},
};

impl SledRing {
    pub(super) fn append_records(&self, append: Append<'_>) -> Result<Chunk, StoreError> {
        append.check()?;
        let mut writer = self.writer.lock();
        writer.check()?;
        let tail = self.view.lock().tail;
        let Append {
            records,
            ingest_time,
            marks,
            unit,
        } = append;
        let (chunk, event_times) = records.seal(tail, ingest_time);
        if chunk.is_empty() {
            return Ok(chunk);
        }
        self.core.admit(chunk.body_len())?;
        self.reserve(&writer, chunk.span().to)?;
        let mut block = self.open_block(&mut writer, ingest_time);
        let mut packer = Packer::new(&chunk, &event_times, marks, ingest_time, unit);
        loop {
            let packed = packer.fill(&mut block);
            self.place(&block)?;
            if packed == Packed::All {
                break;
            }
            block = block.next();
        }
        writer.block = Some(block);
        let mut view = self.view.lock();
        view.tail = chunk.span().to;
        view.last_ingest = Some(ingest_time);
        Ok(chunk)
    }

    /// The block that the next records go into: the tail block, or a new one after a resize, a
    /// loss or a bad tail block.
    fn open_block(&self, writer: &mut Writer, ingest_time: UnixNanos) -> Block {
        let view = self.view.lock();
        let number = view.next.max(view.state.layout.first);
        let group = writer.block.as_ref().map(|block| block.group_event);
        let grows = |block: &Block| {
            let last = block.number + 1 == number && block.number >= view.state.layout.first;
            last && block.end() == view.tail
        };
        match writer.block.take().filter(grows) {
            Some(block) => block,
            None => {
                let time = view.last_ingest.unwrap_or(ingest_time);
                Block::new(number, view.tail, time, group.unwrap_or(UnixNanos::MIN))
            }
        }
    }

    /// Stages a block in its slot.
    fn place(&self, block: &Block) -> Result<(), StoreError> {
        if self.view.lock().must_flush_before(block.number) {
            self.core.flush()?;
        }
        let (key, home) = {
            let view = self.view.lock();
            let layout = view.state.layout;
            let home = view.state.home(self.feed, layout);
            (layout.key(self.feed, block.number), home)
        };
        self.core.seam.put_block(key, encode(block, home))?;
        let mut view = self.view.lock();
        view.next = view.next.max(block.number + 1);
        view.index.insert(Entry::of(block));
        Ok(())
    }

    /// Reserves offsets up to `to`, durably, before the first of them can be seen.
    fn reserve(&self, writer: &Writer, to: Offset) -> Result<(), StoreError> {
        let reserved = self.view.lock().state.reserved;
        if writer.visibility == Visibility::Durable || reserved.is_some_and(|r| r >= to) {
            return Ok(());
        }
        self.change(|view| view.state.reserved = Some(to + RESERVE_AHEAD))?;
        self.core.flush()
    }

    pub(super) fn adopt(&self, visibility: Visibility) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        writer.visibility = visibility;
        if visibility == Visibility::Durable {
            self.release()?;
        }
        Ok(())
    }

    /// Ends the use of this ring: the next flush leaves it as after a clean stop.
    pub(super) fn end(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        writer.ended = true;
        self.release()
    }

    fn release(&self) -> Result<(), StoreError> {
        if self.view.lock().state.reserved.is_none() {
            return Ok(());
        }
        self.change(|view| view.state.reserved = None)
    }
}

impl Writer {
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.ended {
            let cause = "the ring was closed or deleted".to_owned();
            return Err(StoreError::Stopped { cause });
        }
        Ok(())
    }
}
