//! A table that one sees record by record, and how its bars read in a test.

use super::{
    super::{BarTable, History, Seen},
    bed::{Feed, PLENTY, SECOND, table},
};
use crate::{
    hub::OpenBars,
    model::UnixNanos,
    proto::v1::{self, record::Payload},
};

pub(super) fn decimal(text: &str) -> v1::Decimal {
    crate::proto::convert::parse_decimal(text).unwrap()
}

pub(super) fn text(decimal: Option<&v1::Decimal>) -> String {
    decimal.map_or_else(|| "-".into(), crate::proto::convert::decimal_text)
}

pub(super) fn trade(id: &str, action: v1::TradeAction, price: &str, size: &str) -> Payload {
    Payload::Trade(v1::Trade {
        price: Some(decimal(price)),
        size: Some(decimal(size)),
        trade_id: id.into(),
        action: action.into(),
        ..v1::Trade::default()
    })
}

pub(super) fn plain(price: &str, size: &str) -> Payload {
    trade("", v1::TradeAction::New, price, size)
}

pub(super) fn reading(value: Option<v1::reading::Value>, quality: v1::Quality) -> Payload {
    Payload::Reading(v1::Reading {
        value,
        quality: quality.into(),
        ..v1::Reading::default()
    })
}

/// A table, the feed it sees, and the time that passes.
pub(super) struct Bench {
    pub feed: Feed,
    pub table: BarTable,
    pub seen: Seen,
    pub now: UnixNanos,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(PLENTY, History::default())
    }

    pub(super) fn with(max_bytes: usize, history: History) -> Self {
        Self {
            feed: Feed::default(),
            table: table(max_bytes, history),
            seen: Seen::default(),
            now: 0,
        }
    }

    /// A record of `key` of second `time`, taken in now.
    pub(super) fn record(&mut self, key: &str, time: i64, payload: Payload) -> usize {
        let record = v1::Record {
            key: key.into(),
            event_time_unix_nanos: Some(time * SECOND),
            payload: Some(payload),
            ..v1::Record::default()
        };
        let at = self.feed.store(record, self.now);
        self.feed.feed(&mut self.table, at, at + 1).unwrap()
    }

    pub(super) fn sent(&mut self, open: OpenBars) -> Vec<v1::ViewBar> {
        let bars = self.table.changed_since(self.seen, open).collect();
        self.seen = self.table.position();
        bars
    }
}

/// `key start: open high low close volume average count late`.
pub(super) fn shown(bars: &[v1::ViewBar]) -> Vec<String> {
    let show = |view: &v1::ViewBar| {
        let bar = view.bar.as_ref().unwrap();
        let prices = [
            &bar.open,
            &bar.high,
            &bar.low,
            &bar.close,
            &bar.volume,
            &bar.vwap,
        ];
        let prices = prices.map(|price| text(price.as_ref())).join(" ");
        let start = bar.start_unix_nanos.unwrap() / SECOND;
        let (count, late) = (bar.count.unwrap(), view.late_count);
        format!("{} {start}: {prices} {count} {late}", view.key)
    };
    bars.iter().map(show).collect()
}
