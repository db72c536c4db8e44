//! Times of rows, exact to the nanosecond: each `TimeSpec` becomes a `Clock` once per file.

use anyhow::{Context as _, bail, ensure};
use csv::StringRecord;
use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    fmt::strtime::BrokenDownTime,
    tz::{Offset, TimeZone},
};
use rust_decimal::Decimal;

use super::{
    binder::Binder,
    row::{Cell, Fault},
    spec::TimeSpec,
};
use crate::proto::convert::{self, parse_decimal, parse_time, unix_nanos};

const FORMATS: &str = "`rfc3339`, `unix_seconds`, `unix_millis`, `unix_micros`, `unix_nanos`, \
    `seconds` (or millis, micros, nanos) with `since`, or strptime such as \"%Y-%m-%d %H:%M:%S\"";
const NANOS_PER_SECOND: i128 = 1_000_000_000;

#[derive(Clone, Debug)]
pub(super) enum Clock {
    Rfc3339(Cell),
    Format {
        cell: Cell,
        format: String,
        zone: TimeZone,
    },
    Count {
        cell: Cell,
        unit_nanos: i128,
        since_nanos: i128,
    },
    Fields {
        date: DateCells,
        time: TimeCells,
        zone: TimeZone,
    },
}

#[derive(Clone, Debug)]
pub(super) enum DateCells {
    MonthDay { year: Cell, month: Cell, day: Cell },
    DayOfYear { year: Cell, day: Cell },
}

#[derive(Clone, Debug)]
pub(super) enum TimeCells {
    Midnight,
    Hhmm(Cell),
    Parts {
        hour: Cell,
        minute: Option<Cell>,
        second: Option<Cell>,
    },
}

impl Clock {
    pub(super) fn bind(spec: &TimeSpec, binder: &mut Binder<'_>) -> anyhow::Result<Self> {
        let Some(column) = &spec.column else {
            return Self::bind_fields(spec, binder);
        };
        let fields = [
            &spec.year,
            &spec.month,
            &spec.day,
            &spec.day_of_year,
            &spec.hour,
        ];
        let more = [&spec.minute, &spec.second, &spec.hhmm];
        ensure!(
            fields.into_iter().chain(more).all(Option::is_none),
            "a time has either `column` or year, month, day ..; not both"
        );
        let cell = binder.cell(column)?;
        let format = spec.format.as_deref().with_context(|| {
            format!("the time in column {column:?} needs a `format`: {FORMATS}")
        })?;
        if format == "rfc3339" {
            return Ok(Self::Rfc3339(cell));
        }
        if format.contains('%') {
            let zone = zone(spec.zone.as_deref())?;
            return Ok(Self::Format {
                cell,
                format: format.to_owned(),
                zone,
            });
        }
        let (unit_nanos, since_nanos) = count_of(format, spec.since.as_deref())?;
        Ok(Self::Count {
            cell,
            unit_nanos,
            since_nanos,
        })
    }

    fn bind_fields(spec: &TimeSpec, binder: &mut Binder<'_>) -> anyhow::Result<Self> {
        ensure!(
            spec.format.is_none() && spec.since.is_none(),
            "`format` and `since` need `column`"
        );
        Ok(Self::Fields {
            date: DateCells::bind(spec, binder)?,
            time: TimeCells::bind(spec, binder)?,
            zone: zone(spec.zone.as_deref())?,
        })
    }

    /// The time of a row that must have one: a gap in it is not for the server to fill.
    pub(super) fn required(&self, row: &StringRecord) -> Result<i64, Fault> {
        let missing = || Fault::at(self.column(), "is missing, and the record needs it");
        self.read(row)?.ok_or_else(missing)
    }

    fn column(&self) -> usize {
        match self {
            Self::Rfc3339(cell) | Self::Format { cell, .. } | Self::Count { cell, .. } => {
                cell.index
            }
            Self::Fields { date, .. } => match date {
                DateCells::MonthDay { year, .. } | DateCells::DayOfYear { year, .. } => year.index,
            },
        }
    }

    /// The time in nanoseconds since the Unix epoch; `None` when its one cell is missing.
    pub(super) fn read(&self, row: &StringRecord) -> Result<Option<i64>, Fault> {
        match self {
            Self::Rfc3339(cell) => optional(cell, row, |text| {
                parse_time(text).map_err(|error| error.to_string())
            }),
            Self::Format { cell, format, zone } => {
                optional(cell, row, |text| formatted(format, text, zone))
            }
            Self::Count {
                cell,
                unit_nanos,
                since_nanos,
            } => optional(cell, row, |text| counted(text, *unit_nanos, *since_nanos)),
            Self::Fields { date, time, zone } => {
                let (date, at) = date.read(row)?;
                let time = time.read(date, row)?;
                let nanos = local(time, zone).map_err(|message| at.fault(message))?;
                Ok(Some(nanos))
            }
        }
    }
}

fn optional(
    cell: &Cell,
    row: &StringRecord,
    read: impl FnOnce(&str) -> Result<i64, String>,
) -> Result<Option<i64>, Fault> {
    let text = cell.text(row);
    text.map(|text| read(text).map_err(|message| cell.fault(message)))
        .transpose()
}

impl DateCells {
    fn bind(spec: &TimeSpec, binder: &mut Binder<'_>) -> anyhow::Result<Self> {
        match (&spec.year, &spec.month, &spec.day, &spec.day_of_year) {
            (Some(year), Some(month), Some(day), None) => Ok(Self::MonthDay {
                year: binder.cell(year)?,
                month: binder.cell(month)?,
                day: binder.cell(day)?,
            }),
            (Some(year), None, None, Some(day)) => Ok(Self::DayOfYear {
                year: binder.cell(year)?,
                day: binder.cell(day)?,
            }),
            _ => bail!(
                "a time needs `column` and `format`, or `year`, `month` and `day`, or `year` and `day_of_year`"
            ),
        }
    }

    fn read<'c>(&'c self, row: &StringRecord) -> Result<(Date, &'c Cell), Fault> {
        let (day_cell, date) = match self {
            Self::MonthDay { year, month, day } => (
                day,
                Date::new(number(year, row)?, number(month, row)?, number(day, row)?),
            ),
            Self::DayOfYear { year, day } => {
                let first = Date::new(number(year, row)?, 1, 1);
                let number = number(day, row)?;
                (
                    day,
                    first.and_then(|first| first.with().day_of_year(number).build()),
                )
            }
        };
        let date =
            date.map_err(|_error| day_cell.fault("makes no such day with the other columns"))?;
        Ok((date, day_cell))
    }
}

impl TimeCells {
    fn bind(spec: &TimeSpec, binder: &mut Binder<'_>) -> anyhow::Result<Self> {
        match (&spec.hhmm, &spec.hour, &spec.minute, &spec.second) {
            (None, None, None, None) => Ok(Self::Midnight),
            (Some(hhmm), None, None, None) => Ok(Self::Hhmm(binder.cell(hhmm)?)),
            (None, Some(hour), minute, second) => Ok(Self::Parts {
                hour: binder.cell(hour)?,
                minute: minute
                    .as_deref()
                    .map(|name| binder.cell(name))
                    .transpose()?,
                second: second
                    .as_deref()
                    .map(|name| binder.cell(name))
                    .transpose()?,
            }),
            _ => bail!("a time of day is `hour`, `minute`, `second`, or `hhmm` alone"),
        }
    }

    fn read(&self, date: Date, row: &StringRecord) -> Result<DateTime, Fault> {
        match self {
            Self::Midnight => Ok(date.at(0, 0, 0, 0)),
            Self::Hhmm(cell) => {
                let hhmm: u16 = number(cell, row)?;
                let (hour, minute) = (narrow(hhmm / 100), narrow(hhmm % 100));
                at(date, (hour, minute, 0, 0))
                    .ok_or_else(|| cell.fault("is no HHMM time from 0 to 2359"))
            }
            Self::Parts {
                hour,
                minute,
                second,
            } => {
                let minutes = minute.as_ref().map_or(Ok(0), |cell| number(cell, row))?;
                let (seconds, nanos) = second.as_ref().map_or(Ok((0, 0)), |c| seconds(c, row))?;
                at(date, (number(hour, row)?, minutes, seconds, nanos))
                    .ok_or_else(|| hour.fault("makes no such time of day with the other columns"))
            }
        }
    }
}

/// An HHMM part; what does not fit is no time of day either.
fn narrow(part: u16) -> i8 {
    i8::try_from(part).unwrap_or(i8::MAX)
}

fn at(date: Date, (hour, minute, second, nanos): (i8, i8, i8, i32)) -> Option<DateTime> {
    let time = jiff::civil::Time::new(hour, minute, second, nanos).ok()?;
    Some(date.to_datetime(time))
}

fn seconds(cell: &Cell, row: &StringRecord) -> Result<(i8, i32), Fault> {
    let nanos = nanos_of(cell.required(row)?, NANOS_PER_SECOND).map_err(|e| cell.fault(e))?;
    let whole = i8::try_from(nanos.div_euclid(NANOS_PER_SECOND)).unwrap_or(i8::MAX);
    let part = i32::try_from(nanos.rem_euclid(NANOS_PER_SECOND)).unwrap_or(0);
    Ok((whole, part))
}

/// An integer of a date column; `2016.0`, as some exporters write it, is one too.
fn number<T: std::str::FromStr>(cell: &Cell, row: &StringRecord) -> Result<T, Fault> {
    let text = cell.required(row)?;
    let whole = text.split_once('.').map_or(text, |(whole, rest)| {
        if rest.bytes().all(|b| b == b'0') {
            whole
        } else {
            text
        }
    });
    whole
        .parse()
        .map_err(|_error| cell.fault("is not an integer of the expected range"))
}

fn formatted(format: &str, text: &str, zone: &TimeZone) -> Result<i64, String> {
    let explain =
        |error: jiff::Error| format!("does not match the time format {format:?}: {error}");
    let parsed = BrokenDownTime::parse(format, text).map_err(explain)?;
    if parsed.offset().is_some() || parsed.timestamp().is_some() {
        let time = parsed.to_timestamp().map_err(explain)?;
        return unix_nanos(time).map_err(|error| error.to_string());
    }
    local(parsed.to_datetime().map_err(explain)?, zone)
}

fn local(time: DateTime, zone: &TimeZone) -> Result<i64, String> {
    let time = zone.to_timestamp(time).map_err(|error| error.to_string())?;
    unix_nanos(time).map_err(|error| error.to_string())
}

fn counted(text: &str, unit_nanos: i128, since_nanos: i128) -> Result<i64, String> {
    let nanos = nanos_of(text, unit_nanos)?.checked_add(since_nanos);
    nanos
        .and_then(|nanos| i64::try_from(nanos).ok())
        .ok_or_else(|| convert::InvalidTime::Range.to_string())
}

/// `text` units in nanoseconds; what lies below a nanosecond is rounded to the nearest.
fn nanos_of(text: &str, unit_nanos: i128) -> Result<i128, String> {
    let decimal = parse_decimal(text).map_err(|error| error.to_string())?;
    let decimal = Decimal::try_from(&decimal).map_err(|error| error.to_string())?;
    let divisor = 10_i128.pow(decimal.scale());
    let total = decimal.mantissa().checked_mul(unit_nanos);
    let total = total.ok_or_else(|| "is too many digits for a time".to_owned())?;
    Ok((total + divisor / 2).div_euclid(divisor))
}

fn count_of(format: &str, since: Option<&str>) -> anyhow::Result<(i128, i128)> {
    let (unit, absolute) = match format.strip_prefix("unix_") {
        Some(unit) => (unit, true),
        None => (format, false),
    };
    let unit_nanos = match unit {
        "seconds" => NANOS_PER_SECOND,
        "millis" => 1_000_000,
        "micros" => 1_000,
        "nanos" => 1,
        _ => bail!("{format:?} is not a time format; it is one of {FORMATS}"),
    };
    match (absolute, since) {
        (true, None) => Ok((unit_nanos, 0)),
        (false, Some(since)) => {
            let start: Timestamp = since.parse().with_context(|| {
                format!("`since` is {since:?}; write RFC 3339 such as \"2024-01-01T00:00:00Z\"")
            })?;
            Ok((unit_nanos, start.as_nanosecond()))
        }
        (true, Some(_)) => bail!("{format:?} counts from 1970: leave out `since`, or the `unix_`"),
        (false, None) => bail!("{format:?} counts from `since`, which is not given"),
    }
}

/// UTC, an IANA name or a fixed offset such as `-07:00`.
fn zone(name: Option<&str>) -> anyhow::Result<TimeZone> {
    let Some(name) = name else {
        return Ok(TimeZone::UTC);
    };
    if name.starts_with(['+', '-']) {
        let offset = offset(name);
        return offset
            .map(TimeZone::fixed)
            .with_context(|| format!("{name:?} is not an offset from UTC such as \"-07:00\""));
    }
    TimeZone::get(name).with_context(|| {
        format!("there is no time zone {name:?}; write an IANA name such as \"America/Denver\" or an offset such as \"-07:00\"")
    })
}

fn offset(text: &str) -> Option<Offset> {
    BrokenDownTime::parse("%:z", text).ok()?.offset()
}
