//! Spans on their way to a collector: by OTLP over gRPC, in batches, from a thread of their own.

use std::{fmt, time::Duration};

use opentelemetry::{KeyValue, global::BoxedTracer, trace::TracerProvider as _};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider},
};

use crate::trace;

/// Between two exports, at most.
const DELAY: Duration = Duration::from_secs(1);
/// At the end nobody waits longer for a collector.
const FLUSH: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
#[error("spans cannot be sent to {endpoint}: {source}; trace.otlp_endpoint is http://host:port")]
pub struct OtlpError {
    endpoint: String,
    source: ExporterBuildError,
}

/// Tracing that is on. What was not sent yet goes out with `flush`.
pub struct Otlp(SdkTracerProvider);

impl Otlp {
    /// Turns tracing on for this process. `sample`: which part of the traces that begin here.
    /// Must be called within a tokio runtime.
    pub fn start(service: &'static str, endpoint: &str, sample: f64) -> Result<Self, OtlpError> {
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
        let exporter = exporter.build().map_err(|source| OtlpError {
            endpoint: endpoint.to_owned(),
            source,
        })?;
        let batches = BatchConfigBuilder::default().with_scheduled_delay(DELAY);
        let batches = BatchSpanProcessor::builder(exporter).with_batch_config(batches.build());
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let roots = Sampler::TraceIdRatioBased(sample);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(batches.build())
            .with_sampler(Sampler::ParentBased(Box::new(roots)))
            .with_resource(resource.build())
            .build();
        trace::turn_on(BoxedTracer::new(Box::new(provider.tracer("ringfeed"))));
        Ok(Self(provider))
    }

    /// Sends what is left. A collector that does not answer is no reason to fail.
    pub async fn flush(self) {
        let flushed = move || self.0.shutdown_with_timeout(FLUSH);
        match tokio::task::spawn_blocking(flushed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last spans were not sent"),
            Err(error) => tracing::warn!(%error, "the last spans were not sent"),
        }
    }
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Otlp(..)")
    }
}
