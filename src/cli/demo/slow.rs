//! A slow dashboard beside a fast one, on a ring too small for it: what it is told, and whether
//! the account is right.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use prost::Message as _;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use super::{say::Say, tape::Tape};
use crate::{
    client::{Connection, Event, Ledger, RetryOptions, Subscription, UploadOptions, Uploader},
    model::Span,
    proto::v1::{self, feed_service_client::FeedServiceClient, start::From, subscribe_response},
};

pub(super) const FEED: &str = "demo.tiny";
/// The smallest ring there is.
const RING_BYTES: u64 = 1 << 20;
const WRITE_FOR: Duration = Duration::from_millis(2_500);
/// A loaded machine may need longer until the slow one is overtaken.
const WRITE_FOR_AT_MOST: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(10);
/// The small ring holds less than a second of this.
const RECORDS_PER_SECOND: f64 = 25_000.0;
const LOOK: Duration = Duration::from_millis(350);
const PAUSE: Duration = Duration::from_millis(500);
/// What lies in a stalled reader's window is sent, not lagging: so it is kept small here.
const WINDOW_BYTES: u32 = 64 << 10;
const SLOW: &str = "slow dashboard";
const CATCH_UP_WITHIN: Duration = Duration::from_secs(10);

/// What one dashboard got.
#[derive(Clone, Debug, Default)]
struct Seen {
    delivered: u64,
    gaps: Vec<Span>,
}

impl Seen {
    fn missed(&self) -> u64 {
        self.gaps.iter().map(|gap| gap.len()).sum()
    }
}

/// Shows a real gap, announced and accounted. Returns how many records were written.
pub(super) async fn show(
    connection: &Connection,
    endpoint: &str,
    tape: Arc<Tape>,
    say: &Say,
) -> anyhow::Result<u64> {
    create(connection).await?;
    say.line("a ring of 1 MiB, written at full pace; a fast dashboard and one that reads twice a second:");
    let (told, mut gaps) = mpsc::channel(16);
    let pace = Pace::default();
    let slow = tokio::spawn(follow_slowly(endpoint.to_owned(), pace.clone(), told));
    let fast = tokio::spawn(follow(connection.clone()));
    let writer = tokio::spawn(write(connection.clone(), tape, pace));
    watch(connection, &writer, &mut gaps, say).await?;
    let written = writer.await??;
    let fast = timeout(CATCH_UP_WITHIN, finish(fast, written)).await??;
    let slow = timeout(CATCH_UP_WITHIN, finish(slow, written)).await??;
    while let Ok(line) = gaps.try_recv() {
        say.line(&line);
    }
    say.line(&format!(
        "   fast: {} delivered, {} in gaps, of {written} stored",
        fast.delivered,
        fast.missed()
    ));
    say.line(&format!(
        "   slow: {} delivered + {} in gaps it was told of = {} of {written} stored",
        slow.delivered,
        slow.missed(),
        slow.delivered + slow.missed()
    ));
    anyhow::ensure!(
        fast.delivered == written,
        "the fast dashboard misses records"
    );
    anyhow::ensure!(
        slow.delivered + slow.missed() == written,
        "the slow account is wrong"
    );
    Ok(written)
}

async fn create(connection: &Connection) -> anyhow::Result<()> {
    let retention = v1::Retention {
        max_bytes: RING_BYTES,
        max_age: None,
    };
    let request = v1::CreateFeedRequest {
        name: FEED.into(),
        retention: Some(retention),
        visibility: 0,
    };
    connection
        .catalog()
        .create_feed(request)
        .await
        .context("creating the small feed")?;
    Ok(())
}

fn request(subscriber: &str) -> v1::SubscribeRequest {
    let start = v1::Start {
        from: Some(From::Earliest(v1::Earliest {})),
    };
    let selector = v1::Selector {
        feed: FEED.into(),
        start: Some(start),
        ..Default::default()
    };
    v1::SubscribeRequest {
        selectors: vec![selector],
        subscriber: subscriber.into(),
        ..Default::default()
    }
}

/// What writer and slow reader know of each other.
#[derive(Clone, Debug, Default)]
struct Pace {
    /// The slow one was told of a gap.
    gap_seen: CancellationToken,
    written: CancellationToken,
}

async fn write(connection: Connection, tape: Arc<Tape>, pace: Pace) -> anyhow::Result<u64> {
    let mut uploader = Uploader::new(connection, UploadOptions::to(FEED).producer("demo"));
    let start = Instant::now();
    let mut readings = tape.records.iter().cycle();
    while start.elapsed() < WRITE_FOR
        || (!pace.gap_seen.is_cancelled() && start.elapsed() < WRITE_FOR_AT_MOST)
    {
        sleep(TICK).await;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number of records"
        )]
        let due = (start.elapsed().as_secs_f64() * RECORDS_PER_SECOND) as u64;
        while uploader.taken() < due
            && let Some(record) = readings.next()
        {
            uploader.send(record.encode_to_vec().into()).await?;
        }
        uploader.commit().await?;
    }
    pace.written.cancel();
    Ok(uploader.finish().await?.stored)
}

/// Says now and then how the slow one does, as the server sees it.
async fn watch(
    connection: &Connection,
    writer: &JoinHandle<anyhow::Result<u64>>,
    gaps: &mut mpsc::Receiver<String>,
    say: &Say,
) -> anyhow::Result<()> {
    while !writer.is_finished() {
        sleep(LOOK).await;
        while let Ok(line) = gaps.try_recv() {
            say.line(&line);
        }
        let request = v1::ListSubscribersRequest {
            feed: FEED.into(),
            ..Default::default()
        };
        let listed = connection
            .catalog()
            .list_subscribers(request)
            .await?
            .into_inner();
        let slow = listed
            .subscribers
            .iter()
            .find(|subscriber| subscriber.name == SLOW);
        if let Some(slow) = slow {
            let eta = slow.eviction_eta.as_ref().map_or_else(
                || "eviction not in sight".to_owned(),
                |eta| {
                    let seconds = eta.seconds as f64 + f64::from(eta.nanos) / 1e9;
                    format!("eviction reaches it in {seconds:.1} s")
                },
            );
            say.line(&format!(
                "   {SLOW}: {} records behind, {eta}",
                slow.lag_records
            ));
        }
    }
    Ok(())
}

type Following = mpsc::Receiver<Seen>;

/// Waits until a dashboard has accounted for `until` records.
async fn finish(
    following: JoinHandle<anyhow::Result<Following>>,
    until: u64,
) -> anyhow::Result<Seen> {
    let mut figures = following.await??;
    let mut last = Seen::default();
    while let Some(seen) = figures.recv().await {
        last = seen;
        if last.delivered + last.missed() >= until {
            break;
        }
    }
    Ok(last)
}

async fn follow(connection: Connection) -> anyhow::Result<Following> {
    let mut subscription = Subscription::new(
        connection,
        request("fast dashboard"),
        RetryOptions::default(),
    )?;
    let (figures, following) = mpsc::channel(65_536);
    tokio::spawn(async move {
        let mut seen = Seen::default();
        while let Ok(Some(event)) = subscription.next().await {
            match event {
                Event::Records { records, .. } => seen.delivered += records.len() as u64,
                Event::Gap { gap, .. } => seen.gaps.push(gap.span),
                Event::CaughtUp { .. }
                | Event::Heartbeat { .. }
                | Event::KeyInfo(_)
                | Event::Bars { .. }
                | Event::Snapshot { .. }
                | Event::SnapshotComplete { .. }
                | Event::ModeChanged { .. }
                | Event::Narrowed { .. }
                | Event::SelectorEnded { .. }
                | Event::Disconnected { .. } => continue,
            }
            if figures.send(seen.clone()).await.is_err() {
                break;
            }
        }
    });
    Ok(following)
}

/// Reads a message, pauses, reads the next; when the writing is over it reads on without pauses.
async fn follow_slowly(
    endpoint: String,
    pace: Pace,
    told: mpsc::Sender<String>,
) -> anyhow::Result<Following> {
    let channel = Endpoint::from_shared(endpoint)?
        .initial_stream_window_size(WINDOW_BYTES)
        .connect()
        .await?;
    let request = request(SLOW);
    let mut ledger = Ledger::new(&request.selectors);
    let mut client = FeedServiceClient::new(channel).max_decoding_message_size(8 << 20);
    let mut stream = client.subscribe(request).await?.into_inner();
    let (figures, following) = mpsc::channel(65_536);
    tokio::spawn(async move {
        let mut seen = Seen::default();
        while let Ok(Some(response)) = stream.message().await {
            if ledger.observe(&response).is_err() {
                break;
            }
            match response.event {
                Some(subscribe_response::Event::Records(batch)) => {
                    seen.delivered += batch.records.len() as u64;
                }
                Some(subscribe_response::Event::Gap(gap)) => {
                    let span = Span::new(gap.from, gap.to);
                    seen.gaps.push(span);
                    let line = format!(
                        "   Gap {}, offsets {}..{}: {} records, told before the next one",
                        gap.reason().as_str_name().trim_start_matches("GAP_REASON_"),
                        gap.from,
                        gap.to,
                        gap.count.unwrap_or_else(|| span.len())
                    );
                    pace.gap_seen.cancel();
                    drop(told.send(line).await);
                }
                _ => {}
            }
            if figures.send(seen.clone()).await.is_err() {
                break;
            }
            tokio::select! {
                () = pace.written.cancelled() => {}
                () = sleep(PAUSE) => {}
            }
        }
    });
    Ok(following)
}
