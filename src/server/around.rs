//! The layers around every call, put together. A test counts what they allocate.

use std::{fmt, sync::Arc};

use axum::Router;

use crate::layers::{
    AccessLogLayer, AuthenticateLayer, Authenticator, AuthorizeLayer, CutLayer, DeadlineLayer,
    FeatureFlags, LoadLayer, LoadLimits, RateLimitLayer, RateLimits, RequestContextLayer,
    RpcMetricsLayer, TraceLayer, Trusted,
};

/// What they need.
pub struct Around {
    pub authenticator: Arc<Authenticator>,
    pub flags: FeatureFlags,
    pub trusted: Trusted,
    pub load: LoadLimits,
    pub rates: RateLimits,
}

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Around")
            .field("load", &self.load)
            .field("rates", &self.rates)
            .finish_non_exhaustive()
    }
}

impl Around {
    /// From the innermost to the outermost.
    pub fn wrap(self, services: Router) -> Router {
        services
            .layer(RateLimitLayer::new(self.rates))
            .layer(AuthorizeLayer)
            .layer(CutLayer::default())
            .layer(AuthenticateLayer::new(self.authenticator))
            .layer(LoadLayer::new(self.load))
            .layer(DeadlineLayer)
            .layer(AccessLogLayer)
            .layer(RpcMetricsLayer::new())
            .layer(TraceLayer)
            .layer(RequestContextLayer::new(self.flags, self.trusted))
    }
}
