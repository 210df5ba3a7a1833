//! Logs on standard error, with a level that can change while the process runs.

use std::io::IsTerminal as _;

use thiserror::Error;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

/// Changes the level of the logs.
#[derive(Clone)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

/// A level that cannot be set.
#[derive(Debug, Error)]
pub enum LogLevelError {
    #[error("{0:?} is not a log level: use error, warn, info, debug, trace or `target=level,…`")]
    Invalid(String),
    #[error("the log level cannot be changed: {0}")]
    Gone(String),
}

/// Begins to log. `directives` as in `info` or `info,segue_sidecar=debug`; `json` writes one JSON
/// object a line. In a process that logs already, the first call's writer stays and the returned
/// handle changes nothing.
pub fn init(directives: &str, json: bool) -> Result<LogLevel, LogLevelError> {
    let (filter, handle) = reload::Layer::new(parse(directives)?);
    let registry = tracing_subscriber::registry().with(filter);
    // Colours are for people's eyes, not for files.
    let colours = std::io::stderr().is_terminal();
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(colours).with_target(true);
    // A second call is a test's second process in one: its logs go where the first's go.
    let _already_set =
        if json { registry.with(layer.json()).try_init() } else { registry.with(layer).try_init() };
    Ok(LogLevel(handle))
}

impl LogLevel {
    /// Sets the level for all logs from now on.
    pub fn set(&self, directives: &str) -> Result<(), LogLevelError> {
        self.0.reload(parse(directives)?).map_err(|error| LogLevelError::Gone(error.to_string()))
    }
}

fn parse(directives: &str) -> Result<EnvFilter, LogLevelError> {
    EnvFilter::try_new(directives).map_err(|_| LogLevelError::Invalid(directives.to_owned()))
}
