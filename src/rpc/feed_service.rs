//! FeedService, method by method.

use std::pin::Pin;

use bytes::Bytes;
use prost::Message as _;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{
    Services, cursors, ingest, latest,
    request::principal,
    session::{Said, Session},
    status,
    stream::{StreamGuard, unary},
    subscribe::{self, Outgoing},
};
use crate::proto::v1::{self, feed_service_server::FeedService};

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Services {
    /// Ingest, its messages as they lie on the wire.
    pub(super) async fn take_upload(
        &self,
        request: Request<impl Stream<Item = Result<Bytes, Status>> + Unpin>,
    ) -> Result<Response<v1::IngestResponse>, Status> {
        let guard = StreamGuard::open("Ingest");
        let caller = principal(&request);
        let stored = ingest::run(&self.context, request.into_inner(), caller).await;
        guard.end(stored.as_ref().err());
        stored.map(Response::new)
    }
}

#[async_trait]
impl FeedService for Services {
    type PublishStream = Responses<v1::PublishResponse>;
    type SubscribeStream = Responses<v1::SubscribeResponse>;
    type SessionStream = Responses<v1::SessionResponse>;

    async fn ingest(
        &self,
        request: Request<Streaming<v1::IngestRequest>>,
    ) -> Result<Response<v1::IngestResponse>, Status> {
        let messages = |messages: Streaming<v1::IngestRequest>| {
            messages.map(|message| message.map(|message| message.encode_to_vec().into()))
        };
        self.take_upload(request.map(messages)).await
    }

    async fn publish(
        &self,
        _request: Request<Streaming<v1::PublishRequest>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        Err(status::unimplemented("Publish"))
    }

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let guard = StreamGuard::open("Subscribe");
        let caller = principal(&request);
        match subscribe::open(&self.context, request.into_inner(), caller).await {
            Ok(subscription) => {
                let responses = subscription.into_stream(guard);
                let responses = responses.map(|next| next.map(Outgoing::response));
                Ok(Response::new(Box::pin(responses)))
            }
            Err(error) => {
                guard.end(Some(&error));
                Err(error)
            }
        }
    }

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let guard = StreamGuard::open("Session");
        let caller = principal(&request);
        match Session::new(&self.context, caller, request.into_inner()) {
            Ok(session) => {
                let said = session.into_stream(guard);
                let responses = said.map(|next| next.map(Said::response));
                Ok(Response::new(Box::pin(responses)))
            }
            Err(error) => {
                guard.end(Some(&error));
                Err(error)
            }
        }
    }

    async fn get_latest(
        &self,
        request: Request<v1::GetLatestRequest>,
    ) -> Result<Response<v1::GetLatestResponse>, Status> {
        unary("GetLatest", async {
            latest::get(&self.context, request.get_ref())
        })
        .await
    }

    async fn acknowledge_cursor(
        &self,
        request: Request<v1::AcknowledgeCursorRequest>,
    ) -> Result<Response<v1::AcknowledgeCursorResponse>, Status> {
        let caller = principal(&request);
        let done = cursors::acknowledge(&self.context, request.into_inner(), caller);
        unary("AcknowledgeCursor", done).await
    }
}
