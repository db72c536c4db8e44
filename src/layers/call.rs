//! A call, from its first header to its last byte. All layers and the handler share it: it travels
//! in the request's extensions.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use http::Extensions;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    Caller, FeatureFlags, Flags, Peer, Quota, Rpc, Traffic,
    seldom::Seldom,
    witness::{Witness, Witnesses},
};
use crate::{
    errors::{Answer, Reason},
    metrics::RpcMetrics,
    model::{Principal, Scopes},
    trace::{Source, SpanContext},
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
    pub told: Told,
    pub received: Traffic,
    pub sent: Traffic,
    caller: OnceLock<Caller>,
    quota: OnceLock<Quota>,
    flags: OnceLock<Flags>,
    span: OnceLock<SpanContext>,
    source: OnceLock<Arc<Source>>,
    log_span: OnceLock<tracing::Span>,
    metrics: OnceLock<Arc<RpcMetrics>>,
    pub(super) witnesses: Witnesses,
    stopped: AtomicBool,
    cut: OnceLock<Reason>,
}

/// What the caller says of its call.
#[derive(Debug, Default)]
pub struct Told {
    /// Of whom it is one of several calls.
    pub session: Option<Box<str>>,
    /// On whose behalf it is made; only a trusted proxy can say.
    pub user: Option<Box<str>>,
    /// The span that it is below.
    pub parent: Option<SpanContext>,
    pub baggage: Option<Box<str>>,
    pub(super) flags: Vec<Box<str>>,
    pub(super) known_flags: FeatureFlags,
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
            told: Told::default(),
            received: Traffic::default(),
            sent: Traffic::default(),
            caller: OnceLock::new(),
            quota: OnceLock::new(),
            flags: OnceLock::new(),
            span: OnceLock::new(),
            source: OnceLock::new(),
            log_span: OnceLock::new(),
            metrics: OnceLock::new(),
            witnesses: Witnesses::default(),
            stopped: AtomicBool::new(false),
            cut: OnceLock::new(),
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

    /// Who calls, once that is known.
    pub fn identified(&self) -> Option<&Caller> {
        self.caller.get()
    }

    /// The feature flags that the caller asked for. Only to be asked when it is known who calls.
    pub fn flags(&self) -> &Flags {
        let Told {
            flags, known_flags, ..
        } = &self.told;
        let decide = || match flags.is_empty() {
            true => Flags::default(),
            false => known_flags.decide(flags, &self.caller().principal),
        };
        self.flags.get_or_init(decide)
    }

    pub fn has_flag(&self, name: &str) -> bool {
        self.flags().set.iter().any(|flag| **flag == *name)
    }

    /// Says which span the call is.
    pub(super) fn traced(&self, span: SpanContext, source: Option<Arc<Source>>) {
        drop(self.span.set(span));
        if let Some(source) = source {
            drop(self.source.set(source));
        }
    }

    /// The span of this call; without tracing the caller's.
    pub fn span(&self) -> Option<&SpanContext> {
        self.span.get().or(self.told.parent.as_ref())
    }

    /// Goes with the batches and deliveries of a call that is sampled.
    pub fn source(&self) -> Option<&Arc<Source>> {
        self.source.get()
    }

    /// Says in which span of the log lines are that are written for the call.
    pub(super) fn logged_in(&self, span: tracing::Span) -> &tracing::Span {
        self.log_span.get_or_init(|| span)
    }

    pub(super) fn log_span(&self) -> Option<&tracing::Span> {
        self.log_span.get()
    }

    /// What passes from now on is counted there as well, as it passes.
    pub(super) fn count_in(&self, metrics: Arc<RpcMetrics>) {
        drop(self.metrics.set(metrics));
    }

    pub(super) fn metrics(&self) -> Option<&RpcMetrics> {
        self.metrics.get().map(|metrics| &**metrics)
    }

    pub(super) fn count_received(&self, messages: u64, bytes: u64) {
        self.received.add(messages, bytes);
        if let Some(metrics) = self.metrics.get() {
            metrics.received().count(messages, bytes);
        }
    }

    pub(super) fn count_sent(&self, messages: u64, bytes: u64) {
        self.sent.add(messages, bytes);
        if let Some(metrics) = self.metrics.get() {
            metrics.sent().count(messages, bytes);
        }
    }

    /// Has it look on until the call is over.
    pub(super) fn watch(&self, witness: impl Witness + 'static) {
        self.witnesses.add(witness);
    }

    /// The handler ends the stream because the server wants it to, though nothing failed.
    pub fn stopped(&self) {
        self.stopped.store(true, Relaxed);
    }

    pub fn was_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// Whether its deadline passed.
    pub(super) fn is_late(&self) -> bool {
        let now = tokio::time::Instant::now();
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// The client did not take its stream's end: it was cut, because of this.
    pub(super) fn cut(&self, reason: Reason) {
        let _first = self.cut.get_or_init(|| reason);
    }

    pub fn was_cut(&self) -> Option<Reason> {
        self.cut.get().copied()
    }

    /// Whether it has a deadline, or its caller may cease to be one.
    pub fn may_fail(&self) -> bool {
        self.deadline.is_some() || !self.caller().validity.is_unlimited()
    }

    /// Comes back when the deadline passed, or its caller is none any more.
    pub fn failed(&self) -> impl Future<Output = Reason> + Send + use<> {
        let (deadline, validity) = (self.deadline, self.caller().validity.clone());
        async move {
            tokio::select! {
                biased;
                reason = validity.ended() => reason,
                () = reached(deadline) => Reason::DeadlineExceeded,
            }
        }
    }

    /// Comes back when the server has to end the stream. To be asked with each message.
    pub fn over(&self, stopping: &CancellationToken) -> Seldom<Over> {
        let stopping = stopping.clone();
        let leaving = self.peer.as_ref().map(|peer| peer.leaving.clone());
        if !self.may_fail() {
            return Seldom::new(async move {
                tokio::select! {
                    biased;
                    () = stopping.cancelled_owned() => Over::Stopping,
                    () = cancelled(leaving) => Over::Aged,
                }
            });
        }
        let failed = self.failed();
        Seldom::new(async move {
            tokio::select! {
                biased;
                () = stopping.cancelled_owned() => Over::Stopping,
                reason = failed => Over::Failed(reason),
                () = cancelled(leaving) => Over::Aged,
            }
        })
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
