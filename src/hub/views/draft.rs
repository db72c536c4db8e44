//! A message in the making: which frames go into it, then one copy of them.

use std::ops::Range;

use bytes::Bytes;

use super::{
    Origin, View,
    filter::Filter,
    index::{self, Hot},
    pick::Pick,
};
use crate::{
    hub::Feed,
    model::{Chunk, Offset, Span, UnixNanos},
    proto::{message::BatchHead, wire},
};

/// Bytes of records in one message: at most 256 KiB with its head.
pub(crate) const MAX_BYTES: usize = 255 * 1024;
/// A message that would only grow by cutting a chunk is let go when it is this full: then the
/// next one begins where a chunk does, for everybody.
const FULL_ENOUGH: usize = MAX_BYTES / 2;
/// Records passed before a filtered follower hears that it moved.
pub(crate) const MAX_PASSED: u64 = 100_000;

/// Which records are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice<'a> {
    All,
    Keys(&'a Filter),
    /// These offsets.
    Offsets(&'a Pick),
}

/// Whether more may go into a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Left,
    Full,
}

#[derive(Debug)]
pub(crate) struct Draft<'a> {
    feed: &'a Feed,
    choice: Choice<'a>,
    covers: Span,
    pieces: Vec<Piece>,
    bytes: usize,
    count: u32,
    last_ingest: Option<UnixNanos>,
}

/// Frames of one body.
#[derive(Debug)]
struct Piece {
    body: Bytes,
    runs: Vec<Range<usize>>,
}

impl<'a> Draft<'a> {
    /// An empty message that settles offsets from `from`, nothing of which is wanted before
    /// `passed`.
    pub(crate) fn new(feed: &'a Feed, choice: Choice<'a>, from: Offset, passed: Offset) -> Self {
        Self {
            feed,
            choice,
            covers: Span::new(from, passed),
            pieces: vec![],
            bytes: 0,
            count: 0,
            last_ingest: None,
        }
    }

    /// The next offset to be looked at.
    pub(crate) fn at(&self) -> Offset {
        self.covers.to
    }

    /// Nothing before `offset` is wanted.
    pub(crate) fn skip_to(&mut self, offset: Offset) {
        self.covers.to = self.covers.to.max(offset);
    }

    /// Bytes that may still go in.
    pub(crate) fn left(&self) -> usize {
        MAX_BYTES.saturating_sub(self.bytes)
    }

    /// Takes what is wanted of a chunk in memory, from `at()` on and before `limit`.
    pub(crate) fn add_hot(&mut self, hot: &Hot, limit: Offset) -> Room {
        let Choice::Keys(filter) = self.choice else {
            let part = hot.chunk.slice(Span::new(self.at(), limit));
            return self.add(&part);
        };
        let span = hot.span();
        let range =
            index::index_of(self.at(), span.from)..index::index_of(limit.min(span.to), span.from);
        let index = hot.index(self.feed);
        let body = hot.chunk.body();
        let positions = {
            let wanted = filter.wanted(self.feed, index.keys_end());
            index.positions(&body, range, &wanted)
        };
        let frames = positions.into_iter().map(|at| {
            let at = at as usize;
            (span.from + at as u64, index.frame(at))
        });
        self.pick(&body, frames, Span::new(self.at(), limit.min(span.to)))
    }

    /// Takes what is wanted of a chunk that begins at `at()`.
    pub(crate) fn add(&mut self, chunk: &Chunk) -> Room {
        let (span, choice) = (chunk.span(), self.choice);
        let body = chunk.body();
        let wants = |offset: Offset, frame: &Range<usize>| match choice {
            Choice::All => true,
            Choice::Keys(filter) => {
                let frame = body.get(frame.clone()).unwrap_or_default();
                filter.wants(wire::key_of(index::record_of(frame)))
            }
            Choice::Offsets(pick) => pick.has(offset),
        };
        if matches!(choice, Choice::All) {
            return self.add_whole(chunk);
        }
        let frames = (span.from..).zip(index::frames(&body));
        self.pick(
            &body,
            frames.filter(|(offset, frame)| wants(*offset, frame)),
            span,
        )
    }

    /// All of a chunk, or what fits of it: one record at least.
    fn add_whole(&mut self, chunk: &Chunk) -> Room {
        let whole = chunk.body_len() <= self.left();
        if !whole && self.bytes >= FULL_ENOUGH {
            return Room::Full;
        }
        let part = chunk.prefix(self.left());
        if self.count > 0 && part.body_len() > self.left() {
            return Room::Full;
        }
        let body = part.body();
        self.bytes += body.len();
        self.count = self.count.saturating_add(count(part.len()));
        self.passed(&body, part.span().to);
        let all = 0..body.len();
        let runs = std::iter::once(all).collect();
        self.pieces.push(Piece { body, runs });
        if whole && self.left() > 0 {
            Room::Left
        } else {
            Room::Full
        }
    }

    /// Takes frames of a body, as many as fit, and settles `span` or what was come through of it.
    fn pick(
        &mut self,
        body: &Bytes,
        frames: impl Iterator<Item = (Offset, Range<usize>)>,
        span: Span,
    ) -> Room {
        let mut runs: Vec<Range<usize>> = vec![];
        let (mut to, mut room) = (span.to, Room::Left);
        for (offset, frame) in frames {
            if self.count > 0 && frame.len() > self.left() {
                (to, room) = (offset, Room::Full);
                break;
            }
            self.bytes += frame.len();
            self.count = self.count.saturating_add(1);
            match runs.last_mut() {
                Some(run) if run.end == frame.start => run.end = frame.end,
                Some(_) | None => runs.push(frame),
            }
        }
        self.passed(body, to);
        if !runs.is_empty() {
            let body = body.clone();
            self.pieces.push(Piece { body, runs });
        }
        if self.covers.len() >= MAX_PASSED {
            room = Room::Full;
        }
        room
    }

    fn passed(&mut self, body: &[u8], to: Offset) {
        if to > self.covers.to {
            // Of the last record in the body: where it was cut short, a little late.
            self.last_ingest = Some(wire::ingest_time(body));
            self.covers.to = to;
        }
    }

    /// The message; `None` when nothing was passed.
    pub(crate) fn finish(self, selector: u32, origin: Origin) -> Option<View> {
        if self.covers.is_empty() {
            return None;
        }
        let head = BatchHead {
            selector,
            feed: self.feed.name().as_str(),
            epoch: self.feed.epoch(),
            covers: self.covers,
            count: self.count,
        };
        let frames = self.pieces.iter().flat_map(|piece| {
            let runs = piece.runs.iter().cloned();
            runs.map(|run| piece.body.get(run).unwrap_or_default())
        });
        let message = head.around(self.bytes, frames);
        Some(View {
            covers: self.covers,
            count: self.count,
            last_ingest: self.last_ingest,
            origin,
            message,
        })
    }
}

fn count(records: usize) -> u32 {
    u32::try_from(records).unwrap_or(u32::MAX)
}
