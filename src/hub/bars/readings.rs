//! Least, greatest, mean and last value of the readings of a bar.

use rust_decimal::Decimal;

use super::{
    exact::{Sum, to_double},
    prices::{At, above, below},
};
use crate::proto::v1;

/// A value of a reading.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Double(f64),
    Exact(Decimal),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Readings {
    doubles: Option<Doubles>,
    exact: Exactness,
    count: u64,
    bad: u64,
}

#[derive(Clone, Debug)]
struct Doubles {
    min: f64,
    max: f64,
    last: f64,
    last_at: At,
    sum: f64,
    /// What the sum lost by rounding (Neumaier 1974).
    lost: f64,
}

/// Whether all values so far were exact ones.
#[derive(Clone, Debug, Default)]
enum Exactness {
    #[default]
    NoValues,
    All(Box<ExactValues>),
    Not,
}

#[derive(Clone, Debug)]
struct ExactValues {
    min: Decimal,
    max: Decimal,
    last: Decimal,
    sum: Sum,
}

impl Readings {
    pub(super) fn add_bad(&mut self) {
        self.bad += 1;
    }

    pub(super) fn add(&mut self, at: At, value: Value) {
        let (double, exact) = match value {
            Value::Double(double) => (double, None),
            Value::Exact(decimal) => (to_double(decimal), Some(decimal)),
        };
        self.count += 1;
        let is_last = match &mut self.doubles {
            Some(doubles) => doubles.add(at, double),
            None => {
                self.doubles = Some(Doubles::of(at, double));
                Closes::Last
            }
        };
        match (&mut self.exact, exact) {
            (Exactness::Not, _) => {}
            (Exactness::All(values), Some(value)) => values.add(value, is_last),
            (Exactness::NoValues, Some(value)) => {
                self.exact = Exactness::All(Box::new(ExactValues::of(value)));
            }
            (Exactness::NoValues | Exactness::All(_), None) => self.exact = Exactness::Not,
        }
    }

    pub(super) fn write(&self, bar: &mut v1::ReadingBar) {
        bar.count = self.count;
        bar.bad_count = self.bad;
        if let Some(doubles) = &self.doubles {
            bar.min = Some(doubles.min);
            bar.max = Some(doubles.max);
            bar.last = Some(doubles.last);
            bar.mean = doubles.mean(self.count);
        }
        if let Exactness::All(values) = &self.exact {
            bar.exact = Some(v1::ExactReadings {
                min: Some(values.min.into()),
                max: Some(values.max.into()),
                sum: values.sum.decimal().map(Into::into),
                last: Some(values.last.into()),
            });
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closes {
    Last,
    Earlier,
}

impl Doubles {
    fn of(at: At, value: f64) -> Self {
        Self {
            min: value,
            max: value,
            last: value,
            last_at: at,
            sum: value,
            lost: 0.0,
        }
    }

    fn add(&mut self, at: At, value: f64) -> Closes {
        // By total order, so that of 0 and -0 it is always the same.
        if value.total_cmp(&self.min).is_lt() {
            self.min = value;
        }
        if value.total_cmp(&self.max).is_gt() {
            self.max = value;
        }
        let sum = self.sum + value;
        self.lost += if self.sum.abs() >= value.abs() {
            (self.sum - sum) + value
        } else {
            (value - sum) + self.sum
        };
        self.sum = sum;
        if at < self.last_at {
            return Closes::Earlier;
        }
        self.last_at = at;
        self.last = value;
        Closes::Last
    }

    /// `None` when the sum is beyond what a double can hold.
    fn mean(&self, count: u64) -> Option<f64> {
        let mean = (self.sum + self.lost) / count as f64;
        mean.is_finite().then_some(mean)
    }
}

impl ExactValues {
    fn of(value: Decimal) -> Self {
        let mut sum = Sum::default();
        sum.add(value);
        Self {
            min: value,
            max: value,
            last: value,
            sum,
        }
    }

    fn add(&mut self, value: Decimal, closes: Closes) {
        if below(&value, &self.min) {
            self.min = value;
        }
        if above(&value, &self.max) {
            self.max = value;
        }
        if closes == Closes::Last {
            self.last = value;
        }
        self.sum.add(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(values: &[f64]) -> v1::ReadingBar {
        let mut readings = Readings::default();
        for (offset, value) in (0..).zip(values) {
            readings.add((0, offset), Value::Double(*value));
        }
        let mut bar = v1::ReadingBar::default();
        readings.write(&mut bar);
        bar
    }

    #[test]
    fn a_mean_keeps_what_a_plain_sum_would_lose() {
        let mean = bar(&[1e100, 1.0, -1e100, 2.0]).mean;
        assert_eq!(mean, Some(0.75));
    }

    #[test]
    fn a_sum_beyond_doubles_has_no_mean() {
        let bar = bar(&[f64::MAX, f64::MAX]);
        assert_eq!((bar.mean, bar.max), (None, Some(f64::MAX)));
    }
}
