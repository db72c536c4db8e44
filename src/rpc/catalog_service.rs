//! CatalogService, method by method.

use tonic::{Request, Response, Status, async_trait};

use super::{Services, cursors, feeds, keys, producers, subscribers};
use crate::{
    layers::Call,
    proto::v1::{self, catalog_service_server::CatalogService},
};

#[async_trait]
impl CatalogService for Services {
    async fn create_feed(
        &self,
        request: Request<v1::CreateFeedRequest>,
    ) -> Result<Response<v1::CreateFeedResponse>, Status> {
        let call = Call::of(request.extensions());
        let done = feeds::create(&self.context, request.into_inner(), &call);
        done.await.map(Response::new)
    }

    async fn get_feed(
        &self,
        request: Request<v1::GetFeedRequest>,
    ) -> Result<Response<v1::GetFeedResponse>, Status> {
        let call = Call::of(request.extensions());
        feeds::get(&self.context, request.get_ref(), &call).map(Response::new)
    }

    async fn list_feeds(
        &self,
        request: Request<v1::ListFeedsRequest>,
    ) -> Result<Response<v1::ListFeedsResponse>, Status> {
        let call = Call::of(request.extensions());
        feeds::list(&self.context, request.get_ref(), &call).map(Response::new)
    }

    async fn update_feed(
        &self,
        request: Request<v1::UpdateFeedRequest>,
    ) -> Result<Response<v1::UpdateFeedResponse>, Status> {
        let call = Call::of(request.extensions());
        let done = feeds::update(&self.context, request.into_inner(), &call);
        done.await.map(Response::new)
    }

    async fn trim_feed(
        &self,
        request: Request<v1::TrimFeedRequest>,
    ) -> Result<Response<v1::TrimFeedResponse>, Status> {
        let call = Call::of(request.extensions());
        let done = feeds::trim(&self.context, request.into_inner(), &call);
        done.await.map(Response::new)
    }

    async fn delete_feed(
        &self,
        request: Request<v1::DeleteFeedRequest>,
    ) -> Result<Response<v1::DeleteFeedResponse>, Status> {
        let call = Call::of(request.extensions());
        let done = feeds::delete(&self.context, request.into_inner(), &call);
        done.await.map(Response::new)
    }

    async fn list_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        let call = Call::of(request.extensions());
        keys::list(&self.context, request.get_ref(), &call).map(Response::new)
    }

    async fn set_key_info(
        &self,
        request: Request<v1::SetKeyInfoRequest>,
    ) -> Result<Response<v1::SetKeyInfoResponse>, Status> {
        let call = Call::of(request.extensions());
        let done = keys::set_info(&self.context, request.into_inner(), &call);
        done.await.map(Response::new)
    }

    async fn delete_keys(
        &self,
        request: Request<v1::DeleteKeysRequest>,
    ) -> Result<Response<v1::DeleteKeysResponse>, Status> {
        let call = Call::of(request.extensions());
        let done = keys::delete(&self.context, request.into_inner(), &call);
        done.await.map(Response::new)
    }

    async fn get_producer(
        &self,
        request: Request<v1::GetProducerRequest>,
    ) -> Result<Response<v1::GetProducerResponse>, Status> {
        let call = Call::of(request.extensions());
        let found = producers::get(&self.context, request.get_ref(), &call);
        found.map(Response::new)
    }

    async fn list_producers(
        &self,
        request: Request<v1::ListProducersRequest>,
    ) -> Result<Response<v1::ListProducersResponse>, Status> {
        let call = Call::of(request.extensions());
        producers::list(&self.context, request.get_ref(), &call).map(Response::new)
    }

    async fn list_subscribers(
        &self,
        request: Request<v1::ListSubscribersRequest>,
    ) -> Result<Response<v1::ListSubscribersResponse>, Status> {
        let call = Call::of(request.extensions());
        subscribers::list(&self.context, request.get_ref(), &call).map(Response::new)
    }

    async fn delete_cursor(
        &self,
        request: Request<v1::DeleteCursorRequest>,
    ) -> Result<Response<v1::DeleteCursorResponse>, Status> {
        let call = Call::of(request.extensions());
        let done = cursors::delete(&self.context, request.into_inner(), &call);
        done.await.map(Response::new)
    }
}
