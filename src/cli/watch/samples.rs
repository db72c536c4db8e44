//! Records and events for tests.

use std::time::Duration;

use prost::Message as _;

use super::{Tick, watching::Watching};
use crate::{
    client::{Event, GapEntry},
    model::{Cursor, GapReason, Span, UnixNanos},
    proto::v1::{self, reading::Value, record::Payload},
};

pub(super) fn second(second: i64) -> UnixNanos {
    second * 1_000_000_000
}

/// A reading that was taken in when it happened.
pub(super) fn reading(key: &str, number: f64, offset: u64, time: UnixNanos) -> v1::Record {
    v1::Record {
        key: key.to_owned(),
        event_time_unix_nanos: Some(time),
        ingest_time_unix_nanos: time,
        offset,
        payload: Some(Payload::Reading(v1::Reading {
            value: Some(Value::Number(number)),
            ..v1::Reading::default()
        })),
        ..v1::Record::default()
    }
}

pub(super) fn status(key: &str, state: &str, offset: u64, time: UnixNanos) -> v1::Record {
    v1::Record {
        payload: Some(Payload::Status(v1::Status {
            state: state.to_owned(),
            ..v1::Status::default()
        })),
        ..reading(key, 0.0, offset, time)
    }
}

pub(super) fn begin() -> Tick {
    Tick {
        at: tokio::time::Instant::now(),
        unix: second(1_000),
    }
}

pub(super) fn after(tick: Tick, millis: u64) -> Tick {
    let nanos = i64::try_from(millis).unwrap() * 1_000_000;
    Tick {
        at: tick.at + Duration::from_millis(millis),
        unix: tick.unix + nanos,
    }
}

pub(super) fn watching(tick: Tick) -> Watching {
    Watching::new("f".to_owned(), "http://x".to_owned(), tick)
}

pub(super) fn records(from: u64, values: &[(&str, f64)]) -> Event {
    let record = |(offset, (key, value)): (u64, &(&str, f64))| {
        let time = second(i64::try_from(offset).unwrap());
        reading(key, *value, offset, time).encode_to_vec().into()
    };
    let to = from + u64::try_from(values.len()).unwrap();
    Event::Records {
        selector: 0,
        feed: "f".to_owned(),
        epoch: 1,
        covers: Span::new(from, to),
        records: (from..).zip(values).map(record).collect(),
    }
}

pub(super) fn gap(reason: GapReason) -> Event {
    Event::Gap {
        selector: 0,
        feed: "f".to_owned(),
        gap: GapEntry {
            epoch: 1,
            span: Span::new(5, 9),
            count: None,
            reason,
            oldest: None,
        },
    }
}

pub(super) fn complete() -> Event {
    Event::SnapshotComplete {
        selector: 0,
        feed: "f".to_owned(),
        as_of: Cursor {
            epoch: 1,
            offset: 0,
        },
    }
}

pub(super) fn caught_up() -> Event {
    Event::CaughtUp {
        selector: 0,
        feed: "f".to_owned(),
        next: Cursor {
            epoch: 1,
            offset: 0,
        },
    }
}
