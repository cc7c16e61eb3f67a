//! What refers to a manifest.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::response::Response;
use http::HeaderValue;
use registry_core::manifest::media_type::OCI_INDEX;
use registry_core::metadata::{Referrer, ReferrersQuery};
use registry_core::{Digest, RepositoryName};
use serde::Serialize;

use super::{OCI_FILTERS_APPLIED, Paging, json, link_next};
use crate::error::{Code, Failure};
use crate::query::{Escaped, Query};
use crate::request::Call;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: Vec<Descriptor<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'a str,
    size: u64,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a Referrer> for Descriptor<'a> {
    fn from(referrer: &'a Referrer) -> Self {
        Self {
            media_type: &referrer.media_type,
            size: referrer.size,
            digest: referrer.digest.to_string(),
            artifact_type: referrer.artifact_type.as_deref(),
            annotations: &referrer.annotations,
        }
    }
}

pub(crate) async fn list(call: &mut Call<'_>, repository: &RepositoryName, subject: &Digest) -> Result<Response, Failure> {
    let query = Query::parse(call.parts.uri.query())?;
    let paging = Paging::of(call, &query)?;
    // A media type has no space: one was a `+` that the client did not escape.
    let artifact_type = query.one("artifactType", Code::Unsupported)?.map(|text| match text.contains(' ') {
        true => Cow::Owned(text.replace(' ', "+")),
        false => Cow::Borrowed(text),
    });
    let after = paging.last.as_deref().map(str::parse::<Digest>).transpose().map_err(registry_core::Error::from)?;
    let referrers = if paging.n == 0 {
        registry_core::Referrers::default()
    } else {
        let query = ReferrersQuery {
            repository: repository.clone(),
            subject: *subject,
            artifact_type: artifact_type.as_deref().map(str::to_owned),
            after,
            limit: paging.n,
        };
        call.app.registry.referrers(&query).await?
    };
    let manifests = referrers.items.iter().map(Descriptor::from).collect();
    let mut response = json(OCI_INDEX, &Index { schema_version: 2, media_type: OCI_INDEX, manifests });
    if artifact_type.is_some() {
        response.headers_mut().insert(OCI_FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if let Some(next) = &referrers.next {
        let filter = artifact_type.map(|text| format!("artifactType={}&", Escaped(&text))).unwrap_or_default();
        link_next(
            &mut response,
            call,
            &format!("/v2/{repository}/referrers/{subject}?{filter}n={}&last={}", paging.n, Escaped(&next.to_string())),
        );
    }
    Ok(response)
}
