//! Where the streams of a test run that end before their client wants: a server in this process,
//! which believes whoever names itself, or a real one with a file of tokens.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use ringfeed::{
    layers::{Moment, NewToken, TokenFile, Validity},
    proto::v1::{CreateFeedRequest, GetFeedRequest, ListFeedsRequest},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::{
    Bed, Wire,
    bed::{Catalog, Feeds, Named},
};
use crate::harness::{Server, Setup, reason, until, within};

pub(super) const SCOPES: &[&str] = &["subscribe:f", "ingest:f"];

/// What ends a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Revoked,
    Expired,
    Deadline,
}

pub(super) const CAUSES: [Cause; 3] = [Cause::Revoked, Cause::Expired, Cause::Deadline];

/// With a feed "f", of which "root" may do everything, and "me" read and write.
pub(super) enum Place {
    Here(Bed),
    There(Box<There>),
}

/// Both of them.
pub(super) async fn places() -> [Place; 2] {
    let here = Bed::with(&["f"]).await;
    [
        Place::Here(here),
        Place::There(Box::new(There::start().await)),
    ]
}

/// A client of "me", whose streams end soon.
pub(super) struct Brief {
    pub(super) feeds: Feeds,
    cause: Cause,
    revoke: Revoke,
    /// They do not end before.
    lasts_until: Option<SystemTime>,
}

enum Revoke {
    Cancel(CancellationToken),
    /// By the command line: the id of a token in a file.
    Token(PathBuf, String),
    Nothing,
}

impl Place {
    /// A client of somebody who may do everything.
    pub(super) fn root(&self) -> Feeds {
        match self {
            Self::Here(bed) => bed.feeds("root"),
            Self::There(there) => there.root.feeds(&there.wire),
        }
    }

    fn catalog(&self) -> Catalog {
        match self {
            Self::Here(bed) => bed.catalog("root"),
            Self::There(there) => there.root.catalog(&there.wire),
        }
    }

    pub(super) async fn tail(&self) -> u64 {
        let request = GetFeedRequest { name: "f".into() };
        let feed = self.catalog().get_feed(request).await.unwrap();
        feed.into_inner().feed.unwrap().next
    }

    /// A client of "me" that nothing ends: by a new token, where there are tokens.
    pub(super) async fn me(&self) -> Feeds {
        match self {
            Self::Here(bed) => {
                bed.knows("me", SCOPES);
                bed.feeds("me")
            }
            Self::There(there) => there.me(None).await.0.feeds(&there.wire),
        }
    }

    pub(super) async fn brief(&self, cause: Cause) -> Brief {
        match self {
            Self::Here(bed) => here(bed, cause),
            Self::There(there) => there.brief(cause).await,
        }
    }
}

fn here(bed: &Bed, cause: Cause) -> Brief {
    let soon = Duration::from_millis(300);
    let end = SystemTime::now() + soon;
    let (feeds, revoke, lasts_until) = match cause {
        Cause::Revoked => {
            let revoked = bed.knows_until("me", SCOPES);
            (bed.feeds("me"), Revoke::Cancel(revoked), None)
        }
        Cause::Expired => {
            let validity = Validity {
                expires: Some(end),
                revoked: None,
            };
            bed.knows_for("me", SCOPES, validity);
            (bed.feeds("me"), Revoke::Nothing, Some(end))
        }
        Cause::Deadline => {
            bed.knows("me", SCOPES);
            (bed.feeds_within("me", soon), Revoke::Nothing, Some(end))
        }
    };
    Brief {
        feeds,
        cause,
        revoke,
        lasts_until,
    }
}

impl Brief {
    pub(super) async fn revoke(&self) {
        match &self.revoke {
            Revoke::Cancel(revoked) => revoked.cancel(),
            Revoke::Token(file, id) => {
                let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_ringfeed"));
                command.args(["token", "revoke", id, "--file"]).arg(file);
                let ran = within("token revoke", command.output()).await.unwrap();
                assert!(ran.status.success(), "{ran:?}");
            }
            Revoke::Nothing => panic!("{:?} comes by itself", self.cause),
        }
    }

    /// It ended for the right reason, and not too early.
    #[track_caller]
    pub(super) fn check(&self, status: &Status) {
        let expected = match self.cause {
            Cause::Revoked => (Code::Unauthenticated, "TOKEN_REVOKED"),
            Cause::Expired => (Code::Unauthenticated, "TOKEN_EXPIRED"),
            Cause::Deadline => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        };
        assert_eq!((status.code(), reason(status).as_str()), expected);
        let now = SystemTime::now();
        assert!(self.lasts_until.is_none_or(|end| now >= end), "{status:?}");
    }
}

/// A real server.
pub(super) struct There {
    _server: Server,
    file: PathBuf,
    wire: Wire,
    root: Named,
}

impl There {
    async fn start() -> Self {
        let setup = Setup::new();
        let file = setup.home().join("tokens.toml");
        let (_id, root) = add(&file, "root", &["*:*"], None);
        let setup = setup.with("auth__token_file", file.display());
        let server = setup.start().await;
        let wire = Wire::to(server.address()).await;
        let create = CreateFeedRequest {
            name: "f".into(),
            ..CreateFeedRequest::default()
        };
        root.catalog(&wire).create_feed(create).await.unwrap();
        Self {
            _server: server,
            file,
            wire,
            root,
        }
    }

    /// A new token of "me" and its id, once the server knows it.
    async fn me(&self, expires: Option<SystemTime>) -> (Named, String) {
        let (id, me) = add(&self.file, "me", SCOPES, expires);
        until("a new token is known", async || {
            let mut catalog = me.catalog(&self.wire);
            let listed = catalog.list_feeds(ListFeedsRequest::default()).await;
            listed.map_or_else(|status| reason(&status) != "INVALID_TOKEN", |_| true)
        })
        .await;
        (me, id)
    }

    async fn brief(&self, cause: Cause) -> Brief {
        let (me, revoke, lasts_until) = match cause {
            Cause::Revoked => {
                let (me, id) = self.me(None).await;
                (me, Revoke::Token(self.file.clone(), id), None)
            }
            Cause::Expired => {
                let (me, end) = self.soon_expired().await;
                (me, Revoke::Nothing, Some(end))
            }
            Cause::Deadline => {
                let (me, _id) = self.me(None).await;
                let end = SystemTime::now() + Duration::from_secs(1);
                let me = me.and("grpc-timeout", "1000m");
                (me, Revoke::Nothing, Some(end))
            }
        };
        Brief {
            feeds: me.feeds(&self.wire),
            cause,
            revoke,
            lasts_until,
        }
    }

    /// A token with some time left, however long the server took to know it.
    async fn soon_expired(&self) -> (Named, SystemTime) {
        let mut life = Duration::from_secs(3);
        loop {
            let end = SystemTime::now() + life;
            let (me, _id) = self.me(Some(end)).await;
            if SystemTime::now() + life / 2 < end {
                return (me, end);
            }
            life *= 2;
        }
    }
}

/// Puts a token into the file: its id, and who shows it.
fn add(
    file: &std::path::Path,
    principal: &str,
    scopes: &[&str],
    expires: Option<SystemTime>,
) -> (String, Named) {
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let expires = expires.map(|end| Moment(end.try_into().unwrap()));
    let token = NewToken::make(principal.into(), scopes, expires, None).unwrap();
    let (id, text) = (token.entry.id.clone(), token.text.reveal());
    TokenFile::edit(file, |file| {
        file.tokens.push(token.entry);
        Ok(())
    })
    .unwrap();
    let named = Named::by("authorization", &format!("Bearer {text}"));
    (id, named)
}
