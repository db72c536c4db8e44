//! The bench on itself: each work moves a little, verifies it and says so in stable names.

use std::{path::Path, process::Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{Server, until, within};

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringfeed"));
    command.arg("bench").args(args).arg("--dir").arg(dir);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a work and gives what it printed.
async fn bench(dir: &Path, args: &[&str]) -> String {
    let output = within("the bench", command(dir, args).output())
        .await
        .unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {complained}");
    String::from_utf8(output.stdout).unwrap()
}

async fn json(dir: &Path, args: &[&str]) -> Value {
    let args = [args, &["--json"]].concat();
    serde_json::from_str(&bench(dir, &args).await).unwrap()
}

#[track_caller]
fn has(report: &Value, names: &[&str]) {
    let common = [
        "options.payload",
        "records",
        "seconds",
        "server_cpu_seconds_per_million",
        "server_rss_bytes",
        "server_peak_rss_bytes",
        "fdatasync_micros_before",
        "fdatasync_micros_after",
        "verified.records",
        "verified.hash",
        "version",
        "machine.cores",
        "machine.kernel",
    ];
    for name in common.iter().chain(names) {
        let pointer = format!("/{}", name.replace('.', "/"));
        assert!(report.pointer(&pointer).is_some(), "{name}: {report:#}");
    }
}

const QUANTILES: [&str; 5] = [
    "latency_micros.p50",
    "latency_micros.p90",
    "latency_micros.p99",
    "latency_micros.p999",
    "latency_micros.max",
];

#[tokio::test]
async fn uploads_are_counted_and_read_back() {
    let dir = TempDir::new().unwrap();
    let some = ["ingest", "--records", "10000"];
    let report = json(dir.path(), &some).await;
    assert_eq!(report["work"], "ingest");
    assert_eq!(report["records"], 10_000);
    assert_eq!(report["verified"]["records"], 10_000);
    let rates = ["records_per_second", "bytes_per_second"];
    has(
        &report,
        &[&rates[..], &["raw_append_bytes_per_second"]].concat(),
    );

    let shared = ["--streams", "6", "--connections", "2", "--batch", "1"];
    let numbered = ["--numbered", "--payload", "reading", "--pack", "0"];
    let report = json(dir.path(), &[&some[..], &shared, &numbered].concat()).await;
    assert_eq!(report["verified"]["records"], 10_000);

    let report = json(dir.path(), &["ingest", "--lone", "--records", "20"]).await;
    assert_eq!(report["latency_samples"], 20);
    has(&report, &QUANTILES);
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 0, "its data goes with it");
}

#[tokio::test]
async fn subscribers_get_all_or_what_they_ask_for() {
    let dir = TempDir::new().unwrap();
    let some = ["fanout", "--subscribers", "7", "--records", "5000"];
    let report = json(dir.path(), &[&some[..], &["--connections", "3"]].concat()).await;
    assert_eq!(report["deliveries"], 35_000);
    assert_eq!(report["verified"]["records"], 5_000);
    assert_eq!(report["verified_deliveries_untimed"], 35_000);
    has(
        &report,
        &["deliveries_per_second", "loopback_bytes_per_second"],
    );

    for filters in ["same", "distinct"] {
        let filter = [
            "--filter-percent",
            "10",
            "--keys",
            "40",
            "--filters",
            filters,
        ];
        let fixture = ["--threads", "2", "--visibility", "immediate"];
        let report = json(dir.path(), &[&some[..], &filter, &fixture].concat()).await;
        // 4 of 40 keys that come in turn.
        assert_eq!(report["deliveries"], 7 * 500, "{filters}");
        assert_eq!(report["verified"]["records"], 500);
    }
}

#[tokio::test]
async fn stored_records_are_read_warm_and_cold() {
    let dir = TempDir::new().unwrap();
    let some = ["replay", "--records", "20000"];
    let report = json(dir.path(), &[&some[..], &["--readers", "3"]].concat()).await;
    assert_eq!(report["deliveries"], 60_000);
    has(&report, &["deliveries_per_second", "bytes_per_second"]);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let fixture = fixture.join("market_us_stocks_daily.csv");
    let fixture = ["--cold", "--fixture", fixture.to_str().unwrap()];
    let report = json(dir.path(), &[&some[..], &fixture].concat()).await;
    assert_eq!(report["verified"]["records"], 20_000);
}

#[tokio::test]
async fn latencies_are_of_every_record_after_the_warm_up() {
    let dir = TempDir::new().unwrap();
    let some = [
        "latency",
        "--rate",
        "2000",
        "--duration",
        "1s",
        "--warmup",
        "500ms",
    ];
    let report = json(dir.path(), &[&some[..], &["--subscribers", "3"]].concat()).await;
    assert_eq!(report["records"], 2_000);
    assert_eq!(report["latency_samples"], 3 * 1_000);
    has(&report, &QUANTILES);
}

#[tokio::test]
async fn idle_subscribers_are_weighed_and_still_get_what_comes() {
    let dir = TempDir::new().unwrap();
    let some = ["idle", "--subscribers", "50", "--connections", "5"];
    let report = json(dir.path(), &some).await;
    assert_eq!(report["deliveries"], 50 * 100);
    has(&report, &["server_bytes_per_subscriber"]);
}

#[tokio::test]
async fn a_running_server_is_measured_and_left_as_it_was() {
    let server = Server::start().await;
    let dir = TempDir::new().unwrap();
    let (address, pid) = (server.address().to_string(), server.pid().to_string());
    let there = ["--endpoint", &address, "--server-pid", &pid];
    let some = ["fanout", "--subscribers", "2", "--records", "1000"];
    let report = json(dir.path(), &[&some[..], &there].concat()).await;
    assert_eq!(report["deliveries"], 2_000);
    has(&report, &[]);
    let mut catalog = server.catalog().await;
    let feeds = catalog
        .list_feeds(ringfeed::proto::v1::ListFeedsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .feeds;
    assert!(feeds.is_empty(), "{feeds:?}");
}

#[tokio::test]
async fn a_run_is_compared_with_an_earlier_one() {
    let dir = TempDir::new().unwrap();
    let home = TempDir::new().unwrap();
    let file = home.path().join("runs.jsonl");
    let some = [
        "ingest",
        "--records",
        "2000",
        "--runs",
        "3",
        "--engine",
        "memory",
    ];
    let report = json(dir.path(), &some).await;
    assert_eq!(report["runs"].as_array().unwrap().len(), 3);
    std::fs::write(&file, report.to_string()).unwrap();
    let compare = ["--compare", file.to_str().unwrap()];
    let table = bench(dir.path(), &[&some[..], &compare].concat()).await;
    let row = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(row("records_per_second").ends_with(" x"), "{table}");
    assert!(row("records ").ends_with("1.00 x"), "{table}");
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
}

#[tokio::test]
async fn what_a_ring_cannot_hold_fails_the_run() {
    let dir = TempDir::new().unwrap();
    // 1 MiB holds a few thousand of these: what is read back does not begin with the first.
    let small = ["ingest", "--records", "40000", "--ring", "1MiB"];
    let output = within("the bench", command(dir.path(), &small).output());
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("where 0 was to come: records are lost"),
        "{said}"
    );
}

#[tokio::test]
async fn an_interrupted_run_leaves_neither_server_nor_data() {
    let dir = TempDir::new().unwrap();
    let endless = ["fanout", "--subscribers", "2", "--duration", "10m"];
    let mut command = command(dir.path(), &endless);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    let own = dir
        .path()
        .join(format!("ringfeed-bench-{}", pid.as_raw_nonzero()));
    until("its server's data", async || own.join("data/sled").is_dir()).await;
    kill_process(pid, Signal::INT).unwrap();
    let status = within("its end", child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(!own.exists(), "its data goes with it");
}

#[tokio::test]
async fn snapshots_under_writing_are_checked_key_by_key() {
    let dir = TempDir::new().unwrap();
    let many = ["snapshot", "--keys", "100000", "--duration", "1s"];
    let report = json(dir.path(), &many).await;
    let snapshots = report["snapshots"].as_u64().unwrap();
    assert!(snapshots >= 1, "{report:#}");
    assert_eq!(report["snapshot_records"], snapshots * 100_000);
    assert_eq!(report["verified"]["records"], 110_000);
    has(&report, &QUANTILES);
    has(&report, &["complete_micros.p99"]);
}

/// Whether spans came to its collector, the bench checks itself.
#[tokio::test]
async fn layers_are_compared_with_a_bare_server_also_while_calls_are_traced() {
    let dir = TempDir::new().unwrap();
    let short = "layers --rounds 1 --records 1000 --subscribers 2 --duration 100ms --trace";
    let args: Vec<_> = short.split(' ').chain(["--engine", "memory"]).collect();
    let report = json(dir.path(), &args).await;
    assert_eq!(report["options"]["trace"], true);
    for work in ["ingest", "fanout"] {
        for figure in ["ratio", "server_cpu_ratio_low", "server_cpu_ratio_high"] {
            let name = format!("{work}_{figure}");
            assert!(report.get(&name).is_some(), "{name}: {report:#}");
        }
    }
}
