//! The commands of subscriptions that are more than all records of one feed: snapshots, globs, views
//! and named cursors, as people type them.

use std::{collections::BTreeSet, process::Stdio};

use ringfeed::proto::v1::{AcknowledgeCursorRequest, Cursor, ListSubscribersRequest};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::harness::{Server, get_feed, until, within};

const DAILY: &str = "fixtures/market_us_stocks_daily.csv";
const KEYS: [&str; 5] = ["AAPL", "FB", "GOOG", "IBM", "MSFT"];

fn command(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringfeed"));
    command
        .args(args)
        .env("RINGFEED_ENDPOINT", format!("http://{}", server.address()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// What a command printed: to stdout, and to stderr.
async fn good(server: &Server, args: &[&str]) -> (String, String) {
    let output = within("the command", command(server, args).output()).await;
    let output = output.unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {err}");
    (String::from_utf8(output.stdout).unwrap(), err)
}

async fn with_daily() -> Server {
    let server = Server::start().await;
    good(&server, &["ingest", "stocks.daily", "--file", DAILY]).await;
    server
}

fn json(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap()
}

fn offset(value: &Value) -> u64 {
    text(value, "/offset").parse().unwrap()
}

/// A command that goes on until it is dropped.
struct Running {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(server: &Server, args: &[&str]) -> Self {
        let mut command = command(server, args);
        // What it says there tells why a line did not come.
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        Self {
            _child: child,
            lines: BufReader::new(out).lines(),
        }
    }

    async fn line(&mut self) -> Value {
        let line = within("a line", self.lines.next_line()).await.unwrap();
        serde_json::from_str(&line.expect("it goes on")).unwrap()
    }
}

/// One reading, as a script sends it.
async fn send(server: &Server, feed: &str, key: &str, value: u32) {
    let path = server.setup().home().join("one.jsonl");
    std::fs::write(&path, format!("{{\"key\":\"{key}\",\"value\":{value}}}\n")).unwrap();
    let file = path.to_str().unwrap();
    // Without a name of the producer, equal files would be stored once.
    good(
        server,
        &[
            "ingest",
            feed,
            "--file",
            file,
            "--producer",
            &format!("{key}.{value}"),
        ],
    )
    .await;
}

#[tokio::test]
async fn without_a_place_the_latest_of_each_key_comes_and_then_what_is_new() {
    let server = with_daily().await;
    let mut running = Running::start(&server, &["subscribe", "stocks.daily"]);
    let mut keys = BTreeSet::new();
    let mut greatest = 0;
    for _ in KEYS {
        let line = running.line().await;
        greatest = greatest.max(offset(&line));
        keys.insert(text(&line, "/key").to_owned());
    }
    assert_eq!(keys, KEYS.map(str::to_owned).into());
    send(&server, "stocks.daily", "NEW", 7).await;
    let live = running.line().await;
    assert_eq!(text(&live, "/key"), "NEW");
    assert_eq!(offset(&live), 12_154, "exactly behind the snapshot");
    assert!(greatest < 12_154);
}

#[tokio::test]
async fn a_snapshot_says_on_stderr_where_it_ends() {
    let server = with_daily().await;
    let args = [
        "subscribe",
        "stocks.daily",
        "--from",
        "snapshot",
        "--until",
        "now",
    ];
    let (out, err) = good(&server, &args).await;
    assert_eq!(out.lines().count(), KEYS.len());
    assert!(err.contains("as of offset 12154"), "{err}");
}

#[tokio::test]
async fn a_glob_follows_all_feeds_that_match_and_those_created_later() {
    let server = Server::start().await;
    send(&server, "plant.one", "a", 1).await;
    send(&server, "plant.two", "b", 2).await;
    send(&server, "other", "c", 3).await;
    let args = [
        "subscribe",
        "plant.*",
        "--from",
        "earliest",
        "--not-key",
        "z*",
    ];
    let mut running = Running::start(&server, &args);
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let line = running.line().await;
        seen.insert(text(&line, "/feed").to_owned());
    }
    assert_eq!(seen, ["plant.one", "plant.two"].map(str::to_owned).into());
    send(&server, "plant.three", "zero", 4).await;
    send(&server, "plant.three", "d", 5).await;
    let line = running.line().await;
    assert_eq!(text(&line, "/feed"), "plant.three");
    assert_eq!(text(&line, "/key"), "d");
}

#[tokio::test]
async fn a_conflated_backlog_is_one_record_of_each_key() {
    let server = with_daily().await;
    let args = [
        "subscribe",
        "stocks.daily",
        "--from",
        "earliest",
        "--until",
        "now",
    ];
    let (out, _) = good(&server, &[&args[..], &["--conflate", "250ms"]].concat()).await;
    let lines = json(&out);
    let keys: BTreeSet<_> = lines.iter().map(|line| text(line, "/key")).collect();
    assert_eq!(keys, KEYS.into());
    // How far it collapses depends on how it was read; the last one is the latest of all.
    assert!(lines.len() < 1_000, "{} lines", lines.len());
    let (latest, _) = good(&server, &["latest", "stocks.daily"]).await;
    for last in json(&latest) {
        let key = text(&last, "/key");
        let mut of_key = lines.iter().filter(|line| text(line, "/key") == key);
        assert_eq!(of_key.next_back(), Some(&last), "{key}");
    }
}

#[tokio::test]
async fn bars_of_prices_are_printed_as_records_that_ingest_reads() {
    let server = with_daily().await;
    let args = [
        "subscribe",
        "stocks.daily",
        "--from",
        "earliest",
        "--until",
        "now",
    ];
    let bars = [&args[..], &["--key", "AAPL", "--bars", "7d"]].concat();
    for format in ["jsonl", "csv"] {
        let (out, _) = good(&server, &[&bars[..], &["--format", format]].concat()).await;
        let path = server.setup().home().join(format!("weekly.{format}"));
        std::fs::write(&path, &out).unwrap();
        let copy = format!("weekly.{format}");
        let ingest = [
            "ingest",
            &copy,
            "--file",
            path.to_str().unwrap(),
            "--format",
            format,
        ];
        good(&server, &ingest).await;
        let feed = get_feed(&mut server.catalog().await, &copy).await;
        // The weeks of the file that have a row of it.
        assert_eq!(feed.next, 680);
    }
    let (out, _) = good(&server, &bars).await;
    for bar in json(&out) {
        assert_eq!(text(&bar, "/bar/interval_nanos"), "604800000000000");
        assert_eq!(text(&bar, "/view/source"), "bar");
    }
}

#[tokio::test]
async fn bars_of_readings_have_their_own_form() {
    let server = Server::start().await;
    for value in [3, 1, 2] {
        send(&server, "plant", "a", value).await;
    }
    let args = [
        "subscribe",
        "plant",
        "--from",
        "earliest",
        "--bars",
        "366d",
        "--open",
    ];
    let mut running = Running::start(&server, &args);
    loop {
        let bar = running.line().await;
        let figures = &bar["reading_bar"];
        if figures["count"] == "3" {
            let number = |name: &str| figures[name].as_f64().unwrap();
            assert_eq!((number("min"), number("max")), (1.0, 3.0));
            assert_eq!((number("mean"), number("last")), (2.0, 2.0));
            assert_eq!(bar["view"]["complete"], false);
            break;
        }
    }
}

#[tokio::test]
async fn a_named_cursor_goes_on_behind_what_was_printed() {
    let server = with_daily().await;
    let args = [
        "subscribe",
        "stocks.daily",
        "--from",
        "cursor",
        "--name",
        "archive",
    ];
    let first = [&args[..], &["--count", "5000"]].concat();
    let (first, _) = good(&server, &first).await;
    assert_eq!(first.lines().count(), 5_000);
    let (listed, _) = good(&server, &["subscribers"]).await;
    let row = listed
        .lines()
        .find(|line| line.starts_with("archive"))
        .unwrap();
    assert!(row.contains(" 5000 ") && row.ends_with("away"), "{row}");
    let server = server.restart().await;
    let rest = [&args[..], &["--until", "now"]].concat();
    let (second, _) = good(&server, &rest).await;
    let whole = [
        "subscribe",
        "stocks.daily",
        "--from",
        "earliest",
        "--until",
        "now",
    ];
    let (whole, _) = good(&server, &whole).await;
    assert!(first + &second == whole, "each record once");
    let forget = [
        "subscribers",
        "--forget",
        "archive",
        "--feed",
        "stocks.daily",
    ];
    good(&server, &forget).await;
    let (listed, _) = good(&server, &["subscribers"]).await;
    assert!(!listed.contains("archive"), "{listed}");
}

#[tokio::test]
async fn what_is_followed_live_is_acknowledged_while_it_runs() {
    let server = with_daily().await;
    let args = [
        "subscribe",
        "stocks.daily",
        "--from",
        "cursor",
        "--name",
        "archive",
    ];
    let mut running = Running::start(&server, &args);
    for _ in 0..12_154 {
        running.line().await;
    }
    let mut catalog = server.catalog().await;
    until("the acknowledgement", async || {
        let request = ListSubscribersRequest::default();
        let page = catalog
            .list_subscribers(request)
            .await
            .unwrap()
            .into_inner();
        let mut of_archive = page.subscribers.iter().filter(|s| s.name == "archive");
        of_archive.any(|s| s.acknowledged && s.connected && s.cursor == 12_154)
    })
    .await;
    // One before it changes nothing.
    let epoch = get_feed(&mut catalog, "stocks.daily").await.epoch;
    let back = AcknowledgeCursorRequest {
        subscriber: "archive".into(),
        cursor: Some(Cursor {
            feed: "stocks.daily".into(),
            epoch,
            offset: 3,
        }),
    };
    let mut feeds = server.feeds().await;
    feeds.acknowledge_cursor(back).await.unwrap();
    drop(running);
    let again = [&args[..], &["--until", "now"]].concat();
    assert_eq!(good(&server, &again).await.0, "", "nothing comes twice");
}
