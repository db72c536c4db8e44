//! A block as it rests, all integers little endian:
//!
//! ```text
//! magic 4 · version 2 · marks 2 · crc 4 · feed 4 · generation 2 · undo 2 · count 4 · epoch 8
//! number 8 · base 8 · first ingest 8 · last ingest 8 · max event 8 · group event 8
//! unfinished 8 · reserved 8 | marks, undo: producer 4 · sequence 8 · content 8 each | frames
//! ```
//! The crc is over everything but itself.

use std::fmt;

use bytes::{Buf, Bytes};

use crate::{
    model::{Chunk, FeedId, MarkNote},
    store::block::{Block, HEADER_BYTES, MARK_BYTES},
};

pub(super) const FORMAT: u16 = 1;
const MAGIC: [u8; 4] = *b"RFbk";
/// Magic, version and the number of marks come before the checksum.
const BEFORE_CRC: usize = 8;
const AFTER_CRC: usize = 12;
const FINISHED: u64 = u64::MAX;

/// What a block says of the ring it belongs to, checked at each read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Home {
    pub feed: FeedId,
    pub generation: u16,
    pub epoch: u64,
}

/// Why a block cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Empty,
    Unreadable(String),
    NotABlock,
    Newer { found: u16 },
    Checksum,
    Elsewhere,
    Number { found: u64 },
    Frames,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("nothing is stored here"),
            Self::Unreadable(cause) => write!(f, "it cannot be read: {cause}"),
            Self::NotABlock => f.write_str("it is not a block"),
            Self::Newer { found } => write!(f, "it has the newer format {found}"),
            Self::Checksum => f.write_str("its checksum is wrong"),
            Self::Elsewhere => f.write_str("it belongs to another ring"),
            Self::Number { found } => write!(f, "it is block {found}"),
            Self::Frames => f.write_str("its records cannot be told apart"),
        }
    }
}

/// A block read back: its header, and its frames where they were read.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// Without a body.
    pub head: Block,
    pub body: Bytes,
}

impl Stored {
    pub(super) fn chunk(&self) -> Result<Chunk, Fault> {
        Chunk::parse(self.head.base, self.body.clone())
            .filter(|chunk| chunk.len() as u64 == u64::from(self.head.count))
            .ok_or(Fault::Frames)
    }

    pub(super) fn into_block(self) -> Block {
        Block {
            body: self.body.to_vec(),
            ..self.head
        }
    }
}

/// A block as far as its growth goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Growing {
    epoch: u64,
    pub number: u64,
    base: u64,
    /// Bytes before the frames, and of the frames.
    pub head: usize,
    pub body: usize,
}

impl Growing {
    /// Whether the frames of one are the beginning of the other's.
    pub(super) fn same_block(&self, other: &Self) -> bool {
        (self.epoch, self.number, self.base) == (other.epoch, other.number, other.base)
    }
}

/// What a block says of itself, unchecked; `None` when it is none.
pub(super) fn growing(block: &[u8]) -> Option<Growing> {
    let mut rest = block.strip_prefix(&MAGIC)?;
    rest.try_get_u16_le().ok()?;
    let marks = rest.try_get_u16_le().ok()?;
    rest = rest.get(AFTER_CRC - BEFORE_CRC + 4 + 2..)?;
    let undo = rest.try_get_u16_le().ok()?;
    rest.try_get_u32_le().ok()?;
    let head = HEADER_BYTES + (usize::from(marks) + usize::from(undo)) * MARK_BYTES;
    Some(Growing {
        epoch: rest.try_get_u64_le().ok()?,
        number: rest.try_get_u64_le().ok()?,
        base: rest.try_get_u64_le().ok()?,
        head,
        body: block.len().checked_sub(head)?,
    })
}

pub(super) fn encode(block: &Block, home: Home) -> Vec<u8> {
    let marks = block.marks.len() + block.undo.len();
    let mut out = Vec::with_capacity(HEADER_BYTES + marks * MARK_BYTES + block.body.len());
    let count = |marks: &[MarkNote]| u16::try_from(marks.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&count(&block.marks).to_le_bytes());
    out.extend_from_slice(&[0; AFTER_CRC - BEFORE_CRC]);
    out.extend_from_slice(&home.feed.0.to_le_bytes());
    out.extend_from_slice(&home.generation.to_le_bytes());
    out.extend_from_slice(&count(&block.undo).to_le_bytes());
    out.extend_from_slice(&block.count.to_le_bytes());
    out.extend_from_slice(&home.epoch.to_le_bytes());
    out.extend_from_slice(&block.number.to_le_bytes());
    out.extend_from_slice(&block.base.to_le_bytes());
    out.extend_from_slice(&block.first_ingest.to_le_bytes());
    out.extend_from_slice(&block.last_ingest.to_le_bytes());
    out.extend_from_slice(&block.max_event.to_le_bytes());
    out.extend_from_slice(&block.group_event.to_le_bytes());
    out.extend_from_slice(&block.unfinished.unwrap_or(FINISHED).to_le_bytes());
    out.resize(HEADER_BYTES, 0);
    for mark in block.marks.iter().chain(&block.undo) {
        out.extend_from_slice(&mark.producer.to_le_bytes());
        out.extend_from_slice(&mark.sequence.to_le_bytes());
        out.extend_from_slice(&mark.content.to_le_bytes());
    }
    out.extend_from_slice(&block.body);
    let crc = checksum(&out).to_le_bytes();
    if let Some(place) = out.get_mut(BEFORE_CRC..AFTER_CRC) {
        place.copy_from_slice(&crc);
    }
    out
}

/// Reads a block that should be `home`'s, whatever its number.
pub(super) fn decode(mut bytes: Bytes, home: Home) -> Result<Stored, Fault> {
    if bytes.len() < HEADER_BYTES || !bytes.starts_with(&MAGIC) {
        return Err(Fault::NotABlock);
    }
    let actual = checksum(&bytes);
    bytes.advance(MAGIC.len());
    let version = bytes.get_u16_le();
    if version > FORMAT {
        return Err(Fault::Newer { found: version });
    }
    let marks = usize::from(bytes.get_u16_le());
    if bytes.get_u32_le() != actual {
        return Err(Fault::Checksum);
    }
    let feed = FeedId(bytes.get_u32_le());
    let generation = bytes.get_u16_le();
    let undo = usize::from(bytes.get_u16_le());
    let count = bytes.get_u32_le();
    let epoch = bytes.get_u64_le();
    let found = Home {
        feed,
        generation,
        epoch,
    };
    if found != home {
        return Err(Fault::Elsewhere);
    }
    let mut head = Block {
        number: bytes.get_u64_le(),
        base: bytes.get_u64_le(),
        count,
        first_ingest: bytes.get_i64_le(),
        last_ingest: bytes.get_i64_le(),
        max_event: bytes.get_i64_le(),
        group_event: bytes.get_i64_le(),
        unfinished: Some(bytes.get_u64_le()).filter(|from| *from != FINISHED),
        marks: Vec::new(),
        undo: Vec::new(),
        body: Vec::new(),
    };
    bytes.advance(8);
    head.marks = take_marks(&mut bytes, marks)?;
    head.undo = take_marks(&mut bytes, undo)?;
    Ok(Stored { head, body: bytes })
}

fn take_marks(bytes: &mut Bytes, count: usize) -> Result<Vec<MarkNote>, Fault> {
    let mark = || {
        Some(MarkNote {
            producer: bytes.try_get_u32_le().ok()?,
            sequence: bytes.try_get_u64_le().ok()?,
            content: bytes.try_get_u64_le().ok()?,
        })
    };
    let marks: Option<Vec<_>> = std::iter::repeat_with(mark).take(count).collect();
    marks.ok_or(Fault::Frames)
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes.get(..BEFORE_CRC).unwrap_or_default());
    hasher.update(bytes.get(AFTER_CRC..).unwrap_or_default());
    hasher.finalize()
}
