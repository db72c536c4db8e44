//! FeedService, method by method.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use prost::Message as _;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{
    Services, cursors, ingest, latest,
    publish::{self, Answers},
    session::{Said, Session},
    subscribe::{self, Outgoing},
};
use crate::{
    layers::Call,
    proto::v1::{self, feed_service_server::FeedService},
};

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Services {
    /// Ingest, its messages as they lie on the wire.
    pub(super) async fn take_upload(
        &self,
        request: Request<impl Stream<Item = Result<Bytes, Status>> + Unpin>,
    ) -> Result<Response<v1::IngestResponse>, Status> {
        let call = Call::of(request.extensions());
        let stored = ingest::run(&self.context, request.into_inner(), &call).await;
        stored.map(Response::new)
    }

    /// Publish, its messages as they lie on the wire.
    pub(super) fn take_device(
        &self,
        request: Request<impl Stream<Item = Result<Bytes, Status>> + Send + Unpin + 'static>,
    ) -> Answers {
        let call = Call::of(request.extensions());
        publish::start(Arc::clone(&self.context), request.into_inner(), call)
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
        request: Request<Streaming<v1::PublishRequest>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let messages = |messages: Streaming<v1::PublishRequest>| {
            messages.map(|message| message.map(|message| message.encode_to_vec().into()))
        };
        let answers = self.take_device(request.map(messages));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let call = Call::of(request.extensions());
        let subscription = subscribe::open(&self.context, request.into_inner(), call).await?;
        let responses = subscription.into_stream();
        let responses = responses.map(|next| next.map(Outgoing::response));
        Ok(Response::new(Box::pin(responses)))
    }

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let call = Call::of(request.extensions());
        let session = Session::new(&self.context, call, request.into_inner())?;
        let responses = session.into_stream();
        let responses = responses.map(|next| next.map(Said::response));
        Ok(Response::new(Box::pin(responses)))
    }

    async fn get_latest(
        &self,
        request: Request<v1::GetLatestRequest>,
    ) -> Result<Response<v1::GetLatestResponse>, Status> {
        let call = Call::of(request.extensions());
        latest::get(&self.context, request.get_ref(), &call).map(Response::new)
    }

    async fn acknowledge_cursor(
        &self,
        request: Request<v1::AcknowledgeCursorRequest>,
    ) -> Result<Response<v1::AcknowledgeCursorResponse>, Status> {
        let call = Call::of(request.extensions());
        let done = cursors::acknowledge(&self.context, request.into_inner(), &call);
        done.await.map(Response::new)
    }
}
