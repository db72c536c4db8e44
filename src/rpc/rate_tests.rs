//! What comes through of uploads that are over their rate, counted on a paused clock.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{Request, Response};
use prost::Message as _;
use tokio::{
    sync::mpsc,
    time::{Instant, advance},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic_types::{StatusExt as _, pb};
use tower::{Layer as _, Service as _, service_fn};

use super::*;
use crate::{
    errors::{Reason, reason_of},
    hub::HubOptions,
    layers::{Call, Caller, Identity, RateLimitLayer, RateLimits, Rates, Rpc, Validity},
    model::Scopes,
    proto::v1::{self, publish_request::Command, publish_response::Event},
    store::MemoryEngine,
};

const INGEST: &str = "/ringfeed.v1.FeedService/Ingest";
const PUBLISH: &str = "/ringfeed.v1.FeedService/Publish";

struct Bed {
    context: Arc<Context>,
    layer: RateLimitLayer,
}

impl Bed {
    async fn new(per_principal: Rates) -> Self {
        let hub = Hub::open(Arc::new(MemoryEngine::new()), HubOptions::default()).unwrap();
        let name = "f".parse().unwrap();
        hub.create_feed(name, None, None).await.unwrap();
        let context = Context {
            hub,
            publish_window: 64 << 10,
            heartbeat: Duration::from_secs(10),
            stopping: CancellationToken::new(),
        };
        let layer = RateLimitLayer::new(RateLimits {
            per_principal,
            ..RateLimits::default()
        });
        Self {
            context: Arc::new(context),
            layer,
        }
    }

    /// A call with the quota that the layer gives it.
    fn call(&self, path: &'static str, who: &str) -> Arc<Call> {
        let call = Arc::new(Call::new(Rpc::of_path(path), ""));
        call.identify(Caller {
            principal: who.into(),
            scopes: Scopes::everything(),
            identity: Identity::Token,
            validity: Validity::default(),
        });
        let mut request = Request::new(axum::body::Body::empty());
        request.extensions_mut().insert(Arc::clone(&call));
        let answer = |_| async { Ok(Response::new(axum::body::Body::empty())) };
        let mut service = self.layer.layer(service_fn(answer));
        service.call(request).now_or_never().unwrap().unwrap();
        call
    }

    async fn ingest(
        &self,
        who: &str,
        messages: Vec<v1::IngestRequest>,
    ) -> Result<v1::IngestResponse, Status> {
        let bytes = |message: v1::IngestRequest| Ok(message.encode_to_vec().into());
        let messages = stream::iter(messages.into_iter().map(bytes));
        ingest::run(&self.context, messages, &self.call(INGEST, who)).await
    }

    fn publish(&self, who: &str) -> Device {
        let (say, said) = mpsc::channel::<Bytes>(4_096);
        let messages = ReceiverStream::new(said).map(Ok);
        let answers = publish::start(Arc::clone(&self.context), messages, self.call(PUBLISH, who));
        Device {
            say,
            answers,
            sent: VecDeque::new(),
            next: 1,
            credit: 0,
            acked: 0,
        }
    }
}

fn records(count: usize) -> Vec<Bytes> {
    let record = v1::Record {
        key: "k".into(),
        event_time_unix_nanos: Some(0),
        payload: Some(v1::record::Payload::Reading(v1::Reading {
            value: Some(v1::reading::Value::Number(7.0)),
            ..v1::Reading::default()
        })),
        ..v1::Record::default()
    };
    vec![record.encode_to_vec().into(); count]
}

fn batch(count: usize) -> v1::IngestRequest {
    v1::IngestRequest {
        feed: "f".into(),
        records: records(count),
        ..v1::IngestRequest::default()
    }
}

fn records_per_second(records_per_second: u32) -> Rates {
    Rates {
        records_per_second,
        ..Rates::default()
    }
}

fn wait_of(status: &Status) -> Duration {
    assert_eq!(reason_of(status), Some(Reason::RateLimited), "{status:?}");
    status
        .get_details_retry_info()
        .unwrap()
        .retry_delay
        .unwrap()
}

fn progress_of(status: &Status) -> v1::IngestProgress {
    let details = pb::Status::decode(status.details()).unwrap().details;
    let of = |any: &prost_types::Any| any.type_url.ends_with("IngestProgress");
    let progress = details.iter().find(|any| of(any)).unwrap();
    v1::IngestProgress::decode(progress.value.as_slice()).unwrap()
}

/// Batches of 100 records that came through in 20 seconds, of one that sends 10 times as many as
/// `rates` allow, and of another that keeps within them. 1,000 records per second are allowed.
async fn through(rates: Rates) -> (u64, u64) {
    let bed = Bed::new(rates).await;
    let (mut greedy, mut other) = (0, 0);
    for tick in 0..2_000 {
        match bed.ingest("greedy", vec![batch(100)]).await {
            Ok(answer) => greedy += answer.stored,
            Err(status) => assert!(!wait_of(&status).is_zero()),
        }
        if tick % 10 == 0 {
            let answer = bed.ingest("other", vec![batch(100)]).await;
            other += answer.unwrap().stored;
        }
        advance(Duration::from_millis(10)).await;
    }
    (greedy / 100, other / 100)
}

#[tokio::test(start_paused = true)]
async fn ten_times_the_records_that_are_allowed_let_through_what_is_allowed() {
    let (greedy, other) = through(records_per_second(1_000)).await;
    assert!((180..=220).contains(&greedy), "{greedy} of 200 batches");
    assert_eq!(other, 200, "the other one's are complete");
}

#[tokio::test(start_paused = true)]
async fn ten_times_the_bytes_that_are_allowed_let_through_what_is_allowed() {
    let bytes = batch(100).encoded_len() as u64;
    let (greedy, other) = through(Rates {
        bytes_per_second: 10 * bytes,
        ..Rates::default()
    })
    .await;
    assert!((180..=220).contains(&greedy), "{greedy} of 200 batches");
    assert_eq!(other, 200, "the other one's are complete");
}

#[tokio::test(start_paused = true)]
async fn an_upload_ends_before_the_message_that_is_too_much_and_says_where_and_until_when() {
    let bed = Bed::new(records_per_second(100)).await;
    let upload = || vec![batch(40), batch(40), batch(40), batch(1)];
    let status = bed.ingest("me", upload()).await.unwrap_err();
    let told = (status.message(), wait_of(&status));
    let expected = "records per second of principal me: 100 are allowed";
    assert_eq!(told, (expected, Duration::from_millis(200)));
    let progress = progress_of(&status);
    assert_eq!((progress.stored, progress.decided), (80, Some(80)));
    let feed = bed.context.hub.feed(&"f".parse().unwrap()).unwrap();
    assert_eq!(feed.bounds().tail, 80, "nothing behind it is stored");
    // A little less than the time that was told does not do.
    advance(wait_of(&status) - Duration::from_nanos(1)).await;
    let early = bed.ingest("me", vec![batch(40)]).await.unwrap_err();
    assert_eq!(wait_of(&early), Duration::from_nanos(1));
    assert_eq!(progress_of(&early).decided, Some(0));
    advance(Duration::from_nanos(1)).await;
    let done = bed.ingest("me", vec![batch(40)]).await;
    assert_eq!(done.unwrap().stored, 40);
}

#[tokio::test(start_paused = true)]
async fn a_message_of_more_than_a_second_gets_through_and_is_paid_for_later() {
    let bed = Bed::new(records_per_second(10)).await;
    assert_eq!(
        bed.ingest("me", vec![batch(500)]).await.unwrap().stored,
        500
    );
    let status = bed.ingest("me", vec![batch(500)]).await.unwrap_err();
    assert_eq!(wait_of(&status), Duration::from_secs(50));
    advance(Duration::from_secs(50)).await;
    assert_eq!(
        bed.ingest("me", vec![batch(500)]).await.unwrap().stored,
        500
    );
}

/// Sends as much as it has credit for.
struct Device {
    say: mpsc::Sender<Bytes>,
    answers: publish::Answers,
    /// Records of each batch that has no ack.
    sent: VecDeque<usize>,
    next: u64,
    credit: u64,
    acked: usize,
}

impl Device {
    async fn hello(&mut self, producer: &str) {
        let hello = v1::PublishHello {
            feed: "f".into(),
            producer: producer.into(),
            instance: Bytes::from_static(b"instance"),
            will: None,
        };
        self.say(Command::Hello(hello)).await;
        let Event::Welcome(welcome) = self.answer().await else {
            panic!("no welcome");
        };
        self.credit = welcome.credit_bytes;
    }

    async fn say(&mut self, command: Command) -> u64 {
        let message = v1::PublishRequest {
            command: Some(command),
        };
        let bytes = message.encode_to_vec();
        let len = bytes.len() as u64;
        self.say.send(bytes.into()).await.unwrap();
        len
    }

    async fn send(&mut self, count: usize) {
        let batch = Command::Batch(v1::PublishBatch {
            first_sequence: self.next,
            records: records(count),
            ..v1::PublishBatch::default()
        });
        self.credit -= self.say(batch).await;
        self.next += count as u64;
        self.sent.push_back(count);
    }

    async fn answer(&mut self) -> Event {
        let answer = self.answers.next().await.unwrap().unwrap();
        answer.event.unwrap()
    }

    async fn step(&mut self) {
        match self.answer().await {
            Event::Ack(_) => self.acked += self.sent.pop_front().unwrap(),
            Event::Credit(credit) => self.credit += credit.bytes,
            other @ (Event::Welcome(_) | Event::Reconnect(_)) => panic!("{other:?}"),
        }
    }

    /// Sends batches of 50 records as fast as its credit comes. No more than `most`: while there is
    /// always credit, the paused clock stands still.
    async fn rush(&mut self, until: Instant, most: usize) -> usize {
        while Instant::now() < until && self.acked < most {
            while self.credit > 4_096 {
                self.send(50).await;
            }
            self.step().await;
        }
        self.acked
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_gets_credit_as_its_rate_allows_and_others_get_theirs() {
    let bed = Bed::new(records_per_second(1_000)).await;
    let until = Instant::now() + Duration::from_secs(60);
    let (mut greedy, mut other) = (bed.publish("greedy"), bed.publish("other"));
    let rush = async {
        greedy.hello("a").await;
        greedy.rush(until, 100_000).await
    };
    let keep = async {
        other.hello("b").await;
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..600 {
            tick.tick().await;
            other.send(100).await;
            // The ack, and the credit with it: it is never over its rate.
            other.step().await;
            other.step().await;
        }
        other.acked
    };
    let (greedy, other) = tokio::join!(rush, keep);
    assert!((54_000..=66_000).contains(&greedy), "{greedy} of 60,000");
    assert_eq!(other, 60_000);
}

#[tokio::test(start_paused = true)]
async fn the_ack_comes_at_once_and_the_credit_when_it_is_paid_for() {
    let bed = Bed::new(records_per_second(100)).await;
    let start = Instant::now();
    let mut device = bed.publish("me");
    device.hello("p").await;
    device.send(100).await;
    device.send(50).await;
    while device.acked < 150 {
        device.step().await;
    }
    // The clock runs on to the next timer while nothing else is to be done: only order is certain.
    assert!(device.credit < 64 << 10, "the second ack came alone");
    while device.credit < 64 << 10 {
        device.step().await;
    }
    let paid = Duration::from_millis(500);
    assert!((paid..paid * 2).contains(&start.elapsed()));
    drop(device);
    // Coming back is no way around it.
    let debt = bed.call(PUBLISH, "me");
    debt.quota().owe(1_000, 0);
    let wait = debt.quota().debt();
    assert!(wait > Duration::from_secs(9), "{wait:?}");
    let (again, mut device) = (Instant::now(), bed.publish("me"));
    device.hello("p").await;
    assert!(again.elapsed() >= wait);
}
