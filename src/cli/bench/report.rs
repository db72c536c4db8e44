//! What a run found out: one JSON object with stable names, and the same as a table for people.

use std::{
    fs,
    io::{self, Write as _},
    thread,
};

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::{
    compare::{Ratios, flat},
    crowd::Crowd,
    meter::{Cost, Memory},
    verify::Verified,
};
use crate::cli::plain;

const WIDTH: usize = 80;

#[derive(Clone, Debug)]
pub(super) struct Report {
    fields: Map<String, Value>,
    options: Map<String, Value>,
    /// The figure that tells the median run.
    main: f64,
}

impl Report {
    pub(super) fn new(work: &str) -> Self {
        let mut report = Self {
            fields: Map::new(),
            options: Map::new(),
            main: 0.0,
        };
        report.put("work", work);
        report.put("options", Value::Null);
        report
    }

    pub(super) fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.fields.insert(name.to_owned(), value.into());
    }

    /// What was asked for.
    pub(super) fn option(&mut self, name: &str, value: impl Into<Value>) {
        self.options.insert(name.to_owned(), value.into());
    }

    /// A figure rounded to what it is good for.
    pub(super) fn figure(&mut self, name: &str, value: f64) {
        self.put(name, rounded(value));
    }

    /// The figure by which the median of several runs is found.
    pub(super) fn main_figure(&mut self, name: &str, value: f64) {
        self.figure(name, value);
        self.main = value;
    }

    /// A figure that was put before.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.fields.get(name)?.as_f64()
    }

    /// How long it took and what it cost for each million of `units`.
    pub(super) fn cost(&mut self, cost: Cost, units: u64) {
        let per_million = |seconds: f64| seconds / (units.max(1) as f64 / 1e6);
        self.figure("seconds", cost.elapsed.as_secs_f64());
        for (who, seconds) in [("server", cost.server), ("client", cost.own)] {
            if let Some(seconds) = seconds {
                self.figure(&format!("{who}_cpu_seconds"), seconds);
                let name = format!("{who}_cpu_seconds_per_million");
                self.figure(&name, per_million(seconds));
            }
        }
    }

    /// What subscribers got, and how much of loopback TCP that is.
    pub(super) fn deliveries(&mut self, crowd: &Crowd, cost: Cost, loopback: f64) {
        let (deliveries, bytes) = crowd.delivered();
        let seconds = cost.elapsed.as_secs_f64();
        self.put("deliveries", deliveries);
        self.cost(cost, deliveries);
        self.main_figure("deliveries_per_second", deliveries as f64 / seconds);
        let rate = bytes as f64 / seconds;
        self.figure("bytes_per_second", rate);
        self.figure("loopback_bytes_per_second", loopback);
        self.figure("share_of_loopback", rate / loopback);
    }

    pub(super) fn memory(&mut self, memory: Option<Memory>) {
        if let Some(memory) = memory {
            self.put("server_rss_bytes", memory.resident);
            self.put("server_peak_rss_bytes", memory.peak);
        }
    }

    pub(super) fn latencies(&mut self, nanos: &Histogram<u64>) {
        self.quantiles("latency_micros", nanos);
        self.put("latency_samples", nanos.len());
        self.main = nanos.value_at_quantile(0.5) as f64;
    }

    pub(super) fn quantiles(&mut self, name: &str, nanos: &Histogram<u64>) {
        let micros = |quantile| rounded(nanos.value_at_quantile(quantile) as f64 / 1e3);
        let quantiles = json!({
            "p50": micros(0.5),
            "p90": micros(0.9),
            "p99": micros(0.99),
            "p999": micros(0.999),
            "max": rounded(nanos.max() as f64 / 1e3),
        });
        self.put(name, quantiles);
    }

    pub(super) fn verified(&mut self, verified: Verified) {
        self.put("verified", json!(verified));
    }

    /// The run whose main figure is the median; it tells the figures of all.
    pub(super) fn median(mut runs: Vec<Self>) -> Option<Self> {
        let all: Vec<f64> = runs.iter().map(|run| rounded(run.main)).collect();
        runs.sort_by(|a, b| a.main.total_cmp(&b.main));
        let middle = runs.len().checked_sub(1)? / 2;
        let mut report = runs.into_iter().nth(middle)?;
        if all.len() > 1 {
            report.put("runs", all);
        }
        Some(report)
    }

    pub(super) fn into_json(mut self) -> Map<String, Value> {
        self.put("version", env!("CARGO_PKG_VERSION"));
        let cores = thread::available_parallelism().map_or(0, usize::from);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        self.put("machine", json!({"cores": cores, "kernel": kernel.trim()}));
        let options = std::mem::take(&mut self.options);
        self.put("options", options);
        self.fields
    }
}

/// Four digits that count.
pub(super) fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let digits = 3.0 - value.abs().log10().floor();
    if digits <= 0.0 {
        return value.round();
    }
    let scale = 10_f64.powf(digits);
    (value * scale).round() / scale
}

/// Prints a report, with the ratios to an earlier one.
pub(super) fn print(
    report: &Map<String, Value>,
    ratios: Option<&Ratios>,
    json: bool,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        let mut report = report.clone();
        if let Some(ratios) = ratios {
            report.insert("compared".to_owned(), ratios.to_json());
        }
        return writeln!(out, "{}", Value::Object(report));
    }
    writeln!(out, "{}", headline(report))?;
    let told = ["work", "options", "version", "machine"];
    let mut figures = report.clone();
    figures.retain(|name, _| !told.contains(&name.as_str()));
    for (name, value) in flat(&figures) {
        let ratio = ratios.and_then(|ratios| ratios.of(&name));
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:>10.2} x"));
        let shown = shown(&name, &value);
        let row = format!("{name:<40}{shown:>20}{ratio}");
        writeln!(out, "{}", row.trim_end())?;
    }
    for note in ratios.map(Ratios::notes).unwrap_or_default() {
        writeln!(out, "{note}")?;
    }
    out.flush()
}

/// What was measured, and how it was asked for.
fn headline(report: &Map<String, Value>) -> String {
    let bare = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let mut text = report.get("work").map(bare).unwrap_or_default();
    let mut width = text.len();
    let options = report.get("options").and_then(Value::as_object);
    for (name, value) in options.into_iter().flatten() {
        let word = format!("{name}={}", bare(value));
        let fits = width + 1 + word.len() <= WIDTH;
        width = if fits { width + 1 } else { 2 } + word.len();
        text.push_str(if fits { " " } else { "\n  " });
        text.push_str(&word);
    }
    text
}

/// A value for people: grouped digits, sizes and rates with their units.
fn shown(name: &str, value: &Value) -> String {
    if let Some(text) = value.as_str() {
        return text.to_owned();
    }
    let Some(number) = value.as_f64() else {
        return value.to_string();
    };
    if name.ends_with("bytes_per_second") {
        return format!("{:.1} MB/s", number / 1e6);
    }
    if name.ends_with("_bytes") && number >= 1_048_576.0 {
        return format!("{:.1} MiB", number / 1_048_576.0);
    }
    let grouped = number >= 10_000.0 || value.is_u64();
    match format!("{number:.0}").parse() {
        Ok(whole) if grouped => plain::count(whole),
        _ => number.to_string(),
    }
}
