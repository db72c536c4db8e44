//! What is around every call, outermost first, one file each. A layer knows nothing of feeds: it
//! works on headers, frames and trailers, and leaves what it found in the call.
//!
//! ```text
//! request_context -> trace -> rpc_metrics -> access_log -> load -> authenticate -> authorize -> rate_limit -> rpc/
//! ```

mod call;
mod caller;
mod load;
mod messages;
mod peer;
mod rate_limit;
mod request_context;
mod rpc;
mod rpc_metrics;
mod watched;

pub use self::{
    call::{Call, Over},
    caller::{Caller, Identity, Validity},
    load::{LoadLayer, LoadLimits},
    peer::{Peer, Security},
    rate_limit::{Limited, Quota, RateLimitLayer, RateLimits, Rates},
    request_context::RequestContextLayer,
    rpc::{Kind, Needs, RPCS, Rpc},
    rpc_metrics::RpcMetricsLayer,
};
