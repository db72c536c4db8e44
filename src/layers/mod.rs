//! What is around every call, outermost first, one file each. A layer knows nothing of feeds: it
//! works on headers, frames and trailers, and leaves what it found in the call.
//!
//! ```text
//! request_context -> trace -> rpc_metrics -> access_log -> deadline -> load -> authenticate -> cut -> authorize -> rate_limit -> rpc/
//! ```

mod access_log;
mod authenticate;
mod authorize;
mod call;
mod caller;
mod certificate;
mod cut;
mod deadline;
mod end;
mod flags;
mod headers;
mod load;
mod messages;
mod peer;
mod rate_limit;
mod request_context;
mod rpc;
mod rpc_metrics;
mod seldom;
mod shape;
#[cfg(test)]
mod tests;
mod trace;
mod traffic;
mod trusted;
mod watched;
mod witness;

pub(crate) use self::watched::{Watched, Watcher};
pub use self::{
    access_log::AccessLogLayer,
    authenticate::{
        Anonymous, AuthError, AuthOptions, AuthenticateLayer, Authenticator, Certificates, Grant,
        InvalidGrant, InvalidKeys, InvalidUrl, JwtError, JwtOptions, Moment, NewToken, TokenEntry,
        TokenFile, TokenFileError, TokenText, principal_fault, write_private,
    },
    authorize::AuthorizeLayer,
    call::{Call, Over, Told},
    caller::{Caller, Identity, Validity},
    certificate::certificate_name,
    cut::{CutLayer, StreamExecutor, cuttable},
    deadline::DeadlineLayer,
    end::{End, EndedBy},
    flags::{FeatureFlags, Flags},
    headers::CARRIED,
    load::{LoadLayer, LoadLimits},
    peer::{Peer, Places, Security},
    rate_limit::{Limited, Quota, RateLimitLayer, RateLimits, Rates},
    request_context::{RequestContextLayer, Trusted},
    rpc::{Kind, Needs, RPCS, Rpc},
    rpc_metrics::RpcMetricsLayer,
    seldom::Seldom,
    trace::TraceLayer,
    traffic::Traffic,
    trusted::{InvalidNetwork, TrustedProxies},
};
