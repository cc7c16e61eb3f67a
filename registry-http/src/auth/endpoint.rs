//! `/token`: a log-in is exchanged for a token.
//!
//! <https://distribution.github.io/distribution/spec/auth/token/>

use std::time::Duration;

use axum::response::Response;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use serde::Serialize;

use super::audit::{AuditEvent, Outcome};
use super::challenge::basic;
use super::credentials::Credentials;
use super::gate::{Unknown, limited, peer};
use super::{Action, Auth, Identity, Scope};
use crate::error::{Code, Failure};
use crate::handlers::json;
use crate::query::Query;
use crate::request::Call;

/// The shortest life of a token that is given out.
const SHORTEST: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct Answer<'a> {
    token: &'a str,
    /// The same under the name that OAuth 2 has for it: clients take one or the other.
    access_token: &'a str,
    expires_in: u64,
    issued_at: String,
}

/// `GET /token?service=…&scope=…`
pub(crate) async fn token(call: &mut Call<'_>, request_id: &str) -> Result<Response, Failure> {
    let Some((auth, tokens)) = call.app.options.auth.as_ref().and_then(|auth| Some((auth, auth.tokens.as_ref()?))) else {
        return Err(Failure::unknown_route());
    };
    let query = Query::parse(call.parts.uri.query())?;
    if query.one("service", Code::Unsupported)?.is_some_and(|service| service != tokens.service()) {
        return Err(Failure::bad_parameter("the service is another one"));
    }
    let Some(asked) = Scope::parse(query.all("scope")) else { return Err(Failure::bad_parameter("more than 30 scopes")) };
    let peer = peer(call.parts);
    let record = |user: &str, outcome, reason: &str| {
        let (action, method) = ("log_in", call.parts.method.as_str());
        let event = AuditEvent { request_id, user, peer, action, method, repository: None, reference: None, query: None, outcome, reason };
        auth.audit.record(&event);
    };
    let known = match auth.identify(Credentials::of(&call.parts.headers), peer).await {
        // A token for a token would never end.
        Ok(known) if known.scopes.is_some() => {
            record(known.identity.name(), Outcome::Failed, "a token was shown");
            return Err(Failure::new(Code::Unauthorized, "show a name and a password").with_header(WWW_AUTHENTICATE, basic()));
        }
        Ok(known) => known,
        Err(Unknown::Bad { reason, user, .. }) => {
            record(&user, Outcome::Failed, &reason);
            return Err(Failure::new(Code::Unauthorized, reason).with_header(WWW_AUTHENTICATE, basic()));
        }
        Err(Unknown::Limited(wait)) => {
            record("", Outcome::Limited, "too many failed log-ins");
            return Err(limited(wait));
        }
        Err(Unknown::Unavailable(error)) => return Err(error.into()),
    };
    let user = known.identity.name();
    if let Err(wait) = auth.rates.request(&known.identity, peer) {
        record(user, Outcome::Limited, "too many requests");
        return Err(limited(wait));
    }
    let granted: Vec<_> = asked.into_iter().filter_map(|scope| grant(auth, &known.identity, scope)).collect();
    tokens.refresh().await;
    let issued = tokens.issue(&known.identity, known.external.is_some(), &granted, known.external);
    if !user.is_empty() {
        record(user, Outcome::Allowed, "");
    }
    if issued.lifetime < SHORTEST {
        // A client would take it for good for a minute at least.
        return Err(Failure::new(Code::Unauthorized, "the token that was shown ends too soon").with_header(WWW_AUTHENTICATE, basic()));
    }
    let token = issued.token.expose();
    let answer = Answer { token, access_token: token, expires_in: issued.lifetime.as_secs(), issued_at: rfc3339(issued.at.as_millis()) };
    let mut response = json("application/json", &answer);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What of it they may do: what is asked for too much is left out, and the client finds out when it tries.
fn grant(auth: &Auth, identity: &Identity, scope: Scope) -> Option<Scope> {
    match scope {
        Scope::Repository(name, actions) => {
            let actions: Vec<Action> = actions.into_iter().filter(|action| auth.authorizer.allows(identity, &name, *action)).collect();
            (!actions.is_empty()).then_some(Scope::Repository(name, actions))
        }
        // What is in the list is for the policy to say.
        Scope::Catalog => Some(Scope::Catalog),
    }
}

fn rfc3339(millis: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(millis).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
