mod places;

use prost::Message as _;

use super::*;
use crate::client::fake::{Fake, Script};

const EPOCH: u64 = 7;

fn batch(from: u64, to: u64) -> Result<v1::SubscribeResponse, Status> {
    let record = |offset| {
        let key = "k".to_owned();
        let record = v1::Record {
            key,
            offset,
            ..v1::Record::default()
        };
        record.encode_to_vec().into()
    };
    respond(Wire::Records(v1::RecordBatch {
        feed: "f".to_owned(),
        epoch: EPOCH,
        covers: Some(v1::OffsetRange { from, to }),
        count: u32::try_from(to - from).unwrap(),
        cursor: None,
        records: (from..to).map(record).collect(),
    }))
}

#[expect(clippy::unnecessary_wraps, reason = "a script's step may fail")]
fn respond(event: Wire) -> Result<v1::SubscribeResponse, Status> {
    Ok(v1::SubscribeResponse {
        event: Some(event),
        ..v1::SubscribeResponse::default()
    })
}

fn reconnect(token: &str) -> Result<v1::SubscribeResponse, Status> {
    respond(Wire::Reconnect(v1::Reconnect {
        resume_token: token.to_owned(),
        reason: "stopping".to_owned(),
    }))
}

/// From the beginning until offset `end`.
fn request(end: u64) -> v1::SubscribeRequest {
    let at = v1::end::At::Offset(end);
    let from = v1::start::From::Earliest(v1::Earliest {});
    v1::SubscribeRequest {
        selectors: vec![v1::Selector {
            feed: "f".to_owned(),
            keys: vec!["k".to_owned()],
            start: Some(v1::Start { from: Some(from) }),
            end: Some(v1::End { at: Some(at) }),
            ..v1::Selector::default()
        }],
        ..v1::SubscribeRequest::default()
    }
}

async fn subscription(fake: &Fake, scripts: Vec<Script>, end: u64) -> Subscription {
    *fake.subscriptions.lock() = scripts.into();
    let connection = fake.start().await;
    Subscription::new(connection, request(end), RetryOptions::default()).unwrap()
}

/// Ranges of records, until the end or an error.
async fn ranges(subscription: &mut Subscription) -> (Vec<(u64, u64)>, Option<SubscribeError>) {
    let mut ranges = Vec::new();
    loop {
        match subscription.next().await {
            Ok(Some(Event::Records { covers, .. })) => ranges.push((covers.from, covers.to)),
            Ok(Some(_)) => {}
            Ok(None) => return (ranges, None),
            Err(error) => return (ranges, Some(error)),
        }
    }
}

#[tokio::test]
async fn a_broken_stream_goes_on_behind_what_was_handed_out() {
    let fake = Fake::default();
    let scripts = vec![
        vec![batch(0, 3), batch(3, 5), Err(Status::unknown("cut"))],
        vec![batch(5, 8)],
    ];
    let mut subscription = subscription(&fake, scripts, 8).await;
    let (ranges, error) = ranges(&mut subscription).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(ranges, [(0, 3), (3, 5), (5, 8)]);
    let asked = fake.asked.lock();
    let again = &asked[1].selectors[0];
    let cursor = v1::Cursor {
        feed: "f".to_owned(),
        epoch: EPOCH,
        offset: 5,
    };
    let from = Some(v1::start::From::Cursor(cursor));
    assert_eq!(again.start, Some(v1::Start { from }));
    assert_eq!(again.end, request(8).selectors[0].end);
    assert_eq!(again.keys, ["k"]);
}

#[tokio::test]
async fn a_stream_that_ends_early_is_no_end() {
    let fake = Fake::default();
    let scripts = vec![vec![batch(0, 3)], vec![batch(3, 8)]];
    let mut subscription = subscription(&fake, scripts, 8).await;
    let (ranges, error) = ranges(&mut subscription).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(ranges, [(0, 3), (3, 8)]);
}

#[tokio::test]
async fn a_silent_skip_over_a_reconnect_is_an_error() {
    let fake = Fake::default();
    let scripts = vec![
        vec![batch(0, 3), Err(Status::unavailable("cut"))],
        vec![batch(4, 8)],
    ];
    let mut subscription = subscription(&fake, scripts, 8).await;
    let (ranges, error) = ranges(&mut subscription).await;
    assert_eq!(ranges, [(0, 3)]);
    assert!(
        matches!(error, Some(SubscribeError::Broken(_))),
        "{error:?}"
    );
    assert_eq!(subscription.cursors()[0].cursor.offset, 3);
}

#[tokio::test]
async fn a_token_is_used_once_and_a_refused_one_forgotten() {
    let fake = Fake::default();
    let scripts = vec![
        vec![batch(0, 3), reconnect("t1")],
        vec![batch(3, 4), reconnect("t2")],
        vec![Err(Status::invalid_argument("unknown token"))],
        vec![batch(4, 8)],
    ];
    let mut subscription = subscription(&fake, scripts, 8).await;
    let (ranges, error) = ranges(&mut subscription).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(ranges, [(0, 3), (3, 4), (4, 8)]);
    let asked = fake.asked.lock();
    let tokens: Vec<_> = asked.iter().map(|r| r.resume_token.as_str()).collect();
    assert_eq!(tokens, ["", "t1", "t2", ""]);
    assert!(asked[1].selectors.is_empty());
}

#[tokio::test]
async fn a_refusal_and_an_unknown_message_are_final() {
    let fake = Fake::default();
    let refused = vec![vec![Err(Status::permission_denied("no"))]];
    let mut refused = subscription(&fake, refused, 8).await;
    let (_, error) = ranges(&mut refused).await;
    assert!(
        matches!(error, Some(SubscribeError::Status(_))),
        "{error:?}"
    );

    let unknown = vec![vec![Ok(v1::SubscribeResponse::default())]];
    let mut unknown = subscription(&fake, unknown, 8).await;
    let (_, error) = ranges(&mut unknown).await;
    assert!(
        matches!(error, Some(SubscribeError::Broken(_))),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_first_connection_tries_all_endpoints_once() {
    let fake = Fake::default();
    *fake.subscriptions.lock() = vec![vec![batch(0, 8)]].into();
    let good = fake.start().await.endpoint().to_owned();
    let follow = |endpoints: Vec<String>| {
        let options = crate::client::ConnectOptions {
            endpoints,
            ..crate::client::ConnectOptions::default()
        };
        let connection = Connection::new(&options).unwrap();
        Subscription::new(connection, request(8), RetryOptions::default()).unwrap()
    };
    // Port 1 refuses connections.
    let dead = "http://127.0.0.1:1".to_owned();
    let (_, error) = ranges(&mut follow(vec![dead.clone(), dead.clone()])).await;
    assert!(
        matches!(error, Some(SubscribeError::Status(_))),
        "{error:?}"
    );
    let (ranges, error) = ranges(&mut follow(vec![dead, good])).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(ranges, [(0, 8)]);
}
