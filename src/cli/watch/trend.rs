//! The last few numbers of a row: its sparkline, and the change since its left end.

use ratatui::symbols::bar;

use crate::proto::v1::{self, TradeAction, reading, record::Payload};

/// As many as a screen has room for; older ones are forgotten.
pub(super) const POINTS: usize = 24;

/// Numbers in the order in which they came, the oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Trend {
    points: [f64; POINTS],
    len: usize,
}

impl Trend {
    pub(super) fn push(&mut self, number: f64) {
        if self.len == POINTS {
            self.points.rotate_left(1);
            self.len -= 1;
        }
        if let Some(free) = self.points.get_mut(self.len) {
            *free = number;
            self.len += 1;
        }
    }

    /// Puts what was there before in front, as far as there is room.
    pub(super) fn put_before(&mut self, older: &[f64]) {
        let kept = older.len().min(POINTS - self.len);
        let skipped = older.len() - kept;
        let mut joined = Self::default();
        let newest = older.iter().skip(skipped);
        newest
            .chain(self.points())
            .for_each(|point| joined.push(*point));
        *self = joined;
    }

    pub(super) fn points(&self) -> &[f64] {
        self.points.get(..self.len).unwrap_or_default()
    }

    /// From the left end to the right one; `None` of fewer than two.
    pub(super) fn change(&self) -> Option<f64> {
        match self.points() {
            [first, .., last] => Some(last - first),
            [] | [_] => None,
        }
    }

    /// A line of blocks at most so wide. What has no room is joined with its neighbours: each block
    /// is the last of them, so both ends stay.
    pub(super) fn sparkline(&self, width: usize) -> String {
        let points = self.points();
        if points.len() < 2 || width < 2 {
            return String::new();
        }
        let columns = width.min(points.len());
        let shown = (0..columns).filter_map(|column| {
            let index = column * (points.len() - 1) / (columns - 1);
            points.get(index).copied()
        });
        let shown: Vec<f64> = shown.collect();
        let least = shown.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = shown.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        shown
            .iter()
            .map(|point| block(*point, least, greatest))
            .collect()
    }
}

fn block(point: f64, least: f64, greatest: f64) -> &'static str {
    const LEVELS: [&str; 8] = [
        bar::ONE_EIGHTH,
        bar::ONE_QUARTER,
        bar::THREE_EIGHTHS,
        bar::HALF,
        bar::FIVE_EIGHTHS,
        bar::THREE_QUARTERS,
        bar::SEVEN_EIGHTHS,
        bar::FULL,
    ];
    // Halves, as the range of two numbers may not be one.
    let range = greatest / 2.0 - least / 2.0;
    if range <= 0.0 {
        return bar::HALF;
    }
    let share = (point / 2.0 - least / 2.0) / range;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 7; saturates"
    )]
    let level = (share * 7.0).round() as usize;
    LEVELS.get(level).copied().unwrap_or(bar::FULL)
}

/// What of a payload can be drawn and compared, and how many digits it has behind the point: the
/// middle of a quote, the price of a trade that stands, the close of a bar, a reading.
pub(super) fn number(payload: &Payload) -> Option<(f64, u32)> {
    let (number, scale) = match payload {
        Payload::Quote(quote) => middle(quote)?,
        Payload::Trade(trade) if trade.action() == TradeAction::Cancel => return None,
        Payload::Trade(trade) => decimal(trade.price.as_ref()?),
        Payload::Bar(bar) => decimal(bar.close.as_ref()?),
        Payload::Reading(reading) => of_reading(reading.value.as_ref()?)?,
        Payload::Status(_) => return None,
    };
    number.is_finite().then_some((number, scale))
}

fn middle(quote: &v1::Quote) -> Option<(f64, u32)> {
    let bid = quote.bid.as_ref().map(decimal);
    let ask = quote.ask.as_ref().map(decimal);
    match (bid, ask) {
        (Some((bid, one)), Some((ask, other))) => {
            Some((f64::midpoint(bid, ask), one.max(other) + 1))
        }
        (one, other) => one.or(other),
    }
}

fn of_reading(value: &reading::Value) -> Option<(f64, u32)> {
    match value {
        reading::Value::Number(number) => Some((*number, digits(*number))),
        reading::Value::Decimal(value) => Some(decimal(value)),
        #[expect(clippy::cast_precision_loss, reason = "a picture of it")]
        reading::Value::Integer(integer) => Some((*integer as f64, 0)),
        reading::Value::Flag(flag) => Some((f64::from(u8::from(*flag)), 0)),
        reading::Value::Text(_) => None,
        reading::Value::Vector(vector) => {
            let first = *vector.values.first()?;
            Some((first, digits(first)))
        }
    }
}

/// Near enough for a picture: prices are compared and printed as decimals elsewhere.
fn decimal(wire: &v1::Decimal) -> (f64, u32) {
    let text = crate::proto::convert::decimal_text(wire);
    (text.parse().unwrap_or(f64::NAN), wire.scale)
}

fn digits(number: f64) -> u32 {
    let text = number.to_string();
    let behind = text.split_once('.').map_or(0, |(_, behind)| behind.len());
    u32::try_from(behind).unwrap_or(u32::MAX)
}

/// A change with its direction in front: `▲+0.43`, `▼-2`, `=`. Four digits in front of the point leave
/// no need for many behind it.
pub(super) fn change_text(change: f64, scale: u32) -> String {
    if change == 0.0 {
        return "=".to_owned();
    }
    let size = change.abs();
    let digits = match size {
        size if size >= 1e9 => return format!("{}{change:+.1e}", arrow(change)),
        size if size >= 100.0 => 2,
        size if size >= 10.0 => 3,
        _ => 4,
    };
    let digits = usize::try_from(scale.min(digits)).unwrap_or(0);
    let text = format!("{change:+.digits$}");
    if text.parse() == Ok(0.0) {
        return format!("{}{change:+.0e}", arrow(change));
    }
    format!("{}{text}", arrow(change))
}

fn arrow(change: f64) -> char {
    if change > 0.0 { '▲' } else { '▼' }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::convert::parse_decimal;

    fn trend(numbers: impl IntoIterator<Item = f64>) -> Trend {
        let mut trend = Trend::default();
        numbers.into_iter().for_each(|number| trend.push(number));
        trend
    }

    #[test]
    fn the_oldest_number_gives_way() {
        let full = trend((0..30).map(f64::from));
        assert_eq!(full.points().len(), POINTS);
        assert_eq!((full.points()[0], full.points()[POINTS - 1]), (6.0, 29.0));
        assert_eq!(full.change(), Some(23.0));
        assert_eq!(trend([1.0]).change(), None);
    }

    #[test]
    fn what_was_before_comes_in_front_as_far_as_there_is_room() {
        let mut short = trend([10.0, 11.0]);
        short.put_before(&[1.0, 2.0]);
        assert_eq!(short.points(), [1.0, 2.0, 10.0, 11.0]);
        let mut long = trend((0..23).map(f64::from));
        long.put_before(&[-3.0, -2.0, -1.0]);
        assert_eq!((long.points()[0], long.points().len()), (-1.0, POINTS));
    }

    #[test]
    fn a_sparkline_keeps_its_ends_in_whatever_room_there_is() {
        let rising = trend((0..8).map(f64::from));
        assert_eq!(rising.sparkline(20), "▁▂▃▄▅▆▇█");
        assert_eq!(rising.sparkline(3), "▁▄█");
        assert_eq!(rising.sparkline(1), "");
        assert_eq!(trend([3.0, 3.0]).sparkline(9), "▄▄");
        assert_eq!(trend([3.0]).sparkline(9), "");
        assert_eq!(trend([f64::MIN, f64::MAX]).sparkline(9), "▁█");
    }

    #[test]
    fn numbers_are_those_that_the_page_draws() {
        let d = |text: &str| Some(parse_decimal(text).unwrap());
        let quote = v1::Quote {
            bid: d("1.10"),
            ask: d("1.2"),
            ..v1::Quote::default()
        };
        let (middle, scale) = number(&Payload::Quote(quote.clone())).unwrap();
        assert!((middle - 1.15).abs() < 1e-12 && scale == 3);
        let one_sided = v1::Quote { bid: None, ..quote };
        assert_eq!(number(&Payload::Quote(one_sided)), Some((1.2, 1)));
        let mut trade = v1::Trade {
            price: d("-37.63"),
            ..v1::Trade::default()
        };
        assert_eq!(number(&Payload::Trade(trade.clone())), Some((-37.63, 2)));
        trade.set_action(TradeAction::Cancel);
        assert_eq!(number(&Payload::Trade(trade)), None);
        let reading = |value| {
            let value = Some(value);
            Payload::Reading(v1::Reading {
                value,
                ..v1::Reading::default()
            })
        };
        assert_eq!(
            number(&reading(reading::Value::Number(20.125))),
            Some((20.125, 3))
        );
        assert_eq!(number(&reading(reading::Value::Flag(true))), Some((1.0, 0)));
        assert_eq!(number(&reading(reading::Value::Text("7".into()))), None);
        assert_eq!(number(&Payload::Reading(v1::Reading::default())), None);
    }

    #[test]
    fn a_change_has_a_sign_and_no_more_digits_than_its_value() {
        assert_eq!(change_text(0.43, 2), "▲+0.43");
        assert_eq!(change_text(-1_234.567, 3), "▼-1234.57");
        assert_eq!(change_text(-3.0, 0), "▼-3");
        assert_eq!(change_text(0.0, 4), "=");
        assert_eq!(change_text(0.000_02, 8), "▲+2e-5");
        assert_eq!(change_text(1e15, 0), "▲+1.0e15");
    }
}
