//! Why a caller is not who it says: for the caller a reason of the one table, for the operator a
//! label of a closed set. Neither tells more of a token than that it is no good.

use tonic::Status;

use crate::{
    errors::{Answer, Reason},
    metrics,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    NoCredentials,
    /// No bearer token, or none of a known form.
    Malformed,
    /// A static token whose id or secret is not in the file.
    UnknownToken,
    Expired,
}

impl Refusal {
    /// For people.
    pub(super) fn message(self) -> &'static str {
        self.row().2
    }

    #[rustfmt::skip]
    fn row(self) -> (&'static str, Reason, &'static str) {
        match self {
            Self::NoCredentials => ("no_credentials", Reason::NoCredentials, "who calls? send a bearer token, or come with a client certificate"),
            Self::Malformed => ("malformed", Reason::InvalidToken, "the authorization header is no bearer token that this server takes"),
            Self::UnknownToken => ("unknown_token", Reason::InvalidToken, "the token is not known; it may have been revoked"),
            Self::Expired => ("expired", Reason::TokenExpired, "the token expired; get a new one"),
        }
    }

    /// Counts it, and says it to the caller.
    pub(super) fn answer(self) -> Status {
        let (label, reason, message) = self.row();
        metrics::count_auth_failure(label);
        Answer::new(reason, message).fact("cause", label).status()
    }
}
