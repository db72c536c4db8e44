//! Counting calls: begun, ended by code, how long; messages and bytes as they pass; streams by why
//! they ended.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use tower::Layer;

use super::{
    Call, End, RPCS, Rpc,
    messages::Messages,
    onlooker::{Onlooker, Onlooking, Witness},
    watched::{Watched, Watcher},
};
use crate::{
    errors::code_name,
    metrics::{RpcMetrics, WayMetrics},
};

/// Looks up each call's counters once for all, so that it is made after the recorder.
#[derive(Clone, Debug)]
pub struct RpcMetricsLayer(Arc<[(&'static Rpc, RpcMetrics)]>);

impl RpcMetricsLayer {
    #[expect(clippy::new_without_default, reason = "it registers the metrics")]
    pub fn new() -> Self {
        let all = RPCS.iter().chain([Rpc::of_path("")]);
        Self(all.map(|rpc| (rpc, RpcMetrics::new(rpc.name))).collect())
    }
}

impl<S> Layer<S> for RpcMetricsLayer {
    type Service = Onlooking<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        let onlooker = self.clone();
        Onlooking { inner, onlooker }
    }
}

impl Onlooker for RpcMetricsLayer {
    type Witness = Counting;

    fn witness(&self, call: &Arc<Call>) -> Counting {
        let known = self.0.iter().find(|(rpc, _)| std::ptr::eq(*rpc, call.rpc));
        let metrics = known.map_or_else(|| RpcMetrics::new(call.rpc.name), |(_, m)| m.clone());
        metrics.count_started();
        if call.rpc.is_stream() {
            metrics.add_open_stream();
        }
        Counting {
            metrics,
            messages: Messages::default(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Counting {
    metrics: RpcMetrics,
    messages: Messages,
}

impl Witness for Counting {
    fn request(&mut self, call: &Arc<Call>, request: Request<Body>) -> Request<Body> {
        let received = Received {
            call: Arc::clone(call),
            metrics: self.metrics.received().clone(),
            messages: Messages::default(),
        };
        request.map(|body| Body::new(Watched::new(body, received)))
    }

    fn sent(&mut self, call: &Call, data: &Bytes) {
        let (ended, bytes) = (self.messages.advance(data), data.len() as u64);
        call.sent.add(ended, bytes);
        self.metrics.sent().count(ended, bytes);
    }

    fn ended(&mut self, call: &Call, end: &End) {
        if call.rpc.is_stream() {
            self.metrics.count_stream_ended(end.by.name());
        }
        self.metrics.observe_handled(code_name(end.code), end.took);
    }
}

#[derive(Debug)]
struct Received {
    call: Arc<Call>,
    metrics: WayMetrics,
    messages: Messages,
}

impl Watcher for Received {
    fn data(&mut self, data: &Bytes) {
        let (ended, bytes) = (self.messages.advance(data), data.len() as u64);
        self.call.received.add(ended, bytes);
        self.metrics.count(ended, bytes);
    }
}
