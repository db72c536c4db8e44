//! The layers around every call, put together. A test counts what they allocate.

use std::sync::Arc;

use axum::Router;

use crate::layers::{
    AuthenticateLayer, Authenticator, AuthorizeLayer, LoadLayer, LoadLimits, RateLimitLayer,
    RateLimits, RequestContextLayer, RpcMetricsLayer,
};

/// What they need.
#[derive(Clone, Debug)]
pub struct Around {
    pub authenticator: Arc<Authenticator>,
    pub load: LoadLimits,
    pub rates: RateLimits,
}

impl Around {
    /// From the innermost to the outermost.
    pub fn wrap(self, services: Router) -> Router {
        services
            .layer(RateLimitLayer::new(self.rates))
            .layer(AuthorizeLayer)
            .layer(AuthenticateLayer::new(self.authenticator))
            .layer(LoadLayer::new(self.load))
            .layer(RpcMetricsLayer)
            .layer(RequestContextLayer)
    }
}
