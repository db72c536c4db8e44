//! The log on stderr, and its level, which can be changed while the server runs.

use std::{
    io::{self, IsTerminal as _},
    sync::Arc,
};

use parking_lot::Mutex;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::ParseError,
    fmt,
    layer::SubscriberExt as _,
    reload,
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
    #[error("the log level cannot be changed: {0}")]
    Reload(#[from] reload::Error),
}

/// The level of the log in force.
#[derive(Clone)]
pub struct LogLevel(Arc<Inner>);

struct Inner {
    level: Mutex<String>,
    reload: reload::Handle<EnvFilter, Registry>,
}

impl LogLevel {
    /// Begins to log.
    pub fn install(config: &LogConfig) -> Result<Self, LogError> {
        let (filter, handle) = reload::Layer::new(parse(&config.level)?);
        let lines = fmt::layer()
            .with_ansi(io::stderr().is_terminal())
            .with_writer(io::stderr);
        let lines = match config.format {
            LogFormat::Human => lines.boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .try_init()?;
        Ok(Self(Arc::new(Inner {
            level: Mutex::new(config.level.clone()),
            reload: handle,
        })))
    }

    pub fn get(&self) -> String {
        self.0.level.lock().clone()
    }

    /// From now on, `level` is in force.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        let filter = parse(level)?;
        let mut now = self.0.level.lock();
        self.0.reload.reload(filter)?;
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

fn parse(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(level).map_err(|source| LogError::Level {
        level: level.to_owned(),
        source,
    })
}
