//! [`Tokens`]: what a log-in is exchanged for, by Docker's token protocol.
//!
//! A client that is refused is told where tokens are to be had ([`challenge`](super::challenge)). It shows its name and password there, says what for, and gets a
//! token that says who it is and what of that it may do (<https://distribution.github.io/distribution/spec/auth/token/>): a JWT, signed by EdDSA (RFC 8037), that
//! lives for some minutes. Everything that is pushed and pulled in that time needs no password, and any process verifies it that has the keys.
//!
//! A token takes no right away from whoever decides: what it allows is what was asked for, and the policy is asked again for each request. So whoever is removed,
//! or may do less from now on, is not let in by an old token.

mod keys;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use registry_core::{Clock, SystemClock, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::keys::KeyDirectory;
pub use self::keys::TokenKeyError;
use super::jwt::{Algorithm, Token};
use super::{Identity, Password, Scope, TokenRefused};

/// By how much the clocks of processes may differ that accept each other's tokens.
const LEEWAY: Duration = Duration::from_secs(60);

/// How tokens are made.
#[derive(Clone, Debug)]
#[must_use]
pub struct TokenOptions {
    service: String,
    lifetime: Duration,
    rotate: Option<Duration>,
    clock: Arc<dyn Clock>,
}

impl Default for TokenOptions {
    fn default() -> Self {
        Self {
            service: "registry".to_owned(),
            lifetime: Duration::from_secs(300),
            rotate: Some(Duration::from_secs(30 * 24 * 3600)),
            clock: Arc::new(SystemClock),
        }
    }
}

impl TokenOptions {
    /// What the registry is called in tokens, their issuer and audience: `registry` by default. The same for all processes that accept each other's tokens, and
    /// another for each registry that has the same keys.
    pub fn with_service(mut self, service: impl Into<String>) -> Self {
        self.service = service.into();
        self
    }

    /// How long a token lives: five minutes by default, one at least and an hour at most. A push or pull that has begun ends, however long it takes.
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime.clamp(Duration::from_secs(60), Duration::from_secs(3600));
        self
    }

    /// After how long a new key is made: 30 days by default; `None` is never. The old one verifies until its last token has ended, and then its file is removed.
    pub fn with_rotation(mut self, after: Option<Duration>) -> Self {
        self.rotate = after;
        self
    }

    /// Where the time comes from: the machine's clock by default.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

/// Issues and verifies tokens with the keys of a directory.
pub struct Tokens {
    keys: Arc<KeyDirectory>,
    service: String,
    lifetime: Duration,
    clock: Arc<dyn Clock>,
}

/// A token that was issued.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) token: Password,
    pub(crate) lifetime: Duration,
    pub(crate) at: Timestamp,
}

/// What a token of ours says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// Whose it is; empty: nobody's in particular.
    pub(crate) name: String,
    /// The groups of one of whom the registry itself knows nothing.
    pub(crate) groups: Option<Vec<String>>,
    /// What it is good for.
    pub(crate) scopes: Vec<Scope>,
}

#[derive(Serialize)]
struct Header<'a> {
    typ: &'static str,
    alg: &'static str,
    kid: &'a str,
}

#[derive(Serialize)]
struct Body<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: String,
    access: Vec<Access>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<&'a [String]>,
}

/// One entry of `access`, as Docker's registry has it.
#[derive(Serialize, Deserialize)]
struct Access {
    r#type: String,
    name: String,
    actions: Vec<String>,
}

impl From<&Scope> for Access {
    fn from(scope: &Scope) -> Self {
        let actions = scope.actions().into_iter().map(str::to_owned).collect();
        Self { r#type: scope.kind().to_owned(), name: scope.name().to_owned(), actions }
    }
}

impl Tokens {
    /// Uses the keys in this directory: all files that end with `.pem`, each an Ed25519 private key (PKCS #8). Makes both if there are none.
    ///
    /// Processes that are to accept each other's tokens share the directory. Copies of it do, too, if [no key is made](TokenOptions::with_rotation) in them: each would
    /// make another. Blocks on the files.
    pub fn open(directory: impl Into<PathBuf>, options: TokenOptions) -> Result<Self, TokenKeyError> {
        let TokenOptions { service, lifetime, rotate, clock } = options;
        let keep = lifetime + 2 * LEEWAY;
        let keys = KeyDirectory::open(directory.into(), rotate, keep, Arc::clone(&clock))?;
        Ok(Self { keys: Arc::new(keys), service, lifetime, clock })
    }

    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    /// Sees to it that the keys are those that are there now.
    pub(crate) async fn refresh(&self) {
        if !self.keys.is_fresh() {
            let keys = Arc::clone(&self.keys);
            // It fails only if the runtime ends.
            let _ = tokio::task::spawn_blocking(move || keys.look()).await;
        }
    }

    /// A token for this, which ends no later than `until`. The groups are those of somebody whom nobody can be asked about later on.
    pub(crate) fn issue(&self, identity: &Identity, is_external: bool, scopes: &[Scope], until: Option<Timestamp>) -> Issued {
        let now = self.clock.now();
        let lifetime = until.map_or(self.lifetime, |until| self.lifetime.min(until.since(now)));
        let seconds = |time: Timestamp| time.as_millis().div_euclid(1000);
        let body = Body {
            iss: &self.service,
            aud: &self.service,
            sub: identity.name(),
            iat: seconds(now),
            nbf: seconds(now),
            exp: seconds(now + lifetime),
            jti: registry_core::random_id(),
            access: scopes.iter().map(Access::from).collect(),
            groups: is_external.then(|| identity.groups()),
        };
        let (message, signature) = self.keys.sign(|kid| {
            let header = Header { typ: "JWT", alg: "EdDSA", kid };
            // Derived structs of texts and numbers always serialize.
            let encode = |json: serde_json::Result<Vec<u8>>| URL_SAFE_NO_PAD.encode(json.unwrap_or_default());
            format!("{}.{}", encode(serde_json::to_vec(&header)), encode(serde_json::to_vec(&body)))
        });
        Issued { token: Password::new(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))), lifetime, at: now }
    }

    /// What a token says, if it is one of ours and good now.
    pub(crate) fn verify(&self, token: &str) -> Result<Claims, TokenRefused> {
        let token = Token::parse(token)?;
        if token.algorithm != Algorithm::EdDSA {
            return Err(TokenRefused::Unsupported);
        }
        let kid = token.kid.as_deref().ok_or(TokenRefused::UnknownKey)?;
        match self.keys.verify(kid, token.message.as_bytes(), &token.signature) {
            Some(true) => {}
            Some(false) => return Err(TokenRefused::BadSignature),
            None => return Err(TokenRefused::UnknownKey),
        }
        let claims = &token.claims;
        if claims.text("iss")? != Some(&self.service) {
            return Err(TokenRefused::WrongIssuer);
        }
        if claims.texts("aud")? != Some(vec![self.service.as_str()]) {
            return Err(TokenRefused::WrongAudience);
        }
        let now = self.clock.now();
        let (expires, begins) = (claims.time("exp")?.ok_or(TokenRefused::Malformed)?, claims.time("nbf")?.unwrap_or_default());
        if expires <= now {
            return Err(TokenRefused::Expired);
        }
        if begins > now + LEEWAY {
            return Err(TokenRefused::NotYetValid);
        }
        let access: Vec<Access> = match claims.value("access") {
            Some(value) => serde_json::from_value(Value::clone(value)).map_err(|_| TokenRefused::Malformed)?,
            None => Vec::new(),
        };
        let scope =
            |access: &Access| Scope::of(&access.r#type, &access.name, &access.actions.iter().map(String::as_str).collect::<Vec<_>>());
        let groups = claims.texts("groups")?.map(|groups| groups.into_iter().map(str::to_owned).collect());
        let name = claims.text("sub")?.ok_or(TokenRefused::Malformed)?.to_owned();
        Ok(Claims { name, groups, scopes: access.iter().filter_map(scope).collect() })
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("service", &self.service).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
