//! A response on its way out: as a message of the generated code, or as the bytes on the wire.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    hub::{Feed, View},
    proto::{
        message,
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
            Self::Own(response) => *response,
        })
    }

    /// The whole gRPC message, its prefix included.
    pub(in crate::rpc) fn message(self) -> Bytes {
        match self {
            Self::Records { view, .. } => view.message(),
            Self::Own(response) => message::encode(*response),
        }
    }
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
