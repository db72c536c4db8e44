//! JWT whose keys are behind a URL: fetched, rotated while calls go on, kept while the URL fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use parking_lot::Mutex;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use ringfeed::proto::v1::{CreateFeedRequest, ListFeedsRequest, start::From};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{Code, Request, Status};

use super::{bearer, list};
use crate::harness::{Ledger, Server, Setup, one, reason, until, within};

/// Signs tokens.
struct Signer {
    id: &'static str,
    key: KeyPair,
}

impl Signer {
    fn new(id: &'static str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self { id, key }
    }

    /// As everybody may see it.
    fn jwk(&self) -> Value {
        let point = self.key.public_key_raw();
        let part = |range| BASE64_URL_SAFE_NO_PAD.encode(&point[range]);
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id,
               "x": part(1..33), "y": part(33..65)})
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.into());
        let key = EncodingKey::from_ec_pem(self.key.serialize_pem().as_bytes());
        encode(&header, claims, &key.unwrap()).unwrap()
    }

    fn token(&self) -> String {
        self.sign(&claims("issuer", 3_600))
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs().cast_signed()
}

/// Of a token that is good for so many seconds.
fn claims(issuer: &str, seconds: i64) -> Value {
    json!({"sub": "pi17", "iss": issuer, "aud": ["other", "ringfeed"], "exp": now() + seconds,
           "scope": "openid *:*"})
}

/// What is behind the URL. `None`: an error.
#[derive(Default)]
struct Answer {
    content: Mutex<Option<String>>,
    fetches: AtomicU64,
}

/// A web server with a key set, as an issuer has one.
struct Issuer {
    answer: Arc<Answer>,
    url: String,
    serving: JoinHandle<()>,
}

impl Issuer {
    async fn start() -> Self {
        let answer = Arc::<Answer>::default();
        let pages = Router::new()
            .route("/jwks.json", get(answered))
            .with_state(Arc::clone(&answer));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, pages).await.unwrap() });
        Self {
            answer,
            url,
            serving,
        }
    }

    fn says(&self, content: impl Into<String>) {
        *self.answer.content.lock() = Some(content.into());
    }

    fn has(&self, signers: &[&Signer]) {
        let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
        self.says(json!({ "keys": keys }).to_string());
    }

    fn fails(&self) {
        *self.answer.content.lock() = None;
    }

    fn fetches(&self) -> u64 {
        self.answer.fetches.load(Ordering::SeqCst)
    }

    fn setup(&self) -> Setup {
        Setup::new()
            .with("auth__jwt__algorithms", "[\"ES256\"]")
            .with("auth__jwt__jwks_url", &self.url)
            .with("auth__jwt__issuer", "issuer")
            .with("auth__jwt__audience", "ringfeed")
            .with("auth__jwt__leeway", "0s")
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answered(State(answer): State<Arc<Answer>>) -> Result<String, StatusCode> {
    answer.fetches.fetch_add(1, Ordering::SeqCst);
    let content = answer.content.lock().clone();
    content.ok_or(StatusCode::INTERNAL_SERVER_ERROR)
}

async fn shows(server: &Server, token: &str) -> Result<(), Status> {
    list(server, Some(&format!("Bearer {token}"))).await
}

async fn refused(server: &Server, token: &str) -> (Code, String) {
    let status = shows(server, token).await.unwrap_err();
    assert!(!format!("{status:?}").contains(signature_of(token)));
    (status.code(), reason(&status))
}

fn signature_of(token: &str) -> &str {
    token.rsplit('.').next().unwrap()
}

/// Callers that never stop, and none of whose calls may fail.
struct Callers {
    token: Arc<Mutex<String>>,
    calls: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Callers {
    async fn start(server: &Server, token: String) -> Self {
        let mut callers = Self {
            token: Arc::new(Mutex::new(token)),
            calls: Arc::default(),
            over: Arc::default(),
            tasks: vec![],
        };
        for _ in 0..4 {
            let mut catalog = server.catalog().await;
            let (token, calls) = (Arc::clone(&callers.token), Arc::clone(&callers.calls));
            let over = Arc::clone(&callers.over);
            callers.tasks.push(tokio::spawn(async move {
                // A breath between calls leaves the machine to others.
                let mut breath = tokio::time::interval(Duration::from_millis(10));
                while !over.load(Ordering::SeqCst) {
                    breath.tick().await;
                    let mut request = Request::new(ListFeedsRequest::default());
                    let header = bearer(&token.lock());
                    request.metadata_mut().insert("authorization", header);
                    catalog.list_feeds(request).await.unwrap();
                    calls.fetch_add(1, Ordering::SeqCst);
                }
            }));
        }
        callers
    }

    /// From now on they show this one.
    fn show(&self, token: String) {
        *self.token.lock() = token;
    }

    /// Waits until all that were under way are done, and some more.
    async fn go_on(&self) {
        let enough = self.calls.load(Ordering::SeqCst) + 50;
        let done = async || self.calls.load(Ordering::SeqCst) >= enough || self.failed();
        until("calls go on", done).await;
        assert!(!self.failed(), "a call failed");
    }

    fn failed(&self) -> bool {
        self.tasks.iter().any(JoinHandle::is_finished)
    }

    async fn end(self) {
        self.over.store(true, Ordering::SeqCst);
        for task in self.tasks {
            within("the last call", task).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_change_and_no_call_fails() {
    let (old, new, unknown) = (Signer::new("old"), Signer::new("new"), Signer::new("?"));
    let issuer = Issuer::start().await;
    issuer.has(&[&old]);
    let server = issuer.setup().start().await;
    let callers = Callers::start(&server, old.token()).await;
    callers.go_on().await;
    assert_eq!(issuer.fetches(), 1, "at the start");

    // Many callers with the new key at once: all are known at their first call, by one look.
    issuer.has(&[&old, &new]);
    let first = (0..16).map(|_| async {
        let token = new.token();
        shows(&server, &token).await
    });
    for known in join_all(first).await {
        known.unwrap();
    }
    assert_eq!(issuer.fetches(), 2);
    callers.go_on().await;
    callers.show(new.token());
    callers.go_on().await;

    // While nobody can look, all goes on. Callers with keys that nobody knows do not make the
    // server look more often than every ten seconds.
    issuer.fails();
    until("it looked again", async || {
        let token = unknown.token();
        let why = refused(&server, &token).await;
        assert_eq!(why, (Code::Unauthenticated, "INVALID_TOKEN".into()));
        issuer.fetches() > 2
    })
    .await;
    shows(&server, &old.token()).await.unwrap();
    callers.go_on().await;

    // After a look that failed it looks again by itself.
    issuer.has(&[&new]);
    until("the old key is gone", async || {
        shows(&server, &old.token()).await.is_err()
    })
    .await;
    // A caller with the old key may have made it look once more.
    assert!((4..=5).contains(&issuer.fetches()));
    callers.go_on().await;
    callers.end().await;
    let scrape = server.scrape().await;
    let reloads = |result: &str| {
        let labels = ["source=\"jwks_url\"", &format!("result=\"{result}\"")];
        scrape.get("ringfeed_auth_reloads_total", &labels)
    };
    assert_eq!((reloads("ok"), reloads("failed")), (3.0, 1.0));
}

#[tokio::test]
async fn a_server_starts_without_its_keys_and_fetches_them_when_they_are_there() {
    let signer = Signer::new("a");
    let issuer = Issuer::start().await;
    issuer.says("{\"keys\": 3}");
    let server = issuer.setup().start().await;
    let token = signer.token();
    let why = refused(&server, &token).await;
    assert_eq!(why, (Code::Unavailable, "KEYS_UNAVAILABLE".into()));
    issuer.has(&[&signer]);
    // By itself, before any caller asks for it.
    until("the keys were fetched", async || {
        let ok = ["source=\"jwks_url\"", "result=\"ok\""];
        let scrape = server.scrape().await;
        scrape.get("ringfeed_auth_reloads_total", &ok) >= 1.0
    })
    .await;
    shows(&server, &token).await.unwrap();
}

#[tokio::test]
async fn a_jwt_is_taken_as_long_as_it_is_good() {
    let (signer, forger) = (Signer::new("a"), Signer::new("a"));
    let issuer = Issuer::start().await;
    issuer.has(&[&signer]);
    let setup = issuer.setup().with("log__level", "debug,ringfeed=trace");
    let server = setup.start().await;
    let good = signer.token();
    shows(&server, &good).await.unwrap();
    let mut shown = vec![good];
    let without = |claim: &str| {
        let mut claims = claims("issuer", 60);
        claims.as_object_mut().unwrap().remove(claim);
        signer.sign(&claims)
    };
    for (token, why) in [
        (signer.sign(&claims("issuer", -1)), "TOKEN_EXPIRED"),
        (signer.sign(&claims("another", 60)), "INVALID_TOKEN"),
        (forger.token(), "INVALID_TOKEN"),
        (without("exp"), "INVALID_TOKEN"),
        (without("sub"), "INVALID_TOKEN"),
        (without("aud"), "INVALID_TOKEN"),
    ] {
        let expected = (Code::Unauthenticated, why.to_owned());
        assert_eq!(refused(&server, &token).await, expected);
        shown.push(token);
    }
    let log = server.log();
    for token in &shown {
        assert!(!log.contains(signature_of(token)), "a JWT is in the log");
    }
    let scrape = server.scrape().await;
    let failures = |reason: &str| {
        let label = format!("reason=\"{reason}\"");
        scrape.get("ringfeed_auth_failures_total", &[&label])
    };
    let counted = ["expired", "issuer", "signature", "claims", "audience"].map(failures);
    assert_eq!(counted, [1.0, 1.0, 1.0, 2.0, 1.0]);
}

#[tokio::test]
async fn a_stream_ends_with_its_jwt() {
    let signer = Signer::new("a");
    let issuer = Issuer::start().await;
    issuer.has(&[&signer]);
    let server = issuer.setup().start().await;
    let of = |token: &str| bearer(token);
    let mut create = Request::new(CreateFeedRequest {
        name: "f".into(),
        ..CreateFeedRequest::default()
    });
    let metadata = create.metadata_mut();
    metadata.insert("authorization", of(&signer.token()));
    server.catalog().await.create_feed(create).await.unwrap();
    let end = now() + 3;
    let short = signer.sign(&claims("issuer", 3));
    let mut subscribe = Request::new(one("f", From::Offset(0), None));
    subscribe.metadata_mut().insert("authorization", of(&short));
    let opened = server.feeds().await.subscribe(subscribe).await.unwrap();
    let mut stream = opened.into_inner();
    let mut told = Ledger::from(0);
    let ended = within("the end of the stream", async {
        loop {
            match stream.message().await {
                Ok(response) => told.take(response.expect("it does not just end")),
                Err(status) => return status,
            }
        }
    })
    .await;
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended:?}");
    assert_eq!(reason(&ended), "TOKEN_EXPIRED");
    assert!(now() >= end, "not before its time");
    let token = told
        .reconnect
        .expect("it is told where to go on")
        .resume_token;
    assert!(!token.is_empty());
    assert!(shows(&server, &short).await.is_err());
}
