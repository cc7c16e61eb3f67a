//! A registry in somebody's axum service: the service keeps its own pages, the registry gets `/v2/`.
//!
//! `cargo run --release --example embed [ADDRESS]`

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use metadata_sql::{SqlMetadataStore, SqliteOptions};
use registry_core::Registry;
use registry_http::{HttpOptions, ServeOptions};
use storage_fs::FsBlobStore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let blobs = FsBlobStore::open("./data/embedded").await?;
    let metadata = SqlMetadataStore::sqlite("./data/embedded.db", SqliteOptions::default()).await?;
    let registry = Registry::builder(Arc::new(blobs), Arc::new(metadata)).build();

    let ours = Router::new().route("/", get(|| async { "the service's own page\n" }));
    let app = ours.merge(registry_http::router(registry, HttpOptions::default()));

    let listener = tokio::net::TcpListener::bind(std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:5000")).await?;
    println!("serving on http://{}", listener.local_addr()?);
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    registry_http::serve(listener, app, stop, ServeOptions::default()).await?;
    Ok(())
}
