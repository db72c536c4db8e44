//! HTTP/2 and gRPC as cheaply as a load generator needs them: the server shares the cores with
//! us. Uploads go through `h2`; subscriptions are read frame by frame in place.

mod frames;
mod head;
mod messages;
mod upload;

use anyhow::Context as _;
use tokio::net::TcpStream;

pub(super) use self::{
    frames::{Link, Windows},
    head::{Cut, Head, fields, head},
    messages::{Need, TakeMessage},
    upload::{Call, Uplink},
};

pub(super) const SUBSCRIBE: &str = "/ringfeed.v1.FeedService/Subscribe";
pub(super) const INGEST: &str = "/ringfeed.v1.FeedService/Ingest";

/// Which server, and what it knows us by.
#[derive(Clone, Debug, Default)]
pub(super) struct Target {
    /// `host:port`.
    pub authority: String,
    /// `Bearer ..`.
    pub bearer: Option<String>,
}

/// A connection to `host:port`.
async fn connect(authority: &str) -> anyhow::Result<TcpStream> {
    let socket = TcpStream::connect(authority).await;
    let socket = socket.with_context(|| format!("cannot reach {authority}"))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}
