//! One key and payload kind: its last record, cut down to what a screen can show, and its trend.

use std::{rc::Rc, time::Duration};

use super::trend::{self, Trend};
use crate::{
    cli::output::{kind, quality},
    model::UnixNanos,
    proto::{
        convert::std_duration,
        v1::{self, reading, record::Payload},
    },
};

/// Longer texts and vectors are cut: a row is never larger than a few kilobytes.
const MAX_TEXT: usize = 256;
const MAX_CHANNELS: usize = 8;

#[derive(Clone, Debug)]
pub(super) struct Row {
    record: v1::Record,
    /// What its payload counts as in a comparison, and its digits behind the point.
    number: Option<(f64, u32)>,
    trend: Trend,
    /// Of the oldest point of the trend.
    trend_from: u64,
    pub(super) info: Option<Rc<v1::KeyInfo>>,
}

impl Row {
    pub(super) fn new(record: v1::Record, info: Option<Rc<v1::KeyInfo>>) -> Self {
        let mut row = Self {
            trend_from: record.offset,
            record: v1::Record::default(),
            number: None,
            trend: Trend::default(),
            info,
        };
        row.set(record);
        row
    }

    /// Takes a later record; one that is older than what is shown does not become current. Says
    /// whether it did.
    pub(super) fn take(&mut self, record: v1::Record) -> bool {
        if place(&record) <= place(&self.record) {
            return false;
        }
        self.set(record);
        true
    }

    fn set(&mut self, mut record: v1::Record) {
        self.number = record.payload.as_ref().and_then(trend::number);
        if let Some((number, _)) = self.number {
            self.trend.push(number);
        }
        shorten(&mut record);
        self.record = record;
    }

    /// Puts numbers of older records in front of the trend.
    pub(super) fn put_before(&mut self, older: &[(u64, f64)]) {
        let from = self.trend_from;
        let older = older.iter().filter(|(offset, _)| *offset < from);
        let (offsets, numbers): (Vec<u64>, Vec<f64>) = older.copied().unzip();
        self.trend.put_before(&numbers);
        self.trend_from = offsets.first().copied().unwrap_or(from);
    }

    pub(super) fn key(&self) -> &str {
        &self.record.key
    }

    pub(super) fn kind(&self) -> &'static str {
        kind(&self.record)
    }

    pub(super) fn quality(&self) -> &'static str {
        quality(&self.record)
    }

    pub(super) fn record(&self) -> &v1::Record {
        &self.record
    }

    pub(super) fn info(&self) -> Option<&v1::KeyInfo> {
        self.info.as_deref()
    }

    pub(super) fn trend(&self) -> &Trend {
        &self.trend
    }

    pub(super) fn number(&self) -> Option<f64> {
        self.number.map(|(number, _)| number)
    }

    /// Since the left end of the trend; none where the last record has no number.
    pub(super) fn change(&self) -> Option<f64> {
        self.number.and_then(|_| self.trend.change())
    }

    /// Digits behind the point.
    pub(super) fn scale(&self) -> u32 {
        self.number.map_or(0, |(_, scale)| scale)
    }

    /// When the server took it in.
    pub(super) fn taken_in(&self) -> UnixNanos {
        self.record.ingest_time_unix_nanos
    }

    /// Nothing came for three of its usual intervals.
    pub(super) fn is_stale(&self, now: UnixNanos) -> bool {
        let expected = self.info().and_then(|info| info.expected_interval.as_ref());
        let Some(expected) = expected.and_then(std_duration) else {
            return false;
        };
        let age = u64::try_from(now.saturating_sub(self.taken_in())).unwrap_or(0);
        Duration::from_nanos(age) > expected.saturating_mul(3)
    }
}

/// Later is greater: by event time, ties by offset.
fn place(record: &v1::Record) -> (UnixNanos, u64) {
    let time = record.event_time_unix_nanos;
    (time.unwrap_or(record.ingest_time_unix_nanos), record.offset)
}

fn shorten(record: &mut v1::Record) {
    match &mut record.payload {
        Some(Payload::Quote(quote)) => quote.conditions = vec![],
        Some(Payload::Trade(trade)) => {
            trade.conditions = vec![];
            cut(&mut trade.trade_id);
        }
        Some(Payload::Status(status)) => {
            cut(&mut status.state);
            cut(&mut status.reason);
        }
        Some(Payload::Reading(reading)) => match &mut reading.value {
            Some(reading::Value::Text(text)) => cut(text),
            Some(reading::Value::Vector(vector)) => {
                vector.values.truncate(MAX_CHANNELS);
                vector.values.shrink_to_fit();
            }
            Some(
                reading::Value::Number(_)
                | reading::Value::Decimal(_)
                | reading::Value::Integer(_)
                | reading::Value::Flag(_),
            )
            | None => {}
        },
        Some(Payload::Bar(_)) | None => {}
    }
}

fn cut(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::watch::samples::{reading, second};

    #[test]
    fn an_older_reading_does_not_become_current() {
        let mut row = Row::new(reading("k", 5.0, 10, second(50)), None);
        assert!(!row.take(reading("k", 4.0, 11, second(40))), "a spool");
        assert!(!row.take(reading("k", 5.0, 10, second(50))), "itself");
        assert!(row.take(reading("k", 6.0, 12, second(50))), "a tie");
        assert_eq!(row.trend().points(), [5.0, 6.0]);
        row.put_before(&[(3, 1.0), (9, 2.0), (10, 5.0)]);
        assert_eq!(row.trend().points(), [1.0, 2.0, 5.0, 6.0]);
        row.put_before(&[(3, 1.0), (9, 2.0)]);
        assert_eq!(row.trend().points().len(), 4, "not twice");
    }

    #[test]
    fn a_key_is_stale_after_three_of_its_intervals() {
        let info = v1::KeyInfo {
            expected_interval: Some(prost_types::Duration {
                seconds: 10,
                nanos: 0,
            }),
            ..v1::KeyInfo::default()
        };
        let row = Row::new(reading("k", 1.0, 0, second(100)), Some(Rc::new(info)));
        assert!(!row.is_stale(second(130)));
        assert!(row.is_stale(second(130) + 1));
        assert!(!row.is_stale(second(90)), "our clock is behind");
        let unknown = Row::new(reading("k", 1.0, 0, second(100)), None);
        assert!(!unknown.is_stale(second(1_000_000)));
    }

    #[test]
    fn what_no_screen_shows_is_not_kept() {
        let text = reading::Value::Text("x".repeat(60_000));
        let vector = reading::Value::Vector(v1::Vector {
            values: vec![1.0; 7_000],
        });
        for value in [text, vector] {
            let mut long = reading("k", 0.0, 0, 0);
            long.payload = Some(Payload::Reading(v1::Reading {
                value: Some(value),
                ..v1::Reading::default()
            }));
            let row = Row::new(long, None);
            assert!(prost::Message::encoded_len(row.record()) < 512);
        }
    }
}
