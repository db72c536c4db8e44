//! The views of payloads against prost.

use proptest::prelude::*;
use prost::Message as _;
use rust_decimal::Decimal;

use super::{
    super::{
        BarView, Observed, QuoteView, ReadingQuality, ReadingView, TradeAction, TradeView,
        ValueView,
    },
    records,
    v1::{self, reading::Value, record::Payload},
};

fn decimal(wire: Option<&v1::Decimal>) -> Option<Decimal> {
    wire.map(|wire| wire.try_into().unwrap())
}

fn assert_as_prost(payload: &[u8], theirs: &Payload) {
    match theirs {
        Payload::Quote(quote) => {
            let view = QuoteView::read(payload).unwrap();
            assert_eq!(view.bid, decimal(quote.bid.as_ref()));
            assert_eq!(view.ask, decimal(quote.ask.as_ref()));
        }
        Payload::Trade(trade) => {
            let view = TradeView::read(payload).unwrap();
            assert_eq!(Some(view.price), decimal(trade.price.as_ref()));
            assert_eq!(view.size, decimal(trade.size.as_ref()));
            assert_eq!(view.trade_id, trade.trade_id);
            let action = match trade.action() {
                v1::TradeAction::Correct => TradeAction::Correct,
                v1::TradeAction::Cancel => TradeAction::Cancel,
                v1::TradeAction::New | v1::TradeAction::Unspecified => TradeAction::New,
            };
            assert_eq!(view.action, action);
        }
        Payload::Bar(bar) => {
            let view = BarView::read(payload).unwrap();
            let prices = [view.open, view.high, view.low, view.close].map(Some);
            let theirs = [&bar.open, &bar.high, &bar.low, &bar.close];
            assert_eq!(prices, theirs.map(|price| decimal(price.as_ref())));
            let rest = [view.volume, view.vwap, view.adjusted_close];
            let theirs = [&bar.volume, &bar.vwap, &bar.adjusted_close];
            assert_eq!(rest, theirs.map(|value| decimal(value.as_ref())));
            assert_eq!(Some(view.start), bar.start_unix_nanos);
            assert_eq!(view.count, bar.count);
        }
        Payload::Reading(reading) => {
            let view = ReadingView::read(payload).unwrap();
            let is_bad = view.quality == ReadingQuality::Bad;
            assert_eq!(is_bad, reading.quality() == v1::Quality::Bad);
            match (view.value, &reading.value) {
                (Some(ValueView::Number(ours)), Some(Value::Number(theirs))) => {
                    assert_eq!(ours.to_bits(), theirs.to_bits());
                }
                (Some(ValueView::Decimal(ours)), Some(Value::Decimal(theirs))) => {
                    assert_eq!(Some(ours), decimal(Some(theirs)));
                }
                (Some(ValueView::Integer(ours)), Some(Value::Integer(theirs))) => {
                    assert_eq!(ours, *theirs);
                }
                (Some(ValueView::Flag(ours)), Some(Value::Flag(theirs))) => {
                    assert_eq!(ours, *theirs);
                }
                (Some(ValueView::Vector(ours)), Some(Value::Vector(theirs))) => {
                    let ours: Vec<_> = ours.values().map(f64::to_bits).collect();
                    let theirs = theirs.values.iter().map(|value| value.to_bits());
                    assert_eq!(ours, theirs.collect::<Vec<_>>());
                }
                (Some(ValueView::Text), Some(Value::Text(_))) | (None, None) => {}
                (ours, theirs) => panic!("{ours:?} {theirs:?}"),
            }
        }
        Payload::Status(_) => {}
    }
}

proptest! {
    #[test]
    fn views_read_what_prost_reads(record in records::valid(1_000_000)) {
        let bytes = record.encode_to_vec();
        let observed = Observed::read(&bytes).unwrap();
        prop_assert_eq!(observed.key, &record.key);
        prop_assert_eq!(observed.event_time, record.event_time_unix_nanos.unwrap_or(0));
        prop_assert_eq!(observed.ingest_time, record.ingest_time_unix_nanos);
        assert_as_prost(observed.payload, record.payload.as_ref().unwrap());
    }

    #[test]
    fn views_of_any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = Observed::read(&bytes);
        let _ = QuoteView::read(&bytes);
        let _ = TradeView::read(&bytes);
        let _ = BarView::read(&bytes);
        if let Some(ValueView::Vector(channels)) = ReadingView::read(&bytes).and_then(|r| r.value) {
            prop_assert!(channels.values().count() <= bytes.len());
        }
    }
}

#[test]
fn a_vector_in_pieces_reads_as_one() {
    let packed = v1::Vector {
        values: vec![1.0, 2.0],
    }
    .encode_to_vec();
    let single = [&[1 << 3 | 1], 3.0_f64.to_le_bytes().as_slice()].concat();
    let vector = [packed, single].concat();
    let len = u8::try_from(vector.len()).unwrap();
    let reading = [vec![6 << 3 | 2, len], vector].concat();
    let Some(ValueView::Vector(channels)) = ReadingView::read(&reading).unwrap().value else {
        panic!("not a vector");
    };
    assert_eq!(channels.values().collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
}
