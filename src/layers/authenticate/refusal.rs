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
    NotYetValid,
    /// Not one of the configured algorithms.
    Algorithm,
    /// No key of that name.
    UnknownKey,
    Signature,
    Issuer,
    Audience,
    /// A claim that is needed is missing or of the wrong kind.
    Claims,
    /// There are no keys yet to check a token with.
    KeysUnavailable,
    /// A trusted proxy's word that cannot be read.
    Forwarded,
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
            Self::Malformed => ("malformed", Reason::InvalidToken, "no bearer token of a kind that this server takes"),
            Self::UnknownToken => ("unknown_token", Reason::InvalidToken, "the token is not known; it may have been revoked"),
            Self::Expired => ("expired", Reason::TokenExpired, "the token expired; get a new one"),
            Self::NotYetValid => ("not_yet_valid", Reason::InvalidToken, "the token is not in force yet; do the clocks agree?"),
            Self::Algorithm => ("algorithm", Reason::InvalidToken, "the token is signed with an algorithm that is not accepted here"),
            Self::UnknownKey => ("unknown_key", Reason::InvalidToken, "the token is signed with a key that is not known here"),
            Self::Signature => ("signature", Reason::InvalidToken, "the token's signature is wrong"),
            Self::Issuer => ("issuer", Reason::InvalidToken, "the token is by another issuer"),
            Self::Audience => ("audience", Reason::InvalidToken, "the token is meant for another service"),
            Self::Claims => ("claims", Reason::InvalidToken, "the token lacks a claim, or has a bad one: sub and exp are needed"),
            Self::KeysUnavailable => ("keys_unavailable", Reason::KeysUnavailable, "the keys that tokens are checked with cannot be fetched at this moment"),
            Self::Forwarded => ("forwarded", Reason::InvalidToken, "x-forwarded-client-cert names nobody"),
        }
    }

    /// Counts it, and says it to the caller.
    pub(super) fn answer(self) -> Status {
        let (label, reason, message) = self.row();
        metrics::count_auth_failure(label);
        Answer::new(reason, message).fact("cause", label).status()
    }
}

/// A caller whose word for others is not believed said something. It is ignored.
pub(super) fn count_untrusted() {
    metrics::count_auth_failure("untrusted_proxy");
}
