use std::collections::VecDeque;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::*;
use crate::{
    client::fake::{Answers, Fake},
    proto::v1::{
        publish_request::Command,
        publish_response::{self, Event},
    },
};

const WINDOW: u64 = 1_000;

async fn say(answers: &mpsc::Sender<Result<v1::PublishResponse, Status>>, event: Event) {
    let answer = v1::PublishResponse {
        event: Some(event),
        ..v1::PublishResponse::default()
    };
    answers.send(Ok(answer)).await.ok();
}

fn welcome(next_sequence: Option<u64>) -> publish_response::Event {
    Event::Welcome(v1::PublishWelcome {
        next_sequence,
        next: None,
        credit_bytes: WINDOW,
    })
}

fn size(request: &v1::PublishRequest) -> u64 {
    request.encoded_len() as u64
}

/// Acknowledges one batch at a time, after it took in all that came meanwhile; ends the stream of
/// whoever sends more than its credit.
fn strict(mut requests: Streaming<v1::PublishRequest>) -> Answers {
    let (answers, stream) = mpsc::channel(4);
    tokio::spawn(async move {
        requests.message().await.unwrap();
        say(&answers, welcome(None)).await;
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                let Some(Ok(request)) = requests.next().await else {
                    return;
                };
                waiting.push_back(request);
            }
            for _ in 0..8 {
                tokio::task::yield_now().await;
                while let Some(Some(Ok(more))) = requests.next().now_or_never() {
                    waiting.push_back(more);
                }
            }
            let in_flight: u64 = waiting.iter().map(size).sum();
            if in_flight > WINDOW {
                let text = format!("{in_flight} bytes in flight");
                let too_much = Err(Status::failed_precondition(text));
                answers.send(too_much).await.ok();
                return;
            }
            let request = waiting.pop_front().unwrap();
            let bytes = size(&request);
            let Some(Command::Batch(batch)) = request.command else {
                return;
            };
            let ack = v1::PublishAck {
                sequence: batch.first_sequence + batch.records.len() as u64 - 1,
                stored: batch.records.len() as u64,
                ..v1::PublishAck::default()
            };
            say(&answers, Event::Ack(ack)).await;
            say(&answers, Event::Credit(v1::PublishCredit { bytes })).await;
        }
    });
    ReceiverStream::new(stream)
}

async fn publisher(script: fn(Streaming<v1::PublishRequest>) -> Answers) -> Publisher {
    let fake = Fake {
        device: Some(script),
        ..Fake::default()
    };
    let options = PublishOptions::to("f", "p");
    Publisher::connect(fake.start().await, options)
        .await
        .unwrap()
}

#[tokio::test]
async fn no_more_than_the_credit_is_ever_in_flight() {
    let mut publisher = publisher(strict).await;
    let mut receipts = vec![];
    for n in 0..300_usize {
        let records = vec![Bytes::from(vec![0; 1 + n * 37 % 200]); 1 + n % 4];
        receipts.push((records.len() as u64, publisher.send(records).await.unwrap()));
    }
    let mut next = 1;
    for (records, receipt) in receipts {
        let published = receipt.ack().await.unwrap();
        assert_eq!(published.first_sequence, next);
        next += records;
        assert_eq!(published.ack.unwrap().sequence, next - 1);
    }
    assert_eq!((publisher.next_sequence(), publisher.cuts()), (next, 0));
    publisher.close().await.unwrap();
}

#[tokio::test]
async fn a_batch_that_no_credit_is_enough_for_is_refused_here() {
    let mut publisher = publisher(strict).await;
    let huge = publisher.send(vec![vec![0; 2_000].into()]).await;
    assert!(matches!(
        huge,
        Err(PublishError::TooLarge { window: WINDOW, .. })
    ));
    let next = publisher.send(vec![vec![0; 20].into()]).await.unwrap();
    assert_eq!(next.ack().await.unwrap().first_sequence, 1);
}

/// Is at number 5, takes a batch, and breaks off; then is at number 9.
fn overtaken(mut requests: Streaming<v1::PublishRequest>) -> Answers {
    static STREAMS: AtomicU32 = AtomicU32::new(0);
    let (answers, stream) = mpsc::channel(4);
    tokio::spawn(async move {
        requests.message().await.unwrap();
        let next = [5, 9].get(STREAMS.fetch_add(1, Relaxed) as usize).copied();
        say(&answers, welcome(next)).await;
        requests.message().await.unwrap();
        answers.send(Err(Status::unavailable("cut"))).await.ok();
    });
    ReceiverStream::new(stream)
}

#[tokio::test]
async fn records_that_another_device_numbered_are_not_taken_for_ours() {
    let mut publisher = publisher(overtaken).await;
    assert_eq!(publisher.next_sequence(), 5);
    let receipt = publisher.send(vec![vec![1].into()]).await.unwrap();
    let failed = receipt.ack().await;
    assert!(
        matches!(failed, Err(PublishError::Overtaken { next: 9, end: 6 })),
        "{failed:?}"
    );
    let closed = publisher.close().await;
    assert!(matches!(closed, Err(PublishError::Overtaken { .. })));
}
