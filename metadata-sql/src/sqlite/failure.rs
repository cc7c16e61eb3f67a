//! A disk that failed.

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use registry_core::{Error, ErrorKind};

/// Whether the disk failed under the writer, and how. That does not pass: only another process, after somebody looked at the disk, may trust it again.
#[derive(Debug, Default)]
pub(super) struct Failure(OnceLock<String>);

impl Failure {
    /// Notes it; whether it is the first.
    pub(super) fn note(&self, path: &Path, cause: &dyn fmt::Display) -> bool {
        let message = format!(
            "the disk failed under {}: {cause}. What was written last may be lost, so nothing more is written: look at the disk, then restart the process",
            path.display()
        );
        let is_first = self.0.set(message).is_ok();
        if is_first {
            tracing::error!("{}", self.0.get().map_or("", String::as_str));
        }
        is_first
    }

    /// What every change fails with from then on.
    pub(super) fn error(&self) -> Option<Error> {
        self.0.get().map(|message| Error::new(ErrorKind::Unavailable, message.as_str()))
    }
}
