//! Where each record of a chunk lies and whose it is, so that a filter is a matter of numbers:
//! nothing is decoded, and what is not wanted is passed at about a nanosecond a record.

use std::{
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use super::filter::{Filter, Wanted};
use crate::{
    hub::{Feed, keys::KeyId},
    model::{Chunk, FRAME_TAG, Offset, Span},
    proto::wire,
    trace::Source,
};

/// A record whose key the feed does not know (any more): filters look at its name.
pub(crate) const UNKNOWN_KEY: KeyId = KeyId::MAX;
/// So many filters pass all records before it pays to sort them by key.
const SCANS_BEFORE_DIRECTORY: u32 = 8;
/// A filter of fewer keys than this share of a chunk's records is looked up in the directory.
const FEW: usize = 16;
/// Keys looked up under one lock of the feed's keys.
const LOOK_UP: usize = 512;

/// A chunk in memory, with what is worked out of it when a filter first asks.
#[derive(Debug)]
pub(crate) struct Hot {
    pub chunk: Chunk,
    /// As the committer numbered them, where it did.
    given: Option<Arc<[KeyId]>>,
    /// The calls it came with that are traced: only here, never on disk.
    sources: Box<[Arc<Source>]>,
    index: OnceLock<Index>,
}

/// The records of a chunk by position.
#[derive(Debug)]
pub(crate) struct Index {
    /// Where each frame starts; one longer than the number of records.
    starts: Box<[u32]>,
    keys: Arc<[KeyId]>,
    /// Above every known key.
    keys_end: KeyId,
    /// Positions sorted by key, then position.
    directory: OnceLock<Box<[u32]>>,
    scans: AtomicU32,
}

impl Hot {
    pub(crate) fn new(chunk: Chunk, keys: Option<Arc<[KeyId]>>) -> Self {
        let given = keys.filter(|keys| keys.len() == chunk.len());
        Self {
            chunk,
            given,
            sources: Box::default(),
            index: OnceLock::new(),
        }
    }

    /// With the calls it came with.
    pub(crate) fn from(mut self, sources: &[Arc<Source>]) -> Self {
        self.sources = sources.into();
        self
    }

    pub(crate) fn sources(&self) -> &[Arc<Source>] {
        &self.sources
    }

    pub(crate) fn span(&self) -> Span {
        self.chunk.span()
    }

    /// Hands out the wanted records of `span`.
    pub(crate) fn each_wanted<E>(
        &self,
        feed: &Feed,
        filter: Option<&Filter>,
        span: Span,
        mut each: impl FnMut(Offset, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(filter) = filter else {
            let part = self.chunk.slice(span);
            let body = part.body();
            let mut all = (part.span().from..).zip(frames(&body));
            return all.try_for_each(|(offset, frame)| {
                each(offset, record_of(body.get(frame).unwrap_or_default()))
            });
        };
        let (body, base, index) = (self.chunk.body(), self.span().from, self.index(feed));
        let range = index_of(span.from, base)..index_of(span.to.min(self.span().to), base);
        let positions = {
            let wanted = filter.wanted(feed, index.keys_end());
            index.positions(&body, range, &wanted)
        };
        positions.into_iter().try_for_each(|at| {
            let frame = body.get(index.frame(at as usize)).unwrap_or_default();
            each(base + Offset::from(at), record_of(frame))
        })
    }

    pub(crate) fn index(&self, feed: &Feed) -> &Index {
        self.index.get_or_init(|| {
            let body = self.chunk.body();
            let keys = self.given.clone();
            Index::new(&body, keys.unwrap_or_else(|| look_up(&body, feed)))
        })
    }
}

impl Index {
    fn new(body: &[u8], keys: Arc<[KeyId]>) -> Self {
        let starts = frames(body).map(|frame| position(frame.start));
        let starts = starts.chain([position(body.len())]).collect();
        let known = keys.iter().filter(|key| **key != UNKNOWN_KEY);
        Self {
            starts,
            keys_end: known.max().map_or(0, |key| key + 1),
            keys,
            directory: OnceLock::new(),
            scans: AtomicU32::new(0),
        }
    }

    /// Numbers below this are in it.
    pub(super) fn keys_end(&self) -> KeyId {
        self.keys_end
    }

    /// Where the frame of the record at `position` lies in the body.
    pub(super) fn frame(&self, position: usize) -> Range<usize> {
        let start = |i: usize| self.starts.get(i).map_or(0, |start| *start as usize);
        start(position)..start(position + 1)
    }

    /// The positions in `range` of wanted records, rising.
    pub(super) fn positions(&self, body: &[u8], range: Range<usize>, wanted: &Wanted) -> Vec<u32> {
        if let Some(few) = wanted.few().filter(|few| few.len() * FEW <= range.len()) {
            let scanned = self.scans.fetch_add(1, Relaxed);
            if scanned >= SCANS_BEFORE_DIRECTORY || self.directory.get().is_some() {
                return self.looked_up(body, range, few, wanted);
            }
        }
        let keys = self.keys.get(range.clone()).unwrap_or_default();
        let all = (position(range.start)..).zip(keys);
        let wants = |(at, key): &(u32, &KeyId)| match **key {
            UNKNOWN_KEY => self.wants_by_name(body, *at, wanted),
            key => wanted.has(key),
        };
        all.filter(wants).map(|(at, _)| at).collect()
    }

    fn looked_up(
        &self,
        body: &[u8],
        range: Range<usize>,
        few: &[KeyId],
        wanted: &Wanted,
    ) -> Vec<u32> {
        let directory = self.directory();
        let range = position(range.start)..position(range.end);
        let mut found: Vec<u32> = vec![];
        for key in few {
            let of_key = self.of_key(directory, *key).iter();
            found.extend(of_key.filter(|at| range.contains(at)));
        }
        let unknown = self.of_key(directory, UNKNOWN_KEY).iter();
        let unknown = unknown.filter(|at| range.contains(at));
        found.extend(unknown.filter(|at| self.wants_by_name(body, **at, wanted)));
        found.sort_unstable();
        found
    }

    fn directory(&self) -> &[u32] {
        self.directory.get_or_init(|| {
            let mut all: Vec<u32> = (0..position(self.keys.len())).collect();
            all.sort_unstable_by_key(|at| (self.key(*at), *at));
            all.into()
        })
    }

    fn of_key<'a>(&self, directory: &'a [u32], key: KeyId) -> &'a [u32] {
        let from = directory.partition_point(|at| self.key(*at) < key);
        let rest = directory.get(from..).unwrap_or_default();
        let len = rest.partition_point(|at| self.key(*at) == key);
        rest.get(..len).unwrap_or_default()
    }

    fn key(&self, at: u32) -> KeyId {
        self.keys.get(at as usize).copied().unwrap_or(UNKNOWN_KEY)
    }

    fn wants_by_name(&self, body: &[u8], at: u32, wanted: &Wanted) -> bool {
        let frame = body.get(self.frame(at as usize)).unwrap_or_default();
        wanted.has_name(wire::key_of(record_of(frame)))
    }
}

/// Numbers the keys of a chunk that came without.
fn look_up(body: &[u8], feed: &Feed) -> Arc<[KeyId]> {
    let names = frames(body).map(|frame| {
        let frame = body.get(frame).unwrap_or_default();
        wire::key_of(record_of(frame))
    });
    let names: Vec<&str> = names.collect();
    let mut keys = Vec::with_capacity(names.len());
    for part in names.chunks(LOOK_UP) {
        let known = feed.key_ids().reading();
        let ids = part.iter().map(|name| known.get(name));
        keys.extend(ids.map(|id| id.unwrap_or(UNKNOWN_KEY)));
    }
    keys.into()
}

/// Where each frame of a body lies.
pub(super) fn frames(body: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let frame = body.get(at..).filter(|rest| !rest.is_empty())?;
        let len = frame_len(frame);
        let range = at..(at + len).min(body.len());
        at = range.end;
        Some(range)
    })
}

/// A frame's record.
pub(super) fn record_of(frame: &[u8]) -> &[u8] {
    let (record_len, header_len) = header(frame);
    let record = frame.get(header_len..header_len + record_len);
    record.unwrap_or_default()
}

/// Bytes of the frame that `rest` begins with; all of it when these bytes are no frame.
fn frame_len(rest: &[u8]) -> usize {
    if rest.first() != Some(&FRAME_TAG) {
        return rest.len();
    }
    let (record_len, header_len) = header(rest);
    header_len + record_len
}

/// Length of the record and of what is before it.
fn header(frame: &[u8]) -> (usize, usize) {
    let mut len = 0_usize;
    for (i, byte) in frame.iter().skip(1).take(4).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return (len, i + 2);
        }
    }
    (0, frame.len())
}

fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// The position of an offset in a chunk that begins at `base`.
pub(super) fn index_of(offset: Offset, base: Offset) -> usize {
    usize::try_from(offset.saturating_sub(base)).unwrap_or(usize::MAX)
}
