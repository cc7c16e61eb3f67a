//! [`AuditEvent`]: who did what, from where, and what came of it.

use std::fmt;
use std::net::IpAddr;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It was let through; the access line of the same request has its status.
    Allowed,
    /// Who asked may not do that, or did not say who they are.
    Denied,
    /// The name and password, or the token, are no good.
    Failed,
    /// Too many requests, or too many failed log-ins.
    Limited,
}

impl Outcome {
    /// A word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Limited => "limited",
        }
    }
}

/// Something that was done to the registry, or that somebody tried. Pulls that are allowed are none: they are in the access log, with who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditEvent<'a> {
    /// The request's id, which its log lines have too.
    pub request_id: &'a str,
    /// Who, if that is known. The name of a log-in that failed is here only if there is such a user: people type passwords into the wrong field.
    pub user: &'a str,
    /// The address it came from, a proxy's if there is one in between; `None` if the host did not say.
    pub peer: Option<IpAddr>,
    /// `log_in`, or the action that was needed: `pull`, `push`, `delete`, `catalog`.
    pub action: &'a str,
    /// The method of the request.
    pub method: &'a str,
    /// The repository, if it was about one.
    pub repository: Option<&'a str>,
    /// What of it: a tag, a digest, or the id of an upload.
    pub reference: Option<&'a str>,
    /// The request's query, cut off at 1 KiB: more tags, the digest of a push, where from a blob is mounted. As the client wrote it.
    pub query: Option<&'a str>,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it was not allowed; empty if it was.
    pub reason: &'a str,
}

/// Is told of everything that is to be accounted for. Called in the middle of a request: it must not wait for anything.
pub trait AuditSink: fmt::Debug + Send + Sync {
    /// This has happened.
    fn record(&self, event: &AuditEvent<'_>);
}

/// Writes events to the log, with target `registry_http::audit`.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditLog;

impl AuditSink for AuditLog {
    fn record(&self, event: &AuditEvent<'_>) {
        tracing::info!(
            target: "registry_http::audit",
            user = event.user,
            peer = event.peer.map(tracing::field::display),
            action = event.action,
            repository = event.repository,
            reference = event.reference,
            query = event.query,
            outcome = event.outcome.as_str(),
            reason = event.reason,
            "audit"
        );
    }
}
