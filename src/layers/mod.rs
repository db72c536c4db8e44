//! What is around every call, outermost first, one file each. A layer knows nothing of feeds: it
//! works on headers, frames and trailers, and leaves what it found in the call.
//!
//! ```text
//! request_context -> trace -> rpc_metrics -> access_log -> load -> authenticate -> authorize -> rate_limit -> rpc/
//! ```

mod authenticate;
mod authorize;
mod call;
mod caller;
mod certificate;
mod load;
mod messages;
mod peer;
mod rate_limit;
mod request_context;
mod rpc;
mod rpc_metrics;
mod trusted;
mod watched;

pub use self::{
    authenticate::{
        Anonymous, AuthError, AuthOptions, AuthenticateLayer, Authenticator, Certificates, Grant,
        InvalidGrant, InvalidKeys, InvalidUrl, JwtError, JwtOptions, Moment, NewToken, TokenEntry,
        TokenFile, TokenFileError, TokenText, principal_fault, write_private,
    },
    authorize::AuthorizeLayer,
    call::{Call, Over},
    caller::{Caller, Identity, Validity},
    certificate::certificate_name,
    load::{LoadLayer, LoadLimits},
    peer::{Peer, Security},
    rate_limit::{Limited, Quota, RateLimitLayer, RateLimits, Rates},
    request_context::RequestContextLayer,
    rpc::{Kind, Needs, RPCS, Rpc},
    rpc_metrics::RpcMetricsLayer,
    trusted::{InvalidNetwork, TrustedProxies},
};
