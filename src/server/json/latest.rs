//! The last record of each key and payload kind, as of one offset: a snapshot, written as it is read.

use std::fmt::Write as _;

use async_stream::try_stream;
use axum::body::{Body, Bytes};
use prost::Message as _;
use serde_json::Value;
use tonic::{Status, Streaming};

use super::{
    Answer,
    asked::{Asked, ended_early},
    carrier::Carrier,
};
use crate::proto::{
    json::placed_record,
    v1::{self, end::At, start::From, subscribe_response::Event},
};

pub(super) async fn latest(
    carrier: Carrier,
    feed: String,
    mut asked: Asked,
) -> Result<Answer, Status> {
    let snapshot = From::Snapshot(v1::SnapshotStart {});
    let end = v1::End {
        at: Some(At::Now(v1::Now {})),
    };
    let selector = v1::Selector {
        end: Some(end),
        ..asked.selector(feed, snapshot)
    };
    asked.done("key, not_key")?;
    let request = v1::SubscribeRequest {
        selectors: vec![selector],
        ..v1::SubscribeRequest::default()
    };
    let (metadata, mut stream, _) = carrier.feeds().subscribe(request).await?.into_parts();
    // Before anything is answered: what is refused now can still be a status.
    let mut head = Head::default();
    let first = loop {
        match event(&mut stream).await? {
            Some(Event::Narrowed(narrowed)) => head.narrowed = narrowed.key_globs,
            Some(Event::Snapshot(batch)) => break Piece::Records(batch),
            Some(Event::SnapshotComplete(done)) => break Piece::End(done),
            Some(Event::Reconnect(_)) | None => return Err(ended_early()),
            Some(_) => {}
        }
    };
    Ok(Answer::json(
        metadata,
        Body::from_stream(pieces(head, first, stream)),
    ))
}

enum Piece {
    Records(v1::SnapshotBatch),
    End(v1::SnapshotComplete),
}

/// What the object says beside the records.
#[derive(Default)]
struct Head {
    narrowed: Vec<String>,
}

impl Head {
    fn text(self, as_of: &v1::Cursor) -> String {
        let mut text = format!(
            "{{\"feed\":{},\"epoch\":\"{}\",\"as_of\":\"{}\"",
            Value::from(&*as_of.feed),
            as_of.epoch,
            as_of.offset
        );
        if !self.narrowed.is_empty() {
            // Writing to a string cannot fail.
            let _infallible = write!(text, ",\"narrowed_to\":{}", Value::from(self.narrowed));
        }
        text.push_str(",\"records\":[");
        text
    }
}

/// Ends with an error, which cuts the body short, where the snapshot does not end well.
fn pieces(
    head: Head,
    mut piece: Piece,
    mut stream: Streaming<v1::SubscribeResponse>,
) -> impl futures_util::Stream<Item = Result<Bytes, Status>> {
    try_stream! {
        let as_of = match &piece {
            Piece::Records(batch) => batch.as_of.clone(),
            Piece::End(done) => done.as_of.clone(),
        };
        let mut text = head.text(&as_of.unwrap_or_default());
        let mut separator = "\n";
        while let Piece::Records(batch) = piece {
            let at = batch.as_of.unwrap_or_default();
            for bytes in batch.records {
                let (_, value) = record_value(&at, bytes)?;
                let _infallible = write!(text, "{separator}{value}");
                separator = ",\n";
            }
            yield Bytes::from(std::mem::take(&mut text));
            piece = next(&mut stream).await?;
        }
        text.push_str("]}\n");
        yield Bytes::from(text);
        // To the stream's own end, so that the call ends well in log and metrics.
        while event(&mut stream).await?.is_some() {}
    }
}

async fn next(stream: &mut Streaming<v1::SubscribeResponse>) -> Result<Piece, Status> {
    loop {
        match event(stream).await? {
            Some(Event::Snapshot(batch)) => return Ok(Piece::Records(batch)),
            Some(Event::SnapshotComplete(done)) => return Ok(Piece::End(done)),
            Some(Event::Reconnect(_)) | None => return Err(ended_early()),
            Some(_) => {}
        }
    }
}

pub(super) async fn event(
    stream: &mut Streaming<v1::SubscribeResponse>,
) -> Result<Option<Event>, Status> {
    while let Some(response) = stream.message().await? {
        if response.event.is_some() {
            return Ok(response.event);
        }
    }
    Ok(None)
}

/// The record's offset, and the record with its feed.
pub(super) fn record_value(at: &v1::Cursor, bytes: Bytes) -> Result<(u64, Value), Status> {
    let record = v1::Record::decode(bytes).map_err(|error| Status::internal(error.to_string()))?;
    let value = placed_record(&at.feed, at.epoch, &record);
    Ok((record.offset, value))
}
