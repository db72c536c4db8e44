//! Counting gRPC messages in a stream of bytes, without looking into them.

/// A byte of flags and four of length.
const HEAD: usize = 5;

/// Where in the stream of messages it is.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// Bytes of the head that were seen.
    head: usize,
    /// The length, as far as it was seen.
    len: u32,
    /// What is left of the message.
    left: u32,
}

impl Messages {
    /// Goes on by `bytes`. Returns how many messages ended in them.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) -> u64 {
        let mut ended = 0;
        while !bytes.is_empty() || (self.head == HEAD && self.left == 0) {
            if self.head < HEAD {
                let Some((byte, rest)) = bytes.split_first() else {
                    break;
                };
                if self.head > 0 {
                    self.len = self.len << 8 | u32::from(*byte);
                }
                self.head += 1;
                self.left = self.len;
                bytes = rest;
                continue;
            }
            let taken = bytes.len().min(self.left as usize);
            bytes = bytes.get(taken..).unwrap_or_default();
            self.left -= u32::try_from(taken).unwrap_or(self.left);
            if self.left == 0 {
                self.head = 0;
                ended += 1;
            }
        }
        ended
    }

    /// Bytes of the present message that have come in; 0 between messages.
    pub(super) fn begun(&self) -> u32 {
        if self.head == HEAD {
            self.len - self.left
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_are_counted_however_they_are_cut(
            lens in prop::collection::vec(0_usize..600, 0..20),
            cuts in prop::collection::vec(1_usize..300, 1..50),
        ) {
            let mut bytes = vec![];
            for len in &lens {
                bytes.push(0);
                bytes.extend(u32::try_from(*len).unwrap().to_be_bytes());
                bytes.extend(std::iter::repeat_n(7, *len));
            }
            // What of a message is there before each byte.
            let begun = lens.iter().flat_map(|len| [0; HEAD].into_iter().chain(0..*len));
            let begun: Vec<_> = begun.chain([0]).collect();
            let mut messages = Messages::default();
            let (mut ended, mut at, mut cuts) = (0, 0, cuts.iter().cycle());
            while at < bytes.len() {
                let to = bytes.len().min(at + cuts.next().unwrap());
                ended += messages.advance(&bytes[at..to]);
                prop_assert_eq!(messages.begun() as usize, begun[to]);
                at = to;
            }
            prop_assert_eq!(ended, lens.len() as u64);
        }
    }
}
