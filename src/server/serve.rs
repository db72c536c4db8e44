//! A server's life: bind, open the store, serve, drain.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use metrics_exporter_prometheus::{BuildError, PrometheusHandle};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, spawn_blocking},
    time::interval,
};
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport};
use tonic_health::server::HealthReporter;

use super::{
    admin::{self, Readiness, Ready},
    config::{Config, EngineKind},
    gather::Gather,
    prometheus,
    routes::{self, ReflectionError},
};
use crate::{
    hub::Hub,
    metrics,
    proto::v1::{
        catalog_service_server::CatalogServiceServer, feed_service_server::FeedServiceServer,
    },
    rpc::{Context, Services},
    shutdown::Shutdown,
    store::{Engine, MemoryEngine, StoreError, sled::SledEngine},
};

/// Small frames that no handler has read yet are charged against half of the connection's window:
/// about five times a stream's window for each upload of tiny messages that waits for the disk. So
/// the first is large and the second small, and a dozen uploads can share a connection.
const CONNECTION_WINDOW: u32 = 64 << 20;
const STREAM_WINDOW: u32 = 256 << 10;
const MAX_FRAME: u32 = 64 << 10;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(25);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const HOUSEKEEPING: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}: {source}; choose another address or stop what has it")]
    Bind {
        address: SocketAddr,
        source: io::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Metrics(#[from] BuildError),
    #[error(transparent)]
    Reflection(#[from] ReflectionError),
    #[error("serving failed: {0}")]
    Transport(#[from] transport::Error),
    #[error("the store failed: {0}")]
    StoreStopped(String),
    #[error("{0} did not stop within the deadline")]
    Late(String),
}

/// A server that is bound and open, and not serving yet.
#[derive(Debug)]
pub struct Server {
    config: Config,
    hub: Arc<Hub>,
    listener: TcpListener,
    metrics_listener: TcpListener,
    metrics: PrometheusHandle,
    ready: Readiness,
}

impl Server {
    /// Binds both listeners and opens the store.
    pub async fn bind(config: Config) -> Result<Self, ServeError> {
        let metrics = prometheus::install()?;
        let listener = bind(config.listen).await?;
        let metrics_listener = bind(config.metrics_listen).await?;
        let opening = config.clone();
        let opened = spawn_blocking(move || open(&opening)).await;
        let hub = opened.map_err(|e| ServeError::StoreStopped(e.to_string()))??;
        metrics::set_build_info(env!("CARGO_PKG_VERSION"), hub.engine_name());
        let ready = Readiness::default();
        Ok(Self {
            config,
            hub,
            listener,
            metrics_listener,
            metrics,
            ready,
        })
    }

    /// Where gRPC and the page are.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where Prometheus is.
    pub fn metrics_address(&self) -> io::Result<SocketAddr> {
        self.metrics_listener.local_addr()
    }

    /// Serves until `stop`, then drains: streams end with a resume token, what was accepted is
    /// flushed and acknowledged, within the deadline of the settings.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let stopping = CancellationToken::new();
        let context = Context {
            hub: Arc::clone(&self.hub),
            heartbeat: self.config.heartbeat.0,
            publish_window: self.config.limits.publish_window.0,
            stopping: stopping.clone(),
        };
        let (health, health_service) = tonic_health::server::health_reporter();
        let router = routes::router(context, health_service, &self.config.cors_origins)?;
        let admin = admin::router(
            self.metrics.clone(),
            Arc::clone(&self.hub),
            self.ready.clone(),
        );
        // Before the first call or probe is taken: none must find a service missing.
        set_serving(&health, &self.ready, Ready::Yes).await;
        let background = [
            spawn_admin(self.metrics_listener, admin),
            spawn_housekeeping(Arc::clone(&self.hub), self.metrics.clone()),
        ];
        let cut = CancellationToken::new();
        let transport = transport(&self.config)
            .add_routes(Routes::from(router))
            .serve_with_incoming_shutdown(accept(self.listener), cut.clone().cancelled_owned());
        let mut serving = tokio::spawn(transport);

        let mut failed = self.hub.failed();
        let mut failure = None;
        tokio::select! {
            () = stop => {}
            Ok(cause) = failed.wait_for(Option::is_some) => failure.clone_from(&cause),
            ended = &mut serving => {
                tracing::error!(?ended, "the listener ended by itself");
            }
        }

        let mut shutdown = Shutdown::begin(self.config.shutdown_deadline.0);
        set_serving(&health, &self.ready, Ready::No).await;
        stopping.cancel();
        cut.cancel();
        // The store comes first in importance and last in order: streams are cut short so that
        // there is time to flush.
        let grace = self.config.shutdown_deadline.0.mul_f32(0.6);
        let drained = tokio::time::timeout(grace, &mut serving);
        if shutdown
            .step("connections", drained)
            .await
            .is_none_or(|d| d.is_err())
        {
            tracing::warn!("connections still open are cut");
            serving.abort();
        }
        let closed = shutdown.step("store", self.hub.close()).await;
        background.iter().for_each(JoinHandle::abort);
        match (failure, closed) {
            (Some(cause), _) => Err(ServeError::StoreStopped(cause)),
            (None, Some(closed)) => Ok(closed?),
            (None, None) => Err(ServeError::Late(shutdown.late().join(", "))),
        }
    }
}

fn open(config: &Config) -> Result<Arc<Hub>, StoreError> {
    let engine: Arc<dyn Engine> = match config.engine {
        EngineKind::Sled => {
            let options = config.sled_options();
            metrics::set_disk_reserve(options.reserve_bytes);
            Arc::new(SledEngine::open(options)?)
        }
        EngineKind::Memory => Arc::new(MemoryEngine::new()),
    };
    Hub::open(engine, config.hub_options())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Bind { address, source })
}

fn transport(config: &Config) -> transport::Server {
    transport::Server::builder()
        .accept_http1(true)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(config.limits.streams_per_connection)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

/// Connections without Nagle's delay; a peer that is gone already is no error.
fn accept(listener: TcpListener) -> impl Stream<Item = io::Result<Gather<TcpStream>>> {
    TcpListenerStream::new(listener).map(|accepted| {
        let stream = accepted?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection was gone before it was taken");
        }
        Ok(Gather::new(stream))
    })
}

fn spawn_admin(listener: TcpListener, router: axum::Router) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the metrics listener failed");
        }
    })
}

fn spawn_housekeeping(hub: Arc<Hub>, metrics: PrometheusHandle) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut tick = interval(HOUSEKEEPING);
        loop {
            tick.tick().await;
            metrics.run_upkeep();
            if let Err(error) = hub.housekeep().await {
                tracing::warn!(%error, "housekeeping failed");
            }
        }
    })
}

async fn set_serving(health: &HealthReporter, readiness: &Readiness, ready: Ready) {
    readiness.set(ready);
    match ready {
        Ready::Yes => {
            health.set_serving::<FeedServiceServer<Services>>().await;
            health.set_serving::<CatalogServiceServer<Services>>().await;
        }
        Ready::No => {
            health
                .set_not_serving::<FeedServiceServer<Services>>()
                .await;
            health
                .set_not_serving::<CatalogServiceServer<Services>>()
                .await;
        }
    }
}
