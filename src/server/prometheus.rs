//! The process's one metrics recorder, and its scrape.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::metrics;

/// From a flush of a fast disk to a stall that somebody should look at, in seconds.
const SECONDS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];
/// From a clock that is ahead to a spool of last month, in seconds.
const DELAYS: [f64; 10] = [
    -1.0,
    0.0,
    0.001,
    0.01,
    0.1,
    1.0,
    10.0,
    300.0,
    86_400.0,
    2_592_000.0,
];

/// Installs the recorder once in a process; later servers of the process share it.
pub(super) fn install() -> Result<PrometheusHandle, BuildError> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let delay = Matcher::Full("ringfeed_source_delay_seconds".into());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(delay, &DELAYS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .install_recorder()?;
    metrics_process::Collector::default().describe();
    metrics::describe();
    Ok(HANDLE.get_or_init(|| handle).clone())
}

/// The scrape, with the process's own figures as of now.
pub(super) fn render(handle: &PrometheusHandle) -> String {
    metrics_process::Collector::default().collect();
    handle.render()
}
