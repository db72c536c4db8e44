//! A server in this process, whose callers are whoever the test says: a header names one.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use http::Request;
use hyper_util::{rt::TokioIo, server::conn::auto, service::TowerToHyperService};
use parking_lot::Mutex;
use ringfeed::{
    hub::{AutoCreate, Hub, HubOptions},
    layers::{
        AuthorizeLayer, Call, Caller, CutLayer, Identity, RequestContextLayer, RpcMetricsLayer,
        StreamExecutor, Validity, cuttable,
    },
    model::Scopes,
    proto::v1::{
        catalog_service_client::CatalogServiceClient, feed_service_client::FeedServiceClient,
    },
    rpc::{Context, Services},
    store::MemoryEngine,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    metadata::MetadataValue,
    service::{Interceptor, Routes, interceptor::InterceptedService},
    transport::Channel,
};
use tower::util::MapRequestLayer;

const CALLER: &str = "x-test-caller";
const DEADLINE: &str = "x-test-deadline-ms";
/// So long after its end a stream that nobody reads is cut.
const GRACE: Duration = Duration::from_millis(100);

pub(super) type As = InterceptedService<Channel, Named>;
pub(super) type Feeds = FeedServiceClient<As>;
pub(super) type Catalog = CatalogServiceClient<As>;

type Callers = Arc<Mutex<HashMap<String, Caller>>>;

#[derive(Debug)]
pub(super) struct Bed {
    pub(super) hub: Arc<Hub>,
    pub(super) address: SocketAddr,
    channel: Channel,
    callers: Callers,
}

/// Says who calls.
#[derive(Clone, Debug)]
pub(super) struct Named {
    caller: MetadataValue<tonic::metadata::Ascii>,
    deadline: Option<Duration>,
}

impl Interceptor for Named {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(CALLER, self.caller.clone());
        if let Some(deadline) = self.deadline {
            let millis = deadline.as_millis().to_string();
            metadata.insert(DEADLINE, millis.parse().unwrap());
        }
        Ok(request)
    }
}

impl Bed {
    /// One with these feeds.
    pub(super) async fn with(feeds: &[&str]) -> Self {
        let options = HubOptions {
            auto_create: AutoCreate::Yes,
            ..HubOptions::default()
        };
        let hub = Hub::open(Arc::new(MemoryEngine::new()), options).unwrap();
        for feed in feeds {
            let name = feed.parse().unwrap();
            hub.create_feed(name, None, None).await.unwrap();
        }
        let callers = Callers::default();
        let address = serve(Arc::clone(&hub), Arc::clone(&callers)).await;
        let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
        Self {
            hub,
            address,
            channel: endpoint.connect().await.unwrap(),
            callers,
        }
    }

    /// From now on somebody of this name may do this.
    pub(super) fn knows(&self, name: &str, scopes: &[&str]) {
        self.knows_for(name, scopes, Validity::default());
    }

    /// The same, for a while.
    pub(super) fn knows_for(&self, name: &str, scopes: &[&str], validity: Validity) {
        let caller = Caller {
            principal: name.into(),
            scopes: Scopes::parse(scopes, name).unwrap(),
            identity: Identity::Token,
            validity,
        };
        self.callers.lock().insert(name.to_owned(), caller);
    }

    /// The same, until the token that is returned is cancelled.
    pub(super) fn knows_until(&self, name: &str, scopes: &[&str]) -> CancellationToken {
        let revoked = CancellationToken::new();
        let validity = Validity {
            expires: None,
            revoked: Some(revoked.clone()),
        };
        self.knows_for(name, scopes, validity);
        revoked
    }

    pub(super) fn feeds(&self, caller: &str) -> Feeds {
        FeedServiceClient::with_interceptor(self.channel.clone(), named(caller, None))
    }

    pub(super) fn feeds_within(&self, caller: &str, deadline: Duration) -> Feeds {
        FeedServiceClient::with_interceptor(self.channel.clone(), named(caller, Some(deadline)))
    }

    pub(super) fn catalog(&self, caller: &str) -> Catalog {
        CatalogServiceClient::with_interceptor(self.channel.clone(), named(caller, None))
    }
}

fn named(caller: &str, deadline: Option<Duration>) -> Named {
    Named {
        caller: caller.parse().unwrap(),
        deadline,
    }
}

async fn serve(hub: Arc<Hub>, callers: Callers) -> SocketAddr {
    let services = Services::new(Context {
        hub,
        heartbeat: Duration::from_secs(10),
        publish_window: 1 << 20,
        stopping: CancellationToken::new(),
    });
    let router = Routes::new(services.feed_service())
        .add_service(services.catalog_service())
        .prepare()
        .into_axum_router()
        .layer(AuthorizeLayer)
        .layer(CutLayer::new(GRACE))
        .layer(MapRequestLayer::new(move |request| {
            identified(request, &callers)
        }))
        .layer(RpcMetricsLayer::new())
        .layer(RequestContextLayer::new(
            ringfeed::layers::FeatureFlags::default(),
            std::sync::Arc::new(|_peer| false),
        ));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(router.clone());
            tokio::spawn(async move {
                let http = auto::Builder::new(StreamExecutor);
                cuttable(http.serve_connection(TokioIo::new(stream), service)).await;
            });
        }
    });
    address
}

/// What authentication does, by a header.
fn identified<B>(mut request: Request<B>, callers: &Callers) -> Request<B> {
    let before = Call::of(request.extensions());
    let mut call = Call::new(before.rpc, before.id.clone());
    let text = |name: &str| {
        request
            .headers()
            .get(name)?
            .to_str()
            .ok()
            .map(str::to_owned)
    };
    let after = text(DEADLINE).map(|millis| Duration::from_millis(millis.parse().unwrap()));
    call.deadline = after.map(|after| tokio::time::Instant::now() + after);
    if let Some(caller) = text(CALLER).and_then(|name| callers.lock().get(&name).cloned()) {
        call.identify(caller);
    }
    request.extensions_mut().insert(Arc::new(call));
    request
}
