//! [`SqlMetadataStore`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use registry_core::metadata::{
    BlobLink, Deletion, Event, GcPreview, HeldBlob, Intent, LinkBlob, ManifestUse, MountBlob, NewUpload, Observation, OpenUpload, Page,
    PutManifest, Referrer, ReferrersQuery, StoredManifest, Sweep, SweepPage, UploadKey, UploadSession, UsedManifest,
};
use registry_core::{Digest, Error, ErrorKind, MetadataStore, Reference, RepositoryName, Result, Tag};

use crate::Stats;
use crate::commands as sql;
use crate::database::Database;

/// How many rows housekeeping removes in one transaction, so that nobody waits long behind it.
const TIDY: usize = 1000;

/// A [`MetadataStore`] in an SQL database. Cheap to clone: clones share the connections.
///
/// A caller that drops the future of a change leaves the change to happen wholly or not at all.
#[derive(Clone, Debug)]
pub struct SqlMetadataStore {
    database: Arc<Database>,
}

impl SqlMetadataStore {
    /// Opens a file of SQLite, and makes it if it is not there: readable by its owner alone, as are new folders above it. Several processes of one machine
    /// may open the same file. It must not lie on a network file system, whose locks do not keep SQLite's promises.
    ///
    /// [`ErrorKind::Unsupported`] if a newer release has upgraded the file; [`ErrorKind::Corrupt`] if it is something else.
    #[cfg(feature = "sqlite")]
    pub async fn sqlite(path: impl Into<std::path::PathBuf>, options: crate::SqliteOptions) -> Result<Self> {
        let open = crate::sqlite::Sqlite::open(path.into(), options).await?;
        Ok(Self { database: Arc::new(Database::Sqlite(Box::new(open))) })
    }

    /// Connects to PostgreSQL by a URL (`postgres://user:password@host:5432/database`) or a list of `keyword=value`, and makes the tables if they are not
    /// there. Any number of processes may share them.
    ///
    /// # TLS
    ///
    /// With `sslmode=require`, `verify-ca` or `verify-full` in the URL (in a list of keywords: `require`), every connection has TLS, and the server's certificate and
    /// name are checked by the system's authorities and those of
    /// [`PostgresOptions::with_authorities`](crate::PostgresOptions::with_authorities). The three words mean the same here; of PostgreSQL's own clients
    /// that is what `verify-full` means. A server without TLS is then an error.
    ///
    /// Without `sslmode`, and with `disable` or `prefer`, connections have no TLS. That goes for `prefer` too: TLS that is not checked, or that whoever is
    /// between can do away with, protects from nobody.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the URL or an option makes no sense; [`ErrorKind::Unsupported`] if a newer release has upgraded the tables;
    /// [`ErrorKind::Unavailable`] if the server does not answer, or TLS with it comes to nothing. No error has the password in it.
    #[cfg(feature = "postgres")]
    pub async fn postgres(url: &str, options: crate::PostgresOptions) -> Result<Self> {
        let open = crate::postgres::Postgres::open(url, options).await?;
        Ok(Self { database: Arc::new(Database::Postgres(Box::new(open))) })
    }

    #[cfg(all(test, feature = "sqlite"))]
    pub(crate) fn over(database: Database) -> Self {
        Self { database: Arc::new(database) }
    }

    /// The placement ledger in the same database. It shares the connections, and is closed with the store.
    #[cfg(feature = "ledger")]
    pub fn ledger(&self) -> crate::SqlLedger {
        crate::SqlLedger::over(Arc::clone(&self.database))
    }

    /// What was done through this store, its clones, and its ledger.
    pub fn stats(&self) -> Stats {
        self.database.stats()
    }

    /// Finishes every change that was begun and closes the connections. Changes begun later fail as [`ErrorKind::Unavailable`].
    ///
    /// If all clones are dropped instead, changes that were begun are still made, unless the process ends before.
    pub async fn close(&self) {
        self.database.close().await;
    }
}

#[async_trait]
impl MetadataStore for SqlMetadataStore {
    async fn intend_blob(&self, digest: &Digest) -> Result<Intent> {
        self.database.write(sql::IntendBlob(*digest)).await
    }

    async fn link_blob(&self, link: LinkBlob) -> Result<()> {
        self.database.write(sql::Link(link)).await
    }

    async fn mount_blob(&self, mount: MountBlob) -> Result<Option<BlobLink>> {
        self.database.write(sql::Mount(mount)).await
    }

    async fn unlink_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        self.database.write(sql::UnlinkBlob { repository: repository.clone(), digest: *digest }).await
    }

    async fn blob_link(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<BlobLink>> {
        let served = self.database.serve(sql::Hot::Link(repository.clone(), *digest)).await?;
        Ok(served.and_then(sql::Served::into_link).map(|held| held.link))
    }

    async fn rely_on_blob(&self, repository: &RepositoryName, digest: &Digest, at_most_every: Duration) -> Result<Option<BlobLink>> {
        let command = sql::RelyOnBlob { repository: repository.clone(), digest: *digest, at_most_every };
        match self.database.relied_on(&command).await? {
            sql::Reliance::Settled(answer) => Ok(answer),
            sql::Reliance::Due => self.database.write(command).await,
        }
    }

    async fn holders(&self, digest: &Digest) -> Result<Vec<RepositoryName>> {
        self.database.read(sql::Holders(*digest)).await
    }

    async fn held_blobs(&self, after: Option<&Digest>, limit: u32) -> Result<Vec<HeldBlob>> {
        self.database.read(sql::HeldBlobs { after: after.copied(), limit }).await
    }

    async fn unknown_blobs(&self, digests: &[Digest]) -> Result<Vec<Digest>> {
        if digests.is_empty() {
            return Ok(Vec::new());
        }
        self.database.read(sql::UnknownBlobs(digests.to_vec())).await
    }

    async fn observe_blob(&self, digest: &Digest, observation: Observation) -> Result<()> {
        self.database.write(sql::ObserveBlob { digest: *digest, observation }).await
    }

    async fn create_upload(&self, upload: NewUpload) -> Result<()> {
        self.database.write(sql::CreateUpload(upload)).await
    }

    async fn open_upload(&self, key: &UploadKey, offset: Option<u64>) -> Result<OpenUpload> {
        self.database.write(sql::OpenForWriting { key: key.clone(), offset }).await
    }

    async fn save_upload(&self, key: &UploadKey, epoch: u64, offset: u64, token: Bytes) -> Result<()> {
        self.database.write(sql::SaveUpload { key: key.clone(), epoch, offset, token }).await
    }

    async fn upload(&self, key: &UploadKey) -> Result<UploadSession> {
        self.database.read(sql::Upload(key.clone())).await
    }

    async fn cancel_upload(&self, key: &UploadKey) -> Result<OpenUpload> {
        self.database.write(sql::CancelUpload(key.clone())).await
    }

    async fn expire_uploads(&self, idle: Duration, keep_finished: Duration, limit: u32) -> Result<u32> {
        self.database.write(sql::ExpireUploads { idle, keep_finished, limit }).await
    }

    async fn put_manifest(&self, manifest: PutManifest) -> Result<()> {
        self.database.write(sql::Put(manifest)).await
    }

    async fn manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<Option<StoredManifest>> {
        let served = self.database.serve(sql::Hot::manifest(repository, reference)).await?;
        Ok(served.and_then(sql::Served::into_manifest))
    }

    async fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        self.database.write(sql::DeleteManifest { repository: repository.clone(), digest: *digest }).await
    }

    async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool> {
        self.database.write(sql::DeleteTag { repository: repository.clone(), tag: tag.clone() }).await
    }

    async fn tags(&self, repository: &RepositoryName, page: &Page) -> Result<Option<Vec<Tag>>> {
        self.database.read(sql::Tags { repository: repository.clone(), page: page.clone() }).await
    }

    async fn repositories(&self, page: &Page) -> Result<Vec<RepositoryName>> {
        self.database.read(sql::Repositories(page.clone())).await
    }

    async fn referrers(&self, query: &ReferrersQuery) -> Result<Vec<Referrer>> {
        self.database.read(sql::ReferrersOf(query.clone())).await
    }

    async fn note_uses(&self, uses: &[(RepositoryName, Digest)]) -> Result<()> {
        if uses.is_empty() {
            return Ok(());
        }
        self.database.write(sql::NoteUses(uses.to_vec())).await
    }

    async fn manifests_by_use(&self, after: Option<&ManifestUse>, limit: u32) -> Result<Vec<UsedManifest>> {
        self.database.read(sql::ManifestsByUse { after: after.cloned(), limit }).await
    }

    async fn expire_links(&self, sweep: &Sweep) -> Result<SweepPage<(RepositoryName, Digest)>> {
        let look = self.database.read(sql::ExpirableLinks(sweep.clone())).await?;
        let removed = if look.candidates.is_empty() {
            Vec::new()
        } else {
            self.database.write(sql::ExpireLinks { candidates: look.candidates, grace: sweep.grace }).await?
        };
        Ok(SweepPage { removed, next: look.next })
    }

    async fn condemn_blobs(&self, sweep: &Sweep) -> Result<SweepPage<Digest>> {
        let look = self.database.read(sql::CondemnableBlobs(sweep.clone())).await?;
        Ok(SweepPage { removed: self.condemn(&look.candidates, sweep.grace).await?, next: look.next })
    }

    async fn condemn(&self, digests: &[Digest], grace: Duration) -> Result<Vec<Digest>> {
        if digests.is_empty() {
            return Ok(Vec::new());
        }
        self.database.write(sql::Condemn { digests: digests.to_vec(), grace }).await
    }

    async fn claim_deletions(&self, trash_delay: Duration, lease: Duration, limit: u32) -> Result<Vec<Deletion>> {
        self.database.write(sql::ClaimDeletions { trash_delay, lease, limit }).await
    }

    async fn renew_deletion(&self, deletion: &Deletion, lease: Duration) -> Result<()> {
        self.database.write(sql::RenewDeletion { deletion: *deletion, lease }).await
    }

    async fn complete_deletion(&self, deletion: &Deletion) -> Result<()> {
        self.database.write(sql::CompleteDeletion(*deletion)).await
    }

    async fn preview_collection(&self, grace: Duration) -> Result<GcPreview> {
        self.database.read(sql::Preview { grace }).await
    }

    async fn tidy(&self, keep_events: Duration) -> Result<()> {
        let limit = u32::try_from(TIDY).unwrap_or(u32::MAX);
        while self.database.write(sql::TidyEvents { keep: keep_events, limit }).await? >= u64::from(limit) {}
        while self.database.write(sql::TidyHistory { keep: keep_events, limit }).await? >= u64::from(limit) {}
        for some in self.database.read(sql::EmptyRepositories).await?.chunks(TIDY) {
            while !self.database.write(sql::TidyRepositories { ids: some.to_vec(), limit }).await? {}
        }
        Ok(())
    }

    async fn events(&self, after: u64, limit: u32) -> Result<Vec<Event>> {
        self.database.read(sql::Events { after, limit }).await
    }

    async fn ping(&self) -> Result<()> {
        if self.database.is_closed() {
            return Err(Error::new(ErrorKind::Unavailable, "the metadata store is closed"));
        }
        if let Some(failure) = self.database.failure() {
            return Err(failure);
        }
        self.database.read(sql::Ping).await
    }
}
