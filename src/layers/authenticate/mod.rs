//! Who calls: by bearer token, by what a trusted proxy says, by client certificate, or nobody in
//! particular, in that order. A bad token is refused, whatever else the caller has to show.

mod forwarded;
mod grants;
mod jwt;
mod refusal;
mod reload;
mod token_file;
mod tokens;
mod watched_file;

use std::{
    convert::Infallible,
    future::Future,
    mem,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use tokio::{task::spawn_blocking, time::interval};
use tower::{Layer, Service};

use self::{grants::Grants, jwt::Jwt, refusal::Refusal, tokens::Tokens};
pub use self::{
    grants::{Grant, InvalidGrant},
    jwt::{InvalidKeys, InvalidUrl, JwtError, JwtOptions},
    token_file::{
        Moment, NewToken, TokenEntry, TokenFile, TokenFileError, TokenText, principal_fault,
        write_private,
    },
};
use super::{
    Call, Caller, Identity, Needs, Peer, TrustedProxies, Validity, trusted::InvalidNetwork,
};
use crate::model::{InvalidScope, Principal, Scopes};

/// Time between looks at the files.
const LOOK: Duration = Duration::from_secs(1);

/// Where identities come from.
#[derive(Clone, Debug, Default)]
pub struct AuthOptions {
    pub token_file: Option<PathBuf>,
    pub jwt: JwtOptions,
    pub certificates: Certificates,
    pub trusted_proxies: Vec<String>,
    pub grants: Vec<Grant>,
    pub anonymous: Anonymous,
    /// Of callers without credentials.
    pub anonymous_scopes: Vec<String>,
}

/// Whether connections show who is at their other end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Certificates {
    Shown,
    #[default]
    None,
}

/// What becomes of callers without credentials when there are sources of identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    Allowed,
    #[default]
    Refused,
}

#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("auth.token_file {}: {error}", file.display())]
    TokenFile {
        file: PathBuf,
        error: TokenFileError,
    },
    #[error("auth.jwt: {0}")]
    Jwt(#[from] JwtError),
    #[error("auth.trusted_proxies: {0}")]
    TrustedProxies(#[from] InvalidNetwork),
    #[error("auth.grants: {0}")]
    Grants(#[from] InvalidGrant),
    #[error("auth.anonymous_scopes: {0}")]
    AnonymousScopes(#[from] InvalidScope),
}

impl AuthOptions {
    /// Without one everybody is anonymous.
    pub fn has_source(&self) -> bool {
        self.token_file.is_some()
            || self.jwt.is_used()
            || self.certificates == Certificates::Shown
            || !self.trusted_proxies.is_empty()
    }
}

/// Knows callers.
#[derive(Debug)]
pub struct Authenticator {
    /// Whether there is a source of identity at all.
    sources: Sources,
    tokens: Option<Tokens>,
    jwt: Option<Jwt>,
    trusted: TrustedProxies,
    grants: Grants,
    /// Callers without credentials; `None`: they are refused.
    anonymous: Option<Caller>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sources {
    Some,
    None,
}

impl Authenticator {
    /// Reads all files; what is wrong with the settings is said here.
    pub fn new(options: AuthOptions) -> Result<Self, AuthError> {
        let sources = match options.has_source() {
            true => Sources::Some,
            false => Sources::None,
        };
        let scopes = Scopes::parse(&options.anonymous_scopes, "anonymous")?;
        let allowed = sources == Sources::None || options.anonymous == Anonymous::Allowed;
        Ok(Self {
            sources,
            tokens: options
                .token_file
                .as_deref()
                .map(Tokens::open)
                .transpose()?,
            jwt: Jwt::open(options.jwt)?,
            trusted: TrustedProxies::parse(&options.trusted_proxies)?,
            grants: Grants::new(options.grants)?,
            anonymous: allowed.then(|| Caller::anonymous(scopes)),
        })
    }

    /// Says what is doubtful about the settings, and fetches what has to be fetched.
    pub async fn start(&self) {
        if let Some(tokens) = &self.tokens {
            tokens.warn();
        }
        if let Some(jwt) = &self.jwt {
            jwt.warn();
            jwt.refresh().await;
        }
    }

    /// Takes up what changes, for as long as it is polled.
    pub async fn watch(self: Arc<Self>) {
        // A URL that answers late keeps no file waiting.
        tokio::join!(self.watch_files(), self.watch_url());
    }

    async fn watch_files(self: &Arc<Self>) {
        let mut look = interval(LOOK);
        loop {
            look.tick().await;
            let own = Arc::clone(self);
            let looked = spawn_blocking(move || own.reload_files()).await;
            if let Err(error) = looked {
                tracing::error!(%error, "looking for new tokens and keys failed");
            }
        }
    }

    async fn watch_url(&self) {
        let Some(jwt) = &self.jwt else {
            return;
        };
        let mut look = interval(LOOK);
        loop {
            look.tick().await;
            jwt.refresh().await;
        }
    }

    fn reload_files(&self) {
        if let Some(tokens) = &self.tokens {
            tokens.reload();
        }
        if let Some(jwt) = &self.jwt {
            jwt.reload_file();
        }
    }

    /// Who asks for something that is no call; or for people why that is nobody who may.
    pub async fn caller(
        &self,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> Result<Caller, &'static str> {
        let known = self.identify(headers, peer).await;
        known.map_err(Refusal::message)
    }

    async fn identify(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Result<Caller, Refusal> {
        if self.sources == Sources::Some {
            if let Some(token) = bearer(headers)? {
                return self.by_token(token).await;
            }
            if let Some(name) = self.forwarded(headers, peer)? {
                return Ok(self.granted(name.into(), Identity::Forwarded));
            }
            if let Some(name) = peer.and_then(|peer| peer.certificate.as_ref()) {
                return Ok(self.granted(Arc::clone(name), Identity::Certificate));
            }
        }
        self.anonymous.clone().ok_or(Refusal::NoCredentials)
    }

    /// Whom a proxy speaks for, if it is one that may.
    fn forwarded(
        &self,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> Result<Option<String>, Refusal> {
        if peer.is_some_and(|peer| self.trusted.is_trusted(peer)) {
            return forwarded::principal(headers);
        }
        if forwarded::is_there(headers) {
            refusal::count_untrusted();
        }
        Ok(None)
    }

    fn granted(&self, principal: Principal, identity: Identity) -> Caller {
        Caller {
            scopes: self.grants.of(&principal),
            principal,
            identity,
            validity: Validity::default(),
        }
    }

    /// Whose a token is; or for people why it is not good.
    pub async fn whose(&self, token: &str) -> Result<Caller, &'static str> {
        self.by_token(token).await.map_err(Refusal::message)
    }

    async fn by_token(&self, token: &str) -> Result<Caller, Refusal> {
        // A JWT has dots, the others have none.
        match (&self.tokens, &self.jwt) {
            (_, Some(jwt)) if token.contains('.') => jwt.verify(token, &self.grants).await,
            (Some(tokens), _) => tokens.verify(token),
            _ => Err(Refusal::Malformed),
        }
    }
}

/// The bearer token of a call; there is one, or none.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_not_text| Refusal::Malformed)?;
    let (scheme, token) = text.split_once(' ').ok_or(Refusal::Malformed)?;
    let token = token.trim();
    if values.next().is_some() || !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(Refusal::Malformed);
    }
    Ok(Some(token))
}

#[derive(Clone, Debug)]
pub struct AuthenticateLayer(Arc<Authenticator>);

#[derive(Clone, Debug)]
pub struct Authenticate<S> {
    authenticator: Arc<Authenticator>,
    inner: S,
}

impl AuthenticateLayer {
    pub fn new(authenticator: Arc<Authenticator>) -> Self {
        Self(authenticator)
    }
}

impl<S> Layer<S> for AuthenticateLayer {
    type Service = Authenticate<S>;

    fn layer(&self, inner: S) -> Authenticate<S> {
        let authenticator = Arc::clone(&self.0);
        Authenticate {
            authenticator,
            inner,
        }
    }
}

impl<S> Service<Request<Body>> for Authenticate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = Call::of(request.extensions());
        if call.rpc.needs == Needs::Nothing {
            call.identify(Caller::anonymous(Scopes::nothing()));
            return Box::pin(self.inner.call(request));
        }
        let authenticator = Arc::clone(&self.authenticator);
        // The one that is ready; its clone need not be.
        let next = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, next);
        Box::pin(async move {
            let known = authenticator.identify(request.headers(), call.peer.as_ref());
            match known.await {
                Ok(caller) => call.identify(caller),
                Err(refusal) => return Ok(refusal.answer().into_http()),
            }
            inner.call(request).await
        })
    }
}

#[cfg(test)]
mod tests;
