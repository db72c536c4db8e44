//! Counting calls: begun, ended by code, how long; messages and bytes as they pass; streams by why
//! they ended.

use std::sync::Arc;

use axum::body::Body;
use http::Request;
use tonic::Status;
use tower::Layer;

use super::{
    Call, End, RPCS, Rpc,
    shape::{Gate, Gated},
    witness::Witness,
};
use crate::{errors::code_name, metrics::RpcMetrics};

/// Looks up each call's counters once for all, so that it is made after the recorder.
#[derive(Clone, Debug)]
pub struct RpcMetricsLayer(Arc<[Known]>);

type Known = (&'static Rpc, Arc<RpcMetrics>);

impl RpcMetricsLayer {
    #[expect(clippy::new_without_default, reason = "it registers the metrics")]
    pub fn new() -> Self {
        let all = RPCS.iter().chain([Rpc::of_path("")]);
        Self(all.map(|rpc| (rpc, of(rpc))).collect())
    }
}

fn of(rpc: &Rpc) -> Arc<RpcMetrics> {
    Arc::new(RpcMetrics::new(rpc.name))
}

impl<S> Layer<S> for RpcMetricsLayer {
    type Service = Gated<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        let gate = self.clone();
        Gated { inner, gate }
    }
}

impl Gate for RpcMetricsLayer {
    fn admit(&self, call: &Arc<Call>, request: Request<Body>) -> Result<Request<Body>, Status> {
        let known = self.0.iter().find(|(rpc, _)| std::ptr::eq(*rpc, call.rpc));
        let metrics = known.map_or_else(|| of(call.rpc), |(_, metrics)| Arc::clone(metrics));
        metrics.count_started();
        if call.rpc.is_stream() {
            metrics.add_open_stream();
        }
        call.count_in(metrics);
        call.watch(Counting);
        Ok(request)
    }
}

#[derive(Debug)]
struct Counting;

impl Witness for Counting {
    fn ended(&mut self, call: &Call, end: &End) {
        let Some(metrics) = call.metrics() else {
            return;
        };
        if call.rpc.is_stream() {
            metrics.count_stream_ended(end.by.name());
        }
        metrics.observe_handled(code_name(end.code), end.took);
    }
}
