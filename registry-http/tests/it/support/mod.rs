//! What the tests share: a registry over memory stores, asked in process or over TCP.

pub(crate) mod images;
pub(crate) mod wire;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use registry_core::memory::{MemoryBlobStore, MemoryMetadataStore};
use registry_core::testing::{FaultPlan, FaultStore};
use registry_core::{Digest, Registry, RegistryBuilder};
use registry_http::HttpOptions;
use serde_json::Value;
use tower::ServiceExt as _;

/// A registry over a memory store that can be told to fail.
pub(crate) struct Fixture {
    pub(crate) router: Router,
    pub(crate) registry: Registry,
    pub(crate) faults: FaultStore,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(HttpOptions::default())
    }

    pub(crate) fn with(options: HttpOptions) -> Self {
        Self::build(options, |builder| builder)
    }

    pub(crate) fn build(options: HttpOptions, configure: impl FnOnce(RegistryBuilder) -> RegistryBuilder) -> Self {
        let faults = FaultStore::new(Arc::new(MemoryBlobStore::default()), FaultPlan::default());
        let builder = Registry::builder(Arc::new(faults.clone()), Arc::new(MemoryMetadataStore::default()));
        let registry = configure(builder).build();
        Self { router: registry_http::router(registry.clone(), options), registry, faults }
    }

    /// The same stores behind other options.
    pub(crate) fn again(&self, options: HttpOptions) -> Self {
        let router = registry_http::router(self.registry.clone(), options);
        Self { router, registry: self.registry.clone(), faults: self.faults.clone() }
    }

    pub(crate) fn request(&self, method: &str, uri: &str) -> Call<'_> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Call { router: &self.router, method, uri: uri.to_owned(), headers: HeaderMap::new(), body: Body::empty() }
    }

    pub(crate) async fn get(&self, uri: &str) -> Answer {
        self.request("GET", uri).send().await
    }

    /// `GET` and `HEAD`, which have to say the same but for the body; the answer to `GET`.
    pub(crate) async fn get_and_head(&self, uri: &str) -> Answer {
        let head = self.request("HEAD", uri).header("x-request-id", "r").send().await;
        let get = self.request("GET", uri).header("x-request-id", "r").send().await;
        assert_eq!(head.status, get.status, "{uri}");
        assert_eq!(head.headers, get.headers, "{uri}");
        assert_eq!(head.body, Bytes::new(), "{uri}");
        get
    }

    pub(crate) async fn head(&self, uri: &str) -> Answer {
        self.request("HEAD", uri).send().await
    }

    pub(crate) async fn delete(&self, uri: &str) -> Answer {
        self.request("DELETE", uri).send().await
    }

    /// Pushes a blob the short way; its digest.
    pub(crate) async fn push(&self, repository: &str, content: impl Into<Bytes>) -> Digest {
        let content = content.into();
        let digest = Digest::sha256(&content);
        let answer = self.request("POST", &format!("/v2/{repository}/blobs/uploads/?digest={digest}")).body(content).send().await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        digest
    }

    /// Begins an upload; its location.
    pub(crate) async fn begin(&self, repository: &str) -> String {
        let answer = self.request("POST", &format!("/v2/{repository}/blobs/uploads/")).send().await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        answer.header("location").to_owned()
    }

    pub(crate) async fn put_manifest(&self, uri: &str, media_type: &str, content: impl Into<Bytes>) -> Answer {
        self.request("PUT", uri).header("content-type", media_type).body(content.into()).send().await
    }
}

/// A request to be sent.
pub(crate) struct Call<'a> {
    router: &'a Router,
    method: Method,
    uri: String,
    headers: HeaderMap,
    body: Body,
}

impl Call<'_> {
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, value.parse().unwrap());
        self
    }

    pub(crate) fn body(mut self, content: impl Into<Body>) -> Self {
        self.body = content.into();
        self
    }

    pub(crate) async fn send(self) -> Answer {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri.parse().unwrap();
        *request.headers_mut() = self.headers;
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes);
        Answer { status: parts.status, headers: parts.headers, broken: body.is_err(), body: body.unwrap_or_default() }
    }
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The body ended in an error.
    pub(crate) broken: bool,
}

impl Answer {
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.maybe(name).unwrap_or_else(|| panic!("{name} is missing in {self:?}"))
    }

    pub(crate) fn maybe(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The status and the code of the first error.
    #[track_caller]
    pub(crate) fn error(&self) -> (u16, String) {
        let code = self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned();
        (self.status.as_u16(), code)
    }

    #[track_caller]
    pub(crate) fn assert(&self, status: u16) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn assert_error(&self, status: u16, code: &str) -> &Self {
        assert_eq!(self.error(), (status, code.to_owned()), "{self:?}");
        self
    }

    /// Status and headers, sorted, for snapshots.
    pub(crate) fn head(&self) -> String {
        let mut lines: Vec<String> = self.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        format!("{}\n{}", self.status.as_u16(), lines.join("\n"))
    }
}

/// `len` bytes that do not repeat within reach.
pub(crate) fn content(len: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

/// A body that comes in these pieces, without a length.
pub(crate) fn pieces(pieces: &[&[u8]]) -> Body {
    let pieces: Vec<Result<Bytes, std::convert::Infallible>> = pieces.iter().map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Body::from_stream(futures_util::stream::iter(pieces))
}
