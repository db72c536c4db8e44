//! What a session sends: as a message of the generated code, or as the bytes on the wire. What is
//! shared with other subscribers is not copied: the frame before it ends where it begins.

use bytes::{BufMut as _, Bytes};
use prost::{Message as _, encoding::encode_varint};
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::{
    proto::{
        message::{MIN_MESSAGE_BYTES, PREFIX_BYTES},
        v1::{self, session_response::Event},
    },
    rpc::subscribe::{Happening, Outgoing},
};

/// A smaller response is copied: a second frame, and the padding of the first, would cost more.
const MIN_SHARED_BYTES: usize = 1_024;
/// Fills the frame before a shared message up to 256 bytes: five of the prefix, one and two of the
/// padding's tag and length, one and at least two of the response's.
const PADDING_BEFORE_SHARED: usize = MIN_MESSAGE_BYTES - PREFIX_BYTES - 6;
const RESPONSE_TAG: u8 = 2 << 3 | 2;
const PADDING_TAG: u8 = 14 << 3 | 2;

static ZEROS: [u8; MIN_MESSAGE_BYTES] = [0; MIN_MESSAGE_BYTES];

#[derive(Debug)]
pub(in crate::rpc) enum Said {
    Answer(v1::SessionAnswer),
    Ended(v1::SelectorEnded),
    /// Of a selector.
    Response(Outgoing),
}

impl Said {
    /// `None`: nothing is said of it.
    pub(super) fn of(happening: Happening) -> Option<Self> {
        match happening {
            Happening::Response(response) => Some(Self::Response(response)),
            Happening::Ended(id, why) => Some(Self::ended(id, why.as_deref())),
            // Of a Subscribe only.
            Happening::Over => None,
        }
    }

    /// Answers a command.
    pub(super) fn answer(request_id: u64, refused: Option<&Status>) -> Self {
        let (reason, message) = refused.map(told).unwrap_or_default();
        Self::Answer(v1::SessionAnswer {
            request_id,
            reason,
            message,
        })
    }

    /// Tells of a selector's end.
    pub(super) fn ended(selector_id: u32, why: Option<&Status>) -> Self {
        let (reason, message) = why.map(told).unwrap_or_default();
        Self::Ended(v1::SelectorEnded {
            selector_id,
            reason,
            message,
        })
    }

    /// The response as the proto has it: what `pieces` must say as well.
    pub(in crate::rpc) fn response(self) -> v1::SessionResponse {
        let (event, padding) = match self {
            Self::Answer(answer) => (Event::Answer(answer), None),
            Self::Ended(ended) => (Event::Ended(ended), None),
            Self::Response(outgoing) => {
                let response = outgoing.response();
                let padding = padding_before(response.encoded_len());
                (Event::Response(response), Some(padding))
            }
        };
        let mut response = v1::SessionResponse {
            event: Some(event),
            padding: Bytes::new(),
        };
        let fill = || MIN_MESSAGE_BYTES.saturating_sub(response.encoded_len());
        response.padding = zeros(padding.unwrap_or_else(fill));
        response
    }

    /// The whole gRPC message, its prefix included, in one piece or two.
    pub(super) fn pieces(self) -> (Bytes, Option<Bytes>) {
        let Self::Response(outgoing) = self else {
            return (whole(&self.response()), None);
        };
        let message = outgoing.message();
        let shared = message.slice(PREFIX_BYTES.min(message.len())..);
        let padding = padding_before(shared.len());
        let mut head = Vec::with_capacity(2 * MIN_MESSAGE_BYTES + MIN_SHARED_BYTES);
        if padding > 0 {
            head.push(PADDING_TAG);
            encode_varint(padding as u64, &mut head);
            head.extend_from_slice(&zeros(padding));
        }
        head.push(RESPONSE_TAG);
        encode_varint(shared.len() as u64, &mut head);
        let len = head.len() + shared.len();
        if padding > 0 {
            (prefixed(len, &head, &[]), Some(shared))
        } else {
            (prefixed(len, &head, &shared), None)
        }
    }
}

/// Zeros before a response of so many bytes; none: it is copied.
fn padding_before(response: usize) -> usize {
    if response < MIN_SHARED_BYTES {
        0
    } else {
        PADDING_BEFORE_SHARED
    }
}

/// The stable reason and the message of a status.
fn told(status: &Status) -> (String, String) {
    let info = status.get_details_error_info();
    let reason = info.map_or_else(|| "INTERNAL".into(), |info| info.reason);
    (reason, status.message().to_owned())
}

fn whole(response: &v1::SessionResponse) -> Bytes {
    let response = response.encode_to_vec();
    prefixed(response.len(), &response, &[])
}

/// A message of `len` bytes, as far as it is here.
fn prefixed(len: usize, first: &[u8], second: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(PREFIX_BYTES + first.len() + second.len());
    out.put_u8(0);
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    out.extend_from_slice(first);
    out.extend_from_slice(second);
    out.into()
}

fn zeros(count: usize) -> Bytes {
    Bytes::from_static(ZEROS.get(..count).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::message;

    /// A response of some view that takes about so many bytes.
    fn view(bytes: usize) -> (Outgoing, Bytes) {
        let snapshot = v1::SnapshotBatch {
            records: vec![vec![7; bytes].into()],
            ..v1::SnapshotBatch::default()
        };
        let event = v1::subscribe_response::Event::Snapshot(snapshot);
        let message = message::encode(v1::SubscribeResponse {
            selector: 3,
            event: Some(event),
            padding: Bytes::new(),
        });
        (Outgoing::Whole(message.clone()), message)
    }

    #[test]
    fn pieces_say_what_the_message_says_in_frames_that_are_large_enough() {
        for bytes in [0, 1, 200, 800, 990, 1_024, 3_000, 20_000, 300_000] {
            let (first, second) = Said::Response(view(bytes).0).pieces();
            let response = Said::Response(view(bytes).0).response();
            let all = [&first[..], second.as_deref().unwrap_or_default()].concat();
            let (prefix, body) = all.split_at(PREFIX_BYTES);
            assert_eq!(prefix[0], 0);
            let len = u32::from_be_bytes(prefix[1..].try_into().unwrap());
            assert_eq!(len as usize, body.len(), "{bytes}");
            assert_eq!(v1::SessionResponse::decode(body).unwrap(), response);
            for piece in [Some(&first), second.as_ref()].into_iter().flatten() {
                assert!(
                    piece.len() >= MIN_MESSAGE_BYTES,
                    "{} of {bytes}",
                    piece.len()
                );
            }
            assert_eq!(second.is_some(), bytes >= 1_024, "{bytes}");
        }
    }

    #[test]
    fn what_is_shared_is_not_copied() {
        let (outgoing, message) = view(5_000);
        let (_, second) = Said::Response(outgoing).pieces();
        let shared = second.unwrap();
        assert_eq!(shared.as_ptr(), message[PREFIX_BYTES..].as_ptr());
    }

    #[test]
    fn answers_are_large_enough_and_say_why() {
        let refused = crate::rpc::status::unknown_selector(5);
        for said in [
            Said::answer(u64::MAX, None),
            Said::answer(1, Some(&refused)),
            Said::ended(5, Some(&refused)),
        ] {
            let text = format!("{said:?}");
            let (piece, none) = said.pieces();
            assert!(piece.len() >= MIN_MESSAGE_BYTES && none.is_none());
            let read = v1::SessionResponse::decode(&piece[PREFIX_BYTES..]).unwrap();
            let reason = match read.event.unwrap() {
                Event::Answer(answer) => answer.reason,
                Event::Ended(ended) => ended.reason,
                Event::Response(_) => panic!("{text}"),
            };
            assert_eq!(reason.is_empty(), !text.contains("UNKNOWN_SELECTOR"));
        }
    }
}
