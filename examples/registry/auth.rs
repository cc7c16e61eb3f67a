//! Puts together who may log in, and what they may do.

use std::path::Path;
use std::sync::Arc;

use registry_http::auth::{AuditEvent, AuditLog, AuditSink, Auth, Htpasswd, HtpasswdError, TokenKeyError, Tokens};
use serde_json::json;

use crate::commands::user_failure;
use crate::config::Config;
use crate::failure::Failure;
use crate::lines::{self, LineFile};

/// What the configuration says of who asks. Reads the users' file, and makes keys for tokens if there are none.
pub(crate) fn open(config: &Config) -> Result<Auth, Failure> {
    let auth = &config.auth;
    let no_users = |error: HtpasswdError| user_failure(&auth.users, "auth.users: cannot tell who the users are", &error);
    let no_keys = |error: TokenKeyError| {
        Failure::because("auth.token_keys: there are no keys for tokens", &error)
            .hint("the user that the registry runs as has to be able to read, and for the first key to write, there")
    };
    let users = Htpasswd::open(&auth.users).map_err(no_users)?;
    let tokens = Tokens::open(&auth.token_keys, auth.tokens.clone()).map_err(no_keys)?;
    // Who names a file means it: if it is not there, nobody is let in.
    let mut built = Auth::new(Arc::new(users)).with_tokens(tokens).with_rate_limits(auth.limits).with_required(auth.users_are_named);
    if let Some(policy) = &auth.access {
        // Whoever writes rules means them, whether there is a user yet or not.
        built = built.with_authorizer(Arc::new(policy.clone())).with_required(true);
    }
    for issuer in &auth.issuers {
        built = built.with_issuer(Arc::clone(issuer));
    }
    if let Some(path) = &auth.audit {
        built = built.with_audit(Arc::new(AuditFile::start(path)?));
    }
    Ok(built)
}

/// Appends audit events to a file, one JSON object a line, besides logging them.
#[derive(Debug)]
struct AuditFile(LineFile);

impl AuditFile {
    fn start(path: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::because(format!("cannot write to {}", path.display()), &error).hint("see auth.audit");
        lines::open(path).map_err(failed)?;
        LineFile::start(path, "audit events").map(Self).map_err(failed)
    }
}

impl AuditSink for AuditFile {
    fn record(&self, event: &AuditEvent<'_>) {
        AuditLog.record(event);
        let line = json!({
            "time": chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            "request_id": event.request_id,
            "user": event.user,
            "from": event.peer,
            "method": event.method,
            "action": event.action,
            "repository": event.repository,
            "reference": event.reference,
            "query": event.query,
            "outcome": event.outcome.as_str(),
            "reason": event.reason,
        });
        if !self.0.append(line.to_string()) {
            tracing::error!("an audit event is not in the file: they are not written as fast as they come");
        }
    }
}
