//! Bars a second time, as plainly as can be: all records decoded, grouped by series and start, and
//! folded. It shares no code with the table. For tests.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;

use crate::{
    model::{Offset, UnixNanos},
    proto::v1::{self, BarSource, Quality, TradeAction, reading::Value, record::Payload},
};

const GRACE: i128 = 1_000_000_000;

/// What happened, in its order.
#[expect(clippy::large_enum_variant, reason = "plain before small")]
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Record(v1::Record),
    /// The caller's clock.
    Clock(UnixNanos),
}

impl Event {
    fn clock(&self) -> UnixNanos {
        match self {
            Self::Record(record) => record.ingest_time_unix_nanos,
            Self::Clock(clock) => *clock,
        }
    }
}

/// Key, source, channel.
pub(crate) type Series = (String, i32, Option<u32>);

#[derive(Clone, Debug)]
struct Input {
    series: Series,
    start: i128,
    /// Time and offset.
    at: (UnixNanos, Offset),
    figure: Figure,
    trade_id: String,
    /// Indexes of the events that made and changed it.
    events: Vec<usize>,
    is_cancelled: bool,
}

#[expect(clippy::large_enum_variant, reason = "plain before small")]
#[derive(Clone, Debug)]
enum Figure {
    Price(Decimal),
    Bar(v1::Bar),
    Double(f64),
    Exact(Decimal),
    Bad,
}

/// All bars of these events, by key, source, channel and start.
pub(crate) fn bars(events: &[Event], interval: i64) -> Vec<v1::ViewBar> {
    let mut series: BTreeMap<Series, BTreeMap<i128, Vec<Input>>> = BTreeMap::new();
    for input in inputs(events, interval) {
        let bars = series.entry(input.series.clone()).or_default();
        bars.entry(input.start).or_default().push(input);
    }
    let mut views = vec![];
    for ((key, source, channel), bars) in &series {
        let starts: BTreeMap<usize, i128> = bars
            .iter()
            .flat_map(|(start, inputs)| inputs.iter().map(|input| (input.events[0], *start)))
            .collect();
        for (start, inputs) in bars {
            let (is_complete, late) = life(events, *start, interval, inputs, &starts);
            let mut view = v1::ViewBar {
                key: key.clone(),
                source: *source,
                complete: is_complete,
                late_count: late,
                revision: u32::try_from(late).unwrap(),
                ..v1::ViewBar::default()
            };
            let mut alive: Vec<_> = inputs.iter().filter(|input| !input.is_cancelled).collect();
            alive.sort_by_key(|input| input.at);
            let start = UnixNanos::try_from((*start).max(i128::from(i64::MIN))).unwrap();
            if *source == i32::from(BarSource::Reading) {
                view.reading = Some(reading_bar(&alive, start, interval, *channel));
            } else {
                view.bar = Some(price_bar(&alive, start, interval));
            }
            views.push(view);
        }
    }
    views
}

/// Of each input its series, the start of its bar, and the records that made and changed it.
pub(crate) fn origins(events: &[Event], interval: i64) -> Vec<(Series, UnixNanos, Vec<Offset>)> {
    let offset = |event: &usize| match &events[*event] {
        Event::Record(record) => record.offset,
        Event::Clock(_) => panic!("no record"),
    };
    let inputs = inputs(events, interval).into_iter();
    let origins = inputs.map(|input| {
        let offsets = input.events.iter().map(offset).collect();
        (
            input.series,
            UnixNanos::try_from(input.start).unwrap(),
            offsets,
        )
    });
    origins.collect()
}

/// Whether a bar is complete in the end, and how often something came for it when it was.
fn life(
    events: &[Event],
    start: i128,
    interval: i64,
    inputs: &[Input],
    starts: &BTreeMap<usize, i128>,
) -> (bool, u64) {
    let own: BTreeSet<usize> = inputs
        .iter()
        .flat_map(|input| input.events.clone())
        .collect();
    let end = start + i128::from(interval);
    let (mut clock, mut newest) = (i128::MIN, None);
    let (mut is_complete, mut late) = (false, 0);
    for (i, event) in events.iter().enumerate() {
        clock = clock.max(i128::from(event.clock()));
        if newest.is_some_and(|newest: i128| clock >= newest.max(end) + GRACE) {
            is_complete = true;
        }
        if own.contains(&i) {
            late += u64::from(is_complete);
            newest = newest.max(Some(i128::from(event.clock())));
        }
        if starts.get(&i).is_some_and(|other| *other > start) {
            is_complete = true;
        }
    }
    (is_complete, late)
}

fn inputs(events: &[Event], interval: i64) -> Vec<Input> {
    let mut inputs: Vec<Input> = vec![];
    for (i, event) in events.iter().enumerate() {
        let Event::Record(record) = event else {
            continue;
        };
        let time = record.event_time_unix_nanos.unwrap();
        let mut add = |source: BarSource, channel, time: UnixNanos, figure, trade_id: &str| {
            let start = i128::from(time).div_euclid(i128::from(interval)) * i128::from(interval);
            inputs.push(Input {
                series: (record.key.clone(), source.into(), channel),
                start,
                at: (time, record.offset),
                figure,
                trade_id: trade_id.to_owned(),
                events: vec![i],
                is_cancelled: false,
            });
        };
        match record.payload.as_ref().unwrap() {
            Payload::Quote(quote) => {
                let (bid, ask) = (decimal(&quote.bid), decimal(&quote.ask));
                let mid = bid.zip(ask).and_then(|(bid, ask)| middle(bid, ask));
                for (source, price) in [
                    (BarSource::QuoteBid, bid),
                    (BarSource::QuoteAsk, ask),
                    (BarSource::QuoteMid, mid),
                ] {
                    if let Some(price) = price {
                        add(source, None, time, Figure::Price(price), "");
                    }
                }
            }
            Payload::Trade(trade) => match trade.action() {
                TradeAction::Unspecified | TradeAction::New => {
                    let figure = Figure::Bar(dealt(trade));
                    add(BarSource::Trade, None, time, figure, &trade.trade_id);
                }
                TradeAction::Correct | TradeAction::Cancel => amend(&mut inputs, i, record, trade),
            },
            Payload::Bar(bar) => {
                let start = bar.start_unix_nanos.unwrap();
                add(BarSource::Bar, None, start, Figure::Bar(*bar), "");
            }
            Payload::Reading(reading) => {
                let is_bad = reading.quality() == Quality::Bad;
                for (channel, figure) in values(reading) {
                    match figure {
                        _ if is_bad => add(BarSource::Reading, channel, time, Figure::Bad, ""),
                        Some(figure) => add(BarSource::Reading, channel, time, figure, ""),
                        None => {}
                    }
                }
            }
            Payload::Status(_) => {}
        }
    }
    inputs
}

fn amend(inputs: &mut [Input], event: usize, record: &v1::Record, trade: &v1::Trade) {
    let is_named = |input: &&mut Input| {
        input.trade_id == trade.trade_id
            && input.series.0 == record.key
            && input.series.1 == i32::from(BarSource::Trade)
    };
    let last = inputs.iter_mut().rev().find(is_named);
    if let Some(input) = last.filter(|input| !input.is_cancelled) {
        input.events.push(event);
        if trade.action() == TradeAction::Correct {
            input.figure = Figure::Bar(dealt(trade));
        } else {
            input.is_cancelled = true;
        }
    }
}

/// A trade as a bar of its own.
fn dealt(trade: &v1::Trade) -> v1::Bar {
    v1::Bar {
        open: trade.price,
        high: trade.price,
        low: trade.price,
        close: trade.price,
        vwap: trade.price,
        volume: trade.size,
        count: Some(1),
        ..v1::Bar::default()
    }
}

/// Channels and their values.
fn values(reading: &v1::Reading) -> Vec<(Option<u32>, Option<Figure>)> {
    match &reading.value {
        None | Some(Value::Text(_)) => vec![(None, None)],
        Some(Value::Number(number)) => vec![(None, Some(Figure::Double(*number)))],
        Some(Value::Flag(flag)) => {
            let number = if *flag { 1.0 } else { 0.0 };
            vec![(None, Some(Figure::Double(number)))]
        }
        Some(Value::Integer(integer)) => vec![(None, Some(Figure::Exact((*integer).into())))],
        Some(Value::Decimal(wire)) => vec![(None, Some(Figure::Exact(wire.try_into().unwrap())))],
        Some(Value::Vector(vector)) => {
            let channels = (0..).map(Some);
            let values = vector
                .values
                .iter()
                .map(|value| Some(Figure::Double(*value)));
            channels.zip(values).collect()
        }
    }
}

fn decimal(wire: &Option<v1::Decimal>) -> Option<Decimal> {
    wire.as_ref().map(|wire| wire.try_into().unwrap())
}

/// Half the sum with one digit more, which goes when it is a zero too many.
fn middle(bid: Decimal, ask: Decimal) -> Option<Decimal> {
    let scale = bid.scale().max(ask.scale());
    let five_times = sum(&[bid, ask])?.1.checked_mul(5)?;
    match five_times % 10 {
        0 => Decimal::try_from_i128_with_scale(five_times / 10, scale).ok(),
        _ => Decimal::try_from_i128_with_scale(five_times, scale + 1).ok(),
    }
}

/// The greatest scale, and the sum in units of it.
fn sum(values: &[Decimal]) -> Option<(u32, i128)> {
    let scale = values.iter().map(Decimal::scale).max()?;
    let mut sum = 0_i128;
    for value in values {
        let factor = 10_i128.checked_pow(scale - value.scale())?;
        sum = sum.checked_add(value.mantissa().checked_mul(factor)?)?;
    }
    Some((scale, sum))
}

fn exact_sum(values: &[Decimal]) -> Option<Decimal> {
    let (scale, sum) = sum(values)?;
    Decimal::try_from_i128_with_scale(sum, scale).ok()
}

/// Of inputs in the order of time.
fn price_bar(inputs: &[&Input], start: UnixNanos, interval: i64) -> v1::Bar {
    let bars: Vec<v1::Bar> = inputs
        .iter()
        .map(|input| match &input.figure {
            Figure::Bar(bar) => *bar,
            Figure::Price(price) => {
                let price = Some(v1::Decimal::from(*price));
                v1::Bar {
                    open: price,
                    high: price,
                    low: price,
                    close: price,
                    count: Some(1),
                    ..v1::Bar::default()
                }
            }
            other @ (Figure::Double(_) | Figure::Exact(_) | Figure::Bad) => {
                panic!("not a price: {other:?}")
            }
        })
        .collect();
    let of = |field: fn(&v1::Bar) -> &Option<v1::Decimal>| -> Vec<Decimal> {
        bars.iter().filter_map(|bar| decimal(field(bar))).collect()
    };
    // Of equals the one with the most digits.
    let high = of(|bar| &bar.high)
        .into_iter()
        .max_by_key(|price| (*price, price.scale()));
    let low = of(|bar| &bar.low)
        .into_iter()
        .min_by_key(|price| (*price, 28 - price.scale()));
    let volumes = of(|bar| &bar.volume);
    let averages = of(|bar| &bar.vwap);
    let volume = exact_sum(&volumes);
    let all_weighted = volumes.len() == bars.len() && averages.len() == bars.len();
    let turnovers: Vec<_> = averages.iter().zip(&volumes).map(|(a, v)| a * v).collect();
    let vwap = exact_sum(&turnovers)
        .zip(volume)
        .and_then(|(turnover, volume)| {
            let known = all_weighted && !volume.is_zero();
            known.then(|| turnover / volume)
        });
    let counts: Option<Vec<u64>> = bars.iter().map(|bar| bar.count).collect();
    v1::Bar {
        start_unix_nanos: Some(start),
        interval_nanos: Some(interval),
        open: bars.first().and_then(|bar| bar.open),
        high: high.map(Into::into),
        low: low.map(Into::into),
        close: bars.last().and_then(|bar| bar.close),
        volume: volume.map(Into::into),
        vwap: vwap.map(Into::into),
        count: Some(counts.map_or(bars.len() as u64, |counts| counts.iter().sum())),
        adjusted_close: bars.last().and_then(|bar| bar.adjusted_close),
    }
}

/// Of inputs in the order of time.
fn reading_bar(
    inputs: &[&Input],
    start: UnixNanos,
    interval: i64,
    channel: Option<u32>,
) -> v1::ReadingBar {
    let doubles: Vec<f64> = inputs
        .iter()
        .filter_map(|input| match &input.figure {
            Figure::Double(double) => Some(*double),
            Figure::Exact(decimal) => Some(decimal.to_string().parse().unwrap()),
            Figure::Price(_) | Figure::Bar(_) | Figure::Bad => None,
        })
        .collect();
    let exact: Vec<Decimal> = inputs
        .iter()
        .filter_map(|input| match &input.figure {
            Figure::Exact(decimal) => Some(*decimal),
            Figure::Price(_) | Figure::Bar(_) | Figure::Double(_) | Figure::Bad => None,
        })
        .collect();
    let is_exact = !exact.is_empty() && exact.len() == doubles.len();
    let mean = doubles
        .iter()
        .map(|value| value / doubles.len() as f64)
        .sum();
    v1::ReadingBar {
        start_unix_nanos: start,
        interval_nanos: interval,
        min: doubles.iter().copied().min_by(f64::total_cmp),
        max: doubles.iter().copied().max_by(f64::total_cmp),
        mean: (!doubles.is_empty()).then_some(mean),
        last: doubles.last().copied(),
        count: doubles.len() as u64,
        bad_count: inputs
            .iter()
            .filter(|i| matches!(i.figure, Figure::Bad))
            .count() as u64,
        channel,
        exact: is_exact.then(|| v1::ExactReadings {
            min: exact
                .iter()
                .copied()
                .min_by_key(|d| (*d, 28 - d.scale()))
                .map(Into::into),
            max: exact
                .iter()
                .copied()
                .max_by_key(|d| (*d, d.scale()))
                .map(Into::into),
            sum: exact_sum(&exact).map(Into::into),
            last: exact.last().copied().map(Into::into),
        }),
    }
}

/// Panics unless both are the same: averages and means as near as rounding lets them be, all else
/// digit for digit.
pub(crate) fn assert_same(ours: &v1::ViewBar, theirs: &v1::ViewBar) {
    let (mut ours, mut theirs) = (ours.clone(), theirs.clone());
    let mut averages = [&mut ours, &mut theirs].map(|view| {
        let vwap = view.bar.as_mut().and_then(|bar| decimal(&bar.vwap.take()));
        let mean = view.reading.as_mut().and_then(|bar| bar.mean.take());
        (vwap, mean)
    });
    assert_eq!(ours, theirs);
    let [(our_vwap, our_mean), (their_vwap, their_mean)] = &mut averages;
    match (our_vwap, their_vwap) {
        (Some(ours), Some(theirs)) => {
            assert!(
                (*ours - *theirs).abs() < Decimal::new(1, 12),
                "{ours} {theirs}"
            );
        }
        (ours, theirs) => assert_eq!(ours, theirs),
    }
    match (our_mean, their_mean) {
        (Some(ours), Some(theirs)) => {
            let near = 1e-9 * ours.abs().max(1.0);
            assert!((*ours - *theirs).abs() < near, "{ours} {theirs}");
        }
        (ours, theirs) => assert_eq!(ours, theirs),
    }
}
