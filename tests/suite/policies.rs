//! Slow policies over real connections: a subscriber that takes 100 records a second of a feed that
//! is written at 50,000.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use ringfeed::{
    client::Ledger,
    model,
    proto::v1::{
        self, feed_service_client::FeedServiceClient, fidelity::View, subscribe_response::Event,
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::harness::{MIB, Server, feed_exists, get_feed, number, plain, within};

const FEED: &str = "busy";
const KEYS: u64 = 10;
const TICK: Duration = Duration::from_millis(10);
const FAST: u64 = 50_000;
/// What the subscriber takes.
const RATE: u64 = 100;

/// Writes at a rate until it is told another one, and ends with how many there are.
struct Writer {
    rates: mpsc::Sender<u64>,
    done: oneshot::Receiver<u64>,
}

impl Writer {
    async fn begin(server: &Server, rate: u64) -> Self {
        let mut feeds = server.feeds().await;
        let (rates, mut asked) = mpsc::channel(1);
        let (told, done) = oneshot::channel();
        tokio::spawn(async move {
            let (messages, stream) = mpsc::channel(16);
            let upload = tokio::spawn(async move {
                let upload = feeds.ingest(ReceiverStream::new(stream));
                upload.await.unwrap().into_inner()
            });
            let mut tick = interval(TICK);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut rate, mut due, mut next) = (rate, 0, 0);
            while rate > 0 {
                tokio::select! {
                    new = asked.recv() => rate = new.unwrap_or(0),
                    _ = tick.tick() => {
                        due += rate;
                        let count = due / 100;
                        due %= 100;
                        let records = (next..next + count).map(|n| number(&format!("k{}", n % KEYS), n));
                        next += count;
                        if count > 0 {
                            messages.send(plain(FEED, records.collect())).await.unwrap();
                        }
                    }
                }
            }
            drop(messages);
            let summary = upload.await.unwrap();
            assert_eq!(summary.stored, next);
            told.send(next).unwrap();
        });
        Self { rates, done }
    }

    async fn slow_down_to(&self, rate: u64) {
        self.rates.send(rate).await.unwrap();
    }

    async fn end(self) -> u64 {
        self.slow_down_to(0).await;
        self.done.await.unwrap()
    }
}

/// A connection whose windows are as small as they get: what is in them is read late.
async fn narrow(server: &Server) -> FeedServiceClient<Channel> {
    let endpoint = format!("http://{}", server.address()).parse::<tonic::transport::Endpoint>();
    let endpoint = endpoint.unwrap();
    let endpoint = endpoint.initial_stream_window_size(65_535);
    let endpoint = endpoint.initial_connection_window_size(65_535);
    FeedServiceClient::new(endpoint.connect().await.unwrap())
}

fn selector(action: v1::SlowAction, max_lag_records: u64) -> v1::Selector {
    v1::Selector {
        feed: FEED.into(),
        start: Some(v1::Start {
            from: Some(v1::start::From::New(v1::New {})),
        }),
        slow_policy: Some(v1::SlowPolicy {
            max_lag_records,
            max_lag: None,
            action: action.into(),
        }),
        ..v1::Selector::default()
    }
}

/// A subscription, with the account of all it was sent.
struct Reader {
    stream: Streaming<v1::SubscribeResponse>,
    ledger: Ledger,
    /// The newest value of each key.
    newest: BTreeMap<String, f64>,
}

impl Reader {
    async fn begin(server: &Server, selector: v1::Selector) -> Self {
        let request = v1::SubscribeRequest {
            selectors: vec![selector.clone()],
            heartbeat_interval: Some(prost_types::Duration {
                seconds: 0,
                nanos: 100_000_000,
            }),
            ..v1::SubscribeRequest::default()
        };
        let stream = narrow(server).await.subscribe(request).await.unwrap();
        Self {
            stream: stream.into_inner(),
            ledger: Ledger::new(&[selector]),
            newest: BTreeMap::new(),
        }
    }

    async fn next(&mut self) -> Event {
        let response = within("a response", self.stream.message()).await.unwrap();
        let response = response.expect("the stream goes on");
        self.ledger.observe(&response).unwrap();
        let event = response.event.unwrap();
        if let Event::Records(batch) = &event {
            for record in decoded(&batch.records) {
                self.newest.insert(record.key.clone(), value(&record));
            }
        }
        event
    }

    fn report(&self, until: u64) -> ringfeed::client::Report {
        let (_, lane) = self.ledger.lanes().next().unwrap();
        lane.report(Some(until))
    }
}

fn decoded(records: &[Bytes]) -> impl Iterator<Item = v1::Record> {
    records
        .iter()
        .map(|bytes| v1::Record::decode(&bytes[..]).unwrap())
}

fn value(record: &v1::Record) -> f64 {
    let Some(v1::record::Payload::Reading(reading)) = &record.payload else {
        panic!("a reading: {record:?}");
    };
    match reading.value {
        Some(v1::reading::Value::Number(number)) => number,
        _ => panic!("a number: {reading:?}"),
    }
}

/// How long so many records take a reader of this speed.
async fn digest(records: u32) {
    sleep(Duration::from_secs(1) * records / u32::try_from(RATE).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_too_slow_stays_near_live_and_gets_all_again_when_it_can() {
    let server = Server::start().await;
    feed_exists(&mut server.catalog().await, FEED, 64 * MIB).await;
    let mut reader = Reader::begin(&server, selector(v1::SlowAction::Conflate, 100)).await;
    let writer = Writer::begin(&server, FAST).await;
    // Until it is conflated, and for so many messages more.
    let (mut modes, mut conflated, mut worst) = (vec![], 0, Duration::ZERO);
    let begun = Instant::now();
    while conflated < 20 {
        match reader.next().await {
            Event::Records(batch) => {
                digest(batch.count).await;
                let last = decoded(&batch.records).last();
                if let Some(last) = last.filter(|_| !modes.is_empty()) {
                    conflated += 1;
                    let age = model::now() - last.ingest_time_unix_nanos;
                    worst = worst.max(Duration::from_nanos(age.unsigned_abs()));
                }
            }
            Event::ModeChanged(change) => modes.push(change.fidelity.unwrap().view.unwrap()),
            Event::Gap(gap) => panic!("it is not left behind: {gap:?}"),
            _ => {}
        }
    }
    assert!(matches!(modes[..], [View::Conflate(_)]), "{modes:?}");
    // At 100 of 50,000 records a second it would be as old as the run is long.
    let run = begun.elapsed();
    assert!(
        worst < run / 2,
        "what came was up to {worst:?} old in a run of {run:?}"
    );
    writer.slow_down_to(RATE / 5).await;
    let back = loop {
        match reader.next().await {
            Event::Records(batch) => digest(batch.count).await,
            Event::ModeChanged(change) => break change.fidelity.unwrap().view.unwrap(),
            _ => {}
        }
    };
    assert!(matches!(back, View::Full(_)), "{back:?}");
    let mut whole = 0;
    while whole < 5 {
        if let Event::Records(batch) = reader.next().await {
            let covers = batch.covers.unwrap();
            assert_eq!(
                covers.to - covers.from,
                u64::from(batch.count),
                "every record"
            );
            whole += 1;
        }
    }
    let total = writer.end().await;
    while reader.report(total).unsettled.is_some() {
        reader.next().await;
    }
    let report = reader.report(total);
    assert!(report.whole, "no gap, and all is settled: {report:?}");
    assert_eq!(report.delivered + report.left_out, total);
    assert!(report.left_out > total / 2, "{report:?}");
    let newest: Vec<f64> = reader.newest.values().copied().collect();
    let mut expected: Vec<f64> = (total - KEYS..total).map(|n| n as f64).collect();
    expected.sort_by_key(|n| *n as u64 % KEYS);
    assert_eq!(newest, expected, "the latest of each key came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_catches_up_is_warned_of_eviction_before_it_loses_anything() {
    let server = Server::start().await;
    feed_exists(&mut server.catalog().await, FEED, 16 * MIB).await;
    let mut reader = Reader::begin(&server, selector(v1::SlowAction::CatchUp, 0)).await;
    let writer = Writer::begin(&server, FAST).await;
    let mut warnings = vec![];
    let gap = loop {
        match reader.next().await {
            // Some 10,000 records a second.
            Event::Records(batch) => sleep(Duration::from_micros(100) * batch.count).await,
            Event::Heartbeat(beat) => {
                let eta = beat
                    .eviction_eta
                    .map(|eta| Duration::try_from(eta).unwrap());
                warnings.extend(eta.map(|eta| (eta, beat.lag_records)));
            }
            Event::Gap(gap) => break gap,
            _ => {}
        }
    };
    assert_eq!(gap.reason(), v1::GapReason::Evicted);
    let total = writer.end().await;
    let (first, last) = (warnings[0].0, warnings[warnings.len() - 1].0);
    assert!(warnings.len() >= 3, "{warnings:?}");
    assert!(last < first / 10, "it fell towards 0: {warnings:?}");
    // The rates it is estimated from have to be known first.
    let later = &warnings[warnings.len() / 2..];
    assert!(later.is_sorted_by(|a, b| b <= a), "{warnings:?}");
    let next = get_feed(&mut server.catalog().await, FEED).await.next;
    assert_eq!(next, total);
    while reader.report(total).unsettled.is_some() {
        reader.next().await;
    }
    let report = reader.report(total);
    let lost: u64 = report.gaps.iter().map(|gap| gap.span.len()).sum();
    assert_eq!(report.delivered + lost, total);
}
