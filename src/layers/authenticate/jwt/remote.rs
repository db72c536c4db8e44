//! A JWKS behind a URL: fetched at the start, then every few minutes, and when a token names a key
//! that is not known. What was fetched stays in force while fetching fails.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{InvalidKeys, Jwt, keys};
use crate::layers::authenticate::reload::{Origin, reloaded};

/// Between looks while all is well.
const REFRESH: Duration = Duration::from_secs(300);
/// Between looks after one that failed, and between looks for keys that are not known.
const AGAIN: Duration = Duration::from_secs(10);
const FETCH: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    #[error("it is no URL; write for instance https://login.example.com/jwks.json")]
    Form,
    #[error("write https: keys that came in plaintext are anybody's (http is for loopback)")]
    Plaintext,
    #[error("it has a password in it, which would be shown")]
    Password,
    #[error("the certificates of this system cannot be read: {0}")]
    Roots(String),
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{0}")]
    Http(#[from] hyper_util::client::legacy::Error),
    #[error("the answer broke off: {0}")]
    Body(String),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer is over 1 MiB")]
    Large,
    #[error("no answer within 5 s")]
    Late,
    #[error(transparent)]
    Keys(#[from] InvalidKeys),
}

pub(super) struct Remote {
    url: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    /// One fetch at a time.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When it is time to look again; `None`: now.
    due: Option<Instant>,
    /// When somebody last asked for a key that was not known.
    asked: Option<Instant>,
    /// The last answer: an equal one is no news.
    content: Bytes,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Remote {
    pub(super) fn new(url: &str) -> Result<Self, InvalidUrl> {
        let url: Uri = url.parse().map_err(|_bad| InvalidUrl::Form)?;
        let host = url.host().ok_or(InvalidUrl::Form)?;
        if url
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(InvalidUrl::Password);
        }
        match url.scheme_str() {
            Some("https") => {}
            Some("http") if is_loopback(host) => {}
            Some("http") => return Err(InvalidUrl::Plaintext),
            _ => return Err(InvalidUrl::Form),
        }
        let client = client().map_err(|error| InvalidUrl::Roots(error.to_string()))?;
        Ok(Self {
            url,
            client,
            state: Mutex::default(),
        })
    }

    /// Looks if it is time to.
    pub(super) async fn refresh(&self, jwt: &Jwt) {
        let mut state = self.state.lock().await;
        if state.due.is_none_or(|due| due <= Instant::now()) {
            self.take(&mut state, jwt).await;
        }
    }

    /// Looks because somebody needs a key, unless it is there by now, or somebody asked just before.
    pub(super) async fn ask(&self, jwt: &Jwt, is_known: impl Fn() -> bool) {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if is_known() || state.asked.is_some_and(|asked| now - asked < AGAIN) {
            return;
        }
        state.asked = Some(now);
        self.take(&mut state, jwt).await;
    }

    async fn take(&self, state: &mut State, jwt: &Jwt) {
        let fetched = timeout(FETCH, self.fetch()).await;
        let fetched = fetched.unwrap_or(Err(FetchError::Late));
        state.due = Some(Instant::now() + if fetched.is_ok() { REFRESH } else { AGAIN });
        let taken = match fetched {
            Ok(content) if content == state.content => return,
            Ok(content) => keys::from_jwks(&content, &jwt.allowed)
                .map(|keys| {
                    jwt.put(keys);
                    state.content = content;
                })
                .map_err(FetchError::Keys),
            Err(error) => Err(error),
        };
        reloaded(Origin::JwksUrl, &self.url, &taken);
    }

    async fn fetch(&self) -> Result<Bytes, FetchError> {
        let mut request = Request::new(Empty::new());
        request.uri_mut().clone_from(&self.url);
        let answer = self.client.request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        match Limited::new(answer.into_body(), MAX_BYTES).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(FetchError::Large),
            Err(error) => Err(FetchError::Body(error.to_string())),
        }
    }
}

fn client() -> io::Result<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(provider)?
        .https_or_http()
        .enable_http1()
        .build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let address = address.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
