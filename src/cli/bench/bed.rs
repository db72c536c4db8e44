//! The server that is measured: a child of ours with a directory of its own, or one that runs.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{args::CommonArgs, wire::Target};
use crate::{
    cli::child::{Addresses, Scratch, ServerChild},
    client::{ConnectOptions, Connection},
    proto::v1,
};

#[derive(Debug)]
pub(super) struct Bed {
    pub target: Target,
    pub pid: Option<u32>,
    pub feed: String,
    /// Where the disk is measured.
    pub disk: PathBuf,
    own: Option<Own>,
    /// Of our own server, as variables.
    settings: Vec<(&'static str, String)>,
    engine: String,
    visibility: v1::Visibility,
}

/// A server of our own. It goes before its directory.
#[derive(Debug)]
struct Own {
    server: Option<ServerChild>,
    scratch: Scratch,
}

const NEXT_RING_BYTES: u64 = 256 << 20;
const ANY_PORT: Addresses = Addresses {
    grpc: LOOPBACK,
    metrics: LOOPBACK,
};
const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

impl Bed {
    pub(super) async fn make(args: &CommonArgs) -> anyhow::Result<Self> {
        let mut bed = Self {
            target: Target::default(),
            pid: args.server_pid,
            feed: format!("bench-{}", std::process::id()),
            disk: args.disk(),
            own: None,
            settings: vec![],
            engine: args.engine.clone(),
            visibility: args.visibility(),
        };
        match &args.endpoint {
            Some(endpoint) => {
                let authority = endpoint.trim_start_matches("http://");
                bed.target.authority = authority.trim_end_matches('/').to_owned();
            }
            None => {
                let scratch = Scratch::new(&args.disk(), "bench")?;
                bed.disk = scratch.path().to_owned();
                let server = None;
                bed.own = Some(Own { server, scratch });
                bed.start().await?;
            }
        }
        Ok(bed)
    }

    async fn start(&mut self) -> anyhow::Result<()> {
        if let Some(own) = &mut self.own {
            let data = own.scratch.path().join("data");
            let flags = ["--engine", &self.engine];
            let server = ServerChild::start(&data, ANY_PORT, &flags, &self.settings).await?;
            self.target.authority = server.addresses.grpc.to_string();
            self.pid = server.pid();
            own.server = Some(server);
        }
        Ok(())
    }

    pub(super) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Starts our own server anew with other settings, where it knows us by `bearer`.
    pub(super) async fn restart_with(
        &mut self,
        settings: Vec<(&'static str, String)>,
        bearer: Option<String>,
    ) -> anyhow::Result<()> {
        self.settings = settings;
        self.target.bearer = bearer;
        self.restart().await
    }

    /// Ends our own server, and starts it again on what it stored.
    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        self.start().await
    }

    /// Ends our own server.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        match self.own.as_mut().and_then(|own| own.server.take()) {
            Some(server) => server.stop().await,
            None => Ok(()),
        }
    }

    /// Flags of the disk that is measured.
    pub(super) fn disk(&self) -> &Path {
        &self.disk
    }

    pub(super) fn connection(&self) -> anyhow::Result<Connection> {
        let bearer = self.target.bearer.as_deref();
        let token = bearer.and_then(|bearer| bearer.strip_prefix("Bearer "));
        let options = ConnectOptions {
            token: token.map(|token| token.to_owned().into()),
            ..ConnectOptions::to(self.target.authority.as_str())
        };
        Ok(Connection::new(&options)?)
    }

    /// Whether the server refuses a call without a token.
    pub(super) async fn nobody_is_refused(&self) -> bool {
        let options = ConnectOptions::to(self.target.authority.as_str());
        let Ok(connection) = Connection::new(&options) else {
            return false;
        };
        let mut catalog = connection.catalog();
        let asked = catalog.list_feeds(v1::ListFeedsRequest::default());
        matches!(asked.await, Err(status) if status.code() == tonic::Code::Unauthenticated)
    }

    /// Creates the feed of this run.
    pub(super) async fn create_feed(&self, ring_bytes: u64) -> anyhow::Result<()> {
        let retention = v1::Retention {
            max_bytes: ring_bytes,
            max_age: None,
        };
        let request = v1::CreateFeedRequest {
            name: self.feed.clone(),
            retention: Some(retention),
            visibility: self.visibility.into(),
        };
        let created = self.connection()?.catalog().create_feed(request).await;
        created
            .map_err(|status| crate::cli::exit::explain(&status, &self.target.authority))
            .context("cannot create the feed")?;
        Ok(())
    }

    /// One beyond the newest offset of the feed.
    pub(super) async fn next_offset(&self) -> anyhow::Result<u64> {
        let name = self.feed.clone();
        let request = v1::GetFeedRequest { name };
        let answer = self.connection()?.catalog().get_feed(request).await;
        let feed = answer.context("cannot look at the feed")?.into_inner().feed;
        Ok(feed.unwrap_or_default().next)
    }

    /// Goes on with an empty feed.
    pub(super) async fn next_feed(&mut self, ring_bytes: Option<u64>) -> anyhow::Result<()> {
        self.clear().await?;
        self.feed.push_str("-2");
        self.create_feed(ring_bytes.unwrap_or(NEXT_RING_BYTES))
            .await
    }

    /// Removes the feed from a server that is not ours.
    pub(super) async fn clear(&self) -> anyhow::Result<()> {
        if !self.is_own() {
            self.delete_feed().await?;
        }
        Ok(())
    }

    pub(super) async fn delete_feed(&self) -> anyhow::Result<()> {
        let request = v1::DeleteFeedRequest {
            name: self.feed.clone(),
        };
        let deleted = self.connection()?.catalog().delete_feed(request).await;
        deleted.context("cannot delete the feed")?;
        Ok(())
    }

    /// Everything there is in the feed, up to now or for ever.
    pub(super) fn request(&self, end: End, keys: Vec<String>) -> v1::SubscribeRequest {
        let start = v1::Start {
            from: Some(v1::start::From::Earliest(v1::Earliest {})),
        };
        let end = match end {
            End::Now => Some(v1::End {
                at: Some(v1::end::At::Now(v1::Now {})),
            }),
            End::Never => None,
        };
        let selector = v1::Selector {
            feed: self.feed.clone(),
            keys,
            start: Some(start),
            end,
            ..Default::default()
        };
        v1::SubscribeRequest {
            selectors: vec![selector],
            ..Default::default()
        }
    }
}

/// Where a subscription ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Now,
    Never,
}
