//! Every call there is: its path, its name in metrics and logs, its shape, and who may make it. A
//! test compares the table with the proto, so a new call cannot do without an entry.

use crate::model::Action;

/// The shape of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Unary,
    ClientStreaming,
    ServerStreaming,
    Bidi,
}

/// Who may make a call. What is allowed of one feed or key is decided where the request is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Anybody, also without credentials.
    Nothing,
    /// Whoever has a scope with one of these actions.
    OneOf(&'static [Action]),
}

/// Whether a call is one of many that nobody wants to read of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noise {
    Call,
    Probe,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Rpc {
    pub path: &'static str,
    /// For metrics, logs and spans.
    pub name: &'static str,
    pub kind: Kind,
    pub needs: Needs,
}

impl Rpc {
    /// The entry of a path; `OTHER` for a path that is none.
    pub fn of_path(path: &str) -> &'static Self {
        RPCS.iter().find(|rpc| rpc.path == path).unwrap_or(&OTHER)
    }

    pub fn is_stream(&self) -> bool {
        self.kind != Kind::Unary
    }

    /// How much of the log it is worth.
    pub(super) fn noise(&self) -> Noise {
        match self.path.starts_with("/grpc.health.") {
            true => Noise::Probe,
            false => Noise::Call,
        }
    }
}

/// Calls of services that this server does not have.
static OTHER: Rpc = Rpc {
    path: "",
    name: "other",
    kind: Kind::Unary,
    needs: Needs::Nothing,
};

use Action::{Admin, Ingest, Observe, Subscribe};
use Kind::{Bidi, ClientStreaming, ServerStreaming, Unary};
use Needs::{Nothing, OneOf};

const SEES: &[Action] = &[Ingest, Subscribe, Observe, Admin];

#[rustfmt::skip]
pub static RPCS: [Rpc; 22] = [
    rpc("/ringfeed.v1.FeedService/Ingest", "Ingest", ClientStreaming, OneOf(&[Ingest])),
    rpc("/ringfeed.v1.FeedService/Publish", "Publish", Bidi, OneOf(&[Ingest])),
    rpc("/ringfeed.v1.FeedService/Subscribe", "Subscribe", ServerStreaming, OneOf(&[Subscribe])),
    rpc("/ringfeed.v1.FeedService/Session", "Session", Bidi, OneOf(&[Subscribe])),
    rpc("/ringfeed.v1.FeedService/GetLatest", "GetLatest", Unary, OneOf(&[Subscribe])),
    rpc("/ringfeed.v1.FeedService/AcknowledgeCursor", "AcknowledgeCursor", Unary, OneOf(&[Subscribe])),
    rpc("/ringfeed.v1.CatalogService/CreateFeed", "CreateFeed", Unary, OneOf(&[Admin])),
    rpc("/ringfeed.v1.CatalogService/GetFeed", "GetFeed", Unary, OneOf(SEES)),
    rpc("/ringfeed.v1.CatalogService/ListFeeds", "ListFeeds", Unary, OneOf(SEES)),
    rpc("/ringfeed.v1.CatalogService/UpdateFeed", "UpdateFeed", Unary, OneOf(&[Admin])),
    rpc("/ringfeed.v1.CatalogService/TrimFeed", "TrimFeed", Unary, OneOf(&[Admin])),
    rpc("/ringfeed.v1.CatalogService/DeleteFeed", "DeleteFeed", Unary, OneOf(&[Admin])),
    rpc("/ringfeed.v1.CatalogService/ListKeys", "ListKeys", Unary, OneOf(&[Subscribe, Observe])),
    rpc("/ringfeed.v1.CatalogService/SetKeyInfo", "SetKeyInfo", Unary, OneOf(&[Admin])),
    rpc("/ringfeed.v1.CatalogService/DeleteKeys", "DeleteKeys", Unary, OneOf(&[Admin])),
    rpc("/ringfeed.v1.CatalogService/GetProducer", "GetProducer", Unary, OneOf(&[Ingest])),
    rpc("/ringfeed.v1.CatalogService/ListProducers", "ListProducers", Unary, OneOf(&[Observe])),
    rpc("/ringfeed.v1.CatalogService/ListSubscribers", "ListSubscribers", Unary, OneOf(&[Observe])),
    rpc("/ringfeed.v1.CatalogService/DeleteCursor", "DeleteCursor", Unary, OneOf(&[Subscribe])),
    rpc("/grpc.health.v1.Health/Check", "HealthCheck", Unary, Nothing),
    rpc("/grpc.health.v1.Health/Watch", "HealthWatch", ServerStreaming, Nothing),
    rpc("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "Reflection", Bidi, Nothing),
];

const fn rpc(path: &'static str, name: &'static str, kind: Kind, needs: Needs) -> Rpc {
    Rpc {
        path,
        name,
        kind,
        needs,
    }
}
