//! Feeds and keys as JSON. 64-bit integers are strings, times RFC 3339, durations seconds.

use serde_json::{Map, Value, json};
use tonic::Status;

use super::{Answer, asked::Asked, carrier::Carrier, text};
use crate::proto::{
    convert::{std_duration, time_text, timestamp_nanos},
    v1,
};

pub(super) async fn feeds(carrier: Carrier, mut asked: Asked) -> Result<Answer, Status> {
    let request = v1::ListFeedsRequest {
        page_size: asked.parsed("page_size")?.unwrap_or_default(),
        page_token: asked.one("page_token")?.unwrap_or_default(),
    };
    asked.done("page_size, page_token")?;
    let (metadata, page, _) = carrier.catalog().list_feeds(request).await?.into_parts();
    let feeds: Vec<Value> = page.feeds.iter().map(feed_value).collect();
    let page = paged("feeds", feeds, &page.next_page_token);
    Ok(Answer::json(metadata, text(&page)))
}

pub(super) async fn feed(carrier: Carrier, name: String, asked: Asked) -> Result<Answer, Status> {
    asked.done("none")?;
    let request = v1::GetFeedRequest { name };
    let (metadata, found, _) = carrier.catalog().get_feed(request).await?.into_parts();
    let feed = feed_value(&found.feed.unwrap_or_default());
    Ok(Answer::json(metadata, text(&feed)))
}

pub(super) async fn keys(
    carrier: Carrier,
    feed: String,
    mut asked: Asked,
) -> Result<Answer, Status> {
    let request = v1::ListKeysRequest {
        feed,
        page_size: asked.parsed("page_size")?.unwrap_or_default(),
        page_token: asked.one("page_token")?.unwrap_or_default(),
    };
    asked.done("page_size, page_token")?;
    let (metadata, page, _) = carrier.catalog().list_keys(request).await?.into_parts();
    let keys: Vec<Value> = page.keys.iter().map(key_value).collect();
    let page = paged("keys", keys, &page.next_page_token);
    Ok(Answer::json(metadata, text(&page)))
}

fn paged(name: &str, items: Vec<Value>, next: &str) -> Value {
    let mut page = Fields::default();
    page.set(name, items);
    page.word("next_page_token", next);
    page.into()
}

fn feed_value(feed: &v1::Feed) -> Value {
    let retention = feed.retention.unwrap_or_default();
    let time =
        |wire: Option<&prost_types::Timestamp>| wire.and_then(timestamp_nanos).map(time_text);
    let mut fields = Fields::default();
    fields.set("name", &*feed.name);
    fields.set("epoch", feed.epoch.to_string());
    fields.set("oldest", feed.oldest.to_string());
    fields.set("next", feed.next.to_string());
    fields.set("bytes", feed.bytes.to_string());
    fields.set("max_bytes", retention.max_bytes.to_string());
    fields.some("max_age_seconds", seconds(retention.max_age.as_ref()));
    fields.set(
        "visibility",
        match feed.visibility() {
            v1::Visibility::Unspecified | v1::Visibility::Durable => "durable",
            v1::Visibility::Immediate => "immediate",
        },
    );
    fields.set("keys", feed.keys.to_string());
    fields.set("producers", feed.producers.to_string());
    fields.set("subscribers", feed.subscribers.to_string());
    fields.set("records_per_second", feed.records_per_second);
    fields.set("bytes_per_second", feed.bytes_per_second);
    fields.some("ring_seconds", seconds(feed.ring_duration.as_ref()));
    fields.some("created", time(feed.create_time.as_ref()));
    fields.some("last_record", time(feed.last_append_time.as_ref()));
    fields.into()
}

fn key_value(key: &v1::Key) -> Value {
    let mut fields = Fields::default();
    fields.set("key", &*key.key);
    fields.set("kinds", json!(key.kinds));
    fields.set("last_offset", key.last_offset.to_string());
    fields.set("last_time", time_text(key.last_event_time_unix_nanos));
    fields.set(
        "last_ingest_time",
        time_text(key.last_ingest_time_unix_nanos),
    );
    fields.some("info", key.info.as_ref().map(info_value));
    fields.into()
}

/// What is known of a key; what is not known is not there.
pub(super) fn info_value(info: &v1::KeyInfo) -> Value {
    let mut fields = Fields::default();
    fields.some("display_name", info.display_name.as_deref());
    fields.some("description", info.description.as_deref());
    if !info.labels.is_empty() {
        fields.set("labels", json!(info.labels));
    }
    fields.some("unit", info.unit.as_deref());
    fields.some("currency", info.currency.as_deref());
    fields.some("tick_size", info.tick_size.as_deref());
    fields.some("display_decimals", info.display_decimals);
    fields.some("min", info.min);
    fields.some("max", info.max);
    if !info.enum_labels.is_empty() {
        let labels = info.enum_labels.iter();
        let labels = labels.map(|(value, label)| (value.to_string(), label.as_str().into()));
        fields.set("enum_labels", labels.collect::<Map<_, Value>>());
    }
    if !info.channels.is_empty() {
        fields.set("channels", json!(info.channels));
    }
    let expected = seconds(info.expected_interval.as_ref());
    fields.some("expected_interval_seconds", expected);
    if let Some(at) = &info.location {
        let (latitude, longitude) = (at.latitude, at.longitude);
        let altitude = at.altitude_m;
        fields.set(
            "location",
            json!({"latitude": latitude, "longitude": longitude, "altitude_m": altitude}),
        );
    }
    fields.into()
}

pub(super) fn seconds(duration: Option<&prost_types::Duration>) -> Option<f64> {
    duration
        .and_then(std_duration)
        .map(|duration| duration.as_secs_f64())
}

/// An object in the making.
#[derive(Default)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    pub(super) fn some(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    pub(super) fn word(&mut self, name: &str, word: &str) {
        self.some(name, Some(word).filter(|word| !word.is_empty()));
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Self {
        Self::Object(fields.0)
    }
}
