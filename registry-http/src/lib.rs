//! The OCI Distribution API as an axum [`Router`] over a [`Registry`].
//!
//! # Why it is cut this way
//!
//! - **One route, split from the right.** Repository names have slashes, and routers match from the left. Rejected: a route per depth of name (names then
//!   have a largest depth), and a host's middleware stack for everything (its order would be the host's to get right).
//! - **The router carries what it needs**: request ids, a span and an access line (`registry_http::access`) per request, metrics by the `metrics` facade,
//!   limits and time-outs. It nests in any axum service; nothing of it depends on how that is served.
//! - **Bodies are streams in both directions.** An upload is hashed and written as it arrives, chunk by chunk as hyper reads them; a blob's chunks go out as
//!   the store gives them, without a copy. Nothing is collected but manifests, whose size is limited, each and all together.
//! - **[`serve`]** is an accept loop of its own rather than `axum::serve`, which cannot set the read buffer (pushes cost a tenth less CPU with 512 KiB than
//!   with an eighth of that), the largest head, the header time-out or a limit of connections.
//!
//! # An example
//!
//! ```
//! use std::sync::Arc;
//! use registry_core::memory::{MemoryBlobStore, MemoryMetadataStore};
//! use registry_core::Registry;
//! use registry_http::{HttpOptions, ServeOptions};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let registry = Registry::builder(Arc::new(MemoryBlobStore::default()), Arc::new(MemoryMetadataStore::default())).build();
//! let router = registry_http::router(registry, HttpOptions::default());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let stop = async {};
//! # /*
//! let stop = async { tokio::signal::ctrl_c().await.unwrap() };
//! # */
//! registry_http::serve(listener, router, stop, ServeOptions::default()).await
//! # }
//! ```

mod access;
#[cfg(feature = "auth")]
pub mod auth;
mod body;
mod conditional;
mod error;
mod forwarded;
#[cfg(all(fuzzing, feature = "auth"))]
#[doc(hidden)]
pub mod fuzzing;
mod handlers;
mod options;
mod query;
mod range;
mod request;
mod route;
mod serve;
mod telemetry;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::any;
use registry_core::Registry;

pub use self::options::HttpOptions;
#[cfg(feature = "tls")]
pub use self::serve::{Certificate, Tls, TlsError};
pub use self::serve::{ConnectionInfo, ServeOptions, serve};

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) registry: Registry,
    pub(crate) options: HttpOptions,
    pub(crate) telemetry: telemetry::Telemetry,
    pub(crate) request_ids: request::RequestIds,
    pub(crate) body_memory: body::BodyMemory,
}

/// The API. All its routes are under `/v2`, but for `/token` where tokens are issued; it has no fallback, so that it can be merged into another router.
///
/// If it is nested under a prefix, say so by [`HttpOptions::with_path_prefix`]. A recorder of the `metrics` crate has to be installed before the first
/// request.
pub fn router(registry: Registry, options: HttpOptions) -> Router {
    let app = Arc::new(App {
        body_memory: body::BodyMemory::new(options.body_memory.max(registry.max_manifest_size())),
        registry,
        options,
        telemetry: telemetry::Telemetry::new(),
        request_ids: request::RequestIds::new(),
    });
    #[cfg(feature = "auth")]
    let has_tokens = app.options.auth.as_ref().is_some_and(auth::Auth::has_tokens);
    #[cfg(not(feature = "auth"))]
    let has_tokens = false;
    let handler = any(move |request: Request| request::answer(Arc::clone(&app), request));
    let router = Router::new().route("/v2", handler.clone()).route("/v2/", handler.clone()).route("/v2/{*rest}", handler.clone());
    if has_tokens { router.route("/token", handler) } else { router }
}
