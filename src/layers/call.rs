//! A call, from its first header to its last byte. All layers and the handler share it: it travels
//! in the request's extensions.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::Extensions;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{Caller, Peer, Quota, Rpc};
use crate::{
    errors::{Answer, Reason},
    model::{Principal, Scopes},
};

#[derive(Debug)]
pub struct Call {
    pub rpc: &'static Rpc,
    /// x-request-id, as it came or made here.
    pub id: Box<str>,
    /// `None` in a test without a connection.
    pub peer: Option<Peer>,
    pub started: Instant,
    /// When the caller gives up.
    pub deadline: Option<tokio::time::Instant>,
    pub received: Traffic,
    pub sent: Traffic,
    caller: OnceLock<Caller>,
    quota: OnceLock<Quota>,
    stopped: AtomicBool,
}

/// Messages and their bytes, one way.
#[derive(Debug, Default)]
pub struct Traffic {
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// Why the server ends a stream that could go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The server stops.
    Stopping,
    /// The connection is old enough.
    Aged,
    /// Its deadline passed, or its caller's token is no good any more.
    Failed(Reason),
}

impl Call {
    pub fn new(rpc: &'static Rpc, id: impl Into<Box<str>>) -> Self {
        Self {
            rpc,
            id: id.into(),
            peer: None,
            started: Instant::now(),
            deadline: None,
            received: Traffic::default(),
            sent: Traffic::default(),
            caller: OnceLock::new(),
            quota: OnceLock::new(),
            stopped: AtomicBool::new(false),
        }
    }

    /// The call of a request; one by anybody who may do anything, where no layer is around.
    pub fn of(extensions: &Extensions) -> Arc<Self> {
        let found = extensions.get::<Arc<Self>>().map(Arc::clone);
        found.unwrap_or_else(|| Arc::new(Self::new(Rpc::of_path(""), "")))
    }

    pub fn caller(&self) -> &Caller {
        self.caller
            .get_or_init(|| Caller::anonymous(Scopes::everything()))
    }

    /// Says who calls; only the first to do so is heard.
    pub fn identify(&self, caller: Caller) {
        drop(self.caller.set(caller));
    }

    /// What it may take; everything, where no limits are set.
    pub fn quota(&self) -> &Quota {
        self.quota.get_or_init(Quota::default)
    }

    /// Says what it may take; only the first to do so is heard.
    pub fn limit(&self, quota: Quota) {
        drop(self.quota.set(quota));
    }

    pub fn principal(&self) -> Principal {
        Arc::clone(&self.caller().principal)
    }

    /// The handler ends the stream because the server wants it to, though nothing failed.
    pub fn stopped(&self) {
        self.stopped.store(true, Relaxed);
    }

    pub fn was_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// Comes back when the server has to end the stream.
    pub fn over(&self, stopping: &CancellationToken) -> BoxFuture<'static, Over> {
        let stopping = stopping.clone();
        let leaving = self.peer.as_ref().map(|peer| peer.leaving.clone());
        let validity = &self.caller().validity;
        if self.deadline.is_none() && validity.is_unlimited() {
            return async move {
                tokio::select! {
                    biased;
                    () = stopping.cancelled_owned() => Over::Stopping,
                    () = cancelled(leaving) => Over::Aged,
                }
            }
            .boxed();
        }
        let (deadline, validity) = (self.deadline, validity.clone());
        async move {
            tokio::select! {
                biased;
                () = stopping.cancelled_owned() => Over::Stopping,
                reason = validity.ended() => Over::Failed(reason),
                () = reached(deadline) => Over::Failed(Reason::DeadlineExceeded),
                () = cancelled(leaving) => Over::Aged,
            }
        }
        .boxed()
    }
}

async fn cancelled(token: Option<CancellationToken>) {
    match token {
        Some(token) => token.cancelled_owned().await,
        None => std::future::pending().await,
    }
}

async fn reached(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl Traffic {
    pub fn add(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub fn messages(&self) -> u64 {
        self.messages.load(Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}

impl Over {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Stopping => "the server is stopping",
            Self::Aged => "the connection is at its greatest age",
            Self::Failed(reason) => reason.meaning(),
        }
    }

    /// Unless the stream just goes on elsewhere, its status.
    pub fn failure(self) -> Option<Status> {
        match self {
            Self::Stopping | Self::Aged => None,
            Self::Failed(reason) => Some(Answer::new(reason, reason.meaning()).status()),
        }
    }
}
