//! The key of a slot: feed, layout generation, slot; big endian, so that a ring's slots lie
//! together and in order.

use crate::model::FeedId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SlotKey {
    pub feed: FeedId,
    pub generation: u16,
    pub slot: u64,
}

impl SlotKey {
    pub(super) const BYTES: usize = 14;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut key = [0; Self::BYTES];
        let (feed, rest) = key.split_at_mut(4);
        let (generation, slot) = rest.split_at_mut(2);
        feed.copy_from_slice(&self.feed.0.to_be_bytes());
        generation.copy_from_slice(&self.generation.to_be_bytes());
        slot.copy_from_slice(&self.slot.to_be_bytes());
        key
    }

    pub(super) fn from_bytes(key: &[u8]) -> Option<Self> {
        let (feed, rest) = key.split_first_chunk()?;
        let (generation, rest) = rest.split_first_chunk()?;
        let (slot, rest) = rest.split_first_chunk()?;
        rest.is_empty().then(|| Self {
            feed: FeedId(u32::from_be_bytes(*feed)),
            generation: u16::from_be_bytes(*generation),
            slot: u64::from_be_bytes(*slot),
        })
    }
}

/// The key of a ring's state.
pub(super) fn state_key(feed: FeedId) -> [u8; 4] {
    feed.0.to_be_bytes()
}

pub(super) fn feed_of_state(key: &[u8]) -> Option<FeedId> {
    let bytes = key.try_into().ok()?;
    Some(FeedId(u32::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_come_back_and_sort_by_slot(feed: u32, generation: u16, slot in 0..u64::MAX) {
            let key = SlotKey { feed: FeedId(feed), generation, slot };
            prop_assert_eq!(SlotKey::from_bytes(&key.to_bytes()), Some(key));
            let next = SlotKey { slot: slot + 1, ..key };
            prop_assert!(key.to_bytes() < next.to_bytes());
            prop_assert_eq!(SlotKey::from_bytes(&key.to_bytes()[1..]), None);
            prop_assert_eq!(feed_of_state(&state_key(FeedId(feed))), Some(FeedId(feed)));
        }
    }
}
