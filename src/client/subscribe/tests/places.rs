//! Where a broken stream goes on: by cursor, by token, anew; and when it does not.

use std::collections::HashMap;

use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;
use crate::client::record_offset;

fn caught_up(next: u64, token: &str) -> Result<v1::SubscribeResponse, Status> {
    respond(Wire::CaughtUp(v1::CaughtUp {
        next: Some(place(next)),
        resume_token: token.to_owned(),
    }))
}

fn place(offset: u64) -> v1::Cursor {
    v1::Cursor {
        feed: "f".to_owned(),
        epoch: EPOCH,
        offset,
    }
}

fn complete(as_of: u64) -> Result<v1::SubscribeResponse, Status> {
    respond(Wire::SnapshotComplete(v1::SnapshotComplete {
        as_of: Some(place(as_of)),
    }))
}

fn bars(from: u64, to: u64) -> Result<v1::SubscribeResponse, Status> {
    respond(Wire::Bars(v1::BarBatch {
        feed: "f".to_owned(),
        epoch: EPOCH,
        covers: Some(v1::OffsetRange { from, to }),
        bars: vec![v1::ViewBar::default()],
    }))
}

fn cut() -> Result<v1::SubscribeResponse, Status> {
    Err(Status::unavailable("cut"))
}

/// One selector, changed, and what it is told.
async fn follow(
    fake: &Fake,
    scripts: Vec<Script>,
    change: impl FnOnce(&mut v1::Selector),
) -> Subscription {
    *fake.subscriptions.lock() = scripts.into();
    let mut request = request(8);
    change(&mut request.selectors[0]);
    let connection = fake.start().await;
    Subscription::new(connection, request, RetryOptions::default()).unwrap()
}

fn globbed(selector: &mut v1::Selector) {
    selector.feed.clear();
    selector.feed_globs = vec!["f*".to_owned()];
}

fn of_bars(selector: &mut v1::Selector) {
    let view = Some(v1::fidelity::View::Bars(v1::Bars::default()));
    selector.fidelity = Some(v1::Fidelity { view });
}

fn from_snapshot(selector: &mut v1::Selector) {
    let from = Some(v1::start::From::Snapshot(v1::SnapshotStart {}));
    selector.start = Some(v1::Start { from });
}

fn from_last(selector: &mut v1::Selector) {
    let from = Some(v1::start::From::LastPerKey(2));
    selector.start = Some(v1::Start { from });
}

/// The feed was created anew when 5 was due.
fn changed() -> Result<v1::SubscribeResponse, Status> {
    respond(Wire::Gap(v1::Gap {
        feed: "f".to_owned(),
        epoch: EPOCH - 1,
        from: 5,
        to: 5,
        count: None,
        reason: v1::GapReason::EpochChanged.into(),
        oldest: Some(place(0)),
    }))
}

fn tokens(fake: &Fake) -> Vec<String> {
    let asked = fake.asked.lock();
    asked.iter().map(|r| r.resume_token.clone()).collect()
}

/// The offsets of all records, until the end or an error.
async fn offsets(subscription: &mut Subscription) -> (Vec<u64>, Option<SubscribeError>) {
    let mut offsets = Vec::new();
    loop {
        match subscription.next().await {
            Ok(Some(Event::Records { records, .. })) => {
                offsets.extend(records.iter().filter_map(|r| record_offset(r)));
            }
            Ok(Some(_)) => {}
            Ok(None) => return (offsets, None),
            Err(error) => return (offsets, Some(error)),
        }
    }
}

#[tokio::test]
async fn globs_go_on_by_the_last_token_and_hand_out_nothing_twice() {
    let fake = Fake::default();
    let scripts = vec![
        vec![batch(0, 3), caught_up(3, "t1"), batch(3, 5), cut()],
        vec![batch(3, 4), batch(4, 6), cut()],
        vec![Err(Status::unavailable("still away"))],
        vec![batch(3, 7), caught_up(7, "t2"), batch(7, 8)],
    ];
    let mut subscription = follow(&fake, scripts, globbed).await;
    let (offsets, error) = offsets(&mut subscription).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(offsets, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(tokens(&fake), ["", "t1", "t1", "t1"]);
    let report = subscription.ledger().lane(0, "f").unwrap().report(Some(8));
    assert!(report.whole && report.delivered == 8, "{report:?}");
}

#[tokio::test]
async fn a_skip_after_a_token_is_an_error_all_the_same() {
    let fake = Fake::default();
    let scripts = vec![
        vec![batch(0, 3), caught_up(3, "t1"), batch(3, 5), cut()],
        vec![batch(6, 8)],
    ];
    let mut subscription = follow(&fake, scripts, globbed).await;
    let (_, error) = offsets(&mut subscription).await;
    assert!(
        matches!(error, Some(SubscribeError::Broken(_))),
        "{error:?}"
    );
}

#[tokio::test]
async fn globs_that_were_cut_before_any_token_cannot_go_on() {
    let fake = Fake::default();
    // While nothing came, asking anew loses nothing.
    let scripts = vec![vec![cut()], vec![batch(0, 3), cut()], vec![batch(3, 8)]];
    let mut subscription = follow(&fake, scripts, globbed).await;
    let (offsets, error) = offsets(&mut subscription).await;
    assert_eq!(offsets, [0, 1, 2]);
    assert!(
        matches!(error, Some(SubscribeError::Status(_))),
        "{error:?}"
    );
    assert_eq!(fake.asked.lock().len(), 2);
}

#[tokio::test]
async fn bars_go_on_by_token_and_without_one_by_cursor() {
    let fake = Fake::default();
    let scripts = vec![
        vec![bars(0, 0), bars(0, 3), cut()],
        vec![bars(3, 4), caught_up(4, "t1"), bars(4, 6), cut()],
        // Its bars begin before the token's place.
        vec![bars(2, 5), bars(5, 5), bars(5, 8)],
    ];
    let mut subscription = follow(&fake, scripts, of_bars).await;
    let mut handed_out = 0;
    while let Some(event) = subscription.next().await.unwrap() {
        handed_out += usize::from(matches!(event, Event::Bars { .. }));
    }
    assert_eq!(handed_out, 7, "bars replace themselves: all are handed out");
    assert_eq!(tokens(&fake), ["", "", "t1"]);
    let start = fake.asked.lock()[1].selectors[0].start.clone();
    let from = Some(v1::start::From::Cursor(place(3)));
    assert_eq!(start, Some(v1::Start { from }));
    let report = subscription.ledger().lane(0, "f").unwrap().report(Some(8));
    assert!(report.whole && report.left_out == 8, "{report:?}");
}

#[tokio::test]
async fn a_snapshot_that_was_cut_begins_anew_and_a_complete_one_does_not() {
    let fake = Fake::default();
    let scripts = vec![
        vec![
            respond(Wire::Snapshot(v1::SnapshotBatch {
                feed: "f".to_owned(),
                as_of: Some(place(4)),
                records: Vec::new(),
            })),
            cut(),
        ],
        vec![complete(5), batch(5, 6), cut()],
        vec![batch(6, 8)],
    ];
    let mut subscription = follow(&fake, scripts, from_snapshot).await;
    let (offsets, error) = offsets(&mut subscription).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(offsets, [5, 6, 7]);
    let asked = fake.asked.lock();
    assert_eq!(asked[1].selectors[0].start, asked[0].selectors[0].start);
    let from = Some(v1::start::From::Cursor(place(6)));
    assert_eq!(asked[2].selectors[0].start, Some(v1::Start { from }));
}

/// A cursor says nothing of what lies between them, and after them it is exact.
#[tokio::test]
async fn the_last_of_each_key_go_on_by_token_until_they_are_through() {
    let fake = Fake::default();
    let beat = v1::Heartbeat {
        cursor: Some(place(3)),
        resume_token: "t1".to_owned(),
        ..v1::Heartbeat::default()
    };
    let scripts = vec![
        vec![
            batch(0, 3),
            respond(Wire::Heartbeat(beat)),
            batch(3, 4),
            cut(),
        ],
        vec![batch(3, 5), caught_up(5, "t2"), batch(5, 6), cut()],
        vec![batch(6, 8)],
    ];
    let mut subscription = follow(&fake, scripts, from_last).await;
    let (offsets, error) = offsets(&mut subscription).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(offsets, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(tokens(&fake), ["", "t1", ""]);
    let start = fake.asked.lock()[2].selectors[0].start.clone();
    let from = Some(v1::start::From::Cursor(place(6)));
    assert_eq!(start, Some(v1::Start { from }));
}

#[tokio::test]
async fn a_token_from_before_a_change_of_epoch_is_dropped_unless_there_are_globs() {
    let scripts = || {
        let mut early = caught_up(5, "t1");
        if let Some(Wire::CaughtUp(v1::CaughtUp {
            next: Some(next), ..
        })) = &mut early.as_mut().unwrap().event
        {
            next.epoch = EPOCH - 1;
        }
        vec![early, changed(), bars(0, 2), cut()]
    };
    let fake = Fake::default();
    let all = vec![scripts(), vec![bars(2, 8)]];
    let mut subscription = follow(&fake, all, of_bars).await;
    let (_, error) = offsets(&mut subscription).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(tokens(&fake), ["", ""]);
    let start = fake.asked.lock()[1].selectors[0].start.clone();
    let from = Some(v1::start::From::Cursor(place(2)));
    assert_eq!(start, Some(v1::Start { from }));
    // Globs cannot do without one.
    let fake = Fake::default();
    let all = vec![scripts(), vec![changed(), bars(0, 8)]];
    let mut subscription = follow(&fake, all, globbed).await;
    let (_, error) = offsets(&mut subscription).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(tokens(&fake), ["", "t1"]);
}

/// Beside bars, which go on by token.
#[tokio::test]
async fn a_token_from_before_a_complete_snapshot_is_dropped() {
    let fake = Fake::default();
    let of = |selector, mut response: Result<v1::SubscribeResponse, Status>| {
        response.as_mut().unwrap().selector = selector;
        response
    };
    let scripts = vec![
        vec![of(1, caught_up(0, "t1")), complete(5), batch(5, 6), cut()],
        vec![batch(6, 8), of(1, bars(0, 8))],
    ];
    *fake.subscriptions.lock() = scripts.into();
    let mut request = request(8);
    request.selectors.push(request.selectors[0].clone());
    from_snapshot(&mut request.selectors[0]);
    of_bars(&mut request.selectors[1]);
    let connection = fake.start().await;
    let mut subscription = Subscription::new(connection, request, RetryOptions::default()).unwrap();
    let (offsets, error) = offsets(&mut subscription).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(offsets, [5, 6, 7]);
    assert_eq!(tokens(&fake), ["", ""]);
}

#[tokio::test]
async fn a_dismissed_subscriber_goes_on_only_when_it_is_told_to() {
    let details = ErrorDetails::with_error_info("SLOW_SUBSCRIBER", "ringfeed", HashMap::new());
    let text = "it is 12,000 records behind";
    for status in [
        Status::aborted(text),
        Status::with_error_details(Code::ResourceExhausted, text, details),
    ] {
        let fake = Fake::default();
        let scripts = vec![
            vec![batch(0, 3), reconnect("t1"), Err(status)],
            vec![batch(3, 8)],
        ];
        let mut subscription = subscription(&fake, scripts, 8).await;
        let (before, error) = offsets(&mut subscription).await;
        assert_eq!(before, [0, 1, 2]);
        let Some(SubscribeError::Dismissed { resume_token, .. }) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(resume_token, "t1");
        assert_eq!(error.unwrap().to_string(), text);
        assert_eq!(fake.asked.lock().len(), 1);
        let (after, error) = offsets(&mut subscription).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(after, [3, 4, 5, 6, 7]);
        assert_eq!(tokens(&fake), ["", "t1"]);
    }
}

#[tokio::test]
async fn a_transport_error_after_a_reconnect_is_no_dismissal() {
    let fake = Fake::default();
    let scripts = vec![
        vec![batch(0, 3), reconnect("t1"), Err(Status::unknown("reset"))],
        vec![batch(3, 8)],
    ];
    let mut subscription = subscription(&fake, scripts, 8).await;
    let (offsets, error) = offsets(&mut subscription).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(offsets.len(), 8);
    assert_eq!(tokens(&fake), ["", "t1"]);
}
