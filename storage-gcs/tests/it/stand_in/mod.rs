//! [`StandIn`]: the XML API of Google Cloud Storage, in memory, for tests.
//!
//! It is written from Google's documents, and where they are silent from reports of people who asked the real service; each fact
//! says which. No real Google Cloud Storage has ever been asked: what passes here shows that a client keeps to what is written, and
//! nothing about what Google does beyond it.
//!
//! What it does: buckets by path; objects with generations, ranges, preconditions and copies; multipart uploads and both listings;
//! bearer tokens, signatures in headers and in queries, all verified; what a virtual machine asks of its surroundings.
//!
//! What it does not: no TLS, JSON API, versioning, access lists, holds, quotas, compose, resumable uploads, chunked signatures,
//! CRC32C, decompression of objects with `Content-Encoding: gzip`. It knows one principal, who may do all. What it does not know
//! it answers with 501, where Google might have done it.
#![allow(dead_code, reason = "each of the crates that include it uses a part of it")]

mod auth;
mod identity;
mod listing;
mod machine;
mod multipart;
mod objects;
mod store;
mod wire;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderValue, Method};
use tokio::runtime::{Builder, Runtime};

use self::identity::Identity;
use self::store::Store;
use self::wire::{Ask, Refusal, refuse};

/// A service with one bucket and one principal. It ends when it is dropped.
///
/// It has a runtime of its own: with that, all its connections end.
pub(crate) struct StandIn {
    address: SocketAddr,
    bucket: String,
    shared: Arc<Shared>,
    running: Mutex<Option<Runtime>>,
}

struct Shared {
    identity: Identity,
    store: Mutex<Store>,
    log: Mutex<Vec<(String, String)>>,
    skew: AtomicI64,
    denies: AtomicBool,
}

impl StandIn {
    /// On a free port, with this bucket in it, and with keys that nobody else has.
    pub(crate) async fn start(bucket: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}");
        // An RSA key takes a moment.
        let identity = tokio::task::spawn_blocking(|| Identity::new(url)).await.unwrap();
        let store = Mutex::new(Store::with_bucket(bucket));
        let shared = Shared { identity, store, log: Mutex::default(), skew: AtomicI64::new(0), denies: AtomicBool::new(false) };
        let stand_in = Self { address, bucket: bucket.to_owned(), shared: Arc::new(shared), running: Mutex::default() };
        stand_in.serve_on(listener);
        stand_in
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The value for `GCE_METADATA_HOST`.
    pub(crate) fn metadata_host(&self) -> String {
        self.address.to_string()
    }

    /// The name of the HMAC key.
    pub(crate) fn access_key(&self) -> &str {
        &self.shared.identity.access_key
    }

    pub(crate) fn secret_key(&self) -> &str {
        &self.shared.identity.secret_key
    }

    /// The JSON of the principal's key file, with this service's address in it.
    pub(crate) fn service_account(&self) -> String {
        self.shared.identity.service_account()
    }

    /// Listens no more, and cuts all connections. What is stored stays.
    pub(crate) async fn stop(&self) {
        let running = self.running.lock().unwrap().take();
        if let Some(runtime) = running {
            tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5))).await.unwrap();
        }
    }

    /// After [`StandIn::stop`], at the same address.
    pub(crate) fn start_again(&self) {
        self.serve_on(TcpListener::bind(self.address).unwrap());
    }

    /// Method, and path with query, of all requests there were.
    pub(crate) fn log(&self) -> Vec<(String, String)> {
        self.shared.log.lock().unwrap().clone()
    }

    /// The keys in the bucket, in order.
    pub(crate) fn objects(&self) -> Vec<String> {
        self.shared.store.lock().unwrap().buckets[&self.bucket].objects.keys().cloned().collect()
    }

    /// How many uploads in the bucket are neither completed nor aborted.
    pub(crate) fn open_multiparts(&self) -> usize {
        self.shared.store.lock().unwrap().buckets[&self.bucket].uploads.len()
    }

    /// Its clock is ahead by so much.
    pub(crate) fn set_clock_skew(&self, seconds: i64) {
        self.shared.skew.store(seconds, Ordering::Relaxed);
    }

    /// From now on the principal may do nothing with objects, or everything again.
    pub(crate) fn deny(&self, denies: bool) {
        self.shared.denies.store(denies, Ordering::Relaxed);
    }

    /// Flips a bit of the object. Its ETag and its hash stay as they are.
    pub(crate) fn corrupt(&self, key: &str) {
        let mut store = self.shared.store.lock().unwrap();
        let object = store.buckets.get_mut(&self.bucket).unwrap().objects.get_mut(key).expect("an object of this name");
        let mut content = object.content.to_vec();
        *content.last_mut().expect("an object that is not empty") ^= 1;
        object.content = content.into();
    }

    fn serve_on(&self, listener: TcpListener) {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let router = Router::new().fallback(serve).with_state(Arc::clone(&self.shared));
        runtime.spawn(async move {
            listener.set_nonblocking(true).unwrap();
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await
        });
        let before = self.running.lock().unwrap().replace(runtime);
        assert!(before.is_none(), "it runs already");
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Some(runtime) = self.running.get_mut().unwrap().take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn now(&self) -> DateTime<Utc> {
        Utc::now() + TimeDelta::seconds(self.skew.load(Ordering::Relaxed))
    }
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let target = request.uri().to_string();
    shared.log.lock().unwrap().push((request.method().to_string(), target));
    let answer = match Ask::read(request).await {
        Ok(ask) => answer(&shared, &ask),
        Err(refusal) => Err(refusal),
    };
    let mut response = answer.unwrap_or_else(Refusal::into_response);
    let date = HeaderValue::try_from(wire::http_date(shared.now())).unwrap();
    response.headers_mut().insert("date", date);
    response
}

fn answer(shared: &Shared, ask: &Ask) -> wire::Answer {
    let now = shared.now();
    if let Some(answer) = machine::answer(ask, &shared.identity, now) {
        return answer;
    }
    auth::refuse_headers(ask)?;
    let scheme = auth::admit(ask, &shared.identity, now)?;
    let mut store = shared.store.lock().unwrap();
    if ask.method == Method::PUT && ask.key.is_empty() && ask.query.is_empty() {
        return store.create_bucket(&ask.bucket);
    }
    let (bucket, generations) = store.bucket(&ask.bucket)?;
    if shared.denies.load(Ordering::Relaxed) {
        return Err(refuse(403, "AccessDenied", "The caller does not have storage.objects permissions."));
    }
    match (ask.key.is_empty(), ask.param("uploads"), ask.param("uploadId")) {
        (true, ..) => listing::answer(ask, bucket),
        (_, Some(_), _) => multipart::initiate(ask, bucket, generations, now),
        (_, _, Some(id)) => multipart::answer(ask, id, bucket, generations, now),
        _ => objects::answer(ask, scheme, &mut store, now),
    }
}
