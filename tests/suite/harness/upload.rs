//! Uploads, and what their answers say.

use bytes::Bytes;
use prost::Message as _;
use ringfeed::proto::v1::{
    self, catalog_service_client::CatalogServiceClient, feed_service_client::FeedServiceClient,
};
use tonic::{Status, transport::Channel};
use tonic_types::{StatusExt as _, pb};

type Feeds = FeedServiceClient<Channel>;
type Catalog = CatalogServiceClient<Channel>;

/// A message of records without a producer.
pub(crate) fn plain(feed: &str, records: Vec<Bytes>) -> v1::IngestRequest {
    v1::IngestRequest {
        feed: feed.into(),
        records,
        ..v1::IngestRequest::default()
    }
}

/// A message of numbered records.
pub(crate) fn numbered(
    feed: &str,
    producer: &str,
    first_sequence: u64,
    records: Vec<Bytes>,
) -> v1::IngestRequest {
    v1::IngestRequest {
        producer: producer.into(),
        first_sequence,
        ..plain(feed, records)
    }
}

/// All of `records` in messages of `size`, numbered from `first`.
pub(crate) fn batches(
    feed: &str,
    producer: &str,
    first: u64,
    records: &[Bytes],
    size: usize,
) -> Vec<v1::IngestRequest> {
    let starts = (first..).step_by(size);
    let messages = records.chunks(size).zip(starts);
    messages
        .map(|(part, first)| numbered(feed, producer, first, part.to_vec()))
        .collect()
}

/// One call of Ingest.
pub(crate) async fn upload(
    feeds: &mut Feeds,
    messages: Vec<v1::IngestRequest>,
) -> Result<v1::IngestResponse, Status> {
    let answer = feeds.ingest(tokio_stream::iter(messages));
    Ok(super::within("an upload", answer).await?.into_inner())
}

/// `(stored, duplicates, refused)`.
pub(crate) fn exact(answer: &v1::IngestResponse) -> (u64, u64, u64) {
    (answer.stored, answer.duplicates, answer.refused)
}

/// The stable reason of a failure.
pub(crate) fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    let info = info.unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "ringfeed");
    info.reason
}

/// The field a failure is about.
pub(crate) fn violated_field(status: &Status) -> String {
    let request = status.get_details_bad_request();
    let request = request.unwrap_or_else(|| panic!("no BadRequest: {status:?}"));
    assert_eq!(request.field_violations.len(), 1, "{status:?}");
    request.field_violations[0].field.clone()
}

/// The sequence a gap was refused for.
pub(crate) fn expected_of(status: &Status) -> u64 {
    let info = status.get_details_error_info().unwrap();
    info.metadata["expected"].parse().unwrap()
}

/// How far a failed upload came.
pub(crate) fn progress(status: &Status) -> Option<v1::IngestProgress> {
    let details = pb::Status::decode(status.details()).ok()?;
    let mine = details
        .details
        .iter()
        .find(|any| any.type_url.ends_with("/ringfeed.v1.IngestProgress"))?;
    v1::IngestProgress::decode(mine.value.as_slice()).ok()
}

/// Creates a feed whose ring takes `max_bytes`.
pub(crate) async fn feed_exists(catalog: &mut Catalog, name: &str, max_bytes: u64) -> v1::Feed {
    let asked = v1::CreateFeedRequest {
        name: name.into(),
        retention: Some(v1::Retention {
            max_bytes,
            max_age: None,
        }),
        visibility: 0,
    };
    let created = catalog.create_feed(asked).await.unwrap();
    created.into_inner().feed.unwrap()
}

pub(crate) async fn get_feed(catalog: &mut Catalog, name: &str) -> v1::Feed {
    let asked = v1::GetFeedRequest { name: name.into() };
    catalog
        .get_feed(asked)
        .await
        .unwrap()
        .into_inner()
        .feed
        .unwrap()
}
