//! `/replication/wait`: answered when an image can be pulled from a zone.

use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use registry_core::{Error, ErrorKind};
use serde::Deserialize;
use serde_json::json;

use super::Admin;
use crate::commands::image::{Image, walk};
use crate::config::duration;

/// How long to wait if nothing is said, at least (so that it is looked once, whoever is in a hurry), and at most.
const DEFAULT: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);

/// For what.
#[derive(Debug, Deserialize)]
pub(super) struct Wait {
    image: String,
    zone: Option<String>,
    timeout: Option<String>,
}

fn refuse(status: StatusCode, message: impl ToString) -> Response {
    (status, Json(json!({ "error": message.to_string() }))).into_response()
}

/// 200 as soon as it is there, 504 if it is not in time, 404 if there is no such image, 400 if there is no such zone.
pub(super) async fn wait(State(admin): State<Admin>, Query(asked): Query<Wait>) -> Response {
    let image = match Image::parse(&asked.image) {
        Ok(image) => image,
        Err(problem) => return refuse(StatusCode::BAD_REQUEST, problem),
    };
    let timeout = match asked.timeout.as_deref().map_or(Ok(DEFAULT), duration) {
        Ok(timeout) => timeout.clamp(SHORTEST, LONGEST),
        Err(hint) => return refuse(StatusCode::BAD_REQUEST, format!("timeout: {hint}")),
    };
    let Some(store) = &admin.replicated else {
        return refuse(StatusCode::NOT_FOUND, "there is only one zone");
    };
    let scope = Some(image.repository().as_str());
    let mut found = None;
    let wait = async {
        let (_, digests) = found.insert(walk(&admin.registry, image.repository(), image.reference()).await?);
        store.await_image(scope, digests, asked.zone.as_deref()).await
    };
    let waited = tokio::select! {
        waited = tokio::time::timeout(timeout, wait) => waited,
        () = admin.stop.cancelled() => return refuse(StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    };
    let status = match waited {
        Ok(Ok(())) => StatusCode::OK,
        Ok(Err(error)) => return failed(&error),
        Err(_) => StatusCode::GATEWAY_TIMEOUT,
    };
    let Some((digest, digests)) = found else {
        return refuse(StatusCode::GATEWAY_TIMEOUT, "the image's manifests could not be read in time");
    };
    match store.image_status(scope, &digests).await {
        Ok(zones) => {
            let zones: Vec<_> = zones
                .into_iter()
                .map(|zone| json!({ "name": zone.name, "wanted": zone.wanted, "complete": zone.is_complete(), "present": zone.present }))
                .collect();
            let told = json!({ "image": asked.image, "digest": digest.to_string(), "blobs": digests.len(), "zones": zones });
            (status, Json(told)).into_response()
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &Error) -> Response {
    let status = match error.kind() {
        ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound | ErrorKind::ManifestUnknown | ErrorKind::RepositoryUnknown => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    refuse(status, error)
}
