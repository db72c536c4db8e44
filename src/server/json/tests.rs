//! What addresses mean, how errors look, and how a stream is told as events.

use http::Uri;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::Status;

use super::{asked::Asked, failure, live::Teller, place::Place};
use crate::{
    errors::{Answer, Reason},
    proto::v1::{self, start::From, subscribe_response::Event},
};

const EPOCH: u64 = 7;

fn asked(address: &'static str) -> Asked {
    Asked::of(&Uri::from_static(address))
}

fn said(error: &Status) -> Value {
    failure::body(error)["error"].clone()
}

#[test]
fn parameters_are_taken_by_name_and_none_is_left() {
    let mut some = asked("/?key=a%20b&key=c*&not_key=d&key=&page_size=5&from=");
    let selector = some.selector("plant".into(), From::Offset(3));
    assert_eq!(
        (selector.keys, selector.key_globs),
        (vec!["a b".into()], vec!["c*".into()])
    );
    assert_eq!(selector.exclude_keys, ["d"]);
    assert_eq!(some.parsed("page_size").unwrap(), Some(5_u32));
    assert_eq!(some.one("from").unwrap(), None);
    some.done("key").unwrap();

    let error = asked("/?kye=a").done("key, from").unwrap_err();
    assert_eq!(said(&error)["fields"][0]["field"], "kye");
    assert_eq!(
        said(&error)["message"],
        "parameter `kye`: is no parameter here; there are: key, from"
    );
    assert!(asked("/?from=1&from=2").one("from").is_err());
    assert!(asked("/?interval=1y").duration("interval").is_err());
}

#[test]
fn places_are_an_epoch_and_an_offset() {
    let place = Place {
        epoch: EPOCH,
        offset: 12,
    };
    assert_eq!(place.to_string(), "7.12");
    assert_eq!("7.12".parse(), Ok(place));
    for bad in [
        "",
        "7",
        "7.",
        ".12",
        "0.12",
        "+7.12",
        "7.1 2",
        "7.99999999999999999999",
    ] {
        assert!(bad.parse::<Place>().is_err(), "{bad}");
    }
}

#[test]
fn an_error_has_its_status_reason_and_time_to_wait() {
    let status = Answer::new(Reason::RateLimited, "slowly")
        .quota("calls", "too many")
        .status();
    let response = failure::response(&status);
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "1");
    let error = said(&status);
    assert_eq!(error["reason"], "RATE_LIMITED");
    assert_eq!(
        error["quotas"],
        json!([{"subject": "calls", "description": "too many"}])
    );
    assert_eq!(error["retry_after_seconds"], json!(1.0));
}

fn records(from: u64, to: u64, offsets: &[u64]) -> Event {
    let record = |offset: &u64| {
        let record = v1::Record {
            key: "a".into(),
            offset: *offset,
            ingest_time_unix_nanos: 1,
            ..v1::Record::default()
        };
        record.encode_to_vec().into()
    };
    Event::Records(v1::RecordBatch {
        feed: "plant".into(),
        epoch: EPOCH,
        covers: Some(v1::OffsetRange { from, to }),
        count: 0,
        cursor: None,
        records: offsets.iter().map(record).collect(),
    })
}

fn cursor(offset: u64) -> v1::Cursor {
    Place {
        epoch: EPOCH,
        offset,
    }
    .cursor("plant")
}

/// Name and id of each event that was written.
fn told(teller: &mut Teller, event: Event) -> Vec<(String, String)> {
    teller.tell(event).unwrap();
    let text = String::from_utf8(teller.taken().to_vec()).unwrap();
    assert!(text.ends_with("\n\n"), "{text}");
    let field = |event: &str, name: &str| {
        let line = event.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().to_owned()
    };
    let events = text.split_terminator("\n\n");
    events
        .map(|event| (field(event, "event: "), field(event, "id: ")))
        .collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
    owned.collect()
}

#[test]
fn each_record_can_be_gone_on_from_and_what_a_filter_leaves_out_is_told() {
    let mut teller = Teller::new(&From::Offset(0), None);
    let all = told(&mut teller, records(0, 2, &[0, 1]));
    assert_eq!(all, pairs(&[("", "7.1"), ("", "7.2")]));
    let some = told(&mut teller, records(2, 9, &[4]));
    assert_eq!(
        some,
        pairs(&[("covered", "7.4"), ("", "7.5"), ("covered", "7.9")])
    );
    assert_eq!(
        told(&mut teller, records(9, 12, &[])),
        pairs(&[("covered", "7.12")])
    );
}

#[test]
fn nothing_of_a_snapshot_is_gone_on_from_before_it_is_complete() {
    let mut teller = Teller::new(&From::Snapshot(v1::SnapshotStart {}), None);
    let record = v1::Record {
        key: "a".into(),
        ..v1::Record::default()
    };
    let batch = Event::Snapshot(v1::SnapshotBatch {
        feed: "plant".into(),
        as_of: Some(cursor(5)),
        records: vec![record.encode_to_vec().into()],
    });
    assert_eq!(told(&mut teller, batch), pairs(&[("", "")]));
    let complete = Event::SnapshotComplete(v1::SnapshotComplete {
        as_of: Some(cursor(5)),
    });
    assert_eq!(
        told(&mut teller, complete),
        pairs(&[("snapshot_complete", "7.5")])
    );
    assert_eq!(
        told(&mut teller, records(5, 6, &[5])),
        pairs(&[("", "7.6")])
    );
}

#[test]
fn the_last_of_each_key_have_no_place_in_the_feeds_order() {
    let mut teller = Teller::new(&From::LastPerKey(2), None);
    let last = told(&mut teller, records(0, 9, &[3, 8]));
    assert_eq!(last, pairs(&[("", ""), ("", ""), ("covered", "")]));
    let caught_up = Event::CaughtUp(v1::CaughtUp {
        next: Some(cursor(9)),
        resume_token: String::new(),
    });
    assert_eq!(told(&mut teller, caught_up), pairs(&[("caught_up", "7.9")]));
    assert_eq!(
        told(&mut teller, records(9, 10, &[9])),
        pairs(&[("", "7.10")])
    );
}

#[test]
fn a_view_is_gone_on_from_behind_its_batches() {
    let conflated = super::asked::conflated(std::time::Duration::from_secs(1));
    let mut teller = Teller::new(&From::Offset(0), Some(&conflated));
    let batch = told(&mut teller, records(0, 9, &[3, 8]));
    assert_eq!(batch, pairs(&[("", ""), ("", ""), ("covered", "7.9")]));
}

#[test]
fn a_feed_goes_on_behind_a_gap_and_in_its_new_epoch() {
    let gap = |reason: v1::GapReason| {
        Event::Gap(v1::Gap {
            feed: "plant".into(),
            epoch: EPOCH,
            from: 3,
            to: 8,
            count: Some(5),
            reason: reason.into(),
            oldest: Some(v1::Cursor {
                epoch: EPOCH + 1,
                ..cursor(0)
            }),
        })
    };
    let mut teller = Teller::new(&From::Offset(0), None);
    let evicted = told(&mut teller, gap(v1::GapReason::Evicted));
    assert_eq!(evicted, pairs(&[("gap", "7.8")]));
    let anew = told(&mut teller, gap(v1::GapReason::EpochChanged));
    assert_eq!(anew, pairs(&[("gap", "8.0")]));
}
