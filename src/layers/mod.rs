//! What is around every call, outermost first, one file each. A layer knows nothing of feeds: it
//! works on headers, frames and trailers, and leaves what it found in the call.
//!
//! ```text
//! request_context -> trace -> rpc_metrics -> access_log -> load -> authenticate -> cut -> authorize -> rate_limit -> rpc/
//! ```

mod authorize;
mod call;
mod caller;
mod cut;
mod messages;
mod peer;
mod request_context;
mod rpc;
mod rpc_metrics;
mod watched;

pub use self::{
    authorize::AuthorizeLayer,
    call::{Call, Over},
    caller::{Caller, Identity, Validity},
    cut::{CutLayer, StreamExecutor},
    peer::{Peer, Security},
    request_context::RequestContextLayer,
    rpc::{Kind, Needs, RPCS, Rpc},
    rpc_metrics::RpcMetricsLayer,
};
