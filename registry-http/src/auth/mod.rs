//! Who asks, and what they may do.
//!
//! - **One gate.** Each request passes a gate once, before its handler: who asks is found out from its `Authorization`, what it needs follows from its path and
//!   method, and one [`Authorizer`] decides, whichever way they logged in. Rejected: a check in each handler (one would be forgotten), a middleware (what a path
//!   means would be found out twice).
//! - **[`Users`]** know passwords; [`Htpasswd`] keeps them in a file. **[`Tokens`]** are what a log-in is exchanged for, so that several processes accept it and no
//!   password is hashed for each layer. **[`Issuer`]s** are others who say who somebody is.
//! - **What nobody allowed is refused.** A token is good for what it was asked for, and the policy is asked again each time. Lists have in them what may be pulled,
//!   and what may not be pulled cannot be mounted either: an upload begins instead, as if it were not there.
//! - **Open while nobody has to log in.** A registry without users lets everybody do everything, as one on the loopback may; the first user ends that for good.

mod audit;
mod challenge;
mod credentials;
mod endpoint;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub(crate) mod gate;
mod htpasswd;
mod identity;
mod issuer;
mod jwt;
mod policy;
mod rate;
mod refused;
mod scope;
mod tokens;
mod users;

use std::sync::Arc;

pub use self::audit::{AuditEvent, AuditLog, AuditSink, Outcome};
pub(crate) use self::endpoint::token;
pub use self::htpasswd::{Htpasswd, HtpasswdEditor, HtpasswdError, HtpasswdProblem};
pub use self::identity::Identity;
pub use self::issuer::{Issuer, IssuerBuilder, IssuerError, KeySource, Verified};
pub use self::policy::{AccessPolicy, AccessRule, Action, ActionError, Authorizer, Subject};
pub use self::rate::RateLimits;
use self::rate::Rates;
pub use self::refused::TokenRefused;
use self::scope::Scope;
pub use self::tokens::{TokenKeyError, TokenOptions, Tokens};
pub use self::users::{Password, Users};

/// How those who ask are told apart, and what they may do: for [`HttpOptions::with_auth`](crate::HttpOptions::with_auth). Cheap to clone.
///
/// ```
/// use std::sync::Arc;
/// use registry_http::HttpOptions;
/// use registry_http::auth::{Auth, Htpasswd, TokenOptions, Tokens};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = std::env::temp_dir().join(format!("auth-{}", std::process::id()));
/// let users = Htpasswd::open(dir.join("users"))?;
/// let tokens = Tokens::open(dir.join("token-keys"), TokenOptions::default())?;
/// let options = HttpOptions::default().with_auth(Auth::new(Arc::new(users)).with_tokens(tokens));
/// # std::fs::remove_dir_all(dir)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Auth {
    users: Arc<dyn Users>,
    authorizer: Arc<dyn Authorizer>,
    tokens: Option<Arc<Tokens>>,
    issuers: Vec<Arc<Issuer>>,
    is_required: bool,
    rates: Arc<Rates>,
    audit: Arc<dyn AuditSink>,
}

impl Auth {
    /// These users; they may do what [`AccessPolicy::by_groups`] says. Without [tokens](Self::with_tokens) clients send their passwords with each request.
    pub fn new(users: Arc<dyn Users>) -> Self {
        Self {
            users,
            authorizer: Arc::new(AccessPolicy::by_groups()),
            tokens: None,
            issuers: Vec::new(),
            is_required: false,
            rates: Arc::new(Rates::new(RateLimits::default())),
            audit: Arc::new(AuditLog),
        }
    }

    /// Who may do what.
    pub fn with_authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.authorizer = authorizer;
        self
    }

    /// Lets clients exchange a log-in for a token, at `/token` beside `/v2`.
    pub fn with_tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = Some(Arc::new(tokens));
        self
    }

    /// Accepts this one's tokens, too: as `Bearer`, and as the password of any user name, which is what most clients can send. From then on everybody has to say
    /// who they are.
    pub fn with_issuer(mut self, issuer: Arc<Issuer>) -> Self {
        self.issuers.push(issuer);
        self.is_required = true;
        self
    }

    /// Whether everybody has to say who they are even if there has never been a user. Off by default.
    pub fn with_required(mut self, required: bool) -> Self {
        self.is_required = required;
        self
    }

    /// How many requests and failed log-ins there may be.
    pub fn with_rate_limits(mut self, limits: RateLimits) -> Self {
        self.rates = Arc::new(Rates::new(limits));
        self
    }

    /// Who is told what was done and what was refused; [`AuditLog`] by default.
    pub fn with_audit(mut self, audit: Arc<dyn AuditSink>) -> Self {
        self.audit = audit;
        self
    }

    /// Whether there is `/token`.
    pub(crate) fn has_tokens(&self) -> bool {
        self.tokens.is_some()
    }
}
