//! What a device is told of a batch.

use tokio::time::Instant;

use crate::{
    hub::Ack,
    proto::v1,
    rpc::ingest::{MAX_REFUSALS, refusal},
};

/// A batch on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub first_sequence: u64,
    /// Of the message it came in.
    pub bytes: u64,
    /// Until then its credit is held back.
    pub credit_due: Option<Instant>,
}

pub(super) fn of(sent: &Sent, ack: Ack) -> v1::PublishAck {
    let refused = ack.refused.len() as u64;
    let refusals = ack.refused.into_iter().take(MAX_REFUSALS);
    v1::PublishAck {
        sequence: ack.sequence.unwrap_or_default(),
        offsets: ack.offsets.map(|span| v1::OffsetRange {
            from: span.from,
            to: span.to,
        }),
        duplicates: ack.duplicates,
        refusals: refusals
            .map(|refused| refusal(0, sent.first_sequence, refused))
            .collect(),
        stored: ack.stored,
        refused,
    }
}
