//! [`ObjectBlobStore`].

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use object_store::multipart::MultipartStore;
use object_store::signer::SignedUrlOptions;
use object_store::{ObjectStore, ObjectStoreExt as _};
use registry_core::blob::{
    BlobInfo, BlobReader, BlobStore, BlobUpload, ByteStream, Capabilities, DownloadOptions, ItemStream, ListOptions, NamedObjects,
    PendingUpload, ProbeReport, ReadOptions, ResumeOptions, WriteOptions,
};
use registry_core::{Digest, Error, ErrorKind, Result, Timestamp};

use crate::builder::ObjectBlobStoreBuilder;
use crate::error::{is_missing, told};
use crate::named::NamedKeys;
use crate::promote::Promote;
use crate::shared::Shared;
use crate::upload::ObjectUpload;
use crate::{list, pending, put, read};

/// What a [probe](BlobStore::probe) tries beyond the way of a blob: what is particular to a service.
#[async_trait]
pub trait MoreProbes: std::fmt::Debug + Send + Sync {
    /// Adds its steps. Called if all before them went well.
    async fn probe(&self, report: &mut ProbeReport);
}

/// A [`BlobStore`] over an object store.
///
/// A clone is another handle of the same. Any number of processes may use the same place, and may resume each other's uploads.
#[derive(Clone, Debug)]
pub struct ObjectBlobStore {
    shared: Arc<Shared>,
    named: NamedKeys,
}

impl ObjectBlobStore {
    /// Over this service's client.
    pub fn builder<S: ObjectStore + MultipartStore>(store: Arc<S>) -> ObjectBlobStoreBuilder {
        ObjectBlobStoreBuilder::new(store)
    }

    pub(crate) fn over(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        Self { named: NamedKeys { shared: Arc::clone(&shared) }, shared }
    }

    async fn delete_until(&self, digest: &Digest, deadline: Option<Instant>) -> Result<()> {
        let shared = &self.shared;
        let in_time = || match deadline {
            Some(deadline) if tokio::time::Instant::now().into_std() >= deadline => {
                Err(Error::new(ErrorKind::TimedOut, "too late to delete").with_key(digest))
            }
            _ => Ok(()),
        };
        let path = shared.layout.blob(digest);
        if let Promote::Manifest(manifests) = &shared.promote {
            let upload = manifests.upload_of(&path).await.map_err(|error| told(error, digest))?;
            in_time()?;
            return pending::delete(shared, &**manifests, digest, upload).await;
        }
        in_time()?;
        match shared.objects.delete(&path).await {
            Err(error) if !is_missing(&error) => Err(told(error, digest)),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl BlobStore for ObjectBlobStore {
    async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
        read::stat(&self.shared, digest).await
    }

    async fn read(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
        read::read(&self.shared, digest, &options).await
    }

    async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
        Ok(Box::new(ObjectUpload::begin(&self.shared, &options)))
    }

    async fn resume(&self, options: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
        Ok(Box::new(ObjectUpload::resume(&self.shared, &options).await?))
    }

    async fn put(&self, digest: &Digest, options: WriteOptions, content: ByteStream) -> Result<BlobInfo> {
        put::put(&self.shared, digest, &options, content).await
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        self.delete_until(digest, None).await
    }

    async fn delete_before(&self, digest: &Digest, deadline: Instant) -> Result<()> {
        self.delete_until(digest, Some(deadline)).await
    }

    fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo> {
        list::list(&self.shared, options)
    }

    fn uploads(&self, older_than: Timestamp) -> ItemStream<'_, PendingUpload> {
        pending::list(&self.shared, older_than)
    }

    async fn discard(&self, id: &str) -> Result<()> {
        pending::discard(&self.shared, id).await
    }

    async fn download_url(&self, method: &http::Method, digest: &Digest, options: DownloadOptions) -> Result<Option<http::Uri>> {
        let Some(signer) = &self.shared.signer else { return Ok(None) };
        let mut signed = SignedUrlOptions::default();
        for (name, value) in
            [("response-content-type", options.content_type), ("response-content-disposition", options.content_disposition)]
        {
            if let Some(value) = value {
                signed = signed.with_query([(name, value)]);
            }
        }
        let path = self.shared.layout.blob(digest);
        let url = signer.signed_url_opts(method.clone(), &path, options.ttl, &signed).await.map_err(|error| told(error, digest))?;
        let url = url.as_str().parse();
        Ok(Some(url.map_err(|error| Error::new(ErrorKind::Internal, "the signed URL is none").with_key(digest).with_source(error))?))
    }

    async fn probe(&self) -> ProbeReport {
        let mut report = registry_core::blob::probe(self).await;
        if let Some(probes) = &self.shared.probes
            && report.failure().is_none()
        {
            probes.probe(&mut report).await;
        }
        report
    }

    fn named(&self) -> Option<&dyn NamedObjects> {
        Some(&self.named)
    }

    fn capabilities(&self) -> Capabilities {
        self.shared.capabilities
    }
}
