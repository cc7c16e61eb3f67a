//! What a virtual machine asks of its surroundings: <https://cloud.google.com/compute/docs/metadata/overview> for itself, and IAM for
//! signatures, since it has no key. Errors have another form than Google's here.

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use http::Method;
use serde_json::{Value, json};

use super::identity::{Identity, LIFETIME, base64};
use super::wire::{Answer, Ask, refuse};

/// `None` if it is the storage that is asked.
pub(super) fn answer(ask: &Ask, identity: &Identity, now: DateTime<Utc>) -> Option<Answer> {
    if let Some(name) = ask.path.strip_prefix("/computeMetadata/v1/instance/service-accounts/default/") {
        return Some(describe(ask, name, identity, now));
    }
    let account = ask.path.strip_prefix("/v1/projects/-/serviceAccounts/")?.strip_suffix(":signBlob")?;
    (ask.method == Method::POST && account == identity.email).then(|| sign(ask, identity, now))
}

fn describe(ask: &Ask, name: &str, identity: &Identity, now: DateTime<Utc>) -> Answer {
    if ask.header("metadata-flavor") != Some("Google") {
        return Err(refuse(403, "Forbidden", "Missing Metadata-Flavor:Google header."));
    }
    let (kind, answer) = match name {
        "token" => {
            let (token, seconds) = (identity.issue_token(now), LIFETIME.num_seconds());
            let token = json!({ "access_token": token, "expires_in": seconds, "token_type": "Bearer" });
            ("application/json", token.to_string())
        }
        "email" => ("application/text", identity.email.clone()),
        _ => return Err(refuse(404, "NotFound", "The stand-in has no such metadata.")),
    };
    let response = Response::builder().header("metadata-flavor", "Google").header("content-type", kind);
    Ok(response.body(answer.into()).unwrap())
}

/// <https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/signBlob>.
fn sign(ask: &Ask, identity: &Identity, now: DateTime<Utc>) -> Answer {
    let token = ask.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    if !identity.knows_token(token, now) {
        return Err(refuse(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."));
    }
    let payload = serde_json::from_slice::<Value>(&ask.body).ok().and_then(|body| STANDARD.decode(body["payload"].as_str()?).ok());
    let payload = payload.ok_or_else(|| refuse(400, "INVALID_ARGUMENT", "The payload is not in Base64."))?;
    let answer = json!({ "keyId": identity.key_id, "signedBlob": base64(&identity.sign(&payload)) });
    Ok(Response::builder().header("content-type", "application/json").body(answer.to_string().into()).unwrap())
}
