//! The gate: who asks, and whether they may. Each request passes it once.

use std::net::IpAddr;

use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, Method};
use registry_core::{RepositoryName, Timestamp};

use super::audit::{AuditEvent, Outcome};
use super::challenge::{Problem, basic, challenge};
use super::credentials::Credentials;
use super::{Action, Auth, Identity, Password, Scope, TokenRefused};
use crate::App;
use crate::error::{Code, Failure};
use crate::route::Target;
use crate::serve::ConnectionInfo;

/// How much of a query is told, in bytes: tags, digests, and where from a blob is mounted.
const LONGEST_QUERY: usize = 1024;

/// Who asks.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    identity: Identity,
    /// What of what they may do the token is good for; `None`: there is no such bound.
    scopes: Option<Vec<Scope>>,
    /// Who decides; `None`: nobody has to log in.
    auth: Option<Auth>,
}

impl Caller {
    /// Whose the uploads are that are begun now.
    pub(crate) fn name(&self) -> &str {
        self.identity.name()
    }

    /// Whether the policy lets them.
    fn is_allowed(&self, repository: &RepositoryName, action: Action) -> bool {
        self.auth.as_ref().is_none_or(|auth| auth.authorizer.allows(&self.identity, repository, action))
    }

    /// Whether the token does.
    fn is_in_scope(&self, repository: &RepositoryName, action: Action) -> bool {
        let covers = |scope: &Scope| matches!(scope, Scope::Repository(name, actions) if name == repository && actions.contains(&action));
        self.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(covers))
    }

    /// Whether what is in that repository may be read.
    pub(crate) fn may_pull(&self, repository: &RepositoryName) -> bool {
        self.is_allowed(repository, Action::Pull) && self.is_in_scope(repository, Action::Pull)
    }

    /// Whether that repository may be named to them in a list.
    pub(crate) fn may_see(&self, repository: &RepositoryName) -> bool {
        // A token for the list is for no repository.
        self.is_allowed(repository, Action::Pull)
    }

    /// Whether everything may be named to them.
    pub(crate) fn may_see_all(&self) -> bool {
        self.auth.as_ref().is_none_or(|auth| auth.authorizer.allows_everywhere(&self.identity, Action::Pull))
    }

    /// Whether everything may be read, wherever it is.
    pub(crate) fn may_pull_everywhere(&self) -> bool {
        self.scopes.is_none() && self.may_see_all()
    }
}

/// What a request needs.
enum Need<'a> {
    /// Only that one has logged in, or has a token of whoever did not.
    LogIn,
    /// To see the list of repositories.
    Catalog,
    Repository(&'a RepositoryName, Action),
}

impl Need<'_> {
    fn action(&self) -> &'static str {
        match self {
            Self::LogIn => "log_in",
            Self::Catalog => "catalog",
            Self::Repository(_, action) => action.as_str(),
        }
    }

    /// Whether something is another afterwards.
    fn changes(&self) -> bool {
        matches!(self, Self::Repository(_, Action::Push | Action::Delete | Action::Admin))
    }

    /// What a token for it is to be asked for. Who pushes pulls as well: clients look what is there already.
    fn scope(&self) -> Option<Scope> {
        match self {
            Self::LogIn => None,
            Self::Catalog => Some(Scope::Catalog),
            Self::Repository(name, Action::Push) => Some(Scope::Repository((*name).clone(), vec![Action::Pull, Action::Push])),
            Self::Repository(name, action) => Some(Scope::Repository((*name).clone(), vec![*action])),
        }
    }
}

/// What this method needs of this.
fn need<'a>(target: &'a Target, method: &Method) -> Need<'a> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match target {
        Target::Base | Target::Token => Need::LogIn,
        Target::Catalog => Need::Catalog,
        Target::Tags(name) | Target::Referrers(name, _) => Need::Repository(name, Action::Pull),
        Target::Manifest(name, _) | Target::Blob(name, _) if reads => Need::Repository(name, Action::Pull),
        Target::Manifest(name, _) | Target::Blob(name, _) if method == Method::DELETE => Need::Repository(name, Action::Delete),
        Target::Manifest(name, _) | Target::Blob(name, _) | Target::UploadStart(name) | Target::Upload(name, _) => {
            Need::Repository(name, Action::Push)
        }
    }
}

/// Who somebody is, and how that is known.
pub(super) struct Known {
    pub(super) identity: Identity,
    pub(super) scopes: Option<Vec<Scope>>,
    /// Whether somebody else said who it is, and until when that is good.
    pub(super) external: Option<Timestamp>,
    /// Whether anything was shown.
    pub(super) has_proof: bool,
}

impl Known {
    fn by_password(identity: Identity) -> Self {
        Self { identity, scopes: None, external: None, has_proof: true }
    }
}

/// Why it is not known who somebody is.
pub(super) enum Unknown {
    /// What was shown is no good.
    Bad { reason: String, is_token: bool, user: String },
    /// No log-in is tried from there for so long.
    Limited(std::time::Duration),
    /// It cannot be found out now.
    Unavailable(registry_core::Error),
}

impl From<registry_core::Error> for Unknown {
    fn from(error: registry_core::Error) -> Self {
        Self::Unavailable(error)
    }
}

/// The other side's address.
pub(super) fn peer(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectionInfo>().map(|info| info.peer.ip())
}

impl Auth {
    /// Whether anybody has to log in.
    pub(super) async fn is_on(&self) -> registry_core::Result<bool> {
        Ok(self.is_required || self.users.is_in_use().await?)
    }

    /// Who shows this.
    pub(super) async fn identify(&self, credentials: Credentials, peer: Option<IpAddr>) -> Result<Known, Unknown> {
        match credentials {
            Credentials::None => Ok(Known { identity: Identity::anonymous(), scopes: None, external: None, has_proof: false }),
            Credentials::Malformed => {
                Err(Unknown::Bad { reason: "the Authorization cannot be read".to_owned(), is_token: false, user: String::new() })
            }
            Credentials::Basic(name, password) => self.by_password(&name, &password, peer).await,
            Credentials::Bearer(token) => self.by_token(&token).await,
        }
    }

    async fn by_password(&self, name: &str, password: &Password, peer: Option<IpAddr>) -> Result<Known, Unknown> {
        // Most clients can only send a name and a password: whoever has a token of another issuer sends it as the latter.
        if let Some(known) = self.by_issuer(password).await? {
            return known.map_err(bad);
        }
        let _attempt = self.rates.log_in(peer).map_err(Unknown::Limited)?;
        if let Some(identity) = self.users.log_in(name, password).await? {
            return Ok(Known::by_password(identity));
        }
        self.rates.failed(peer);
        // Only now, so that it takes no longer for those who are there; and only those, since people type passwords into the wrong field.
        let user = self.users.find(name).await?.map_or_else(String::new, |identity| identity.name().to_owned());
        Err(Unknown::Bad { reason: "the name or the password is wrong".to_owned(), is_token: false, user })
    }

    /// Tokens cannot be guessed: those that are no good are not counted.
    async fn by_token(&self, token: &Password) -> Result<Known, Unknown> {
        if let Some(known) = self.by_issuer(token).await? {
            return known.map_err(bad);
        }
        let Some(tokens) = &self.tokens else { return Err(bad(TokenRefused::WrongIssuer)) };
        tokens.refresh().await;
        let claims = tokens.verify(token.expose()).map_err(bad)?;
        let gone = || Unknown::Bad { reason: "the token's user is gone".to_owned(), is_token: true, user: claims.name.clone() };
        let identity = match claims.groups {
            _ if claims.name.is_empty() => Identity::anonymous(),
            // Of an issuer, which has to be one still.
            Some(groups) => {
                let is_known = claims.name.split_once(':').is_some_and(|(issuer, _)| self.issuers.iter().any(|one| one.name() == issuer));
                if !is_known {
                    return Err(gone());
                }
                Identity::new(claims.name, groups)
            }
            None => self.users.find(&claims.name).await?.ok_or_else(gone)?,
        };
        Ok(Known { identity, scopes: Some(claims.scopes), external: None, has_proof: true })
    }

    /// Whom an issuer says it is, if it is a token of one's.
    async fn by_issuer(&self, token: &Password) -> Result<Option<Result<Known, TokenRefused>>, Unknown> {
        let Some(issuer) = self.issuers.iter().find(|issuer| issuer.claims_to_be_mine(token.expose())) else { return Ok(None) };
        let verified = issuer.verify(token.expose()).await?;
        Ok(Some(verified.map(|verified| Known {
            identity: verified.identity,
            scopes: None,
            external: Some(verified.expires),
            has_proof: true,
        })))
    }
}

fn bad(refused: TokenRefused) -> Unknown {
    Unknown::Bad { reason: refused.to_string(), is_token: true, user: String::new() }
}

/// An answer to who is to wait.
pub(super) fn limited(wait: std::time::Duration) -> Failure {
    let seconds = HeaderValue::from(wait.as_secs() + 1);
    Failure::new(Code::TooManyRequests, "too many requests; try again later").with_header(RETRY_AFTER, seconds)
}

/// Lets a request through, and says who asks; or why it is not let through.
pub(crate) async fn admit(app: &App, parts: &Parts, target: &Target, request_id: &str) -> Result<Caller, Failure> {
    let Some(auth) = &app.options.auth else { return Ok(Caller::default()) };
    // Who asks for a token says who they are there.
    if *target == Target::Token {
        return Ok(Caller::default());
    }
    let need = need(target, &parts.method);
    let peer = peer(parts);
    let record = |user: &str, outcome, reason: &str| {
        let reference = target.reference();
        let repository = target.repository().map(RepositoryName::as_str);
        let (action, method) = (need.action(), parts.method.as_str());
        let query = parts.uri.query().map(|query| query.get(..LONGEST_QUERY).unwrap_or(query));
        auth.audit.record(&AuditEvent {
            request_id,
            user,
            peer,
            action,
            method,
            repository,
            reference: reference.as_deref(),
            query,
            outcome,
            reason,
        });
    };
    if !auth.is_on().await? {
        if need.changes() {
            record("", Outcome::Allowed, "");
        }
        return Ok(Caller::default());
    }
    let unauthorized = |problem, message: String| {
        let header = challenge(auth, &app.options, parts, need.scope().as_ref(), problem);
        Failure::new(Code::Unauthorized, message).with_header(WWW_AUTHENTICATE, header)
    };
    let known = match auth.identify(Credentials::of(&parts.headers), peer).await {
        Ok(known) => known,
        Err(Unknown::Bad { reason, is_token, user }) => {
            record(&user, Outcome::Failed, &reason);
            return Err(match is_token {
                true => unauthorized(Problem::InvalidToken, reason),
                // Whoever sent a name and a password can send others.
                false if auth.tokens.is_some() => unauthorized(Problem::None, reason),
                false => Failure::new(Code::Unauthorized, reason).with_header(WWW_AUTHENTICATE, basic()),
            });
        }
        Err(Unknown::Limited(wait)) => {
            record("", Outcome::Limited, "too many failed log-ins");
            return Err(limited(wait));
        }
        Err(Unknown::Unavailable(error)) => return Err(error.into()),
    };
    let user = known.identity.name().to_owned();
    if !user.is_empty() {
        tracing::Span::current().record("user", user.as_str());
    }
    if let Err(wait) = auth.rates.request(&known.identity, peer) {
        record(&user, Outcome::Limited, "too many requests");
        return Err(limited(wait));
    }
    let caller = Caller { identity: known.identity, scopes: known.scopes, auth: Some(auth.clone()) };
    let (is_allowed, is_in_scope) = match &need {
        Need::LogIn => (known.has_proof, true),
        Need::Catalog => (known.has_proof, caller.scopes.as_ref().is_none_or(|scopes| scopes.contains(&Scope::Catalog))),
        Need::Repository(name, action) => (caller.is_allowed(name, *action), caller.is_in_scope(name, *action)),
    };
    match (is_allowed, is_in_scope) {
        (true, true) => {
            if need.changes() {
                record(&user, Outcome::Allowed, "");
            }
            Ok(caller)
        }
        // Another token would do.
        (true, false) => {
            record(&user, Outcome::Denied, "the token is not for this");
            Err(unauthorized(Problem::InsufficientScope, "the token is not for this".to_owned()))
        }
        (false, _) if user.is_empty() => {
            // A client that was never here asks this first, as it should.
            if !matches!(need, Need::LogIn) {
                record(&user, Outcome::Denied, "not logged in");
            }
            Err(unauthorized(Problem::None, "log in first".to_owned()))
        }
        (false, _) => {
            record(&user, Outcome::Denied, "not allowed");
            Err(Failure::new(Code::Denied, format!("{user} may not {} here", need.action())))
        }
    }
}
