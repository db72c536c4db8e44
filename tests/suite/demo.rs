//! The demo, as a newcomer runs it: its summary is exact and its exit code says so.

use std::process::Stdio;

use tokio::process::Command;

use crate::harness::within;

/// Feed, and what the recordings hold: rows of three files, 20 and 15 sensors of 1,440 rows.
const RECORDINGS: [(&str, u64); 5] = [
    ("sensors.alamosa", 28_800),
    ("sensors.bms", 21_600),
    ("stocks.daily", 12_154),
    ("stocks.quotes", 56),
    ("stocks.trades", 77),
];

#[tokio::test]
async fn the_demo_accounts_for_every_record_and_survives_its_own_kill() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_ringfeed"));
    demo.args(["demo", "--duration", "13s"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = within("the demo", demo.output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{said}\n{complained}",
        output.status
    );

    for (feed, records) in RECORDINGS {
        let row = said
            .lines()
            .rev()
            .find(|line| line.starts_with(feed))
            .unwrap();
        let figures: Vec<&str> = row.split_whitespace().skip(1).collect();
        // Ingested, delivered, gaps, refused, missing.
        let records = records.to_string();
        assert_eq!(
            figures,
            [records.as_str(), records.as_str(), "0", "0", "0"],
            "{row}"
        );
    }
    let total: u64 = RECORDINGS.iter().map(|(_, records)| records).sum();
    let summary = format!("{total} stored, {total} delivered, lost 0, doubled 0");
    assert!(said.contains(&summary), "{said}");
    assert!(
        said.contains("of the records acked before: lost 0, doubled 0"),
        "{said}"
    );
    assert!(
        said.contains("Gap EVICTED, offsets"),
        "a real gap is shown: {said}"
    );
    assert!(
        said.contains("eviction reaches it in"),
        "it was announced: {said}"
    );
    assert!(said.contains("page: http://127.0.0.1:"), "{said}");
}
