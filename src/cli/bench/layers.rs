//! `bench layers`: what all that is around calls costs, as a ratio. The same work in turns on a
//! server with everything on and on one whose calls are bare.

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Args;

use super::{
    args::{CommonArgs, seconds},
    bed::Bed,
    collector::Collector,
    fanout::FanoutArgs,
    ingest::IngestArgs,
    report::Report,
};
use crate::{
    cli::exit::Usage,
    layers::{NewToken, TokenFile},
};

/// So high that nothing is ever refused.
const RATES: [(&str, &str); 10] = [
    (
        "RINGFEED_LIMITS__PER_PRINCIPAL__CALLS_PER_SECOND",
        "1000000",
    ),
    (
        "RINGFEED_LIMITS__PER_PRINCIPAL__RECORDS_PER_SECOND",
        "1000000000",
    ),
    ("RINGFEED_LIMITS__PER_PRINCIPAL__BYTES_PER_SECOND", "1TB"),
    ("RINGFEED_LIMITS__PER_PRINCIPAL__STREAMS", "1000000"),
    ("RINGFEED_LIMITS__PER_PEER__CALLS_PER_SECOND", "1000000"),
    (
        "RINGFEED_LIMITS__PER_PEER__RECORDS_PER_SECOND",
        "1000000000",
    ),
    ("RINGFEED_LIMITS__PER_PEER__BYTES_PER_SECOND", "1TB"),
    ("RINGFEED_LIMITS__PER_PEER__STREAMS", "1000000"),
    ("RINGFEED_LIMITS__STREAMS", "1000000"),
    ("RINGFEED_LIMITS__STREAMS_PER_CONNECTION", "1000000"),
];
const OFF: [(&str, &str); 1] = [("RINGFEED_LAYERS", "off")];

/// What identity, limits, metrics and logs around calls cost: ingest and fanout with and without
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:\n  ringfeed bench layers --rounds 7")]
pub(super) struct LayersArgs {
    /// Times that each work is done with everything on and with everything off, in turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Records of each upload
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Subscribers of the fanout
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    subscribers: u32,
    /// How long each fanout sends
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = seconds)]
    duration: Duration,
    /// With a span for each call as well, which goes to a collector that throws it away
    #[arg(long)]
    trace: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The figures of one work on one of the servers.
#[derive(Debug, Default)]
struct Side {
    per_second: Vec<f64>,
    server_cpu: Vec<f64>,
}

/// One of the works, without layers and with them.
#[derive(Debug)]
struct Compared {
    work: &'static str,
    /// Its main figure.
    figure: &'static str,
    off: Side,
    on: Side,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layers {
    Off,
    On,
}

impl LayersArgs {
    pub(super) async fn run(&self, bed: &mut Bed) -> anyhow::Result<Report> {
        if !bed.is_own() {
            let text = "two servers are compared, both our own: leave --endpoint out";
            return Err(Usage::new(text).into());
        }
        let mut ingest = Compared::new("ingest", "records_per_second");
        let mut fanout = Compared::new("fanout", "deliveries_per_second");
        let feed = bed.feed.clone();
        let collector = match self.trace {
            true => Some(Collector::start().await?),
            false => None,
        };
        for round in 0..self.rounds {
            // Who begins takes turns as well: the machine gets slower or faster over time.
            let mut sides = [Layers::Off, Layers::On];
            if round % 2 == 1 {
                sides.reverse();
            }
            for layers in sides {
                start(bed, layers, collector.as_ref()).await?;
                bed.feed = format!("{feed}-{round}-{layers:?}").to_lowercase();
                let report = IngestArgs::of(self.common.clone(), self.records);
                ingest.enter(layers, &report.run(bed).await?)?;
                bed.delete_feed().await?;
                bed.feed.push_str("-f");
                let report = FanoutArgs::of(self.common.clone(), self.subscribers, self.duration);
                fanout.enter(layers, &Box::pin(report.run(bed)).await?)?;
            }
        }
        let silent = collector.is_some_and(|collector| collector.exported() == 0);
        ensure!(!silent, "tracing was not on: no span came");
        Ok(self.report([ingest, fanout]))
    }

    fn report(&self, compared: [Compared; 2]) -> Report {
        let mut report = Report::new("layers");
        self.common.describe(&mut report);
        report.option("rounds", self.rounds);
        report.option("records", self.records);
        report.option("subscribers", self.subscribers);
        report.option("seconds", self.duration.as_secs_f64());
        report.option("trace", self.trace);
        let mut worst = f64::INFINITY;
        for Compared {
            work,
            figure,
            off,
            on,
        } in compared
        {
            report.figure(&format!("{work}_{figure}_off"), median(&off.per_second));
            report.figure(&format!("{work}_{figure}_on"), median(&on.per_second));
            let speed = ratios(&on.per_second, &off.per_second);
            report.figure(&format!("{work}_ratio"), median(&speed));
            let cpu = ratios(&on.server_cpu, &off.server_cpu);
            report.figure(&format!("{work}_server_cpu_ratio"), median(&cpu));
            report.figure(&format!("{work}_server_cpu_ratio_low"), quartile(&cpu, 1));
            report.figure(&format!("{work}_server_cpu_ratio_high"), quartile(&cpu, 3));
            worst = worst.min(median(&speed));
        }
        report.main_figure("ratio", worst);
        report
    }
}

impl Compared {
    fn new(work: &'static str, figure: &'static str) -> Self {
        Self {
            work,
            figure,
            off: Side::default(),
            on: Side::default(),
        }
    }

    fn enter(&mut self, layers: Layers, report: &Report) -> anyhow::Result<()> {
        let side = match layers {
            Layers::Off => &mut self.off,
            Layers::On => &mut self.on,
        };
        let number = |name| report.number(name).context("the work tells no figure");
        side.per_second.push(number(self.figure)?);
        side.server_cpu
            .push(number("server_cpu_seconds_per_million")?);
        Ok(())
    }
}

/// Starts our server anew, on the same data.
async fn start(bed: &mut Bed, layers: Layers, collector: Option<&Collector>) -> anyhow::Result<()> {
    let own = |(name, value): (&'static str, &str)| (name, value.to_owned());
    if layers == Layers::Off {
        return bed.restart_with(OFF.map(own).to_vec(), None).await;
    }
    let token = NewToken::make("bench".into(), vec!["*:bench-*".into()], None, None)?;
    let file = bed.disk().join("tokens.toml");
    fs::write(&file, "")?;
    TokenFile::edit(&file, |tokens| {
        tokens.tokens = vec![token.entry];
        Ok(())
    })?;
    let mut settings = RATES.map(own).to_vec();
    let path = file.to_str().context("the directory has an odd name")?;
    settings.push(("RINGFEED_AUTH__TOKEN_FILE", path.to_owned()));
    if let Some(Collector { endpoint, .. }) = collector {
        settings.push(("RINGFEED_TRACE__OTLP_ENDPOINT", endpoint.clone()));
    }
    let bearer = format!("Bearer {}", token.text.reveal());
    bed.restart_with(settings, Some(bearer)).await?;
    let nobody = bed.nobody_is_refused().await;
    ensure!(
        nobody,
        "the layers are not on: a call without a token passed"
    );
    Ok(())
}

/// Of each round its own, so that a machine that gets slower from round to round does not matter.
fn ratios(on: &[f64], off: &[f64]) -> Vec<f64> {
    on.iter().zip(off).map(|(on, off)| on / off).collect()
}

fn median(values: &[f64]) -> f64 {
    quartile(values, 2)
}

/// The value below which so many quarters of them lie; between two of them, both count.
fn quartile(values: &[f64], quarters: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = quarters * values.len().saturating_sub(1);
    let value = |at: usize| values.get(at).copied().unwrap_or(f64::NAN);
    let (below, above) = (value(at / 4), value(at.div_ceil(4)));
    below + (above - below) * (at % 4) as f64 / 4.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_values() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(median(&values), 2.5);
        assert_eq!(quartile(&values, 1), 1.75);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_round_is_compared_with_itself() {
        assert_eq!(ratios(&[2.0, 30.0], &[1.0, 10.0]), [2.0, 3.0]);
    }
}
