//! What is around every call, outermost first, one file each. A layer knows nothing of feeds: it
//! works on headers, frames and trailers, and leaves what it found in the call.
//!
//! ```text
//! request_context -> trace -> rpc_metrics -> access_log -> deadline -> load -> authenticate -> authorize -> rate_limit -> rpc/
//! ```

mod access_log;
mod call;
mod caller;
mod deadline;
mod end;
mod flags;
mod headers;
mod messages;
mod onlooker;
mod peer;
mod request_context;
mod rpc;
mod rpc_metrics;
#[cfg(test)]
mod tests;
mod trace;
mod watched;

pub(crate) use self::watched::{Watched, Watcher};
pub use self::{
    access_log::AccessLogLayer,
    call::{Call, Over, Told},
    caller::{Caller, Identity, Validity},
    deadline::DeadlineLayer,
    end::{End, EndedBy},
    flags::{FeatureFlags, Flags},
    peer::{Peer, Security},
    request_context::{RequestContextLayer, Trusted},
    rpc::{Kind, Needs, RPCS, Rpc},
    rpc_metrics::RpcMetricsLayer,
    trace::TraceLayer,
};
