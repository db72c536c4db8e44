//! What is said and counted when keys or tokens were read again.

use std::fmt::Display;

use crate::metrics;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Tokens,
    KeyFile,
    JwksFile,
    JwksUrl,
}

impl Origin {
    /// In the metric and the log.
    fn name(self) -> &'static str {
        match self {
            Self::Tokens => "token_file",
            Self::KeyFile => "key_file",
            Self::JwksFile => "jwks_file",
            Self::JwksUrl => "jwks_url",
        }
    }
}

/// After a failure what was there before stays in force.
pub(super) fn reloaded<T, E: Display>(origin: Origin, from: impl Display, outcome: &Result<T, E>) {
    let source = origin.name();
    match outcome {
        Ok(_) => {
            tracing::info!(source, %from, "reloaded");
            metrics::count_auth_reload(source, "ok");
        }
        Err(error) => {
            tracing::error!(source, %from, %error, "cannot be reloaded, what was there stays in force");
            metrics::count_auth_reload(source, "failed");
        }
    }
}
