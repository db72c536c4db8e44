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
        let taken = fetched.and_then(|content| match content == state.content {
            true => Ok(None),
            false => Ok(Some((keys::from_jwks(&content, &jwt.allowed)?, content))),
        });
        // Also what cannot be read is worth another look soon.
        state.due = Some(Instant::now() + if taken.is_ok() { REFRESH } else { AGAIN });
        let taken = match taken {
            Ok(None) => return,
            Ok(Some((keys, content))) => {
                jwt.put(keys);
                state.content = content;
                Ok(())
            }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    use jsonwebtoken::{EncodingKey, Header, encode};
    use parking_lot::Mutex;
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
        time::{advance, pause, resume},
    };

    use super::*;
    use crate::layers::{
        Caller,
        authenticate::{grants::Grants, jwt::JwtOptions, refusal::Refusal},
    };

    /// Whoever publishes the keys.
    #[derive(Default)]
    struct Publisher {
        /// Status line and body.
        answer: Mutex<(&'static str, String)>,
        asked: AtomicUsize,
    }

    fn secret(id: &str) -> String {
        format!("the secret of the key with the name {id}")
    }

    impl Publisher {
        async fn start() -> (Arc<Self>, Jwt) {
            let own = Arc::new(Self::default());
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/jwks", listener.local_addr().unwrap());
            let publisher = Arc::clone(&own);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    publisher.tell(stream).await;
                }
            });
            let options = JwtOptions {
                algorithms: vec!["HS256".into()],
                jwks_url: Some(url),
                scope_claim: "scope".into(),
                ..JwtOptions::default()
            };
            (own, Jwt::open(options).unwrap().unwrap())
        }

        async fn tell(&self, mut stream: TcpStream) {
            let mut request = vec![];
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            self.asked.fetch_add(1, SeqCst);
            let (status, body) = self.answer.lock().clone();
            let len = body.len();
            let text = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n{body}"
            );
            stream.write_all(text.as_bytes()).await.unwrap();
        }

        fn put(&self, ids: &[&str]) {
            let key = |id: &&str| {
                let secret = BASE64_URL_SAFE_NO_PAD.encode(secret(id));
                json!({"kty": "oct", "kid": id, "k": secret})
            };
            let keys: Vec<_> = ids.iter().map(key).collect();
            self.say("200 OK", &json!({"keys": keys}).to_string());
        }

        fn say(&self, status: &'static str, body: &str) {
            *self.answer.lock() = (status, body.to_owned());
        }

        fn asked(&self) -> usize {
            self.asked.load(SeqCst)
        }
    }

    /// Verifies a token that was never seen before.
    async fn verify(jwt: &Jwt, id: &str) -> Result<Caller, Refusal> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let mut header = Header::new(jsonwebtoken::Algorithm::HS256);
        header.kid = Some(id.into());
        let number = NEXT.fetch_add(1, SeqCst);
        let claims = json!({"sub": "me", "exp": 4_000_000_000_u64, "jti": number});
        let key = EncodingKey::from_secret(secret(id).as_bytes());
        let token = encode(&header, &claims, &key).unwrap();
        jwt.verify(&token, &Grants::default()).await
    }

    async fn later(time: Duration) {
        pause();
        advance(time).await;
        resume();
    }

    #[tokio::test]
    async fn a_key_that_is_not_known_is_asked_for_but_not_all_the_time() {
        let (publisher, jwt) = Publisher::start().await;
        publisher.say("503 Service Unavailable", "");
        let refused = verify(&jwt, "a").await.unwrap_err();
        assert_eq!(refused, Refusal::KeysUnavailable);
        later(AGAIN).await;
        publisher.put(&["a"]);
        assert!(verify(&jwt, "a").await.is_ok());
        let before = publisher.asked();
        assert!(verify(&jwt, "a").await.is_ok());
        publisher.put(&["a", "b"]);
        // Whoever makes up names of keys does not make us ask for each.
        for _ in 0..5 {
            let refused = verify(&jwt, "b").await.unwrap_err();
            assert_eq!(refused, Refusal::UnknownKey);
        }
        assert_eq!(publisher.asked(), before);
        later(AGAIN).await;
        assert!(verify(&jwt, "b").await.is_ok());
        assert!(verify(&jwt, "a").await.is_ok());
        assert_eq!(publisher.asked(), before + 1);
    }

    #[tokio::test]
    async fn keys_are_looked_at_again_and_stay_while_that_fails() {
        let (publisher, jwt) = Publisher::start().await;
        publisher.put(&["a"]);
        jwt.refresh().await;
        jwt.refresh().await;
        assert_eq!(publisher.asked(), 1);
        assert!(verify(&jwt, "a").await.is_ok());
        for (status, body) in [
            ("503 Service Unavailable", ""),
            ("200 OK", "no JWKS"),
            ("200 OK", "{\"keys\": []}"),
        ] {
            publisher.say(status, body);
            later(REFRESH).await;
            let before = publisher.asked();
            jwt.refresh().await;
            assert_eq!(publisher.asked(), before + 1, "{status} {body}");
            assert!(verify(&jwt, "a").await.is_ok(), "{status} {body}");
        }
        publisher.put(&["b"]);
        later(REFRESH).await;
        jwt.refresh().await;
        assert!(verify(&jwt, "b").await.is_ok());
        // What was taken away is no key any more.
        assert_eq!(verify(&jwt, "a").await.unwrap_err(), Refusal::UnknownKey);
    }
}
