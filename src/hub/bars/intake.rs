//! The table of bars: what it takes of each record.

use super::{
    BarTable,
    bar::Input,
    exact,
    keys::Tag,
    prices::{At, Dealt},
    readings::Value,
    trades::Amendment,
};
use crate::{
    model::{Offset, PayloadKind, UnixNanos},
    proto::{
        v1::BarSource,
        wire::{
            BarView, Observed, QuoteView, ReadingQuality, ReadingView, TradeAction, TradeView,
            ValueView,
        },
    },
};

/// When a record was, and which bar it belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct When {
    pub at: At,
    pub start: UnixNanos,
    pub ingest: UnixNanos,
}

impl BarTable {
    /// `None` where the payload cannot be read.
    pub(super) fn take(&mut self, observed: &Observed<'_>, offset: Offset) -> Option<()> {
        let mut when = self.when(observed.event_time, offset, observed.ingest_time);
        let key = observed.key;
        match observed.kind {
            PayloadKind::Quote => self.quote(key, when, &QuoteView::read(observed.payload)?),
            PayloadKind::Trade => self.trade(key, when, &TradeView::read(observed.payload)?),
            PayloadKind::Bar => {
                let bar = BarView::read(observed.payload)?;
                when = self.when(bar.start, offset, observed.ingest_time);
                let input = Input::Bar(Dealt::bar(&bar));
                self.put(key, Tag::of(BarSource::Bar), when, &input);
            }
            PayloadKind::Reading => self.reading(key, when, &ReadingView::read(observed.payload)?),
            PayloadKind::Status => {}
        }
        Some(())
    }

    fn when(&self, time: UnixNanos, offset: Offset, ingest: UnixNanos) -> When {
        When {
            at: (time, offset),
            start: time.div_euclid(self.interval).saturating_mul(self.interval),
            ingest,
        }
    }

    fn quote(&mut self, key: &str, when: When, quote: &QuoteView) {
        let Some(key) = self.key(key) else {
            return;
        };
        let both = quote.bid.zip(quote.ask);
        let mid = both.and_then(|(bid, ask)| exact::mid(bid, ask));
        for (source, price) in [
            (BarSource::QuoteMid, mid),
            (BarSource::QuoteBid, quote.bid),
            (BarSource::QuoteAsk, quote.ask),
        ] {
            if let Some(price) = price {
                self.put_in(key, Tag::of(source), when, &Input::Price(price));
            }
        }
    }

    fn trade(&mut self, key: &str, when: When, trade: &TradeView<'_>) {
        let (price, size) = (trade.price, trade.size);
        let amendment = match trade.action {
            TradeAction::New => {
                let id = (!trade.trade_id.is_empty()).then_some(trade.trade_id);
                let input = Input::Trade(id, Dealt::trade(price, size));
                return self.put(key, Tag::of(BarSource::Trade), when, &input);
            }
            TradeAction::Correct => Amendment::Correct { price, size },
            TradeAction::Cancel => Amendment::Cancel,
        };
        let key = self.keys.key(key);
        let series = key.and_then(|key| self.keys.find(key, Tag::of(BarSource::Trade)));
        if let Some(series) = series {
            self.amend(series, when, trade.trade_id, amendment);
        }
    }

    fn reading(&mut self, key: &str, when: When, reading: &ReadingView<'_>) {
        let quality = reading.quality;
        let value = match reading.value {
            Some(ValueView::Vector(channels)) => {
                let Some(key) = self.key(key) else {
                    return;
                };
                for (channel, value) in (0..).zip(channels.values()) {
                    if let Some(input) = reading_input(quality, Some(Value::Double(value))) {
                        self.put_in(key, Tag::of_channel(channel), when, &input);
                    }
                }
                return;
            }
            Some(ValueView::Number(number)) => Some(Value::Double(number)),
            Some(ValueView::Flag(flag)) => Some(Value::Double(f64::from(u8::from(flag)))),
            Some(ValueView::Decimal(decimal)) => Some(Value::Exact(decimal)),
            Some(ValueView::Integer(integer)) => Some(Value::Exact(integer.into())),
            Some(ValueView::Text) | None => None,
        };
        if let Some(input) = reading_input(quality, value) {
            self.put(key, Tag::of(BarSource::Reading), when, &input);
        }
    }
}

/// What a reading counts as, if it does.
fn reading_input(quality: ReadingQuality, value: Option<Value>) -> Option<Input<'static>> {
    match (quality, value) {
        (ReadingQuality::Bad, _) => Some(Input::Bad),
        (ReadingQuality::Usable, Some(Value::Double(double))) if !double.is_finite() => None,
        (ReadingQuality::Usable, value) => value.map(Input::Value),
    }
}
