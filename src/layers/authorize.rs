//! Whether a caller may make a call at all: its scopes must have one of the actions that the call
//! needs. Of which feeds and keys is decided where the request is read, in `rpc/access`.

use std::sync::Arc;

use axum::body::Body;
use http::Request;
use tonic::Status;
use tower::Layer;

use super::{
    Call, Needs,
    shape::{Gate, Gated},
};
use crate::errors::{Answer, Reason};

#[derive(Clone, Copy, Debug, Default)]
pub struct AuthorizeLayer;

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Gated<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        let gate = *self;
        Gated { inner, gate }
    }
}

impl Gate for AuthorizeLayer {
    fn admit(&self, call: &Arc<Call>, request: Request<Body>) -> Result<Request<Body>, Status> {
        check(call).map(|()| request)
    }
}

fn check(call: &Call) -> Result<(), Status> {
    let Needs::OneOf(actions) = call.rpc.needs else {
        return Ok(());
    };
    let scopes = &call.caller().scopes;
    if actions.iter().any(|action| scopes.allow_some(*action)) {
        return Ok(());
    }
    let actions: Vec<_> = actions.iter().map(|action| action.name()).collect();
    let (actions, rpc) = (actions.join(" or "), call.rpc.name);
    let message = format!("{rpc} needs a scope with the action {actions}; the caller has none");
    let answer = Answer::new(Reason::PermissionDenied, message);
    Err(answer.fact("action", actions).fact("rpc", rpc).status())
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::ready};

    use http::Response;
    use tonic::Code;
    use tonic_types::StatusExt as _;
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::{
        layers::{Caller, RPCS, Rpc},
        model::Scopes,
    };

    async fn answer(rpc: &'static Rpc, scopes: &[&str]) -> Option<Status> {
        let call = Call::new(rpc, "1");
        call.identify(Caller::anonymous(Scopes::parse(scopes, "me").unwrap()));
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(Arc::new(call));
        let reached = service_fn(|_| ready(Ok::<_, Infallible>(Response::new(Body::empty()))));
        let answered = AuthorizeLayer.layer(reached).oneshot(request).await;
        Status::from_header_map(answered.unwrap().headers())
    }

    #[tokio::test]
    async fn a_call_needs_a_scope_with_one_of_its_actions() {
        for rpc in &RPCS {
            assert!(answer(rpc, &["*:a:b"]).await.is_none(), "{rpc:?}");
            let Needs::OneOf(actions) = rpc.needs else {
                assert!(answer(rpc, &[]).await.is_none(), "{rpc:?}");
                continue;
            };
            let denied = answer(rpc, &[]).await.unwrap();
            assert_eq!(denied.code(), Code::PermissionDenied, "{rpc:?}");
            let info = denied.get_details_error_info().unwrap();
            assert_eq!(info.reason, "PERMISSION_DENIED");
            assert_eq!(info.metadata["rpc"], rpc.name);
            for action in crate::model::Action::ALL {
                let scope = format!("{}:feed", action.name());
                let scopes = Scopes::parse([&scope], "me").unwrap();
                let may = actions.iter().any(|needed| scopes.allow_some(*needed));
                let answer = answer(rpc, &[&scope]).await;
                assert_eq!(answer.is_none(), may, "{rpc:?} with {scope}");
            }
        }
    }
}
