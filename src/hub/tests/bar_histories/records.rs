//! Random records: every payload, in order, out of order and years apart.

use bytes::Bytes;
use prost::Message as _;

use crate::{
    model::{self, UnixNanos},
    proto::v1::{self, Quality, TradeAction, reading::Value, record::Payload},
};

pub(super) const SECOND: i64 = 1_000_000_000;
pub(super) const KEYS: [&str; 3] = ["a", "b", "c"];
const HOUR: i64 = 3_600 * SECOND;
const YEAR: i64 = 365 * 24 * HOUR;

/// Random numbers that can be had again: SplitMix64.
#[derive(Debug)]
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// From 0 up to, and without, `n`.
    pub(super) fn number(&mut self, n: i64) -> i64 {
        self.below(n.unsigned_abs()).cast_signed()
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// What the records of a history are like.
#[derive(Debug)]
pub(super) struct Source {
    /// The bars that they are for.
    interval: i64,
    now: UnixNanos,
    /// Some trades are corrected or taken back.
    amends: bool,
}

impl Source {
    pub(super) fn new(dice: &mut Random, interval: i64) -> Self {
        // Long over, or not over when they are read.
        let ago = dice.pick(&[20 * YEAR, 60 * YEAR, 2 * interval, 30 * SECOND]);
        Self {
            interval,
            now: model::now() - ago,
            amends: dice.chance(50),
        }
    }

    /// A record as a producer sends it.
    pub(super) fn record(&mut self, dice: &mut Random) -> Bytes {
        let time = self.time(dice);
        let payload = match dice.below(22) {
            0..4 => quote(dice),
            4..12 => self.trade(dice),
            12..15 => bar(dice, time, self.interval),
            15..21 => reading(dice),
            _ => Payload::Status(v1::Status {
                state: "on".into(),
                reason: String::new(),
            }),
        };
        encode(dice.pick(&KEYS), time, payload)
    }

    /// One that takes much room, and counts for no bar.
    pub(super) fn large(&mut self, dice: &mut Random) -> Bytes {
        let value = Some(Value::Text("x".repeat(dice.pick(&[2_000, 2_500, 3_000]))));
        let reading = v1::Reading {
            value,
            ..v1::Reading::default()
        };
        encode("large", self.now, Payload::Reading(reading))
    }

    /// The event time that it has come to.
    pub(super) fn now(&self) -> UnixNanos {
        self.now
    }

    fn time(&mut self, dice: &mut Random) -> UnixNanos {
        let back = match dice.below(20) {
            0..13 => {
                let step = dice.number(self.interval / 3);
                self.now = (self.now + step).min(model::now() + 20 * HOUR);
                0
            }
            13 => {
                let step = dice.number(6 * self.interval);
                self.now = (self.now + step).min(model::now() + 20 * HOUR);
                0
            }
            14..17 => dice.number(self.interval),
            17..19 => self.interval * dice.number(8),
            _ => dice.number(10 * YEAR),
        };
        self.now - back
    }

    fn trade(&self, dice: &mut Random) -> Payload {
        let action = match dice.below(8) {
            0 if self.amends => TradeAction::Correct,
            1 if self.amends => TradeAction::Cancel,
            2..5 => TradeAction::Unspecified,
            _ => TradeAction::New,
        };
        let is_new = matches!(action, TradeAction::New | TradeAction::Unspecified);
        let trade_id = match dice.below(8) {
            0 if is_new => String::new(),
            id => format!("t{id}"),
        };
        let size = dice.chance(90).then(|| positive(dice));
        Payload::Trade(v1::Trade {
            price: Some(decimal(dice)),
            size,
            trade_id,
            action: action.into(),
            ..v1::Trade::default()
        })
    }
}

fn encode(key: &str, time: UnixNanos, payload: Payload) -> Bytes {
    let record = v1::Record {
        key: key.into(),
        event_time_unix_nanos: Some(time),
        payload: Some(payload),
        ..v1::Record::default()
    };
    record.encode_to_vec().into()
}

fn decimal(dice: &mut Random) -> v1::Decimal {
    let units = match dice.chance(85) {
        true => dice.number(45) - 5,
        false => dice.number(20_000_000) - 10_000_000,
    };
    v1::Decimal {
        units,
        scale: u32::try_from(dice.below(4)).unwrap(),
        high: 0,
    }
}

fn positive(dice: &mut Random) -> v1::Decimal {
    v1::Decimal {
        units: dice.number(9),
        scale: u32::try_from(dice.below(3)).unwrap(),
        high: 0,
    }
}

fn quote(dice: &mut Random) -> Payload {
    let (bid, ask) = (decimal(dice), decimal(dice));
    let (with_bid, with_ask) =
        dice.pick(&[(true, true), (true, true), (true, false), (false, true)]);
    Payload::Quote(v1::Quote {
        bid: with_bid.then_some(bid),
        ask: with_ask.then_some(ask),
        ..v1::Quote::default()
    })
}

/// A bar is reported when it is over.
fn bar(dice: &mut Random, time: UnixNanos, interval: i64) -> Payload {
    let own = dice.number(interval) + 1;
    let mut maybe = |value: fn(&mut Random) -> v1::Decimal| {
        let value = value(dice);
        dice.chance(70).then_some(value)
    };
    let (volume, vwap, adjusted_close) = (maybe(positive), maybe(decimal), maybe(decimal));
    Payload::Bar(v1::Bar {
        start_unix_nanos: Some(time - own),
        interval_nanos: Some(own),
        open: Some(decimal(dice)),
        high: Some(decimal(dice)),
        low: Some(decimal(dice)),
        close: Some(decimal(dice)),
        volume,
        vwap,
        count: dice.chance(80).then(|| dice.below(5)),
        adjusted_close,
    })
}

fn reading(dice: &mut Random) -> Payload {
    let value = match dice.below(12) {
        0..3 => Some(Value::Number(double(dice))),
        3..6 => Some(Value::Decimal(decimal(dice))),
        6..8 => Some(Value::Integer(dice.number(18) - 9)),
        8 => Some(Value::Flag(dice.chance(50))),
        9 => Some(Value::Text("on".into())),
        10 => {
            let values = (0..dice.below(3) + 1).map(|_| double(dice)).collect();
            Some(Value::Vector(v1::Vector { values }))
        }
        _ => None,
    };
    let quality = match value {
        Some(_) => dice.pick(&[0, 1, 2, 3]),
        None => Quality::Bad.into(),
    };
    Payload::Reading(v1::Reading {
        value,
        quality,
        ..v1::Reading::default()
    })
}

fn double(dice: &mut Random) -> f64 {
    let any = dice.number(2_000_000) as f64 / 1e3 - 1e3;
    dice.pick(&[0.0, -0.0, 21.5, any, any])
}
