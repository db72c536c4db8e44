//! What is said and counted when keys or tokens were read again.

use std::fmt::Display;

use crate::metrics;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Tokens,
}

impl Source {
    /// In the metric and the log.
    fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
        }
    }
}

/// After a failure what was there before stays in force.
pub(super) fn reloaded<T, E: Display>(source: Source, from: impl Display, outcome: &Result<T, E>) {
    let source = source.name();
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
