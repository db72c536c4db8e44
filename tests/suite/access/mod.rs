//! Who may do what, and for how long.

mod bed;
mod ends;
mod follow;
mod lists;
mod stuck;
mod table;
mod uploads;

use ringfeed::proto::v1::{IngestRequest, IngestResponse, Selector, Start, start::From};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use self::bed::{Bed, Feeds};
use crate::harness::within;

/// PERMISSION_DENIED, and what it names: action, feed, key.
#[track_caller]
fn denied<T: std::fmt::Debug>(answer: Result<T, Status>) -> [String; 3] {
    let status = answer.expect_err("it is not allowed");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "PERMISSION_DENIED");
    ["action", "feed", "key"].map(|name| info.metadata.get(name).cloned().unwrap_or_default())
}

/// One call of Ingest.
async fn upload(feeds: &mut Feeds, messages: Vec<IngestRequest>) -> Result<IngestResponse, Status> {
    let answer = feeds.ingest(tokio_stream::iter(messages));
    Ok(within("an upload", answer).await?.into_inner())
}

fn from(start: From) -> Option<Start> {
    Some(Start { from: Some(start) })
}

fn of_feed(feed: &str, start: From) -> Selector {
    Selector {
        feed: feed.into(),
        start: from(start),
        ..Selector::default()
    }
}

fn of_feeds(globs: &[&str], start: From) -> Selector {
    Selector {
        feed_globs: globs.iter().map(|glob| (*glob).into()).collect(),
        start: from(start),
        ..Selector::default()
    }
}
