//! A server's life: bind, open the store, serve, drain.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use metrics_exporter_prometheus::{BuildError, PrometheusHandle};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::interval,
};
use tokio_util::sync::CancellationToken;
use tonic_health::{
    pb::health_server::{Health, HealthServer},
    server::HealthReporter,
};

use super::{
    admin::{self, Readiness, Ready},
    around::Around,
    config::{Config, ConfigError, EngineKind},
    connection::{Shared, Stop},
    guard, listen,
    log::LogLevel,
    otlp::{Otlp, OtlpError},
    page, prometheus,
    routes::{self, ReflectionError},
    seats::Seats,
    tls::{Tls, TlsError},
};
use crate::{
    hub::Hub,
    layers::Authenticator,
    metrics,
    proto::v1::{
        catalog_service_server::CatalogServiceServer, feed_service_server::FeedServiceServer,
    },
    rpc::{Context, Services},
    shutdown::Shutdown,
    store::{Engine, MemoryEngine, StoreError, sled::SledEngine},
};

const HOUSEKEEPING: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}: {source}; choose another address or stop what has it")]
    Bind {
        address: SocketAddr,
        source: io::Error,
    },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Metrics(#[from] BuildError),
    #[error(transparent)]
    Reflection(#[from] ReflectionError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Otlp(#[from] OtlpError),
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
    tls: Option<Arc<Tls>>,
    metrics_listener: TcpListener,
    metrics: PrometheusHandle,
    ready: Readiness,
    authenticator: Arc<Authenticator>,
    /// `None`: nothing is around calls.
    around: Option<Around>,
    log_level: Option<LogLevel>,
    otlp: Option<Otlp>,
}

impl Server {
    /// Binds both listeners and opens the store.
    pub async fn bind(config: Config) -> Result<Self, ServeError> {
        let metrics = prometheus::install()?;
        let tls = Tls::open(&config.tls)?;
        let authenticator = Arc::new(config.authenticator()?);
        let around = config.around(&authenticator)?;
        let endpoint = config.trace.otlp_endpoint.as_deref();
        let otlp = endpoint.map(|at| Otlp::start("ringfeed", at, config.trace.sample));
        let otlp = otlp.transpose()?;
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
            tls,
            metrics_listener,
            metrics,
            ready,
            authenticator,
            around,
            log_level: None,
            otlp,
        })
    }

    /// How clients connect: `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Lets operators change the level of the log.
    #[must_use]
    pub fn with_log_level(mut self, level: LogLevel) -> Self {
        self.log_level = Some(level);
        self
    }

    /// Where gRPC and the page are.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where Prometheus is.
    pub fn metrics_address(&self) -> io::Result<SocketAddr> {
        self.metrics_listener.local_addr()
    }

    /// What answers on the clients' port, and on the operators'.
    fn ports(
        &mut self,
        context: Context,
        health: HealthServer<impl Health>,
    ) -> Result<(axum::Router, axum::Router), ReflectionError> {
        let open = self.config.open_to_the_network();
        open.iter().for_each(|fact| tracing::warn!("{fact}"));
        let calls = routes::router(context, self.around.take(), health, &self.config)?;
        let router = calls.merge(page::router(
            Arc::clone(&self.hub),
            Arc::clone(&self.authenticator),
            open,
        ));
        let scraped = (self.metrics.clone(), Arc::clone(&self.hub));
        let admin = admin::router(scraped, self.ready.clone(), self.log_level.take());
        Ok((
            guard::around(router, &self.config),
            guard::around_admin(admin, &self.config),
        ))
    }

    /// Serves until `stop`, then drains: streams end with a resume token, what was accepted is
    /// flushed and acknowledged, within the deadline of the settings.
    pub async fn serve(mut self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let stopping = CancellationToken::new();
        let context = Context {
            hub: Arc::clone(&self.hub),
            heartbeat: self.config.heartbeat.0,
            publish_window: self.config.limits.publish_window.0,
            stopping: stopping.clone(),
        };
        let (health, health_service) = tonic_health::server::health_reporter();
        let (router, admin) = self.ports(context, health_service)?;
        self.authenticator.start().await;
        // Before the first call or probe is taken: none must find a service missing.
        set_serving(&health, &self.ready, Ready::Yes).await;
        let mut background = vec![
            spawn_admin(self.metrics_listener, admin),
            spawn_housekeeping(Arc::clone(&self.hub), self.metrics.clone()),
            tokio::spawn(self.authenticator.watch()),
        ];
        background.extend(self.tls.clone().map(|tls| tokio::spawn(tls.follow())));
        let limits = &self.config.limits;
        let seats = Seats::new(limits.connections, limits.per_peer.connections as usize);
        let shared = Arc::new(Shared::new(router, self.tls, limits));
        let (stops, stopped) = watch::channel(Stop::No);
        let mut serving = tokio::spawn(listen::serve(self.listener, shared, seats, stopped));

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
        stops.send_replace(Stop::Drain);
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
            stops.send_replace(Stop::Cut);
        }
        let closed = shutdown.step("store", self.hub.close()).await;
        background.iter().for_each(JoinHandle::abort);
        if let Some(otlp) = self.otlp {
            shutdown.step("spans", otlp.flush()).await;
        }
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

fn spawn_admin(listener: TcpListener, router: axum::Router) -> JoinHandle<()> {
    tokio::spawn(async move {
        let router = router.into_make_service_with_connect_info::<SocketAddr>();
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
