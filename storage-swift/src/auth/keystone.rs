//! Keystone, version 3. <https://docs.openstack.org/api-ref/identity/v3/#authentication-and-token-management>

use chrono::{DateTime, Utc};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use registry_core::ErrorKind;
use serde::Deserialize;
use serde_json::{Value, json};
use storage_object::Secret;
use storage_object::http::Http;

use super::{Session, request, unreachable};
use crate::config::Interface;
use crate::failure::{Failure, told_of};

/// A thing by its id, or by its name in a domain.
#[derive(Clone, Debug)]
pub(crate) enum Name {
    Id(String),
    Named { name: String, domain: Owner },
}

/// A domain.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    Id(String),
    Name(String),
}

impl Owner {
    fn json(&self) -> Value {
        match self {
            Self::Id(id) => json!({ "id": id }),
            Self::Name(name) => json!({ "name": name }),
        }
    }
}

impl Name {
    fn json(&self) -> Value {
        match self {
            Self::Id(id) => json!({ "id": id }),
            Self::Named { name, domain } => json!({ "name": name, "domain": domain.json() }),
        }
    }
}

/// Who one is.
#[derive(Clone, Debug)]
pub(crate) enum Method {
    Password { user: Name, password: Secret },
    ApplicationCredential { credential: Credential, secret: Secret },
    Token(Secret),
}

/// An application credential by its id, or by its name and its user.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    Id(String),
    Named { name: String, user: Name },
}

/// A Keystone and who to be there.
#[derive(Debug)]
pub(crate) struct Keystone {
    /// Ends in `/v3`.
    pub(crate) url: String,
    pub(crate) method: Method,
    /// The project; an application credential has its own.
    pub(crate) project: Option<Name>,
    pub(crate) region: Option<String>,
    pub(crate) interface: Interface,
    pub(crate) service_type: String,
    /// Instead of the catalogue's.
    pub(crate) storage_url: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    token: Token,
}

#[derive(Debug, Deserialize)]
struct Token {
    expires_at: Option<DateTime<Utc>>,
    issued_at: Option<DateTime<Utc>>,
    project: Option<Value>,
    #[serde(default)]
    catalog: Catalogue,
}

/// The services that a token is good for.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Catalogue(Vec<Service>);

#[derive(Debug, Deserialize)]
struct Service {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    interface: String,
    region: Option<String>,
    region_id: Option<String>,
    url: String,
}

impl Endpoint {
    fn region(&self) -> &str {
        self.region_id.as_deref().or(self.region.as_deref()).unwrap_or_default()
    }
}

impl Catalogue {
    /// The address of a service's endpoint, or in plain words why there is none.
    pub(crate) fn endpoint(&self, service_type: &str, region: Option<&str>, interface: Interface) -> Result<&str, String> {
        let of_service: Vec<_> =
            self.0.iter().filter(|service| service.kind == service_type).flat_map(|service| &service.endpoints).collect();
        if of_service.is_empty() {
            let mut kinds: Vec<_> = self.0.iter().map(|service| service.kind.as_str()).collect();
            kinds.sort_unstable();
            kinds.dedup();
            return Err(format!(
                "the catalogue has no service of type {service_type}, only {}; set service_type, or storage_url to the account's address",
                listed(&kinds)
            ));
        }
        let mut regions: Vec<_> = of_service.iter().map(|endpoint| endpoint.region()).collect();
        regions.sort_unstable();
        regions.dedup();
        let region = match region {
            Some(region) if regions.contains(&region) => region,
            Some(region) => {
                return Err(format!("the catalogue has no region {region}, only {}; set region to one of them", listed(&regions)));
            }
            None if regions.len() == 1 => regions[0],
            None => return Err(format!("the catalogue has several regions: {}; set region to one of them", listed(&regions))),
        };
        let in_region: Vec<_> = of_service.into_iter().filter(|endpoint| endpoint.region() == region).collect();
        match in_region.iter().find(|endpoint| Interface::parse(&endpoint.interface) == Some(interface)) {
            Some(endpoint) => Ok(&endpoint.url),
            None => {
                let interfaces: Vec<_> = in_region.iter().map(|endpoint| endpoint.interface.as_str()).collect();
                Err(format!(
                    "in region {region} the service has no {} address, only {}; set interface to one of them",
                    interface.as_str(),
                    listed(&interfaces)
                ))
            }
        }
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

impl Keystone {
    fn request(&self) -> Value {
        let identity = match &self.method {
            Method::Password { user, password } => {
                let mut user = user.json();
                user["password"] = password.reveal().into();
                json!({ "methods": ["password"], "password": { "user": user } })
            }
            Method::ApplicationCredential { credential, secret } => {
                let mut credential = match credential {
                    Credential::Id(id) => json!({ "id": id }),
                    Credential::Named { name, user } => json!({ "name": name, "user": user.json() }),
                };
                credential["secret"] = secret.reveal().into();
                json!({ "methods": ["application_credential"], "application_credential": credential })
            }
            Method::Token(token) => json!({ "methods": ["token"], "token": { "id": token.reveal() } }),
        };
        match &self.project {
            Some(project) => json!({ "auth": { "identity": identity, "scope": { "project": project.json() } } }),
            None => json!({ "auth": { "identity": identity } }),
        }
    }

    pub(crate) async fn log_in(&self, http: &Http) -> Result<Session, Failure> {
        let url = format!("{}/auth/tokens", self.url);
        let mut request = request(http::Method::POST, &url, self.request().to_string())?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let (head, body) = http.send(request).await.map_err(|why| unreachable(&self.url, &why))?.into_parts();
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let body = body.bytes().await.map_err(|why| unreachable(&self.url, &why))?;
        if head.status != StatusCode::CREATED && head.status != StatusCode::OK {
            return Err(self.refused(head.status, header("X-Openstack-Request-Id"), &body));
        }
        let not_keystone = || {
            let message = format!("{url}: the answer is not Keystone's; is auth_url right?");
            Failure::new(ErrorKind::InvalidInput, message)
        };
        let token = header("X-Subject-Token").ok_or_else(not_keystone)?;
        let Answer { token: about } = serde_json::from_slice(&body).map_err(|_| not_keystone())?;
        let lifetime = about.expires_at.zip(about.issued_at).and_then(|(end, begin)| (end - begin).to_std().ok());
        let storage_url = match &self.storage_url {
            Some(url) => url.as_str(),
            None if about.project.is_none() => {
                let message = format!(
                    "{}: the log-in is good, but for no project, so that there is no catalogue: set tenant_id (project_id), or project_name and its domain",
                    self.url
                );
                return Err(Failure::new(ErrorKind::InvalidInput, message));
            }
            None => {
                let found = about.catalog.endpoint(&self.service_type, self.region.as_deref(), self.interface);
                found.map_err(|why| Failure::new(ErrorKind::InvalidInput, format!("{}: {why}", self.url)))?
            }
        };
        Session::new(token, storage_url, lifetime)
    }

    /// What a log-in that was refused says of the settings.
    fn refused(&self, status: StatusCode, id: Option<&str>, body: &[u8]) -> Failure {
        #[derive(Deserialize)]
        struct Body {
            error: Detail,
        }
        #[derive(Deserialize)]
        struct Detail {
            message: String,
        }
        let detail = serde_json::from_slice(body).map(|body: Body| body.error.message).unwrap_or_default();
        let url = &self.url;
        let is_token = matches!(self.method, Method::Token(_));
        let (kind, message) = match status.as_u16() {
            // A token that Keystone does not know, or not any more, is one that it cannot find.
            code if code == 401 || (code == 404 && is_token && !detail.is_empty()) => {
                let settings = match &self.method {
                    Method::Password { .. } => {
                        "username, password, user_domain_name and the project (tenant_id or project_name and project_domain_name)"
                    }
                    Method::ApplicationCredential { credential: Credential::Id(_), .. } => {
                        "application_credential_id and application_credential_secret"
                    }
                    Method::ApplicationCredential { credential: Credential::Named { .. }, .. } => {
                        "application_credential_name, application_credential_secret, username and user_domain_name"
                    }
                    Method::Token(_) => "token and the project",
                };
                (ErrorKind::Denied, format!("{url}: the log-in is refused. Keystone does not say which is wrong of {settings}"))
            }
            403 => (ErrorKind::Denied, format!("{url}: this user may not log in here: {detail}")),
            300 | 404 | 405 => {
                let message = format!(
                    "{url}: there is no Keystone version 3 there ({status}); auth_url is like https://keystone.example:5000/v3, and auth_version = 1 is for other log-ins"
                );
                (ErrorKind::InvalidInput, message)
            }
            400 => (ErrorKind::InvalidInput, format!("{url}: Keystone does not understand the settings: {detail}")),
            _ => return Failure::answered(&format!("logging in at {url}"), status, id, &detail, None),
        };
        Failure::new(kind, told_of(message, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> Catalogue {
        serde_json::from_value(json!([
            { "type": "identity", "endpoints": [] },
            { "type": "object-store", "endpoints": [
                { "interface": "public", "region": "RegionOne", "region_id": "RegionOne", "url": "http://one/v1/AUTH_x" },
                { "interface": "internal", "region": "RegionOne", "region_id": "RegionOne", "url": "http://inside/v1/AUTH_x" },
                { "interface": "public", "region": "RegionTwo", "region_id": "RegionTwo", "url": "http://two/v1/AUTH_x" },
            ] },
        ]))
        .unwrap()
    }

    #[test]
    fn the_catalogue_is_searched_by_region_and_interface() {
        let catalogue = catalogue();
        let find = |region, interface| catalogue.endpoint("object-store", region, interface);
        assert_eq!(find(Some("RegionTwo"), Interface::Public), Ok("http://two/v1/AUTH_x"));
        assert_eq!(find(Some("RegionOne"), Interface::Internal), Ok("http://inside/v1/AUTH_x"));
        let several = find(None, Interface::Public).unwrap_err();
        assert_eq!(several, "the catalogue has several regions: RegionOne, RegionTwo; set region to one of them");
        let unknown = find(Some("RegionX"), Interface::Public).unwrap_err();
        assert_eq!(unknown, "the catalogue has no region RegionX, only RegionOne, RegionTwo; set region to one of them");
        let interface = find(Some("RegionTwo"), Interface::Admin).unwrap_err();
        assert_eq!(interface, "in region RegionTwo the service has no admin address, only public; set interface to one of them");
        let service = catalogue.endpoint("volume", None, Interface::Public).unwrap_err();
        assert!(
            service.starts_with("the catalogue has no service of type volume, only identity, object-store; set service_type"),
            "{service}"
        );
    }
}
