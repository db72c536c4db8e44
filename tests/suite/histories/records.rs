//! Records of every kind, valid and not, as an uploader might send them.

use bytes::Bytes;
use ringfeed::proto::v1::{self, reading::Value, record::Payload};

use super::{
    super::harness::{Random, encode},
    history::{Sizes, Times, key},
};

const SECOND: i64 = 1_000_000_000;
const YEAR: i64 = 31_556_952 * SECOND;
/// One append stays well below the least ring, so that the truth sees all of it.
const MAX_APPEND_BYTES: usize = 280_000;

/// A record as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub bytes: Bytes,
    /// `None`: it breaks a rule.
    pub record: Option<v1::Record>,
}

/// Writes the records of one append.
pub(super) struct Author<'r> {
    pub random: &'r mut Random,
    pub keys: u64,
    pub sizes: Sizes,
    pub times: Times,
    /// The event time of the first one.
    pub clock: i64,
}

impl Author<'_> {
    pub(super) fn write(&mut self, records: u64) -> Vec<Sent> {
        let mut bytes = 0;
        let mut sent = vec![];
        for n in 0..records {
            let record = self.record(n);
            bytes += record.bytes.len();
            if bytes > MAX_APPEND_BYTES {
                break;
            }
            sent.push(record);
        }
        sent
    }

    fn record(&mut self, n: u64) -> Sent {
        let key = key(self.random.below(self.keys));
        let mut record = v1::Record {
            key,
            event_time_unix_nanos: self.time(n),
            payload: Some(self.payload()),
            venue: if self.random.below(5) == 0 {
                "XNAS".into()
            } else {
                String::new()
            },
            ..v1::Record::default()
        };
        let is_valid = self.random.below(40) != 0;
        if !is_valid {
            self.spoil(&mut record);
        }
        Sent {
            bytes: encode(&record),
            record: is_valid.then_some(record),
        }
    }

    fn time(&mut self, n: u64) -> Option<i64> {
        let step = 170_000_000 * n as i64;
        match self.times {
            Times::Rising => Some(self.clock + step),
            Times::Falling => Some(self.clock - step),
            Times::Equal => Some(self.clock),
            Times::YearsApart => Some(self.clock - self.random.below(60) as i64 * YEAR),
            Times::Absent => None,
        }
    }

    fn spoil(&mut self, record: &mut v1::Record) {
        match self.random.below(4) {
            0 => record.key = String::new(),
            1 => record.payload = None,
            2 => record.event_time_unix_nanos = Some(i64::MAX),
            _ => {
                let reading = v1::Reading {
                    value: Some(Value::Number(f64::NAN)),
                    ..v1::Reading::default()
                };
                record.payload = Some(Payload::Reading(reading));
            }
        }
    }

    fn payload(&mut self) -> Payload {
        if self.sizes == Sizes::Large && self.random.below(3) != 0 {
            return Payload::Reading(self.large());
        }
        match self.random.below(10) {
            0..=2 => Payload::Trade(self.trade()),
            3 | 4 => Payload::Quote(self.quote()),
            5 => Payload::Bar(self.bar()),
            6..=8 => Payload::Reading(self.reading()),
            _ => Payload::Status(v1::Status {
                state: "halted".into(),
                reason: "news".into(),
            }),
        }
    }

    fn price(&mut self) -> Option<v1::Decimal> {
        Some(v1::Decimal {
            units: self.random.below(20_000) as i64 - 2_000,
            scale: self.random.below(4) as u32,
            high: 0,
        })
    }

    fn maybe(&mut self) -> Option<v1::Decimal> {
        let some = self.random.below(3) != 0;
        some.then(|| self.price()).flatten()
    }

    fn trade(&mut self) -> v1::Trade {
        let action = match self.random.below(8) {
            0 => v1::TradeAction::Correct,
            1 => v1::TradeAction::Cancel,
            _ => v1::TradeAction::New,
        };
        v1::Trade {
            price: self.price(),
            size: Some(v1::Decimal {
                units: self.random.below(500) as i64,
                scale: 0,
                high: 0,
            }),
            trade_id: format!("t{}", self.random.below(40)),
            action: action.into(),
            ..v1::Trade::default()
        }
    }

    fn quote(&mut self) -> v1::Quote {
        let (mut bid, ask) = (self.maybe(), self.maybe());
        if ask.is_none() {
            bid = bid.or_else(|| self.price());
        }
        v1::Quote {
            bid,
            ask,
            bid_size: self.maybe(),
            ..v1::Quote::default()
        }
    }

    fn bar(&mut self) -> v1::Bar {
        let start = self.clock - self.clock.rem_euclid(SECOND);
        v1::Bar {
            start_unix_nanos: Some(start + self.random.below(30) as i64 * SECOND),
            interval_nanos: Some(SECOND),
            open: self.price(),
            high: self.price(),
            low: self.price(),
            close: self.price(),
            volume: self.maybe(),
            ..v1::Bar::default()
        }
    }

    fn reading(&mut self) -> v1::Reading {
        let quality = match self.random.below(6) {
            0 => v1::Quality::Bad,
            1 => v1::Quality::Uncertain,
            _ => v1::Quality::Good,
        };
        let n = self.random.below(1_000);
        let value = match self.random.below(7) {
            0 => Some(Value::Decimal(self.price().unwrap_or_default())),
            1 => Some(Value::Integer(n as i64 - 500)),
            2 => Some(Value::Flag(n.is_multiple_of(2))),
            3 => Some(Value::Text(format!("state {n}"))),
            4 => {
                let values = vec![n as f64, 0.5, -1.0];
                Some(Value::Vector(v1::Vector { values }))
            }
            5 if quality == v1::Quality::Bad => None,
            _ => Some(Value::Number(n as f64 / 8.0)),
        };
        v1::Reading {
            value,
            quality: quality.into(),
            quality_code: None,
        }
    }

    fn large(&mut self) -> v1::Reading {
        let value = if self.random.below(2) == 0 {
            let channels = 100 + self.random.below(900) as usize;
            let values = vec![self.random.below(1_000) as f64; channels];
            Value::Vector(v1::Vector { values })
        } else {
            Value::Text("x".repeat(1_000 + self.random.below(3_000) as usize))
        };
        v1::Reading {
            value: Some(value),
            ..v1::Reading::default()
        }
    }
}
