//! A mapping that has found its columns: rows in, records out.

use anyhow::ensure;
use csv::StringRecord;

use super::{
    binder::{Binder, TextPlan},
    clock::Clock,
    payload::{self, BarPlan, QuotePlan, StatusPlan, TradePlan},
    reading::{Rules, ScalarPlan, VectorPlan},
    row::{Cell, Fault, RowError},
    spec::Spec,
};
use crate::proto::v1::{self, record::Payload};

/// A mapping bound to a header.
#[derive(Clone, Debug)]
pub struct Bound {
    header: Vec<String>,
    key: TextPlan,
    time: Option<Clock>,
    source_time: Option<Clock>,
    source_sequence: Option<Cell>,
    venue: Option<TextPlan>,
    plan: Plan,
}

#[derive(Clone, Debug)]
enum Plan {
    Quote(QuotePlan),
    Trade(TradePlan),
    Bar(BarPlan),
    Status(StatusPlan),
    /// Each with what its key ends in.
    Readings(Vec<(String, ReadingPlan)>),
}

#[derive(Clone, Debug)]
enum ReadingPlan {
    Scalar(ScalarPlan),
    Vector(VectorPlan),
}

impl Bound {
    pub(super) fn new(spec: &Spec, header: &StringRecord) -> anyhow::Result<Self> {
        let names: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
        let mut binder = Binder::new(&names, &spec.missing);
        let time = spec.time.as_ref();
        let source_time = spec.source_time.as_ref();
        let venue = spec.venue.as_ref();
        let bound = Self {
            key: TextPlan::bind(&spec.key, &mut binder)?,
            time: time
                .map(|time| Clock::bind(time, &mut binder))
                .transpose()?,
            source_time: source_time
                .map(|time| Clock::bind(time, &mut binder))
                .transpose()?,
            source_sequence: binder.optional(spec.source_sequence.as_ref())?,
            venue: venue
                .map(|venue| TextPlan::bind(venue, &mut binder))
                .transpose()?,
            plan: Plan::bind(spec, &mut binder)?,
            header: Vec::new(),
        };
        binder.close(&spec.left_out)?;
        Ok(Self {
            header: names,
            ..bound
        })
    }

    /// Appends the records of a row; of a broken row, none.
    ///
    /// `row_number` is the line in the file, from 1, and only used in the error.
    pub fn records(
        &self,
        row_number: u64,
        row: &StringRecord,
        records: &mut Vec<v1::Record>,
    ) -> Result<(), RowError> {
        let before = records.len();
        self.append(row, records).map_err(|fault| {
            records.truncate(before);
            RowError {
                row: row_number,
                column: self.header.get(fault.column).cloned().unwrap_or_default(),
                value: row.get(fault.column).unwrap_or_default().to_owned(),
                message: fault.message,
            }
        })
    }

    fn append(&self, row: &StringRecord, records: &mut Vec<v1::Record>) -> Result<(), Fault> {
        let time = self
            .time
            .as_ref()
            .map(|time| time.required(row))
            .transpose()?;
        let record = self.frame(row, time)?;
        let payload = match &self.plan {
            Plan::Quote(plan) => Payload::Quote(plan.read(row)?),
            Plan::Trade(plan) => Payload::Trade(plan.read(row)?),
            Plan::Bar(plan) => Payload::Bar(plan.read(row, time)?),
            Plan::Status(plan) => Payload::Status(plan.read(row)?),
            Plan::Readings(plans) => return readings(plans, &record, row, records),
        };
        records.push(v1::Record {
            payload: Some(payload),
            ..record
        });
        Ok(())
    }

    /// A record without its payload.
    fn frame(&self, row: &StringRecord, time: Option<i64>) -> Result<v1::Record, Fault> {
        let source_time = self
            .source_time
            .as_ref()
            .map_or(Ok(None), |time| time.read(row))?;
        Ok(v1::Record {
            key: self.key.required(row)?,
            event_time_unix_nanos: time,
            source_time_unix_nanos: source_time,
            source_sequence: payload::count(self.source_sequence.as_ref(), row)?,
            venue: self
                .venue
                .as_ref()
                .and_then(|venue| venue.read(row))
                .unwrap_or_default(),
            ..v1::Record::default()
        })
    }
}

fn readings(
    plans: &[(String, ReadingPlan)],
    frame: &v1::Record,
    row: &StringRecord,
    records: &mut Vec<v1::Record>,
) -> Result<(), Fault> {
    for (key, plan) in plans {
        let reading = match plan {
            ReadingPlan::Scalar(plan) => plan.read(row)?,
            ReadingPlan::Vector(plan) => plan.read(row)?,
        };
        records.extend(reading.map(|reading| v1::Record {
            key: format!("{}{key}", frame.key),
            payload: Some(Payload::Reading(reading)),
            ..frame.clone()
        }));
    }
    Ok(())
}

impl Plan {
    fn bind(spec: &Spec, binder: &mut Binder<'_>) -> anyhow::Result<Self> {
        if let Some(quote) = &spec.quote {
            return QuotePlan::bind(quote, binder).map(Self::Quote);
        }
        if let Some(trade) = &spec.trade {
            return TradePlan::bind(trade, binder).map(Self::Trade);
        }
        if let Some(bar) = &spec.bar {
            return BarPlan::bind(bar, binder).map(Self::Bar);
        }
        if let Some(status) = &spec.status {
            return StatusPlan::bind(status, binder).map(Self::Status);
        }
        Self::bind_readings(spec, binder).map(Self::Readings)
    }

    fn bind_readings(
        spec: &Spec,
        binder: &mut Binder<'_>,
    ) -> anyhow::Result<Vec<(String, ReadingPlan)>> {
        let rules = Rules {
            when_missing: spec.when_missing,
            quality: &spec.quality,
        };
        let mut plans = Vec::new();
        for scalar in spec.reading.iter().chain(&spec.wide) {
            let plan = ScalarPlan::bind(scalar, rules, binder)?;
            plans.push((
                scalar.key.clone().unwrap_or_default(),
                ReadingPlan::Scalar(plan),
            ));
        }
        for vector in &spec.vector {
            let plan = VectorPlan::bind(vector, rules, binder)?;
            plans.push((
                vector.key.clone().unwrap_or_default(),
                ReadingPlan::Vector(plan),
            ));
        }
        let mut keys: Vec<_> = plans.iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        let twice = keys.windows(2).find(|pair| pair.first() == pair.last());
        ensure!(
            twice.is_none(),
            "two [[wide]] or [[vector]] share the key {twice:?}"
        );
        Ok(plans)
    }
}
