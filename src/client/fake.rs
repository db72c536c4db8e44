//! A server that plays what a test wrote down, on a port of its own.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{ConnectOptions, Connection};
use crate::proto::v1::{
    self,
    feed_service_server::{FeedService, FeedServiceServer},
};

type Played<T> = tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>>;
pub(super) type Script = Vec<Result<v1::SubscribeResponse, Status>>;

/// What it plays, and what it was asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Fake {
    /// One for each subscription; without one, nothing ever comes.
    pub(super) subscriptions: Arc<Mutex<VecDeque<Script>>>,
    pub(super) asked: Arc<Mutex<Vec<v1::SubscribeRequest>>>,
    /// For each upload, after how many messages it is cut.
    pub(super) cuts: Arc<Mutex<VecDeque<usize>>>,
    /// By sequence.
    pub(super) stored: Arc<Mutex<BTreeMap<u64, Bytes>>>,
    /// Plays the server's side of each Publish.
    pub(super) device: Option<DeviceScript>,
}

/// Gets what a device sends, and gives what it is answered.
pub(super) type DeviceScript = fn(Streaming<v1::PublishRequest>) -> Answers;
pub(super) type Answers = ReceiverStream<Result<v1::PublishResponse, Status>>;

impl Fake {
    pub(super) async fn start(&self) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(FeedServiceServer::new(self.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        Connection::new(&ConnectOptions::to(address.to_string())).unwrap()
    }
}

#[async_trait]
impl FeedService for Fake {
    type PublishStream = Answers;
    type SubscribeStream = Played<v1::SubscribeResponse>;
    type SessionStream = Played<v1::SessionResponse>;

    async fn ingest(
        &self,
        request: Request<Streaming<v1::IngestRequest>>,
    ) -> Result<Response<v1::IngestResponse>, Status> {
        let mut messages = request.into_inner();
        let cut = self.cuts.lock().pop_front();
        let mut answer = v1::IngestResponse::default();
        let mut taken = 0;
        while let Some(message) = messages.message().await? {
            for (sequence, record) in (message.first_sequence..).zip(message.records) {
                match self.stored.lock().insert(sequence, record) {
                    None => answer.stored += 1,
                    Some(_) => answer.duplicates += 1,
                }
            }
            taken += 1;
            if cut == Some(taken) {
                return Err(Status::unavailable("cut"));
            }
        }
        Ok(Response::new(answer))
    }

    async fn publish(
        &self,
        request: Request<Streaming<v1::PublishRequest>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let script = self.device.ok_or_else(|| Status::unimplemented(""))?;
        Ok(Response::new(script(request.into_inner())))
    }

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        self.asked.lock().push(request.into_inner());
        let script = self.subscriptions.lock().pop_front();
        let script = script.ok_or_else(|| Status::not_found("no more script"))?;
        match script.first() {
            // The call itself fails, as a refusal does.
            Some(Err(status)) => Err(status.clone()),
            _ => Ok(Response::new(tokio_stream::iter(script))),
        }
    }

    async fn session(
        &self,
        _: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_latest(
        &self,
        _: Request<v1::GetLatestRequest>,
    ) -> Result<Response<v1::GetLatestResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn acknowledge_cursor(
        &self,
        _: Request<v1::AcknowledgeCursorRequest>,
    ) -> Result<Response<v1::AcknowledgeCursorResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
