//! [`Issuer`]: tokens that somebody else issues.
//!
//! An OpenID Connect provider, a Kubernetes cluster (service accounts) or a CI service signs a JWT for each of its users or jobs, and publishes the public halves
//! of its keys as a JSON Web Key Set (RFC 7517). Whoever shows such a token needs no password here.
//!
//! What is believed follows from what was configured, never from the token: the keys come from one place, and a key says itself which algorithms it is for (RFC
//! 8725, section 3.1). Addresses and keys in a token's header (`jku`, `x5u`, `jwk`) are not looked at. Whatever claims decide is checked before a key is looked
//! for, so that an old token causes no requests and its owner is told that it is over; who made it up learns nothing that is not written in it.
//!
//! There is no list of tokens that were withdrawn: a token is good until it ends, as long as its key is published.

mod builder;
mod keyring;
mod keys;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use registry_core::{Clock, Result, Timestamp};

pub use self::builder::{IssuerBuilder, IssuerError, KeySource};
use self::keyring::Keyring;
use super::jwt::{self, Token};
use super::{Identity, TokenRefused};

/// By how much the issuer's clock and this one may differ.
const LEEWAY: Duration = Duration::from_secs(60);

/// The longest user or group, in bytes, without the issuer's name.
const LONGEST_NAME: usize = 255;

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Who showed it: `NAME:user` in groups `NAME:group`, with the issuer's name.
    pub identity: Identity,
    /// When it ends: its `exp`, which may be up to a minute ago, since clocks differ.
    pub expires: Timestamp,
}

/// Verifies the tokens of one issuer. Made by [`Issuer::builder`].
///
/// Algorithms: EdDSA (Ed25519), ES256, ES384, and RS and PS with 256, 384 and 512. Keys are fetched when the first token comes, then every ten minutes (a file is
/// read again every second at most), and for a token of an unknown key twice a minute at most. They are good for a day if their source is away.
#[derive(Debug)]
pub struct Issuer {
    name: String,
    iss: String,
    audiences: Vec<String>,
    user_claim: String,
    groups_claim: String,
    clock: Arc<dyn Clock>,
    keyring: Keyring,
}

impl Issuer {
    /// An issuer that is called `name` here and `iss` in its tokens, with the keys that are found there. At least one audience has to be added.
    pub fn builder(name: impl Into<String>, iss: impl Into<String>, keys: KeySource) -> IssuerBuilder {
        IssuerBuilder::new(name.into(), iss.into(), keys)
    }

    /// What its users and groups begin with, before a colon.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a token says that it is of this issuer: to choose among several. Proves nothing, since anybody can write that.
    pub fn claims_to_be_mine(&self, token: &str) -> bool {
        jwt::unverified_issuer(token).is_some_and(|iss| iss == self.iss)
    }

    /// Who shows this token, and until when it is good; or why it is not, which the client may be told.
    ///
    /// The outer error is not about the token: [`ErrorKind::Unavailable`](registry_core::ErrorKind::Unavailable) if there are no keys, to be answered 503. May be
    /// dropped at any point: keys that are being fetched are fetched all the same.
    pub async fn verify(&self, token: &str) -> Result<Result<Verified, TokenRefused>> {
        let (token, verified) = match self.read(token) {
            Ok(read) => read,
            Err(refused) => return Ok(Err(refused)),
        };
        let keys = self.keyring.keys().await?;
        let mut outcome = keys.verify(&token);
        // A token that does not name its key may be of one that is new, too.
        let may_be_new = outcome == Err(TokenRefused::UnknownKey) || (outcome.is_err() && token.kid.is_none());
        if may_be_new && let Some(newer) = self.keyring.newer_than(&keys).await {
            outcome = newer.verify(&token);
        }
        Ok(outcome.map(|()| verified))
    }

    /// All but the signature.
    fn read<'a>(&self, token: &'a str) -> Result<(Token<'a>, Verified), TokenRefused> {
        let token = Token::parse(token)?;
        let claims = &token.claims;
        if claims.text("iss")? != Some(&self.iss) {
            return Err(TokenRefused::WrongIssuer);
        }
        let audiences = claims.texts("aud")?.unwrap_or_default();
        if !audiences.iter().any(|audience| self.audiences.iter().any(|own| own == audience)) {
            return Err(TokenRefused::WrongAudience);
        }
        let now = self.clock.now();
        let expires = claims.time("exp")?.ok_or(TokenRefused::Malformed)?;
        if expires + LEEWAY <= now {
            return Err(TokenRefused::Expired);
        }
        for begin in [claims.time("nbf")?, claims.time("iat")?].into_iter().flatten() {
            if begin > now + LEEWAY {
                return Err(TokenRefused::NotYetValid);
            }
        }
        let user = claims.text(&self.user_claim).ok().flatten().filter(|user| is_name(user)).ok_or(TokenRefused::UnusableUser)?;
        let groups = claims.texts(&self.groups_claim).map_err(|_| TokenRefused::UnusableGroups)?.unwrap_or_default();
        // Not left out one by one: what a group is kept from would be allowed.
        if !groups.iter().all(|group| is_name(group)) {
            return Err(TokenRefused::UnusableGroups);
        }
        let here = |name: &str| format!("{}:{name}", self.name);
        let identity = Identity::new(here(user), groups.into_iter().map(here));
        Ok((token, Verified { identity, expires }))
    }
}

fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
}
