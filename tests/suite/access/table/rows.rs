//! Every call: what it sends, and what comes of it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prost::Message as _;
use ringfeed::proto::v1;
use tonic::Code;

use crate::harness::number;

/// What a call comes to: its code and stable reason.
pub(super) type Outcome = (Code, &'static str);

pub(super) const OK: Outcome = (Code::Ok, "");
pub(super) const DENIED: Outcome = (Code::PermissionDenied, "PERMISSION_DENIED");
/// The call goes well; its answer says what of it was refused.
const KEY: Outcome = (Code::Ok, "KEY_NOT_ALLOWED");
const TOLD: Outcome = (Code::Ok, "PERMISSION_DENIED");
const FEED_EXISTS: Outcome = (Code::AlreadyExists, "FEED_EXISTS");
const UNKNOWN_FEED: Outcome = (Code::NotFound, "UNKNOWN_FEED");
const UNKNOWN_PRODUCER: Outcome = (Code::NotFound, "UNKNOWN_PRODUCER");
const UNKNOWN_CURSOR: Outcome = (Code::NotFound, "UNKNOWN_CURSOR");

/// No two devices are one: the later would fence the earlier.
static DEVICES: AtomicU64 = AtomicU64::new(0);

/// A call: what is sent for a feed and key, and what it comes to for a wrong feed, a wrong key, and
/// for whoever may.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) ask: fn(&str, &str) -> Vec<u8>,
    pub(super) wrong_feed: Outcome,
    pub(super) wrong_key: Outcome,
    pub(super) right: Outcome,
}

const fn row(
    name: &'static str,
    ask: fn(&str, &str) -> Vec<u8>,
    [wrong_feed, wrong_key, right]: [Outcome; 3],
) -> Row {
    Row {
        name,
        ask,
        wrong_feed,
        wrong_key,
        right,
    }
}

#[rustfmt::skip]
pub(super) fn table() -> Vec<Row> {
    vec![
        row("Ingest", |f, k| v1::IngestRequest { feed: f.into(), records: vec![number(k, 1)], ..Default::default() }.encode_to_vec(), [DENIED, KEY, OK]),
        row("Publish", |f, k| v1::PublishRequest { command: Some(hello(f, k)) }.encode_to_vec(), [DENIED, DENIED, OK]),
        row("Subscribe", |f, k| v1::SubscribeRequest { selectors: vec![selector(f, k)], ..Default::default() }.encode_to_vec(), [DENIED, DENIED, OK]),
        row("Session", |f, k| session(f, k).encode_to_vec(), [TOLD, TOLD, OK]),
        row("GetLatest", |f, k| v1::GetLatestRequest { feed: f.into(), keys: vec![k.into()], ..Default::default() }.encode_to_vec(), [DENIED, DENIED, OK]),
        row("AcknowledgeCursor", |f, _| acknowledge(f).encode_to_vec(), [DENIED, OK, OK]),
        row("CreateFeed", |f, _| v1::CreateFeedRequest { name: f.into(), ..Default::default() }.encode_to_vec(), [DENIED, DENIED, FEED_EXISTS]),
        row("GetFeed", |f, _| v1::GetFeedRequest { name: f.into() }.encode_to_vec(), [DENIED, OK, OK]),
        row("ListFeeds", |_, _| v1::ListFeedsRequest::default().encode_to_vec(), [OK, OK, OK]),
        row("UpdateFeed", |f, _| v1::UpdateFeedRequest { name: f.into(), ..Default::default() }.encode_to_vec(), [DENIED, DENIED, OK]),
        row("TrimFeed", |f, _| v1::TrimFeedRequest { name: f.into(), before_offset: 0 }.encode_to_vec(), [DENIED, DENIED, OK]),
        // Of one that is not there: the others still need theirs.
        row("DeleteFeed", |f, _| v1::DeleteFeedRequest { name: format!("{f}.gone") }.encode_to_vec(), [DENIED, DENIED, UNKNOWN_FEED]),
        row("ListKeys", |f, _| v1::ListKeysRequest { feed: f.into(), ..Default::default() }.encode_to_vec(), [DENIED, OK, OK]),
        row("SetKeyInfo", |f, k| describe(f, k).encode_to_vec(), [DENIED, DENIED, OK]),
        row("DeleteKeys", |f, k| v1::DeleteKeysRequest { feed: f.into(), keys: vec![k.into()] }.encode_to_vec(), [DENIED, DENIED, OK]),
        row("GetProducer", |f, _| v1::GetProducerRequest { feed: f.into(), producer: "p".into() }.encode_to_vec(), [DENIED, UNKNOWN_PRODUCER, UNKNOWN_PRODUCER]),
        row("ListProducers", |f, _| v1::ListProducersRequest { feed: f.into(), ..Default::default() }.encode_to_vec(), [DENIED, OK, OK]),
        row("ListSubscribers", |f, _| v1::ListSubscribersRequest { feed: f.into(), ..Default::default() }.encode_to_vec(), [DENIED, OK, OK]),
        row("DeleteCursor", |f, _| v1::DeleteCursorRequest { feed: f.into(), subscriber: "none".into() }.encode_to_vec(), [DENIED, UNKNOWN_CURSOR, UNKNOWN_CURSOR]),
        row("HealthCheck", |_, _| vec![], [OK, OK, OK]),
        row("HealthWatch", |_, _| vec![], [OK, OK, OK]),
        // `list_services`, field 7.
        row("Reflection", |_, _| vec![7 << 3 | 2, 0], [OK, OK, OK]),
    ]
}

fn hello(feed: &str, key: &str) -> v1::publish_request::Command {
    let status = v1::Status {
        state: "offline".into(),
        ..v1::Status::default()
    };
    v1::publish_request::Command::Hello(v1::PublishHello {
        feed: feed.into(),
        producer: format!("device-{}", DEVICES.fetch_add(1, Relaxed)),
        instance: vec![1].into(),
        will: Some(v1::Will {
            key: key.into(),
            status: Some(status),
            ..v1::Will::default()
        }),
    })
}

fn selector(feed: &str, key: &str) -> v1::Selector {
    v1::Selector {
        feed: feed.into(),
        keys: vec![key.into()],
        ..v1::Selector::default()
    }
}

fn session(feed: &str, key: &str) -> v1::SessionRequest {
    let set = v1::SetSelector {
        selector_id: 1,
        selector: Some(selector(feed, key)),
    };
    v1::SessionRequest {
        request_id: 1,
        command: Some(v1::session_request::Command::Set(set)),
    }
}

fn acknowledge(feed: &str) -> v1::AcknowledgeCursorRequest {
    v1::AcknowledgeCursorRequest {
        subscriber: "s".into(),
        cursor: Some(v1::Cursor {
            feed: feed.into(),
            epoch: 0,
            offset: 0,
        }),
    }
}

fn describe(feed: &str, key: &str) -> v1::SetKeyInfoRequest {
    v1::SetKeyInfoRequest {
        feed: feed.into(),
        scope: Some(v1::set_key_info_request::Scope::Key(key.into())),
        info: None,
    }
}
