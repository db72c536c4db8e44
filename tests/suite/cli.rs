//! The command line against a real server: what it prints can be resumed and read back.

use std::{path::Path, process::Stdio};

use prost::Message as _;
use ringfeed::proto::v1::Record;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::harness::{Server, read_to_now, within};

const DAILY: &str = "fixtures/market_us_stocks_daily.csv";

/// What a command printed, and its exit code.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) async fn ringfeed(server: &Server, args: &[&str], input: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringfeed"));
    let mut child = command
        .args(args)
        .env("RINGFEED_ENDPOINT", format!("http://{}", server.address()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let fed = tokio::spawn(async move {
        stdin.write_all(input.as_bytes()).await.ok();
    });
    let output = within("the command", child.wait_with_output())
        .await
        .unwrap();
    fed.await.unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

async fn good(server: &Server, args: &[&str], input: &str) -> String {
    let ran = ringfeed(server, args, input).await;
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
    ran.out
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn a_stopped_subscriber_goes_on_after_its_last_record_byte_for_byte() {
    let server = Server::start().await;
    good(&server, &["ingest", "stocks.daily", "--file", DAILY], "").await;
    let cursor = server.setup().home().join("daily.cursor");
    let follow = [
        "subscribe",
        "stocks.daily",
        "--from",
        "earliest",
        "--until",
        "now",
    ];
    let format = ["--format", "jsonl"];
    let whole = good(&server, &[&follow[..], &format[..]].concat(), "").await;
    assert_eq!(whole.lines().count(), 12_154);

    let with_cursor = ["--cursor-file", path(&cursor)];
    let stops = [
        &follow[..],
        &format[..],
        &with_cursor[..],
        &["--count", "5000"],
    ]
    .concat();
    let first = good(&server, &stops, "").await;
    assert_eq!(first.lines().count(), 5_000);
    let server = server.restart().await;
    let resumes = [&follow[..], &format[..], &with_cursor[..]].concat();
    let second = good(&server, &resumes, "").await;
    assert!(
        second
            .lines()
            .next()
            .unwrap()
            .contains("\"offset\":\"5000\""),
        "k + 1 comes next"
    );
    assert!(
        first + &second == whole,
        "the two outputs joined are the one of a whole run"
    );
    assert_eq!(good(&server, &resumes, "").await, "", "nothing twice");
}

#[tokio::test]
async fn what_subscribe_prints_ingest_accepts_and_the_copy_equals_the_original() {
    let server = Server::start().await;
    for file in [
        DAILY,
        "fixtures/market_us_stock_ticks_quotes.csv",
        "fixtures/market_us_stock_ticks_trades.csv",
        "fixtures/sensor_surfrad_alamosa_20160101.csv",
    ] {
        good(&server, &["ingest", "original", "--file", file], "").await;
    }
    for format in ["jsonl", "csv"] {
        let copy = format!("copy.{format}");
        let print = [
            "subscribe",
            "original",
            "--from",
            "earliest",
            "--until",
            "now",
        ];
        let printed = good(&server, &[&print[..], &["--format", format]].concat(), "").await;
        good(&server, &["ingest", &copy, "--format", format], &printed).await;
        let own = |feed: &str| {
            let (server, feed) = (&server, feed.to_owned());
            async move {
                let ledger = read_to_now(&mut server.feeds().await, &feed).await;
                let records = ledger.records.into_iter().map(|(_, bytes)| Record {
                    offset: 0,
                    ingest_time_unix_nanos: 0,
                    ..Record::decode(bytes).unwrap()
                });
                records.collect::<Vec<_>>()
            }
        };
        let (original, copied) = (own("original").await, own(&copy).await);
        assert_eq!(original.len(), 12_154 + 56 + 77 + 28_800);
        assert!(original == copied, "the {format} copy differs");
    }
}

#[tokio::test]
async fn a_broken_row_is_named_and_the_others_are_stored() {
    let server = Server::start().await;
    let text = std::fs::read_to_string(DAILY).unwrap();
    let mut lines: Vec<&str> = text.lines().take(50).collect();
    let broken = lines[20].replacen(',', ",not-a-day,", 1);
    lines[20] = &broken;
    let wrong_price = "AAPL,2000-03-30,12x.5,1,1,1,1,1";
    lines[30] = wrong_price;
    let mapping = "fixtures/market_us_stocks_daily.mapping.toml";
    let args = ["ingest", "broken", "--format", "csv", "--mapping", mapping];
    let ran = ringfeed(&server, &args, &(lines.join("\n") + "\n")).await;
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("row 21"), "{}", ran.err);
    assert!(
        ran.err.contains("row 31") && ran.err.contains("Open"),
        "{}",
        ran.err
    );
    assert!(
        ran.out.contains("47 stored") || ran.err.contains("47 stored"),
        "{}{}",
        ran.out,
        ran.err
    );
    let stored = read_to_now(&mut server.feeds().await, "broken").await;
    assert_eq!(stored.records.len(), 47);
}

#[tokio::test]
async fn one_reading_from_a_pipe_is_stored_and_said_so() {
    let server = Server::start().await;
    let line = "{\"key\":\"pi17.temp\",\"value\":21.5}\n";
    let ran = ringfeed(&server, &["ingest", "sensors"], line).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let said = ran.out + &ran.err;
    assert!(said.contains("1 stored, offset 0, durable"), "{said}");
}

#[tokio::test]
async fn errors_are_one_line_that_says_what_to_do() {
    let server = Server::start().await;
    let unknown = ringfeed(&server, &["subscribe", "nope", "--from", "earliest"], "").await;
    assert_eq!(unknown.code, 1);
    assert_eq!(unknown.err.lines().count(), 1, "{}", unknown.err);
    assert!(
        unknown.err.contains("ringfeed feeds list"),
        "{}",
        unknown.err
    );
    let nobody = ["latest", "x", "--endpoint", "http://127.0.0.1:1"];
    let refused = ringfeed(&server, &nobody, "").await;
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("ringfeed serve"), "{}", refused.err);
    let usage = ringfeed(&server, &["subscribe", "x", "--from", "yesterday-ish"], "").await;
    assert_eq!(usage.code, 2, "{}", usage.err);
}
