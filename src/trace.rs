//! Every span as a verb, on the API of OpenTelemetry. Off unless a process turns it on: then each
//! verb costs one branch and allocates nothing. Imports nothing of ringfeed.

use std::{
    net::SocketAddr,
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Instant, SystemTime},
};

pub use opentelemetry::trace::SpanContext;
use opentelemetry::{
    Context, KeyValue,
    global::{BoxedSpan, BoxedTracer},
    trace::{Link, Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _},
};

/// Batches joined to one chunk whose producers are remembered.
pub const MAX_SOURCES: usize = 8;

static TRACER: OnceLock<BoxedTracer> = OnceLock::new();

/// From now on spans are made. Only the first tracer is heard.
pub fn turn_on(tracer: BoxedTracer) {
    drop(TRACER.set(tracer));
}

pub fn is_on() -> bool {
    TRACER.get().is_some()
}

/// A span that ends with its drop; or none.
#[derive(Default)]
pub struct Span(Option<BoxedSpan>);

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Span").field(&self.context()).finish()
    }
}

impl Span {
    /// What children and links need of it. Also of a span that is not sampled.
    pub fn context(&self) -> Option<&SpanContext> {
        self.0.as_ref().map(BoxedSpan::span_context)
    }

    /// The same of one that is sampled.
    pub fn sampled(&self) -> Option<&SpanContext> {
        self.context().filter(|context| context.is_sampled())
    }

    fn set(&mut self, name: &'static str, value: impl Into<opentelemetry::Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(name, value));
        }
    }

    /// What was done failed.
    pub fn fail(&mut self, why: &'static str) {
        if let Some(span) = &mut self.0 {
            span.set_status(Status::error(why));
        }
    }

    /// How a call ended: its code as a number and by name.
    pub fn set_code(&mut self, code: i32, failure: Option<&'static str>) {
        self.set("rpc.grpc.status_code", i64::from(code));
        if let Some(failure) = failure {
            self.fail(failure);
        }
    }

    /// How many messages went which way.
    pub fn set_messages(&mut self, received: u64, sent: u64) {
        self.set("ringfeed.received_messages", number(received));
        self.set("ringfeed.sent_messages", number(sent));
    }
}

/// A call as the semantic conventions for gRPC name it.
#[derive(Clone, Copy, Debug)]
pub struct Called<'a> {
    /// `/ringfeed.v1.FeedService/Ingest`
    pub path: &'a str,
    pub request_id: &'a str,
    pub session_id: Option<&'a str>,
    pub peer: Option<SocketAddr>,
}

impl Called<'_> {
    fn span(self, kind: SpanKind) -> SpanBuilder {
        let name = self.path.trim_start_matches('/').to_owned();
        let (service, method) = name.split_once('/').unwrap_or(("", &name));
        let mut attributes = vec![
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", service.to_owned()),
            KeyValue::new("rpc.method", method.to_owned()),
            KeyValue::new("ringfeed.request_id", self.request_id.to_owned()),
        ];
        if let Some(session) = self.session_id {
            attributes.push(KeyValue::new("session.id", session.to_owned()));
        }
        if let Some(peer) = self.peer {
            attributes.push(KeyValue::new("network.peer.address", peer.ip().to_string()));
            attributes.push(KeyValue::new("network.peer.port", i64::from(peer.port())));
        }
        SpanBuilder::from_name(name)
            .with_kind(kind)
            .with_attributes(attributes)
    }
}

/// A call that this server answers; a child of the caller's span.
pub fn server_call(caller: Option<&SpanContext>, called: Called<'_>) -> Span {
    let Some(tracer) = TRACER.get() else {
        return Span::default();
    };
    let parent = caller.map_or_else(Context::new, below);
    let span = called.span(SpanKind::Server);
    Span(Some(tracer.build_with_context(span, &parent)))
}

/// A call that this process makes; a child of the span that is active on this thread.
pub fn client_call(called: Called<'_>) -> Span {
    let Some(tracer) = TRACER.get() else {
        return Span::default();
    };
    let span = called.span(SpanKind::Client);
    Span(Some(tracer.build_with_context(span, &Context::current())))
}

/// The span that is active on this thread, whoever made it.
pub fn active() -> Option<SpanContext> {
    let context = Context::current().span().span_context().clone();
    context.is_valid().then_some(context)
}

/// A span as others are told of it: <https://www.w3.org/TR/trace-context/>.
pub fn traceparent(span: &SpanContext) -> String {
    let flags = span.trace_flags().to_u8();
    format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id())
}

/// The call that something comes from or goes to; only of calls that are sampled. It travels with
/// batches, and stays with their chunk in memory.
#[derive(Debug)]
pub struct Source {
    call: SpanContext,
    /// What a delivery links to: the producer's own span, or where it has none, its call.
    producer: SpanContext,
    budget: Budget,
}

impl Source {
    /// `caller`: the span that the call is below.
    pub fn new(span: &Span, caller: Option<&SpanContext>) -> Option<Arc<Self>> {
        let call = span.sampled()?;
        Some(Arc::new(Self {
            call: call.clone(),
            producer: caller.unwrap_or(call).clone(),
            budget: Budget::default(),
        }))
    }
}

/// A batch, from its permit to its answer.
pub fn append(source: Option<&Source>, feed: &str, records: usize) -> Span {
    let (Some(tracer), Some(source)) = (TRACER.get(), source) else {
        return Span::default();
    };
    if !source.budget.take() {
        return Span::default();
    }
    let span = SpanBuilder::from_name("append").with_attributes([
        KeyValue::new("ringfeed.feed", feed.to_owned()),
        KeyValue::new("ringfeed.records", number(records as u64)),
    ]);
    Span(Some(tracer.build_with_context(span, &below(&source.call))))
}

/// The flush that made a batch durable; it is over.
pub fn flush(append: &SpanContext, begun: SystemTime) {
    if let Some(tracer) = TRACER.get() {
        let span = SpanBuilder::from_name("flush").with_start_time(begun);
        drop(tracer.build_with_context(span, &below(append)));
    }
}

/// A message with records of `sources` is handed to a subscriber: in the subscriber's trace where
/// that is sampled, else in the producer's. It links to all producers.
pub fn deliver(
    subscriber: Option<&Source>,
    sources: &[Arc<Source>],
    feed: &str,
    from: u64,
    to: u64,
) {
    let (Some(tracer), Some(first)) = (TRACER.get(), sources.first()) else {
        return;
    };
    let within = subscriber.unwrap_or(first);
    if !within.budget.take() {
        return;
    }
    let links = sources.iter().take(MAX_SOURCES);
    let links = links.map(|source| Link::with_context(source.producer.clone()));
    let span = SpanBuilder::from_name("deliver")
        .with_kind(SpanKind::Consumer)
        .with_links(links.collect())
        .with_attributes([
            KeyValue::new("ringfeed.feed", feed.to_owned()),
            KeyValue::new("ringfeed.from", number(from)),
            KeyValue::new("ringfeed.to", number(to)),
        ]);
    drop(tracer.build_with_context(span, &below(&within.call)));
}

fn below(parent: &SpanContext) -> Context {
    Context::new().with_remote_span_context(parent.clone())
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A call may live for days: so many spans below it at once, then so many a second.
#[derive(Debug, Default)]
struct Budget(AtomicU64);

const BURST: u64 = 128;
const NANOS_EACH: u64 = 100_000_000;
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Budget {
    fn take(&self) -> bool {
        let nanos = BEGIN.elapsed().as_nanos();
        self.take_at(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The generic cell rate algorithm: the cell holds when the budget will be whole again.
    fn take_at(&self, now: u64) -> bool {
        let next = |whole: u64| {
            let whole = whole.max(now).saturating_add(NANOS_EACH);
            (whole <= now.saturating_add(BURST * NANOS_EACH)).then_some(whole)
        };
        self.0.fetch_update(Relaxed, Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_gives_a_burst_and_then_ten_a_second() {
        let budget = Budget::default();
        let granted = |second: u64| {
            let now = second * 1_000_000_000;
            (0..1_000).filter(|_| budget.take_at(now)).count()
        };
        assert_eq!(granted(0), 128);
        assert_eq!(granted(1), 10);
        assert_eq!(granted(3), 20);
        assert_eq!(granted(1_000), 128);
    }

    #[test]
    fn without_a_tracer_nothing_is_made() {
        let called = Called {
            path: "/a/B",
            request_id: "",
            session_id: None,
            peer: None,
        };
        let span = server_call(None, called);
        assert!(span.context().is_none());
        assert!(Source::new(&span, None).is_none());
        assert!(append(None, "feed", 1).context().is_none());
    }
}
