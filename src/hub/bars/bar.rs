//! One bar: what is counted in it, and how it reads on the wire.

use std::sync::Arc;

use rust_decimal::Decimal;

use super::{
    Seen,
    keys::Tag,
    prices::{At, Candle, Dealt, Prices, Totals},
    readings::{Readings, Value},
    trades::{Amendment, Trades},
};
use crate::{
    model::UnixNanos,
    proto::v1::{self, BarSource},
};

/// What a record adds to a series.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input<'a> {
    Price(Decimal),
    /// With its trade id, where it has one.
    Trade(Option<&'a str>, Dealt),
    Bar(Dealt),
    Value(Value),
    Bad,
}

#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub start: UnixNanos,
    /// When the newest of its records came in.
    pub last_ingest: UnixNanos,
    /// Records that came when it was complete.
    pub late: u64,
    pub changed: Seen,
    pub(super) completeness: Completeness,
    /// What of the table's bytes is its.
    pub bytes: usize,
    figures: Figures,
}

/// Whether all records of a bar were there when it was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completeness {
    Whole,
    /// Some may have left the ring before.
    Partial,
}

impl Completeness {
    /// Of a bar where those that start before `partial_before` may have lost records.
    pub(super) fn of(start: UnixNanos, partial_before: UnixNanos) -> Self {
        if start < partial_before {
            Self::Partial
        } else {
            Self::Whole
        }
    }
}

#[derive(Clone, Debug)]
enum Figures {
    Quotes { prices: Option<Prices>, count: u64 },
    Trades(Box<Trades>),
    Bars(Box<Totals>),
    Readings(Box<Readings>),
}

/// Bytes of a bar of any source without its trades, its places in the table's indexes included.
pub(super) const BAR_BYTES: usize =
    size_of::<Bar>() + 2 * size_of::<(UnixNanos, Seen)>() + largest(LARGEST);
const LARGEST: [usize; 3] = [
    size_of::<Trades>(),
    size_of::<Totals>(),
    size_of::<Readings>(),
];

const fn largest([a, b, c]: [usize; 3]) -> usize {
    let ab = if a > b { a } else { b };
    if ab > c { ab } else { c }
}

impl Bar {
    pub(super) fn new(start: UnixNanos, source: BarSource, completeness: Completeness) -> Self {
        Self {
            start,
            last_ingest: UnixNanos::MIN,
            late: 0,
            changed: Seen::default(),
            completeness,
            bytes: BAR_BYTES,
            figures: Figures::of(source),
        }
    }

    /// Counts an input that needs not be remembered.
    pub(super) fn add(&mut self, at: At, input: &Input<'_>) {
        match (&mut self.figures, input) {
            (Figures::Quotes { prices, count }, Input::Price(price)) => {
                *count += 1;
                match prices {
                    Some(prices) => drop(prices.add(at, &Candle::of(*price))),
                    None => *prices = Some(Prices::of(at, Candle::of(*price))),
                }
            }
            (Figures::Trades(trades), Input::Trade(_, dealt)) => trades.add(at, dealt),
            (Figures::Bars(totals), Input::Bar(dealt)) => totals.add(at, dealt),
            (Figures::Readings(readings), Input::Value(value)) => readings.add(at, *value),
            (Figures::Readings(readings), Input::Bad) => readings.add_bad(),
            // The source of a series says what comes in.
            (
                Figures::Quotes { .. }
                | Figures::Trades(_)
                | Figures::Bars(_)
                | Figures::Readings(_),
                _,
            ) => {}
        }
    }

    /// Adds a trade that can be corrected; its place among them.
    pub(super) fn add_named(&mut self, id: Arc<str>, at: At, dealt: &Dealt) -> usize {
        self.trades_mut()
            .map_or(0, |trades| trades.add_named(id, at, dealt))
    }

    /// Changes a trade that can be corrected.
    pub(super) fn amend(&mut self, ingest: UnixNanos, place: usize, amendment: Amendment) {
        self.last_ingest = self.last_ingest.max(ingest);
        if let Some(trades) = self.trades_mut() {
            trades.amend(place, amendment);
        }
    }

    fn trades_mut(&mut self) -> Option<&mut Trades> {
        match &mut self.figures {
            Figures::Trades(trades) => Some(trades),
            Figures::Quotes { .. } | Figures::Bars(_) | Figures::Readings(_) => None,
        }
    }

    pub(super) fn trades(&self) -> Option<&Trades> {
        match &self.figures {
            Figures::Trades(trades) => Some(trades),
            Figures::Quotes { .. } | Figures::Bars(_) | Figures::Readings(_) => None,
        }
    }

    /// Works out what was put off. Before `view`.
    pub(super) fn refresh(&mut self) {
        if let Some(trades) = self.trades_mut() {
            trades.refresh();
        }
    }

    pub(super) fn view(&self, key: &str, tag: Tag, interval: i64, state: State) -> v1::ViewBar {
        let mut view = v1::ViewBar {
            key: key.to_owned(),
            revision: u32::try_from(self.late).unwrap_or(u32::MAX),
            complete: state == State::Complete,
            late_count: self.late,
            source: tag.source.into(),
            partial: self.completeness == Completeness::Partial,
            ..v1::ViewBar::default()
        };
        match &self.figures {
            Figures::Readings(readings) => {
                let mut bar = v1::ReadingBar {
                    start_unix_nanos: self.start,
                    interval_nanos: interval,
                    channel: tag.channel(),
                    ..v1::ReadingBar::default()
                };
                readings.write(&mut bar);
                view.reading = Some(bar);
            }
            Figures::Quotes { .. } | Figures::Trades(_) | Figures::Bars(_) => {
                view.bar = Some(self.prices(interval));
            }
        }
        view
    }

    fn prices(&self, interval: i64) -> v1::Bar {
        let mut bar = v1::Bar {
            start_unix_nanos: Some(self.start),
            interval_nanos: Some(interval),
            ..v1::Bar::default()
        };
        match &self.figures {
            Figures::Quotes { prices, count } => {
                bar.count = Some(*count);
                if let Some(prices) = prices {
                    prices.write(&mut bar);
                }
            }
            Figures::Trades(trades) => trades.write(&mut bar),
            Figures::Bars(totals) => totals.write(&mut bar),
            Figures::Readings(_) => {}
        }
        bar
    }
}

/// Whether a bar's time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    Complete,
}

impl Figures {
    fn of(source: BarSource) -> Self {
        match source {
            BarSource::Trade => Self::Trades(Box::default()),
            BarSource::Bar => Self::Bars(Box::default()),
            BarSource::Reading => Self::Readings(Box::default()),
            BarSource::QuoteMid
            | BarSource::QuoteBid
            | BarSource::QuoteAsk
            | BarSource::Unspecified => Self::Quotes {
                prices: None,
                count: 0,
            },
        }
    }
}
