//! [`Failure`]: why a command ends, and with which exit code.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use crate::config::ConfigError;

/// Why a command ended.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// Something went wrong while doing what was asked: exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into(), hint: None }
    }

    /// The same, because of `error`, whose whole chain is told.
    pub(crate) fn because(what: impl fmt::Display, error: &dyn Error) -> Self {
        let mut message = format!("{what}: {error}");
        let (mut last, mut next) = (error.to_string(), error.source());
        while let Some(source) = next {
            let text = source.to_string();
            // Errors often repeat their source's words.
            if !last.contains(&text) {
                message.push_str(&format!(": {text}"));
            }
            (last, next) = (text, source.source());
        }
        Self::new(message)
    }

    /// Says what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

/// What was asked makes no sense: exit code 2, as for a wrong flag.
impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { code: 2, message: error.to_string(), hint: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n  hint: {hint}"))
    }
}
