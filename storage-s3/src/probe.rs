//! What a probe tries beyond the way of a blob: the clock, multipart uploads, and URLs.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::{Method, StatusCode};
use object_store::client::HttpRequestBody;
use object_store::multipart::MultipartStore as _;
use object_store::path::Path;
use object_store::signer::Signer as _;
use object_store::{PutPayload, Result as ObjectResult};
use registry_core::blob::ProbeReport;
use registry_core::{Error, ErrorKind, Result};
use storage_object::http::{compare_clocks, short_body};
use storage_object::{ListMultiparts as _, MoreProbes};

use crate::refusal::Failure;
use crate::store::{S3Store, generic, known};

/// The probes, in a folder.
#[derive(Debug)]
pub(crate) struct Probes {
    pub(crate) store: S3Store,
    pub(crate) storage_path: String,
}

impl Probes {
    fn folder(&self) -> Path {
        Path::from(format!("{}/_verify", self.storage_path.trim_matches('/')))
    }

    async fn try_clock(&self) -> Result<()> {
        let service = self.store.dialect().service();
        match self.store.requests().look().await? {
            Some(headers) => compare_clocks(&headers, service, "requests are refused once it is a quarter of an hour"),
            None => Err(Error::new(ErrorKind::Unavailable, "the bucket is gone")),
        }
    }

    /// Begins one, sends a part, looks whether it is listed, and aborts it.
    async fn try_multipart(&self) -> ObjectResult<()> {
        let path = self.folder().join(registry_core::random_id());
        let id = self.store.create_multipart(&path).await?;
        let tried = async {
            self.store.put_part(&path, &id, 0, PutPayload::from_static(b"part")).await?;
            let parts = self.store.stored_parts(&path, &id).await?;
            if parts.is_none_or(|parts| parts.size != 4) {
                return Err(generic(Error::new(ErrorKind::Corrupt, "a part of a multipart upload is not listed")));
            }
            // Some list an upload only by its whole key. That they can be listed at all is what counts here.
            self.store.list_multiparts(&self.folder()).try_collect::<Vec<_>>().await.map(drop)
        };
        let tried = tried.await;
        let aborted = self.store.abort_multipart(&path, &id).await;
        tried.and(aborted)
    }

    /// Whether a signed URL lets its holder in.
    async fn try_url(&self) -> Result<()> {
        let nothing = self.folder().join("nothing");
        let url = self.store.signed_url(Method::GET, &nothing, Duration::from_secs(60)).await.map_err(known)?;
        let request = http::Request::get(url.as_str()).body(HttpRequestBody::from(Bytes::new()));
        let request = request.map_err(|error| Error::new(ErrorKind::Internal, "the signed URL is none").with_source(error))?;
        let service = &self.store.requests().service;
        let asked = service.asked(&request);
        let what = format!("{} by a signed URL", asked.what());
        let answer = service.http.send(request).await.map_err(|why| Failure::Lost { what, why }.told())?;
        let (head, body) = answer.into_parts();
        match head.status {
            // It was let in, and there is nothing.
            StatusCode::NOT_FOUND => Ok(()),
            status => Err(service.refusal(&asked, status, &head.headers, &short_body(body).await).told()),
        }
    }
}

#[async_trait]
impl MoreProbes for Probes {
    async fn probe(&self, report: &mut ProbeReport) {
        let start = Instant::now();
        let clock = self.try_clock().await;
        report.push("clock", start.elapsed(), clock);
        if let Some(certificate) = self.store.requests().service.http.try_certificate() {
            report.push("certificate", Duration::ZERO, certificate);
        }
        let start = Instant::now();
        let multipart = self.try_multipart().await.map_err(known);
        report.push("multipart upload", start.elapsed(), multipart);
        let start = Instant::now();
        let url = self.try_url().await;
        report.push("signed URL", start.elapsed(), url);
    }
}
