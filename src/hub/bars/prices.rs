//! Open, high, low, close and the sums of a bar of prices. None of it depends on the order in
//! which records came.

use rust_decimal::Decimal;

use super::exact::Sum;
use crate::{
    model::{Offset, UnixNanos},
    proto::{v1, wire::BarView},
};

/// When an input was, and its place in the feed: inputs of one time go by it.
pub(super) type At = (UnixNanos, Offset);

/// One price, or four.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candle {
    pub open: Decimal,
    pub high: Decimal,
    pub low: Decimal,
    pub close: Decimal,
}

impl Candle {
    pub(super) fn of(price: Decimal) -> Self {
        Self {
            open: price,
            high: price,
            low: price,
            close: price,
        }
    }
}

/// The candle of all inputs.
#[derive(Clone, Debug)]
pub(super) struct Prices {
    open_at: At,
    close_at: At,
    candle: Candle,
}

/// Whether the input's close is the bar's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closes {
    Yes,
    No,
}

impl Prices {
    pub(super) fn of(at: At, candle: Candle) -> Self {
        Self {
            open_at: at,
            close_at: at,
            candle,
        }
    }

    pub(super) fn add(&mut self, at: At, candle: &Candle) -> Closes {
        let own = &mut self.candle;
        if above(&candle.high, &own.high) {
            own.high = candle.high;
        }
        if below(&candle.low, &own.low) {
            own.low = candle.low;
        }
        if at < self.open_at {
            self.open_at = at;
            own.open = candle.open;
        }
        if at < self.close_at {
            return Closes::No;
        }
        self.close_at = at;
        own.close = candle.close;
        Closes::Yes
    }

    pub(super) fn write(&self, bar: &mut v1::Bar) {
        bar.open = Some(self.candle.open.into());
        bar.high = Some(self.candle.high.into());
        bar.low = Some(self.candle.low.into());
        bar.close = Some(self.candle.close.into());
    }
}

/// Greater; of equals the one with more digits behind the point, so that it is always the same.
pub(super) fn above(value: &Decimal, than: &Decimal) -> bool {
    match value.cmp(than) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => value.scale() > than.scale(),
        std::cmp::Ordering::Less => false,
    }
}

/// Less; of equals the one with more digits behind the point.
pub(super) fn below(value: &Decimal, than: &Decimal) -> bool {
    match value.cmp(than) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Equal => value.scale() > than.scale(),
        std::cmp::Ordering::Greater => false,
    }
}

/// A trade, or a shorter bar.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dealt {
    pub candle: Candle,
    pub volume: Option<Decimal>,
    /// The price of a trade, or a bar's average.
    pub average: Option<Decimal>,
    pub adjusted_close: Option<Decimal>,
    /// How many trades it stands for, where that is known.
    pub count: Option<u64>,
}

impl Dealt {
    pub(super) fn trade(price: Decimal, size: Option<Decimal>) -> Self {
        Self {
            candle: Candle::of(price),
            volume: size,
            average: Some(price),
            adjusted_close: None,
            count: Some(1),
        }
    }

    pub(super) fn bar(bar: &BarView) -> Self {
        Self {
            candle: Candle {
                open: bar.open,
                high: bar.high,
                low: bar.low,
                close: bar.close,
            },
            volume: bar.volume,
            average: bar.vwap,
            adjusted_close: bar.adjusted_close,
            count: bar.count,
        }
    }
}

/// All trades or shorter bars of a bar.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    prices: Option<Prices>,
    adjusted_close: Option<Decimal>,
    volume: Sum,
    /// The sum of average · volume.
    turnover: Sum,
    inputs: u64,
    /// Inputs with both, average and volume.
    weighted: u64,
    /// Inputs that say how many trades they stand for, and these trades.
    counted: u64,
    count: u64,
}

impl Totals {
    pub(super) fn add(&mut self, at: At, dealt: &Dealt) {
        let closes = match &mut self.prices {
            Some(prices) => prices.add(at, &dealt.candle),
            None => {
                self.prices = Some(Prices::of(at, dealt.candle));
                Closes::Yes
            }
        };
        if closes == Closes::Yes {
            self.adjusted_close = dealt.adjusted_close;
        }
        self.inputs += 1;
        if let Some(volume) = dealt.volume {
            self.volume.add(volume);
            if let Some(average) = dealt.average {
                self.turnover.add_product(average, volume);
                self.weighted += 1;
            }
        }
        if let Some(count) = dealt.count {
            self.counted += 1;
            self.count = self.count.saturating_add(count);
        }
    }

    pub(super) fn write(&self, bar: &mut v1::Bar) {
        if let Some(prices) = &self.prices {
            prices.write(bar);
        }
        bar.volume = self.volume.decimal().map(Into::into);
        if self.weighted == self.inputs {
            bar.vwap = self.turnover.over(self.volume).map(Into::into);
        }
        let all_counted = self.counted == self.inputs;
        bar.count = Some(if all_counted { self.count } else { self.inputs });
        bar.adjusted_close = self.adjusted_close.map(Into::into);
    }
}
