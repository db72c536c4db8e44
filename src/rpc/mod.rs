//! One file per RPC: decode, one call into the hub, encode. `status` is the only way out for
//! errors.

mod access;
mod catalog_service;
mod cursors;
#[cfg(test)]
mod documented;
mod feed_service;
mod feeds;
mod ingest;
mod keys;
mod latest;
mod page;
mod producers;
mod publish;
#[cfg(test)]
mod rate_tests;
mod request;
mod selector;
mod session;
pub mod status;
mod subscribe;
mod subscribers;
mod token;
mod upload;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

pub use self::{session::SessionRoute, subscribe::SubscribeRoute, upload::UploadRoute};
use crate::{
    hub::Hub,
    proto::v1::{
        catalog_service_server::CatalogServiceServer, feed_service_server::FeedServiceServer,
    },
};

/// Bytes of a request message.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Bytes of a page of a list, about: lists stay below 1 MiB.
const MAX_PAGE_BYTES: usize = 900 * 1024;
const MAX_PAGE_ENTRIES: usize = 1_000;

/// What the services need of the process.
#[derive(Clone, Debug)]
pub struct Context {
    pub hub: Arc<Hub>,
    /// Time between heartbeats of a subscriber that names none.
    pub heartbeat: Duration,
    /// Bytes that a device may have in flight.
    pub publish_window: u64,
    /// Cancelled when the server stops: streams end with a resume token.
    pub stopping: CancellationToken,
}

/// Both services, over one context.
#[derive(Clone, Debug)]
pub struct Services {
    context: Arc<Context>,
}

impl Services {
    pub fn new(context: Context) -> Self {
        Self {
            context: Arc::new(context),
        }
    }

    /// The generated service behind a faster Subscribe, Session, Ingest and Publish.
    pub fn feed_service(
        &self,
    ) -> SubscribeRoute<SessionRoute<UploadRoute<FeedServiceServer<Self>>>> {
        let generated = UploadRoute::new(self.clone(), self.generated_feed_service());
        let generated = SessionRoute::new(Arc::clone(&self.context), generated);
        SubscribeRoute::new(Arc::clone(&self.context), generated)
    }

    fn generated_feed_service(&self) -> FeedServiceServer<Self> {
        use tonic::codec::CompressionEncoding::{Gzip, Zstd};
        FeedServiceServer::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .accept_compressed(Gzip)
            .accept_compressed(Zstd)
    }

    pub fn catalog_service(&self) -> CatalogServiceServer<Self> {
        CatalogServiceServer::new(self.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}
