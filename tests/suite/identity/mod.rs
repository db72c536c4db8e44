//! Who calls: tokens that come and go while the server runs, and nothing of them in its log.

mod jwks;
mod rotation;
mod token_command;

use std::path::{Path, PathBuf};

use ringfeed::{
    client::{ConnectOptions, Connection, Event, Subscription},
    layers::{Moment, NewToken, TokenFile},
    proto::v1::{ListFeedsRequest, SubscribeRequest, start::From},
};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{Server, Setup, one, reason, until, within};

/// The file of a server's tokens.
struct Tokens(PathBuf);

impl Tokens {
    fn in_home(setup: &Setup) -> Self {
        let tokens = Self(setup.home().join("tokens.toml"));
        TokenFile::edit(&tokens.0, |_| Ok(())).unwrap();
        tokens
    }

    fn add_until(&self, expires: Option<&str>) -> String {
        let expires = expires.map(|end| Moment(end.parse().unwrap()));
        let token = NewToken::make("pi17".into(), vec!["*:*".into()], expires, None).unwrap();
        let entry = token.entry;
        TokenFile::edit(&self.0, |file| {
            file.tokens.push(entry);
            Ok(())
        })
        .unwrap();
        token.text.reveal()
    }

    fn add(&self) -> String {
        self.add_until(None)
    }

    fn revoke(&self, token: &str) {
        let id = token.split('_').nth(1).unwrap();
        TokenFile::edit(&self.0, |file| {
            file.tokens.retain(|entry| entry.id != id);
            Ok(())
        })
        .unwrap();
    }
}

fn setup() -> (Setup, Tokens) {
    let setup = Setup::new();
    let tokens = Tokens::in_home(&setup);
    let setup = setup
        .with("auth__token_file", tokens.0.display())
        .with("log__level", "debug,ringfeed=trace");
    (setup, tokens)
}

async fn list(server: &Server, authorization: Option<&str>) -> Result<(), Status> {
    let mut request = Request::new(ListFeedsRequest::default());
    if let Some(text) = authorization {
        let metadata = request.metadata_mut();
        metadata.insert("authorization", text.parse().unwrap());
    }
    server.catalog().await.list_feeds(request).await.map(drop)
}

async fn knows(server: &Server, token: &str) -> bool {
    let listed = list(server, Some(&format!("Bearer {token}"))).await;
    match listed {
        Ok(()) => true,
        Err(status) => {
            assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
            false
        }
    }
}

fn bearer(token: &str) -> MetadataValue<Ascii> {
    format!("Bearer {token}").parse().unwrap()
}

fn secret_of(token: &str) -> &str {
    token.rsplit('_').next().unwrap()
}

#[tokio::test]
async fn only_who_has_a_token_may_call_and_the_log_has_none() {
    let (setup, tokens) = setup();
    let (good, old) = (tokens.add(), tokens.add_until(Some("2020-01-01T00:00:00Z")));
    let server = setup.start().await;
    assert!(knows(&server, &good).await);
    let forged = format!("{}x", &good[..good.len() - 1]);
    for (shown, why) in [
        (None, "NO_CREDENTIALS"),
        (Some(format!("Bearer {forged}")), "INVALID_TOKEN"),
        (Some(format!("Basic {good}")), "INVALID_TOKEN"),
        (Some(format!("Bearer {old}")), "TOKEN_EXPIRED"),
    ] {
        let refused = list(&server, shown.as_deref()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{shown:?}");
        assert_eq!(reason(&refused), why, "{shown:?}");
        let text = format!("{refused:?}");
        assert!(!text.contains(secret_of(&good)) && !text.contains(secret_of(&old)));
    }
    // Who looks whether the server is there needs no token.
    let mut health = HealthClient::new(server.channel().await);
    health.check(HealthCheckRequest::default()).await.unwrap();

    let scrape = server.scrape().await;
    let failures = |reason: &str| {
        let label = format!("reason=\"{reason}\"");
        scrape.get("ringfeed_auth_failures_total", &[&label])
    };
    let counted = ["no_credentials", "unknown_token", "malformed", "expired"].map(failures);
    assert_eq!(counted, [1.0; 4]);
    let log = server.log();
    for token in [&good, &old, &forged] {
        assert!(!log.contains(secret_of(token)), "a secret is in the log");
    }
    let file = std::fs::read_to_string(&tokens.0).unwrap();
    assert!(!file.contains(secret_of(&good)), "a secret is in the file");
}

#[tokio::test]
async fn tokens_come_and_go_and_streams_go_with_them() {
    let (setup, tokens) = setup();
    let (first, other) = (tokens.add(), tokens.add());
    let server = setup.start().await;
    let mut streams = vec![];
    for token in [&first, &other] {
        let mut feeds = server.catalog().await;
        let mut create = Request::new(ringfeed::proto::v1::CreateFeedRequest {
            name: "f".into(),
            ..Default::default()
        });
        let header = bearer(token);
        create
            .metadata_mut()
            .insert("authorization", header.clone());
        feeds.create_feed(create).await.ok();
        let mut request = Request::new(SubscribeRequest {
            ..one("f", From::Offset(0), None)
        });
        request.metadata_mut().insert("authorization", header);
        let stream = server.feeds().await.subscribe(request).await.unwrap();
        streams.push(stream.into_inner());
    }
    let new = tokens.add();
    until("the new token is known", async || {
        knows(&server, &new).await
    })
    .await;
    assert!(knows(&server, &first).await);
    tokens.revoke(&first);
    let mut other_stream = streams.pop().unwrap();
    let mut stream = streams.pop().unwrap();
    let ended = within("the end of its stream", async {
        loop {
            if let Err(status) = stream.message().await.map(Option::unwrap) {
                return status;
            }
        }
    })
    .await;
    assert_eq!(ended.code(), Code::Unauthenticated);
    assert_eq!(reason(&ended), "TOKEN_REVOKED");
    assert!(!knows(&server, &first).await);
    // The other one goes on: its next message is no end.
    assert!(
        within("another's stream", other_stream.message())
            .await
            .is_ok()
    );

    // A broken file takes nobody's token away.
    std::fs::write(&tokens.0, "[[token").unwrap();
    until("the broken file is counted", async || {
        let scrape = server.scrape().await;
        let failed = ["source=\"token_file\"", "result=\"failed\""];
        scrape.get("ringfeed_auth_reloads_total", &failed) >= 1.0
    })
    .await;
    assert!(knows(&server, &other).await && knows(&server, &new).await);
}

fn write(path: &Path, token: &str) {
    std::fs::write(path, token).unwrap();
}

#[tokio::test]
async fn a_client_goes_on_with_the_token_that_came_into_its_file() {
    let (setup, tokens) = setup();
    let (old, new) = (tokens.add(), tokens.add());
    let server = setup.start().await;
    let path = setup.home().join("client.token");
    write(&path, &old);
    let connection = Connection::new(&ConnectOptions {
        token_file: Some(path.clone()),
        ..ConnectOptions::to(format!("http://{}", server.address()))
    })
    .unwrap();
    let create = ringfeed::proto::v1::CreateFeedRequest {
        name: "f".into(),
        ..Default::default()
    };
    connection.catalog().create_feed(create).await.unwrap();
    let request = one("f", From::Offset(0), None);
    let mut follow = Subscription::new(connection, request, Default::default()).unwrap();
    within("it is open", follow.next()).await.unwrap();
    write(&path, &new);
    tokens.revoke(&old);
    within("it goes on", async {
        let mut was_cut = false;
        loop {
            match follow.next().await.unwrap().unwrap() {
                Event::Disconnected { .. } => was_cut = true,
                _ if was_cut => return,
                _ => {}
            }
        }
    })
    .await;
    // Without a newer one that is the end.
    tokens.revoke(&new);
    let error = within("its end", async {
        loop {
            if let Err(error) = follow.next().await {
                return error;
            }
        }
    })
    .await;
    assert!(error.to_string().contains("taken back"), "{error}");
}
