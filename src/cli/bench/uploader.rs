//! Sends a load at a pace.

use anyhow::{Context as _, ensure};
use bytes::BytesMut;

use super::{
    load::Load,
    pace::Pace,
    wire::{Call, Uplink},
};

/// How records become messages and messages become writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packing {
    /// Records of a message.
    pub batch: u64,
    /// Messages are joined until they have this many bytes, as far as they may be sent.
    pub bytes: usize,
}

/// What an upload did. The server says that it is all stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub records: u64,
    /// Of messages, their prefixes with them.
    pub bytes: u64,
}

/// Uploads until the pace ends and the server has acknowledged everything.
pub(super) async fn upload(
    uplink: &Uplink,
    load: &Load,
    packing: Packing,
    pace: &mut Pace,
) -> anyhow::Result<Sent> {
    let mut call = uplink.call().await?;
    let mut sent = Sent::default();
    loop {
        let allowed = pace.next(sent.records, packing.batch).await?;
        if allowed == 0 {
            break;
        }
        let until = sent.records + allowed;
        while sent.records < until {
            sent = chunk(&mut call, load, packing, sent, until).await?;
        }
    }
    let summary = call.finish().await?;
    ensure!(
        summary.refused == 0,
        "{} records were refused: {}",
        summary.refused,
        summary.refusals.first().map_or("", |first| &first.message)
    );
    ensure!(
        summary.stored == sent.records && summary.duplicates == 0,
        "{} records were sent, {} were stored and {} taken for repeats",
        sent.records,
        summary.stored,
        summary.duplicates
    );
    Ok(sent)
}

/// Sends messages of one write.
async fn chunk(
    call: &mut Call,
    load: &Load,
    packing: Packing,
    mut sent: Sent,
    until: u64,
) -> anyhow::Result<Sent> {
    let mut bytes = BytesMut::with_capacity(packing.bytes + (1 << 10));
    loop {
        let count = packing.batch.min(until - sent.records);
        load.message(sent.records, count, &mut bytes);
        sent.records += count;
        if bytes.len() >= packing.bytes || sent.records >= until {
            break;
        }
    }
    sent.bytes += bytes.len() as u64;
    call.send(bytes.freeze())
        .await
        .context("the upload failed")?;
    Ok(sent)
}
