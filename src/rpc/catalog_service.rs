//! CatalogService, method by method.

use tonic::{Request, Response, Status, async_trait};

use super::{
    Services, cursors, feeds, keys, producers, request::principal, stream::unary, subscribers,
};
use crate::proto::v1::{self, catalog_service_server::CatalogService};

#[async_trait]
impl CatalogService for Services {
    async fn create_feed(
        &self,
        request: Request<v1::CreateFeedRequest>,
    ) -> Result<Response<v1::CreateFeedResponse>, Status> {
        unary(
            "CreateFeed",
            feeds::create(&self.context, request.into_inner()),
        )
        .await
    }

    async fn get_feed(
        &self,
        request: Request<v1::GetFeedRequest>,
    ) -> Result<Response<v1::GetFeedResponse>, Status> {
        unary("GetFeed", async {
            feeds::get(&self.context, request.get_ref())
        })
        .await
    }

    async fn list_feeds(
        &self,
        request: Request<v1::ListFeedsRequest>,
    ) -> Result<Response<v1::ListFeedsResponse>, Status> {
        unary("ListFeeds", async {
            feeds::list(&self.context, request.get_ref())
        })
        .await
    }

    async fn update_feed(
        &self,
        request: Request<v1::UpdateFeedRequest>,
    ) -> Result<Response<v1::UpdateFeedResponse>, Status> {
        unary(
            "UpdateFeed",
            feeds::update(&self.context, request.into_inner()),
        )
        .await
    }

    async fn trim_feed(
        &self,
        request: Request<v1::TrimFeedRequest>,
    ) -> Result<Response<v1::TrimFeedResponse>, Status> {
        unary("TrimFeed", feeds::trim(&self.context, request.into_inner())).await
    }

    async fn delete_feed(
        &self,
        request: Request<v1::DeleteFeedRequest>,
    ) -> Result<Response<v1::DeleteFeedResponse>, Status> {
        unary(
            "DeleteFeed",
            feeds::delete(&self.context, request.into_inner()),
        )
        .await
    }

    async fn list_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        unary("ListKeys", async {
            keys::list(&self.context, request.get_ref())
        })
        .await
    }

    async fn set_key_info(
        &self,
        request: Request<v1::SetKeyInfoRequest>,
    ) -> Result<Response<v1::SetKeyInfoResponse>, Status> {
        unary(
            "SetKeyInfo",
            keys::set_info(&self.context, request.into_inner()),
        )
        .await
    }

    async fn delete_keys(
        &self,
        request: Request<v1::DeleteKeysRequest>,
    ) -> Result<Response<v1::DeleteKeysResponse>, Status> {
        unary(
            "DeleteKeys",
            keys::delete(&self.context, request.into_inner()),
        )
        .await
    }

    async fn get_producer(
        &self,
        request: Request<v1::GetProducerRequest>,
    ) -> Result<Response<v1::GetProducerResponse>, Status> {
        let caller = principal(&request);
        let found = async { producers::get(&self.context, request.get_ref(), caller) };
        unary("GetProducer", found).await
    }

    async fn list_producers(
        &self,
        request: Request<v1::ListProducersRequest>,
    ) -> Result<Response<v1::ListProducersResponse>, Status> {
        unary("ListProducers", async {
            producers::list(&self.context, request.get_ref())
        })
        .await
    }

    async fn list_subscribers(
        &self,
        request: Request<v1::ListSubscribersRequest>,
    ) -> Result<Response<v1::ListSubscribersResponse>, Status> {
        let found = async { subscribers::list(&self.context, request.get_ref()) };
        unary("ListSubscribers", found).await
    }

    async fn delete_cursor(
        &self,
        request: Request<v1::DeleteCursorRequest>,
    ) -> Result<Response<v1::DeleteCursorResponse>, Status> {
        let caller = principal(&request);
        let done = cursors::delete(&self.context, request.into_inner(), caller);
        unary("DeleteCursor", done).await
    }
}
