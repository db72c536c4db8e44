//! The table of the settings that are about tracing.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TraceConfig {
    /// Where spans go, by OTLP over gRPC: `http://127.0.0.1:4317`. Absent: tracing is off.
    pub otlp_endpoint: Option<String>,
    /// Which part of the traces that begin here is sampled, 0 to 1; others go by their caller.
    pub sample: f64,
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            sample: 1.0,
        }
    }
}
