//! What rests in sled: objects, each under a name and an id.
//!
//! ```text
//! name    kind 1 · key · flush 8 · id 8 (big endian)
//!         kind 0: the root; 1: a block; 2: a note of growing blocks; 3.. : an entry
//! object  length 4 (little endian) · content · zeros
//! content of an entry  crc 4 · kind 1 · length of the key 4 · key · value
//! ```
//! Objects are filled up to few sizes: sled keeps a file for each, and one flush costs an fsync of
//! each file it writes to.

use bytes::{Buf, Bytes};

use crate::store::Space;

use super::keys::SlotKey;

/// What sled keeps free at the end of its slots. A content of 65,529 bytes would come back with
/// its last byte wrong, so none is longer than a slot less this.
const SLOT_END: usize = 8;
/// Slots of sled that are used; beyond, each is twice the one before.
const SIZES: [usize; 8] = [256, 1_024, 4_096, 16_384, 32_768, 49_152, 65_536, 131_072];
const LENGTH: usize = 4;
const NUMBER: usize = 8;
const ROOT_KIND: u8 = 0;
const BLOCK_KIND: u8 = 1;
const NOTE_KIND: u8 = 2;
const FIRST_SPACE: u8 = 3;

/// What an object is found by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// Written when a database is made, together with the nameless object sled asks for.
    Root,
    Block(SlotKey),
    /// What blocks grew by in a flush.
    Note(u64),
    Entry(Space, Vec<u8>),
}

impl Key {
    pub(super) fn entry(space: Space, key: &[u8]) -> Self {
        Self::Entry(space, key.to_vec())
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Root => ROOT_KIND,
            Self::Block(_) => BLOCK_KIND,
            Self::Note(_) => NOTE_KIND,
            Self::Entry(space, _) => kind_of(*space),
        }
    }

    /// The name of object `id` as flush `seq` wrote it; it tells all three when it is found again.
    pub(super) fn name(&self, seq: u64, id: u64) -> Vec<u8> {
        let mut name = vec![self.kind()];
        match self {
            Self::Root => (),
            Self::Block(slot) => name.extend_from_slice(&slot.to_bytes()),
            Self::Note(seq) => name.extend_from_slice(&seq.to_be_bytes()),
            Self::Entry(_, key) => name.extend_from_slice(key),
        }
        name.extend_from_slice(&seq.to_be_bytes());
        name.extend_from_slice(&id.to_be_bytes());
        name
    }

    pub(super) fn parse(name: &[u8]) -> Option<(Self, u64, u64)> {
        let (kind, rest) = name.split_first()?;
        let (rest, id) = rest.split_last_chunk::<NUMBER>()?;
        let (key, seq) = rest.split_last_chunk::<NUMBER>()?;
        let key = match *kind {
            ROOT_KIND => key.is_empty().then_some(Self::Root)?,
            BLOCK_KIND => Self::Block(SlotKey::from_bytes(key)?),
            NOTE_KIND => Self::Note(u64::from_be_bytes(key.try_into().ok()?)),
            kind => Self::Entry(space_of(kind)?, key.to_vec()),
        };
        Some((key, u64::from_be_bytes(*seq), u64::from_be_bytes(*id)))
    }
}

fn kind_of(space: Space) -> u8 {
    FIRST_SPACE
        + match space {
            Space::Catalog => 0,
            Space::Marks => 1,
            Space::Latest => 2,
            Space::Cursors => 3,
            Space::Heads => 4,
        }
}

fn space_of(kind: u8) -> Option<Space> {
    Space::ALL.into_iter().find(|s| kind_of(*s) == kind)
}

/// `content` as an object of one of few sizes.
pub(super) fn fill_up(content: &[u8]) -> Vec<u8> {
    let len = content.len() + LENGTH + SLOT_END;
    let known = SIZES.into_iter().find(|size| *size >= len);
    fill_to(known.unwrap_or_else(|| len.next_power_of_two()), content)
}

/// `content` as an object that wastes little; for what there is one of in a flush.
pub(super) fn fill_closely(content: &[u8]) -> Vec<u8> {
    let len = (content.len() + LENGTH + SLOT_END).max(SIZES[0]);
    let octave = len.next_power_of_two() / 2;
    // These are sled's steps.
    let step = if octave < 65_536 {
        octave / 4
    } else {
        octave / 2
    };
    fill_to(len.next_multiple_of(step), content)
}

fn fill_to(size: usize, content: &[u8]) -> Vec<u8> {
    let mut object = Vec::with_capacity(size);
    object.extend_from_slice(
        &u32::try_from(content.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    object.extend_from_slice(content);
    object.resize(size - SLOT_END, 0);
    object
}

/// The content of an object; `None` when its length is wrong.
pub(super) fn content(object: Vec<u8>) -> Option<Bytes> {
    let mut object = Bytes::from(object);
    let len = usize::try_from(object.try_get_u32_le().ok()?).ok()?;
    (len <= object.len()).then(|| object.split_to(len))
}

/// An entry as it rests: sled's own log can mislead, so it says which one it is.
pub(super) fn entry_content(space: Space, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut body = vec![kind_of(space)];
    body.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes());
    body.extend_from_slice(key);
    body.extend_from_slice(value);
    let mut content = crc32fast::hash(&body).to_le_bytes().to_vec();
    content.append(&mut body);
    content
}

/// The value of an entry; `None` when it is damaged or another's.
pub(super) fn entry_value(space: Space, key: &[u8], mut content: Bytes) -> Option<Bytes> {
    let crc = content.try_get_u32_le().ok()?;
    if crc != crc32fast::hash(&content) || content.try_get_u8().ok()? != kind_of(space) {
        return None;
    }
    let len = usize::try_from(content.try_get_u32_le().ok()?).ok()?;
    if len > content.len() || content.split_to(len) != key {
        return None;
    }
    Some(content)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_tell_key_flush_and_id(space in 0..5_usize, key: Vec<u8>, slot: u64, id: u64) {
            let seq = slot ^ id;
            let feed = crate::model::FeedId(3);
            let slot = SlotKey { feed, generation: 2, slot };
            let entry = Key::Entry(Space::ALL[space], key);
            for key in [Key::Root, Key::Block(slot), Key::Note(id), entry] {
                prop_assert_eq!(Key::parse(&key.name(seq, id)), Some((key, seq, id)));
            }
        }

        #[test]
        fn entries_come_back_and_only_their_own(key: Vec<u8>, value: Vec<u8>, at: usize) {
            let content = Bytes::from(entry_content(Space::Marks, &key, &value));
            let back = entry_value(Space::Marks, &key, content.clone());
            prop_assert_eq!(back.as_deref(), Some(&value[..]));
            prop_assert_eq!(entry_value(Space::Heads, &key, content.clone()), None);
            let other = [&key[..], b"x"].concat();
            prop_assert_eq!(entry_value(Space::Marks, &other, content.clone()), None);
            let mut bad = content.to_vec();
            let at = at % bad.len();
            bad[at] ^= 1;
            prop_assert_eq!(entry_value(Space::Marks, &key, bad.into()), None);
        }
    }

    #[test]
    fn objects_come_in_few_sizes_and_come_back() {
        let mut sizes = std::collections::BTreeSet::new();
        for len in (0..3_000).chain(65_000..66_000).chain([400_000]) {
            let bytes: Vec<u8> = (0..=255).cycle().take(len).collect();
            let (object, close) = (fill_up(&bytes), fill_closely(&bytes));
            sizes.insert(object.len() + SLOT_END);
            assert!(close.len() <= object.len().max(len * 3 / 2));
            assert!(close.len() != 65_529 && object.len() != 65_529);
            assert_eq!(content(object).unwrap(), bytes);
            assert_eq!(content(close).unwrap(), bytes);
        }
        let sizes: Vec<_> = sizes.into_iter().collect();
        assert_eq!(sizes, [256, 1_024, 4_096, 65_536, 131_072, 524_288]);
        assert_eq!(content(vec![9, 0, 0, 0, 1]), None);
        assert_eq!(content(vec![1]), None);
    }
}
