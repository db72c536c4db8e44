//! Cells to quotes, trades, bars and states.

use anyhow::Context as _;
use csv::StringRecord;
use jiff::{Span, SpanRelativeTo};

use super::{
    binder::{Binder, CodePlan, TextPlan},
    clock::Clock,
    row::{Cell, Fault},
    spec::{BarSpec, QuoteSpec, StatusSpec, TradeSpec},
};
use crate::proto::{
    convert::parse_decimal,
    v1::{self, TradeAction, TradeSide},
};

const SIDES: [(&str, i32); 2] = [
    ("buy", TradeSide::Buy as i32),
    ("sell", TradeSide::Sell as i32),
];
const ACTIONS: [(&str, i32); 3] = [
    ("new", TradeAction::New as i32),
    ("correct", TradeAction::Correct as i32),
    ("cancel", TradeAction::Cancel as i32),
];

/// A duration such as `1d`, `5m`, `100ms`; a day is 24 hours.
pub(super) fn duration_nanos(text: &str) -> anyhow::Result<i64> {
    let explain = || format!("{text:?} is not a duration such as \"1d\", \"5m\" or \"100ms\"");
    let span: Span = text.parse().with_context(explain)?;
    let duration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .with_context(explain)?;
    i64::try_from(duration.as_nanos())
        .ok()
        .filter(|nanos| *nanos > 0)
        .with_context(explain)
}

fn decimal(cell: &Cell, text: &str) -> Result<v1::Decimal, Fault> {
    parse_decimal(text).map_err(|error| cell.fault(error))
}

fn required(cell: &Cell, row: &StringRecord) -> Result<Option<v1::Decimal>, Fault> {
    decimal(cell, cell.required(row)?).map(Some)
}

fn optional(cell: Option<&Cell>, row: &StringRecord) -> Result<Option<v1::Decimal>, Fault> {
    let found = cell.and_then(|cell| Some((cell, cell.text(row)?)));
    found.map(|(cell, text)| decimal(cell, text)).transpose()
}

/// An unsigned integer, where the cell has one.
pub(super) fn count(cell: Option<&Cell>, row: &StringRecord) -> Result<Option<u64>, Fault> {
    let found = cell.and_then(|cell| Some((cell, cell.text(row)?)));
    found
        .map(|(cell, text)| {
            text.parse()
                .map_err(|_error| cell.fault("is not an unsigned 64-bit integer"))
        })
        .transpose()
}

fn text(cell: Option<&Cell>, row: &StringRecord) -> String {
    cell.and_then(|cell| cell.text(row))
        .unwrap_or_default()
        .to_owned()
}

/// Condition codes of one cell.
#[derive(Clone, Debug)]
struct Conditions {
    cell: Cell,
    separator: Option<String>,
}

impl Conditions {
    fn bind(
        spec: Option<&super::spec::CellSpec>,
        binder: &mut Binder<'_>,
    ) -> anyhow::Result<Option<Self>> {
        spec.map(|spec| {
            Ok(Self {
                cell: binder.column(spec)?,
                separator: spec.separator.clone(),
            })
        })
        .transpose()
    }

    fn read(&self, row: &StringRecord) -> Vec<String> {
        let text = self.cell.text(row).unwrap_or_default();
        let words: Vec<&str> = match self.separator.as_deref() {
            Some(separator) => text.split(separator).collect(),
            None => vec![text],
        };
        words
            .into_iter()
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

#[derive(Clone, Debug)]
pub(super) struct QuotePlan {
    bid: Option<Cell>,
    ask: Option<Cell>,
    bid_size: Option<Cell>,
    ask_size: Option<Cell>,
    conditions: Option<Conditions>,
}

impl QuotePlan {
    pub(super) fn bind(spec: &QuoteSpec, binder: &mut Binder<'_>) -> anyhow::Result<Self> {
        Ok(Self {
            bid: binder.optional(spec.bid.as_ref())?,
            ask: binder.optional(spec.ask.as_ref())?,
            bid_size: binder.optional(spec.bid_size.as_ref())?,
            ask_size: binder.optional(spec.ask_size.as_ref())?,
            conditions: Conditions::bind(spec.conditions.as_ref(), binder)?,
        })
    }

    pub(super) fn read(&self, row: &StringRecord) -> Result<v1::Quote, Fault> {
        Ok(v1::Quote {
            bid: optional(self.bid.as_ref(), row)?,
            ask: optional(self.ask.as_ref(), row)?,
            bid_size: optional(self.bid_size.as_ref(), row)?,
            ask_size: optional(self.ask_size.as_ref(), row)?,
            conditions: self
                .conditions
                .as_ref()
                .map(|c| c.read(row))
                .unwrap_or_default(),
        })
    }
}

#[derive(Clone, Debug)]
pub(super) struct TradePlan {
    price: Cell,
    size: Option<Cell>,
    trade_id: Option<Cell>,
    side: Option<CodePlan>,
    conditions: Option<Conditions>,
    action: Option<CodePlan>,
}

impl TradePlan {
    pub(super) fn bind(spec: &TradeSpec, binder: &mut Binder<'_>) -> anyhow::Result<Self> {
        let side = spec.side.as_ref();
        let action = spec.action.as_ref();
        Ok(Self {
            price: binder.column(&spec.price)?,
            size: binder.optional(spec.size.as_ref())?,
            trade_id: binder.optional(spec.trade_id.as_ref())?,
            side: side
                .map(|side| CodePlan::bind(side, &SIDES, binder))
                .transpose()?,
            conditions: Conditions::bind(spec.conditions.as_ref(), binder)?,
            action: action
                .map(|action| CodePlan::bind(action, &ACTIONS, binder))
                .transpose()?,
        })
    }

    pub(super) fn read(&self, row: &StringRecord) -> Result<v1::Trade, Fault> {
        Ok(v1::Trade {
            price: required(&self.price, row)?,
            size: optional(self.size.as_ref(), row)?,
            trade_id: text(self.trade_id.as_ref(), row),
            side: self.side.as_ref().map_or(Ok(0), |side| side.read(row))?,
            conditions: self
                .conditions
                .as_ref()
                .map(|c| c.read(row))
                .unwrap_or_default(),
            action: self
                .action
                .as_ref()
                .map_or(Ok(0), |action| action.read(row))?,
        })
    }
}

#[derive(Clone, Debug)]
pub(super) struct BarPlan {
    start: Option<Clock>,
    interval_nanos: i64,
    open: Cell,
    high: Cell,
    low: Cell,
    close: Cell,
    volume: Option<Cell>,
    vwap: Option<Cell>,
    count: Option<Cell>,
    adjusted_close: Option<Cell>,
}

impl BarPlan {
    pub(super) fn bind(spec: &BarSpec, binder: &mut Binder<'_>) -> anyhow::Result<Self> {
        let start = spec.start.as_ref();
        Ok(Self {
            start: start.map(|start| Clock::bind(start, binder)).transpose()?,
            interval_nanos: duration_nanos(&spec.interval).context("`interval` of [bar]")?,
            open: binder.column(&spec.open)?,
            high: binder.column(&spec.high)?,
            low: binder.column(&spec.low)?,
            close: binder.column(&spec.close)?,
            volume: binder.optional(spec.volume.as_ref())?,
            vwap: binder.optional(spec.vwap.as_ref())?,
            count: binder.optional(spec.count.as_ref())?,
            adjusted_close: binder.optional(spec.adjusted_close.as_ref())?,
        })
    }

    pub(super) fn read(&self, row: &StringRecord, time: Option<i64>) -> Result<v1::Bar, Fault> {
        let start_unix_nanos = self
            .start
            .as_ref()
            .map_or(Ok(time), |start| start.read(row))?;
        Ok(v1::Bar {
            start_unix_nanos,
            interval_nanos: Some(self.interval_nanos),
            open: required(&self.open, row)?,
            high: required(&self.high, row)?,
            low: required(&self.low, row)?,
            close: required(&self.close, row)?,
            volume: optional(self.volume.as_ref(), row)?,
            vwap: optional(self.vwap.as_ref(), row)?,
            count: count(self.count.as_ref(), row)?,
            adjusted_close: optional(self.adjusted_close.as_ref(), row)?,
        })
    }
}

#[derive(Clone, Debug)]
pub(super) struct StatusPlan {
    state: TextPlan,
    reason: Option<Cell>,
}

impl StatusPlan {
    pub(super) fn bind(spec: &StatusSpec, binder: &mut Binder<'_>) -> anyhow::Result<Self> {
        Ok(Self {
            state: TextPlan::bind(&spec.state, binder)?,
            reason: binder.optional(spec.reason.as_ref())?,
        })
    }

    pub(super) fn read(&self, row: &StringRecord) -> Result<v1::Status, Fault> {
        Ok(v1::Status {
            state: self.state.required(row)?,
            reason: text(self.reason.as_ref(), row),
        })
    }
}
