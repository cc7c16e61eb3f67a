//! A registry with users: what the tests here share.

use std::path::Path;
use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use registry_core::Digest;
use registry_http::HttpOptions;
use registry_http::auth::{
    AccessPolicy, AccessRule, Action, AuditEvent, AuditSink, Auth, Htpasswd, HtpasswdEditor, Password, Subject, TokenOptions, Tokens,
};

use crate::support::images::IMAGE;
use crate::support::{Answer, Fixture};

/// Everybody's password.
pub(crate) const PASSWORD: &str = "correct horse";

/// A registry over memory stores with users `reader`, `writer` and `admin`, who may do in `team/**` what they are called; anybody may pull from `public/**`.
pub(crate) struct Kit {
    pub(crate) dir: tempfile::TempDir,
    /// Nobody has to log in here: what is there before the test begins comes by this way.
    pub(crate) open: Fixture,
    /// The same registry with the gate in front.
    pub(crate) closed: Fixture,
    pub(crate) audit: Arc<Recorded>,
}

/// What happened.
#[derive(Debug, Default)]
pub(crate) struct Recorded(Mutex<Vec<String>>);

impl AuditSink for Recorded {
    fn record(&self, event: &AuditEvent<'_>) {
        let AuditEvent { user, action, method, repository, reference, outcome, reason, .. } = *event;
        let line = format!(
            "{user}|{method}|{action}|{}|{}|{}|{reason}",
            repository.unwrap_or_default(),
            reference.unwrap_or_default(),
            outcome.as_str()
        );
        self.0.lock().unwrap().push(line);
    }
}

impl Recorded {
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// The policy above.
pub(crate) fn policy() -> AccessPolicy {
    let rule = |repositories: &str, subject, actions: &[Action]| {
        AccessRule::new(repositories.parse().unwrap(), [subject], actions.iter().copied())
    };
    let user = |name: &str| Subject::User(name.to_owned());
    AccessPolicy::new([
        rule("public/**", Subject::Everybody, &[Action::Pull]),
        rule("team/**", user("reader"), &[Action::Pull]),
        rule("team/**", user("writer"), &[Action::Pull, Action::Push]),
        rule("team/**", user("admin"), &[Action::Admin]),
    ])
}

/// Adds users; hashing is as cheap as it can be.
pub(crate) fn add_users(path: &Path, names: &[&str]) {
    for name in names {
        HtpasswdEditor::new(path).with_cost(4).add(name, &Password::new(PASSWORD), &[]).unwrap();
    }
}

impl Kit {
    pub(crate) fn new() -> Self {
        Self::with(|auth| auth)
    }

    pub(crate) fn with(configure: impl FnOnce(Auth) -> Auth) -> Self {
        let dir = tempfile::tempdir().unwrap();
        add_users(&dir.path().join("users"), &["reader", "writer", "admin"]);
        let audit = Arc::new(Recorded::default());
        let auth = Auth::new(Arc::new(Htpasswd::open(dir.path().join("users")).unwrap()))
            .with_tokens(Tokens::open(dir.path().join("keys"), TokenOptions::default()).unwrap())
            .with_authorizer(Arc::new(policy()))
            .with_audit(Arc::clone(&audit) as _);
        let open = Fixture::new();
        let closed = open.again(HttpOptions::default().with_auth(configure(auth)));
        Self { dir, open, closed, audit }
    }

    /// An image with the tag `v1`: the digests of its manifest and of its layer.
    pub(crate) async fn image(&self, repository: &str) -> (Digest, Digest) {
        let layer = self.open.push(repository, Bytes::from_static(b"layer")).await;
        let config = self.open.push(repository, Bytes::from_static(b"{}")).await;
        let manifest = serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.to_string(), "size": 2 },
            "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.to_string(), "size": 5 }],
        }))
        .unwrap();
        let digest = Digest::sha256(&manifest);
        self.open.put_manifest(&format!("/v2/{repository}/manifests/v1"), IMAGE, manifest).await.assert(201);
        (digest, layer)
    }

    /// A request with credentials.
    pub(crate) async fn ask(&self, credentials: &str, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        let mut call = self.closed.request(method, path).header("host", "registry.test");
        if !credentials.is_empty() {
            call = call.header("authorization", credentials);
        }
        if method == "PUT" && path.contains("/manifests/") {
            call = call.header("content-type", IMAGE);
        }
        call.body(body.into()).send().await
    }

    /// A token from `/token`, as a header.
    pub(crate) async fn token(&self, credentials: &str, scope: &str) -> String {
        let answer = self.ask(credentials, "GET", &format!("/token?service=registry&scope={}", scope.replace(' ', "+")), "").await;
        format!("Bearer {}", answer.assert(200).json()["token"].as_str().unwrap())
    }

    /// The registry's own key of tokens.
    pub(crate) fn key(&self) -> Ed25519KeyPair {
        let pem = std::fs::read_dir(self.dir.path().join("keys"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|extension| extension == "pem"))
            .unwrap();
        let text = std::fs::read_to_string(pem).unwrap();
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&STANDARD.decode(body).unwrap()).unwrap()
    }
}

/// A name and a password, as a header.
pub(crate) fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

/// The parts of a token.
pub(crate) fn parts(token: &str) -> [String; 3] {
    let token = token.trim_start_matches("Bearer ");
    let parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    parts.try_into().unwrap()
}

/// One of a token's JSON parts.
pub(crate) fn decoded(part: &str) -> serde_json::Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// A token of these parts, signed with this key, as a header.
pub(crate) fn forged(key: &Ed25519KeyPair, header: &serde_json::Value, claims: &serde_json::Value) -> String {
    let encode = |json: &serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    format!("Bearer {message}.{}", URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()).as_ref()))
}
