//! The log on stderr, and its level, which can be changed while the server runs.

use std::{
    io::{self, IsTerminal as _},
    sync::Arc,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing::{Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_log::AsLog as _;
use tracing_subscriber::{
    Layer,
    filter::{ParseError, Targets},
    fmt,
    layer::{self, SubscriberExt as _},
    util::{SubscriberInitExt as _, TryInitError},
};

use super::config::{LogConfig, LogFormat};

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(
        "log level \"{level}\" is not understood: {source}; write for instance info, or ringfeed=debug,h2=warn"
    )]
    Level { level: String, source: ParseError },
    #[error("logging cannot be set up: {0}")]
    Install(#[from] TryInitError),
}

/// The level of the log in force.
#[derive(Clone)]
pub struct LogLevel(Arc<Inner>);

struct Inner {
    level: Mutex<String>,
    filter: Filter,
}

impl LogLevel {
    /// Begins to log.
    pub fn install(config: &LogConfig) -> Result<Self, LogError> {
        let filter = Filter(Arc::new(ArcSwap::from_pointee(parse(&config.level)?)));
        let lines = fmt::layer()
            .with_ansi(io::stderr().is_terminal())
            .with_writer(io::stderr);
        let lines = match config.format {
            LogFormat::Human => lines.boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        tracing_subscriber::registry()
            .with(filter.clone())
            .with(lines)
            .try_init()?;
        Ok(Self(Arc::new(Inner {
            level: Mutex::new(config.level.clone()),
            filter,
        })))
    }

    pub fn get(&self) -> String {
        self.0.level.lock().clone()
    }

    /// From now on, `level` is in force.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        let filter = parse(level)?;
        let mut now = self.0.level.lock();
        self.0.filter.set(filter);
        let before = std::mem::replace(&mut *now, level.to_owned());
        drop(now);
        tracing::warn!(level, before, "the log level was changed");
        Ok(())
    }
}

impl std::fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogLevel").field(&self.get()).finish()
    }
}

/// Which lines are written. It takes no part in spans: where `EnvFilter` and `reload` do, each message
/// of a stream takes locks that all threads share.
#[derive(Clone)]
struct Filter(Arc<ArcSwap<Targets>>);

impl Filter {
    fn set(&self, targets: Targets) {
        self.0.store(Arc::new(targets));
        tracing::callsite::rebuild_interest_cache();
        // Of libraries that log by way of `log`.
        tracing_log::log::set_max_level(LevelFilter::current().as_log());
    }
}

impl<S: Subscriber> Layer<S> for Filter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        Layer::<S>::register_callsite(&**self.0.load(), metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>, within: layer::Context<'_, S>) -> bool {
        self.0.load().enabled(metadata, within)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Layer::<S>::max_level_hint(&**self.0.load())
    }
}

fn parse(level: &str) -> Result<Targets, LogError> {
    level.parse().map_err(|source| LogError::Level {
        level: level.to_owned(),
        source,
    })
}
