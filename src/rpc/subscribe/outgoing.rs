//! A response on its way out: as a message of the generated code, or as the bytes on the wire.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use crate::{
    hub::{Feed, View},
    proto::{
        message::{self, PREFIX_BYTES},
        v1::{self, subscribe_response::Event},
    },
};

#[derive(Debug)]
pub(in crate::rpc) enum Outgoing {
    /// Shared with everybody who is at the same place.
    Records {
        selector: u32,
        feed: Arc<Feed>,
        view: View,
    },
    /// As shared, of another view: a whole message, its prefix included.
    Whole(Bytes),
    /// This subscriber's own.
    Own(Box<v1::SubscribeResponse>),
}

impl Outgoing {
    pub(super) fn new(selector: u32, event: Event) -> Self {
        Self::Own(Box::new(response(selector, event)))
    }

    /// Where a resume token is to be filled in.
    pub(super) fn caught_up(&mut self) -> Option<&mut v1::CaughtUp> {
        let Self::Own(response) = self else {
            return None;
        };
        match &mut response.event {
            Some(Event::CaughtUp(caught_up)) => Some(caught_up),
            Some(_) | None => None,
        }
    }

    /// The response as the proto has it: what `message` must say as well.
    pub(in crate::rpc) fn response(self) -> v1::SubscribeResponse {
        message::padded(match self {
            Self::Records {
                selector,
                feed,
                view,
            } => response(selector, Event::Records(batch(&feed, &view))),
            Self::Whole(message) => {
                // It brings its own padding.
                return read(&message);
            }
            Self::Own(response) => *response,
        })
    }

    /// The whole gRPC message, its prefix included.
    pub(in crate::rpc) fn message(self) -> Bytes {
        match self {
            Self::Records { view, .. } => view.message(),
            Self::Whole(message) => message,
            Self::Own(response) => message::encode(*response),
        }
    }

    /// About how many bytes it takes on the wire.
    pub(super) fn bytes(&self) -> usize {
        let own = match self {
            Self::Records { view, .. } => view.bytes(),
            Self::Whole(message) => message.len(),
            Self::Own(response) => response.encoded_len(),
        };
        own.max(message::MIN_MESSAGE_BYTES)
    }
}

/// A whole message as the generated code has it.
pub(super) fn read(message: &Bytes) -> v1::SubscribeResponse {
    let body = message.slice(PREFIX_BYTES.min(message.len())..);
    v1::SubscribeResponse::decode(body).unwrap_or_else(|error| {
        tracing::error!(%error, "a message of this server does not decode");
        v1::SubscribeResponse::default()
    })
}

fn batch(feed: &Feed, view: &View) -> v1::RecordBatch {
    let (name, epoch) = (feed.name().to_string(), feed.epoch());
    v1::RecordBatch {
        feed: name.clone(),
        epoch,
        covers: Some(v1::OffsetRange {
            from: view.covers.from,
            to: view.covers.to,
        }),
        count: view.count,
        cursor: Some(v1::Cursor {
            feed: name,
            epoch,
            offset: view.covers.to,
        }),
        records: view.records(),
    }
}

fn response(selector: u32, event: Event) -> v1::SubscribeResponse {
    v1::SubscribeResponse {
        selector,
        event: Some(event),
        padding: Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_says_the_same_as_bytes_and_as_a_message() {
        let bars = v1::BarBatch {
            feed: "f".into(),
            bars: vec![v1::ViewBar::default(); 3],
            ..v1::BarBatch::default()
        };
        let message = message::encode(response(7, Event::Bars(bars)));
        let whole = || Outgoing::Whole(message.clone());
        assert_eq!(whole().message(), message);
        let response = whole().response();
        assert_eq!(response.encode_to_vec(), message[PREFIX_BYTES..]);
        assert_eq!(whole().response().selector, 7);
    }
}
