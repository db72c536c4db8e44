//! What an address asks for: the part behind `?`.

use std::{fmt::Display, str::FromStr, time::Duration};

use http::Uri;
use tonic::Status;

use crate::{
    errors::{Answer, Reason},
    proto::{
        convert::{parse_duration, parse_time, wire_duration},
        place::globs_and_names,
        v1::{self, fidelity::View, start::From},
    },
};

/// The parameters that nobody has taken yet.
pub(super) struct Asked {
    left: Vec<(String, String)>,
}

impl Asked {
    pub(super) fn of(uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes());
        Self {
            left: pairs.into_owned().collect(),
        }
    }

    /// All that were given under a name.
    pub(super) fn all(&mut self, name: &str) -> Vec<String> {
        let left = std::mem::take(&mut self.left);
        let (taken, left) = left.into_iter().partition(|(given, _)| given == name);
        self.left = left;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// Those that are not empty: a variable of a dashboard may have no value.
    fn named(&mut self, name: &str) -> Vec<String> {
        let mut values = self.all(name);
        values.retain(|value| !value.is_empty());
        values
    }

    /// The one of a name. Empty counts as not given: forms and dashboards leave it so.
    pub(super) fn one(&mut self, name: &str) -> Result<Option<String>, Status> {
        let mut values = self.all(name);
        match values.len() {
            0 => Ok(None),
            1 => Ok(values.pop().filter(|value| !value.is_empty())),
            _ => Err(invalid(name, "is there more than once")),
        }
    }

    pub(super) fn parsed<T>(&mut self, name: &str) -> Result<Option<T>, Status>
    where
        T: FromStr<Err: Display>,
    {
        let value = self.one(name)?;
        let parsed = value.map(|value| value.parse().map_err(|error| invalid(name, error)));
        parsed.transpose()
    }

    pub(super) fn duration(&mut self, name: &str) -> Result<Option<Duration>, Status> {
        let value = self.one(name)?;
        let parsed =
            value.map(|value| parse_duration(&value).map_err(|error| invalid(name, error)));
        parsed.transpose()
    }

    /// RFC 3339, or nanoseconds since the Unix epoch.
    pub(super) fn time(&mut self, name: &str) -> Result<Option<i64>, Status> {
        let value = self.one(name)?;
        let parsed = value.map(|value| parse_time(&value).map_err(|error| invalid(name, error)));
        parsed.transpose()
    }

    /// A selector of one feed with the keys of `key` and without those of `not_key`.
    pub(super) fn selector(&mut self, feed: String, from: From) -> v1::Selector {
        let (key_globs, keys) = globs_and_names(&self.named("key"));
        let (exclude_key_globs, exclude_keys) = globs_and_names(&self.named("not_key"));
        v1::Selector {
            feed,
            keys,
            key_globs,
            exclude_keys,
            exclude_key_globs,
            start: Some(v1::Start { from: Some(from) }),
            ..v1::Selector::default()
        }
    }

    /// Nothing may be left: a name that is misspelt must not pass as one that was not given.
    pub(super) fn done(self, known: &str) -> Result<(), Status> {
        match self.left.first() {
            None => Ok(()),
            Some((name, _)) => Err(invalid(
                name,
                format_args!("is no parameter here; there are: {known}"),
            )),
        }
    }
}

pub(super) fn conflated(interval: Duration) -> v1::Fidelity {
    let interval = Some(wire_duration(interval));
    v1::Fidelity {
        view: Some(View::Conflate(v1::Conflate { interval })),
    }
}

pub(super) fn in_bars(interval: Duration, include_open: bool) -> v1::Fidelity {
    let interval = Some(wire_duration(interval));
    v1::Fidelity {
        view: Some(View::Bars(v1::Bars {
            interval,
            include_open,
        })),
    }
}

pub(super) fn invalid(parameter: &str, what: impl Display) -> Status {
    let message = format!("parameter `{parameter}`: {what}");
    Answer::new(Reason::InvalidArgument, message)
        .field(parameter, &what.to_string())
        .status()
}

/// The stream ended before it had said all: whoever asked has nothing to use, and can ask again.
pub(super) fn ended_early() -> Status {
    Answer::new(
        Reason::Stopping,
        "the stream ended before its answer was complete; ask again",
    )
    .status()
}
