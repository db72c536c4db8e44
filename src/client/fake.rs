//! A server that plays what a test wrote down, on a port of its own.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{ConnectOptions, Connection};
use crate::proto::v1::{
    self,
    feed_service_server::{FeedService, FeedServiceServer},
};

type Played<T> = tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>>;
pub(super) type Script = Vec<Result<v1::SubscribeResponse, Status>>;

/// What a session says to a command.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// It was carried out.
    Done,
    Refused(&'static str),
    Say(Box<v1::SubscribeResponse>),
    Ended(u32),
    Fail(Status),
}

/// The replies to each command, in their order; to further ones it says nothing.
pub(super) type Dialogue = Vec<Vec<Reply>>;

/// What it plays, and what it was asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Fake {
    /// One for each subscription; without one, nothing ever comes.
    pub(super) subscriptions: Arc<Mutex<VecDeque<Script>>>,
    pub(super) asked: Arc<Mutex<Vec<v1::SubscribeRequest>>>,
    /// One for each session.
    pub(super) sessions: Arc<Mutex<VecDeque<Dialogue>>>,
    /// What each session was told.
    pub(super) commands: Arc<Mutex<Vec<Vec<v1::SessionRequest>>>>,
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
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::SessionResponse, Status>> + Send>>;

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
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let dialogue = self.sessions.lock().pop_front();
        let dialogue = dialogue.ok_or_else(|| Status::not_found("no more script"))?;
        let mut requests = request.into_inner();
        let told = Arc::clone(&self.commands);
        let index = told.lock().len();
        told.lock().push(Vec::new());
        Ok(Response::new(Box::pin(async_stream::stream! {
            let mut dialogue = dialogue.into_iter();
            while let Ok(Some(request)) = requests.message().await {
                let id = request.request_id;
                told.lock()[index].push(request);
                for reply in dialogue.next().unwrap_or_default() {
                    yield said(id, reply);
                }
            }
        })))
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

fn said(request_id: u64, reply: Reply) -> Result<v1::SessionResponse, Status> {
    use v1::session_response::Event;
    let answer = |reason: &str| {
        Event::Answer(v1::SessionAnswer {
            request_id,
            reason: reason.to_owned(),
            message: String::new(),
        })
    };
    let event = match reply {
        Reply::Done => answer(""),
        Reply::Refused(reason) => answer(reason),
        Reply::Say(response) => Event::Response(*response),
        Reply::Ended(selector_id) => Event::Ended(v1::SelectorEnded {
            selector_id,
            ..v1::SelectorEnded::default()
        }),
        Reply::Fail(status) => return Err(status),
    };
    Ok(v1::SessionResponse {
        event: Some(event),
        ..v1::SessionResponse::default()
    })
}
