//! A device made of the generated client and nothing of ours.

use bytes::Bytes;
use prost::Message as _;
use ringfeed::proto::v1::{
    self, feed_service_client::FeedServiceClient, publish_request::Command, publish_response::Event,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use crate::harness::within;

/// More than any test sends: the client must not be what holds a device back.
const QUEUED: usize = 1 << 18;

pub(crate) fn hello(feed: &str, producer: &str) -> v1::PublishHello {
    v1::PublishHello {
        feed: feed.into(),
        producer: producer.into(),
        instance: Bytes::from_static(b"a process"),
        will: None,
    }
}

pub(crate) fn batch(first_sequence: u64, records: Vec<Bytes>) -> v1::PublishRequest {
    let batch = v1::PublishBatch {
        first_sequence,
        records,
        ..v1::PublishBatch::default()
    };
    v1::PublishRequest {
        command: Some(Command::Batch(batch)),
    }
}

pub(crate) fn ack_of(event: Event) -> v1::PublishAck {
    match event {
        Event::Ack(ack) => ack,
        other => panic!("no ack: {other:?}"),
    }
}

pub(crate) struct Device {
    pub(crate) requests: mpsc::Sender<v1::PublishRequest>,
    answers: Streaming<v1::PublishResponse>,
    /// Sizes of what came.
    pub(crate) sizes: Vec<usize>,
}

impl Device {
    /// Opens a stream with what is said first.
    pub(crate) async fn open(
        feeds: &mut FeedServiceClient<Channel>,
        first: v1::PublishRequest,
    ) -> Self {
        let (requests, queue) = mpsc::channel(QUEUED);
        requests.try_send(first).unwrap();
        let opened = feeds.publish(ReceiverStream::new(queue));
        let opened = within("a stream", opened).await.unwrap();
        Self {
            requests,
            answers: opened.into_inner(),
            sizes: vec![],
        }
    }

    /// Says hello.
    pub(crate) async fn hello(
        feeds: &mut FeedServiceClient<Channel>,
        hello: v1::PublishHello,
    ) -> Result<(Self, v1::PublishWelcome), Status> {
        let first = v1::PublishRequest {
            command: Some(Command::Hello(hello)),
        };
        let mut device = Self::open(feeds, first).await;
        match device.next().await? {
            Some(Event::Welcome(welcome)) => Ok((device, welcome)),
            other => panic!("no welcome: {other:?}"),
        }
    }

    pub(crate) fn send(&self, first_sequence: u64, records: Vec<Bytes>) {
        // The stream may be over: then its answers say so.
        drop(self.requests.try_send(batch(first_sequence, records)));
    }

    /// The next answer; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Status> {
        let next = within("an answer", self.answers.message()).await?;
        Ok(next.map(|answer| {
            self.sizes.push(answer.encoded_len());
            answer.event.expect("an answer has an event")
        }))
    }

    /// The next ack, credit passed over.
    pub(crate) async fn ack(&mut self) -> Result<v1::PublishAck, Status> {
        loop {
            match self.next().await? {
                Some(Event::Credit(_)) => {}
                Some(event) => return Ok(ack_of(event)),
                None => panic!("the stream ended"),
            }
        }
    }

    /// Reads to the end: what ended it.
    pub(crate) async fn end(&mut self) -> Result<(), Status> {
        while self.next().await?.is_some() {}
        Ok(())
    }
}
