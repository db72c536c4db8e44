//! gRPC messages out of the pieces they arrive in. A reader that needs only the head of a message
//! never has the rest of it copied.

use anyhow::ensure;

const PREFIX_LEN: usize = 5;
/// Every head that the server writes first is in this many bytes.
const HEAD_BYTES: usize = 512;

/// What a reader says to a part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::bench) enum Need {
    /// The rest of it can be skipped.
    NoMore,
    /// It wants to see the whole.
    Whole,
}

/// Takes messages.
pub(in crate::cli::bench) trait TakeMessage {
    /// The beginning of a message of `len` bytes.
    fn part(&mut self, part: &[u8], len: usize) -> anyhow::Result<Need>;
    /// A whole message, after `part` wanted it or was not asked.
    fn whole(&mut self, message: &[u8]) -> anyhow::Result<()>;
}

/// Where a stream is within its messages.
#[derive(Debug, Default)]
pub(in crate::cli::bench) struct Messages {
    prefix: [u8; PREFIX_LEN],
    /// Bytes of the prefix that are there.
    have: usize,
    len: usize,
    /// Bytes of the message that are still to come.
    left: usize,
    /// What is kept of a message that is needed whole.
    kept: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Prefix,
    Body,
    Skip,
}

impl Messages {
    /// Takes the next bytes of the stream.
    pub(in crate::cli::bench) fn push(
        &mut self,
        mut input: &[u8],
        reader: &mut impl TakeMessage,
    ) -> anyhow::Result<()> {
        while !input.is_empty() {
            match self.state {
                State::Prefix => self.prefix(&mut input, reader)?,
                State::Body => self.body(&mut input, reader)?,
                State::Skip => {
                    let skipped = self.left.min(input.len());
                    self.take(&mut input, skipped);
                }
            }
        }
        Ok(())
    }

    fn prefix(&mut self, input: &mut &[u8], reader: &mut impl TakeMessage) -> anyhow::Result<()> {
        let wanted = (PREFIX_LEN - self.have).min(input.len());
        let (now, rest) = input.split_at(wanted);
        if let Some(place) = self.prefix.get_mut(self.have..self.have + wanted) {
            place.copy_from_slice(now);
        }
        self.have += wanted;
        *input = rest;
        if self.have == PREFIX_LEN {
            let [compressed, len @ ..] = self.prefix;
            ensure!(compressed == 0, "a response is compressed");
            self.len = usize::try_from(u32::from_be_bytes(len))?;
            self.left = self.len;
            self.have = 0;
            self.state = State::Body;
            if self.len == 0 {
                self.state = State::Prefix;
                reader.whole(&[])?;
            }
        }
        Ok(())
    }

    fn body(&mut self, input: &mut &[u8], reader: &mut impl TakeMessage) -> anyhow::Result<()> {
        let here = self.left.min(input.len());
        let (now, _) = input.split_at(here);
        if here == self.left {
            if self.kept.is_empty() {
                reader.whole(now)?;
            } else {
                self.kept.extend_from_slice(now);
                reader.whole(&self.kept)?;
                self.kept.clear();
            }
        } else {
            let fresh = self.kept.len() < HEAD_BYTES;
            let need = if self.kept.is_empty() {
                reader.part(now, self.len)?
            } else if fresh {
                self.kept.extend_from_slice(now);
                let need = reader.part(&self.kept, self.len)?;
                self.kept.truncate(self.kept.len() - here);
                need
            } else {
                Need::Whole
            };
            match need {
                Need::NoMore => {
                    self.kept.clear();
                    self.state = State::Skip;
                }
                Need::Whole => self.kept.extend_from_slice(now),
            }
        }
        self.take(input, here);
        Ok(())
    }

    fn take(&mut self, input: &mut &[u8], bytes: usize) {
        *input = input.split_at(bytes).1;
        self.left -= bytes;
        if self.left == 0 {
            self.state = State::Prefix;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Taken {
        heads_only: bool,
        whole: Vec<Vec<u8>>,
        parts: usize,
    }

    impl TakeMessage for Taken {
        fn part(&mut self, part: &[u8], len: usize) -> anyhow::Result<Need> {
            self.parts += 1;
            assert!(part.len() < len);
            Ok(if self.heads_only && part.len() >= 4 {
                Need::NoMore
            } else {
                Need::Whole
            })
        }

        fn whole(&mut self, message: &[u8]) -> anyhow::Result<()> {
            self.whole.push(message.to_vec());
            Ok(())
        }
    }

    fn stream(sizes: &[usize]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let messages: Vec<Vec<u8>> = (1..).zip(sizes).map(|(i, len)| vec![i; *len]).collect();
        let mut bytes = Vec::new();
        for message in &messages {
            bytes.push(0);
            bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
            bytes.extend(message);
        }
        (messages, bytes)
    }

    #[test]
    fn messages_are_the_same_in_whatever_pieces_they_come() {
        let (messages, bytes) = stream(&[3, 0, 700, 2_000, 1]);
        for size in [1, 2, 5, 7, 64, 600, 5_000] {
            let (mut split, mut taken) = (Messages::default(), Taken::default());
            for piece in bytes.chunks(size) {
                split.push(piece, &mut taken).unwrap();
            }
            assert_eq!(taken.whole, messages, "pieces of {size}");
        }
    }

    #[test]
    fn the_rest_of_a_message_is_skipped_when_its_head_is_enough() {
        let (_, bytes) = stream(&[700, 3, 2_000]);
        for size in [1, 2, 5, 7, 64, 600] {
            let mut taken = Taken {
                heads_only: true,
                ..Taken::default()
            };
            let mut split = Messages::default();
            for piece in bytes.chunks(size) {
                split.push(piece, &mut taken).unwrap();
            }
            assert_eq!(taken.whole, [[2; 3]], "pieces of {size}");
            assert!(split.kept.is_empty());
        }
    }
}
