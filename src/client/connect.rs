//! Channels to one or several servers: lazy, reconnecting, tried in order.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tonic::{
    Status,
    service::interceptor::InterceptedService,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{
    bearer::{Bearer, InvalidToken, Token, TokenFileError},
    calls::Calls,
    retry::{Backoff, Patience, RetryOptions, is_over_limit, retry, unreachable},
};
use crate::proto::v1::{
    catalog_service_client::CatalogServiceClient, feed_service_client::FeedServiceClient,
};

/// Small stream windows under a large connection window: h2 charges unread small frames against
/// half of the latter and then kills the connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Responses are at most 1 MiB; the rest is room for later servers.
const MAX_RESPONSE_BYTES: usize = 8 << 20;

pub type FeedClient = FeedServiceClient<InterceptedService<Calls, Bearer>>;
pub type CatalogClient = CatalogServiceClient<InterceptedService<Calls, Bearer>>;

/// Where the servers are, and who we are to them.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Tried in order: `http://host:port` or `https://host:port`; without a scheme, `http`.
    pub endpoints: Vec<String>,
    pub token: Option<Token>,
    /// Instead of a token: where it is. Read again for each call when it changed.
    pub token_file: Option<PathBuf>,
    pub tls: TlsOptions,
    pub connect_timeout: Duration,
    /// For calls with one answer; streams have none.
    pub call_timeout: Duration,
    /// Time between HTTP/2 pings.
    pub keepalive: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:50051".to_owned()],
            token: None,
            token_file: None,
            tls: TlsOptions::default(),
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            keepalive: Duration::from_secs(20),
        }
    }
}

impl ConnectOptions {
    /// Defaults, with one endpoint.
    pub fn to(endpoint: impl Into<String>) -> Self {
        Self {
            endpoints: vec![endpoint.into()],
            ..Self::default()
        }
    }
}

/// PEM texts for `https` endpoints.
#[derive(Clone, Default)]
pub struct TlsOptions {
    /// Certificates that are trusted. Required: no roots are built in.
    pub ca: Option<Vec<u8>>,
    /// Our own certificate and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name the server's certificate must have, instead of the endpoint's host.
    pub domain: Option<String>,
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("ca", &self.ca.is_some())
            .field("identity", &self.identity.is_some())
            .field("domain", &self.domain)
            .finish()
    }
}

impl TlsOptions {
    fn is_set(&self) -> bool {
        self.ca.is_some() || self.identity.is_some() || self.domain.is_some()
    }

    fn config(&self) -> ClientTlsConfig {
        let mut config = ClientTlsConfig::new();
        if let Some(ca) = &self.ca {
            config = config.ca_certificate(Certificate::from_pem(ca));
        }
        if let Some((cert, key)) = &self.identity {
            config = config.identity(Identity::from_pem(cert, key));
        }
        if let Some(domain) = &self.domain {
            config = config.domain_name(domain);
        }
        config
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no endpoint is given")]
    NoEndpoint,
    #[error("{endpoint:?} is not an endpoint: write http://host:port or https://host:port")]
    Endpoint { endpoint: String },
    #[error("{endpoint} needs a CA certificate to trust")]
    NoCa { endpoint: String },
    #[error("{endpoint} is plaintext, but TLS options are given: write https://")]
    Plaintext { endpoint: String },
    #[error("the TLS options do not work: {0}")]
    Tls(#[source] tonic::transport::Error),
    #[error(transparent)]
    Token(#[from] InvalidToken),
    #[error("the token file {}: {error}", file.display())]
    TokenFile {
        file: PathBuf,
        error: TokenFileError,
    },
}

/// Channels to the servers; cheap to clone. Nothing is connected before the first call.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    targets: Vec<Target>,
    current: AtomicUsize,
    bearer: Bearer,
    call_timeout: Duration,
}

#[derive(Debug)]
struct Target {
    endpoint: String,
    channel: Channel,
}

impl Connection {
    /// Checks the options. Must be called within a tokio runtime.
    pub fn new(options: &ConnectOptions) -> Result<Self, ConnectError> {
        if options.endpoints.is_empty() {
            return Err(ConnectError::NoEndpoint);
        }
        let targets = options.endpoints.iter().map(|text| target(text, options));
        Ok(Self(Arc::new(Inner {
            targets: targets.collect::<Result<_, _>>()?,
            current: AtomicUsize::new(0),
            bearer: bearer(options)?,
            call_timeout: options.call_timeout,
        })))
    }

    /// The feed service of the present endpoint.
    pub fn feed(&self) -> FeedClient {
        FeedServiceClient::with_interceptor(self.channel(), self.0.bearer.clone())
            .max_decoding_message_size(MAX_RESPONSE_BYTES)
    }

    /// The catalog service of the present endpoint.
    pub fn catalog(&self) -> CatalogClient {
        CatalogServiceClient::with_interceptor(self.channel(), self.0.bearer.clone())
            .max_decoding_message_size(MAX_RESPONSE_BYTES)
    }

    /// The endpoint that calls go to at present.
    pub fn endpoint(&self) -> &str {
        self.target()
            .map_or("", |(_, target)| target.endpoint.as_str())
    }

    /// For a stream over this connection.
    pub(super) fn patience(&self, options: RetryOptions) -> Patience {
        Patience::new(options, self.endpoints(), self.0.bearer.clone())
    }

    /// How many endpoints there are.
    pub fn endpoints(&self) -> usize {
        self.0.targets.len()
    }

    /// Sends later calls to the next endpoint, after one of `endpoint` failed. Several tasks may
    /// say so of one failure: only the first one moves on.
    pub fn fail_over(&self, endpoint: &str) {
        if let Some((current, target)) = self.target()
            && target.endpoint == endpoint
        {
            let next = (current + 1) % self.0.targets.len();
            // Another task may have been faster: then its choice stands.
            self.0
                .current
                .compare_exchange(current, next, Ordering::Relaxed, Ordering::Relaxed)
                .ok();
        }
    }

    /// A call with one answer, within the call timeout. Each endpoint that cannot be reached hands
    /// over to the next one, once around. Over a rate it waits as long as the server says, if that
    /// ends within the timeout.
    pub async fn call<T, F>(
        &self,
        make: impl Fn(CatalogClient, FeedClient) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let late = Instant::now() + self.0.call_timeout;
        let mut backoff = Backoff::default();
        loop {
            let status = match self.call_once(&make).await {
                Err(status) if is_over_limit(&status) => status,
                answer => return answer,
            };
            let delay = backoff.delay_for(retry(&status));
            let next = delay.map(|delay| Instant::now() + delay);
            match next.filter(|next| *next < late) {
                Some(next) => sleep_until(next).await,
                None => return Err(status),
            }
        }
    }

    async fn call_once<T, F>(
        &self,
        make: impl Fn(CatalogClient, FeedClient) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut left = self.endpoints();
        loop {
            left -= 1;
            let endpoint = self.endpoint();
            let call = make(self.catalog(), self.feed());
            let answer = tokio::time::timeout(self.0.call_timeout, call).await;
            let answer = answer.unwrap_or_else(|_elapsed| {
                Err(Status::deadline_exceeded(format!(
                    "no answer from {endpoint} within {:?}",
                    self.0.call_timeout
                )))
            });
            match answer {
                Err(status) if unreachable(&status) => {
                    self.fail_over(endpoint);
                    if left == 0 {
                        return Err(status);
                    }
                }
                answer => return answer.map(tonic::Response::into_inner),
            }
        }
    }

    fn target(&self) -> Option<(usize, &Target)> {
        let current = self.0.current.load(Ordering::Relaxed);
        self.0.targets.get(current).map(|target| (current, target))
    }

    fn channel(&self) -> Calls {
        let target = self.target().expect("`new` refuses an empty list");
        Calls::new(target.1.channel.clone())
    }
}

fn bearer(options: &ConnectOptions) -> Result<Bearer, ConnectError> {
    match (&options.token, &options.token_file) {
        (Some(token), _) => Ok(Bearer::fixed(token)?),
        (None, Some(file)) => Bearer::of_file(file).map_err(|error| ConnectError::TokenFile {
            file: file.clone(),
            error,
        }),
        (None, None) => Ok(Bearer::none()),
    }
}

fn target(text: &str, options: &ConnectOptions) -> Result<Target, ConnectError> {
    let endpoint = match text.trim() {
        text if text.contains("://") => text.trim_end_matches('/').to_owned(),
        text => format!("http://{text}"),
    };
    let bad = || ConnectError::Endpoint {
        endpoint: text.to_owned(),
    };
    let mut channel = Endpoint::from_shared(endpoint.clone()).map_err(|_invalid| bad())?;
    match channel.uri().scheme_str() {
        Some("http") if options.tls.is_set() => return Err(ConnectError::Plaintext { endpoint }),
        Some("https") if options.tls.ca.is_none() => return Err(ConnectError::NoCa { endpoint }),
        Some("https") => {
            let config = options.tls.config();
            channel = channel.tls_config(config).map_err(ConnectError::Tls)?;
        }
        Some("http") => {}
        _ => return Err(bad()),
    }
    if channel.uri().authority().is_none() {
        return Err(bad());
    }
    let channel = channel
        .user_agent(concat!("ringfeed/", env!("CARGO_PKG_VERSION")))
        .map_err(|_invalid| bad())?
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_keep_alive_interval(options.keepalive)
        .keep_alive_timeout(options.keepalive)
        .keep_alive_while_idle(true)
        .connect_lazy();
    Ok(Target { endpoint, channel })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(endpoints: &[&str]) -> ConnectOptions {
        ConnectOptions {
            endpoints: endpoints.iter().map(|&text| text.to_owned()).collect(),
            ..ConnectOptions::default()
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let options = ConnectOptions {
            token: Some("secret".to_owned().into()),
            ..ConnectOptions::default()
        };
        assert!(!format!("{options:?}").contains("secret"));
    }

    #[tokio::test]
    async fn endpoints_take_turns_when_they_fail() {
        let connection = Connection::new(&options(&["a:1", "http://b:2/"])).unwrap();
        assert_eq!(connection.endpoint(), "http://a:1");
        connection.fail_over("http://a:1");
        assert_eq!(connection.endpoint(), "http://b:2");
        // A second task tells of the same failure.
        connection.fail_over("http://a:1");
        assert_eq!(connection.endpoint(), "http://b:2");
        connection.fail_over("http://b:2");
        assert_eq!(connection.endpoint(), "http://a:1");
    }

    #[tokio::test]
    async fn wrong_options_say_what_is_wrong() {
        let error = |options| Connection::new(&options).unwrap_err().to_string();
        assert_eq!(error(options(&[])), "no endpoint is given");
        assert!(error(options(&["ftp://x"])).starts_with("\"ftp://x\" is not an endpoint"));
        assert!(error(options(&["https://x:1"])).contains("needs a CA certificate"));
        let mut tls = options(&["http://x:1"]);
        tls.tls.domain = Some("x".to_owned());
        assert!(error(tls).contains("plaintext"));
    }
}
