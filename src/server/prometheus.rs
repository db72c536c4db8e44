//! The process's one metrics recorder, and its scrape.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::metrics::{self, RuntimeFigures};

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

/// The scrape, with the figures of process and runtime as of now, and without feeds that are gone:
/// the recorder forgets nothing.
pub(super) fn render(handle: &PrometheusHandle, is_there: impl Fn(&str) -> bool) -> String {
    metrics_process::Collector::default().collect();
    let busy = metrics::set_runtime(runtime());
    let mut scrape = handle.render();
    if feeds_of(&scrape).any(|feed| !is_there(feed)) {
        let kept = |line: &&str| feed_of(line).is_none_or(&is_there);
        scrape = scrape.split_inclusive('\n').filter(kept).collect();
    }
    scrape + &busy
}

fn feeds_of(scrape: &str) -> impl Iterator<Item = &str> {
    scrape.lines().filter_map(feed_of)
}

/// The feed a line is about; names of feeds need no escapes.
fn feed_of(line: &str) -> Option<&str> {
    let (_, labels) = line.split_once('{')?;
    let (_, value) = labels.split_once("feed=\"")?;
    value.split('"').next()
}

/// Of the runtime that runs this.
fn runtime() -> RuntimeFigures {
    let runtime = tokio::runtime::Handle::current().metrics();
    let workers = runtime.num_workers();
    RuntimeFigures {
        workers,
        tasks: runtime.num_alive_tasks(),
        queued_tasks: runtime.global_queue_depth(),
        busy: (0..workers)
            .map(|worker| runtime.worker_total_busy_duration(worker))
            .sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::feed_of;

    #[test]
    fn a_line_is_about_the_feed_in_its_labels() {
        for (line, feed) in [
            ("a{feed=\"x.y\"} 1", Some("x.y")),
            ("a{le=\"1\",feed=\"x\",reason=\"feed\"} 1", Some("x")),
            ("a{rpc=\"ListFeeds\"} 1", None),
            ("a 1", None),
            ("", None),
        ] {
            assert_eq!(feed_of(line), feed, "{line}");
        }
    }
}
