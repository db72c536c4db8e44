//! Who makes a call, what that caller may do, and for how long.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio_util::sync::CancellationToken;

use crate::{
    errors::Reason,
    model::{Principal, Scopes},
};

/// The longest sleep at once: the wall clock may be set meanwhile.
const LOOK: Duration = Duration::from_secs(60);

/// By what a caller is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    Anonymous,
    Token,
    Jwt,
    Certificate,
    /// A trusted proxy said so.
    Forwarded,
}

#[derive(Clone, Debug)]
pub struct Caller {
    pub principal: Principal,
    pub scopes: Scopes,
    pub identity: Identity,
    pub validity: Validity,
}

/// How long a caller is who it is.
#[derive(Clone, Debug, Default)]
pub struct Validity {
    pub expires: Option<SystemTime>,
    /// Cancelled when the token is taken back.
    pub revoked: Option<CancellationToken>,
}

impl Caller {
    /// Somebody without a name.
    pub fn anonymous(scopes: Scopes) -> Self {
        Self {
            principal: Arc::from("anonymous"),
            scopes,
            identity: Identity::Anonymous,
            validity: Validity::default(),
        }
    }
}

impl Validity {
    /// Whether it never ends by itself.
    pub fn is_unlimited(&self) -> bool {
        self.expires.is_none() && self.revoked.is_none()
    }

    /// Comes back when it is over, and says why.
    pub async fn ended(self) -> Reason {
        let revoked = async {
            match self.revoked {
                Some(revoked) => revoked.cancelled_owned().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = revoked => Reason::TokenRevoked,
            () = past(self.expires) => Reason::TokenExpired,
        }
    }
}

async fn past(time: Option<SystemTime>) {
    let Some(time) = time else {
        return std::future::pending().await;
    };
    while let Ok(left) = time.duration_since(SystemTime::now()) {
        tokio::time::sleep(left.clamp(Duration::from_millis(1), LOOK)).await;
    }
}
