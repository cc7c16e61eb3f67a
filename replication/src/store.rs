//! [`ReplicatedStore`]: a [`BlobStore`] over many zones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use registry_core::blob::{
    Assurance, BlobInfo, BlobReader, ByteStream, Capabilities, DownloadOptions, ItemStream, ListOptions, NamedObjects, PendingUpload,
    ProbeReport, ReadOptions, ResumeOptions, WriteOptions,
};
use registry_core::{BlobStore, BlobUpload, Digest, Error, ErrorKind, Result, Timestamp};
use tokio::time::Instant;

use crate::cluster::{Cluster, unreadable, visible};
use crate::ledger::{Desired, ListPlacements, Placement, Retarget, ZoneId};
use crate::member::{Member, in_time};
use crate::policy::{TooFewCopies, ZoneSet};
use crate::{metrics, read, upload, write};

/// Placements that a listing takes from the ledger at a time.
const PAGE: u32 = 1000;

/// How often the ledger is asked while a push waits for copies that other processes may be making.
const WATCH: Duration = Duration::from_millis(200);

/// A [`BlobStore`] over many zones, to be built by [`ReplicatedStore::builder`]. Cheap to clone.
///
/// - **Writes** go to the closest zone that works and that the policy allows for the scope; the ledger knows of the blob before it is visible anywhere,
///   and [workers](Self::start) copy it to the other zones.
/// - **Reads** come from the closest verified copy, and go on in the next zone at the same byte when one fails, stalls or ends early. Whole blobs are
///   hashed on their way as each zone's [`verify_reads`](crate::Zone::with_verify_reads) says: put the registry's own on
///   [`Never`](registry_core::VerifyReads::Never). Ranges are not verified.
/// - **Deletes** make the blob invisible at once; the bytes go from each zone when it can be reached.
/// - **HEAD never lies**: [`stat`](BlobStore::stat) finds a blob only if a verified copy is there now. If the zones that have it cannot be asked while others
///   can be written to, it says `NotFound`, so that clients push the blob again rather than fail. A read of that blob is `Unavailable`.
#[derive(Clone, Debug)]
pub struct ReplicatedStore {
    pub(crate) cluster: Arc<Cluster>,
}

impl ReplicatedStore {
    /// The zone names that a policy wants blobs of this scope in.
    pub fn zones_of(&self, scope: Option<&str>) -> Vec<String> {
        self.cluster.wanted(self.cluster.policy.rule(scope)).map(|member| member.name.clone()).collect()
    }

    /// Whether at least one zone can be read and written: what a readiness check asks. [`ErrorKind::Unavailable`] if not.
    pub fn check(&self) -> Result<()> {
        let works = |member: &Arc<Member>| member.usable().is_some() && member.state().takes_writes() && member.health.is_writable();
        if self.cluster.members.iter().any(works) {
            return Ok(());
        }
        let last = self.cluster.members.iter().find_map(|member| member.health.last_error());
        Err(Error::new(ErrorKind::Unavailable, format!("no zone works: {}", last.as_deref().unwrap_or("none could be reached yet"))))
    }

    async fn condemn(&self, digest: &Digest, untouched_since: Option<Timestamp>) -> Result<()> {
        let (cluster, zones) = (&self.cluster, self.cluster.ids());
        cluster.ledger.condemn(digest, untouched_since, cluster.options.trash_delay, &zones).await?;
        cluster.wake(&zones);
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobStore for ReplicatedStore {
    async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
        let cluster = &self.cluster;
        let placements = visible(cluster, digest).await?;
        let Some(size) = read::size_of(&placements) else { return Err(unreadable(digest, &placements)) };
        let mut failure = None;
        let mut failed: Vec<ZoneId> = Vec::new();
        let sources = cluster.readable(&placements).await;
        if sources.is_empty() && placements.iter().any(Placement::is_source) {
            failure = Some(unreadable(digest, &placements));
        }
        for source in sources {
            let member = &source.member;
            match member.ask(&cluster.options, member.store.stat(digest)).await {
                Ok(info) if info.size == size => return Ok(info),
                Ok(info) => {
                    let reason = format!("it has {} bytes instead of {size}", info.size);
                    cluster.suspect(member, digest, source.generation, &reason).await;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    cluster.suspect(member, digest, source.generation, "it is not there").await;
                }
                Err(error) => {
                    metrics::failover(&member.name, metrics::reason(&error));
                    failed.extend(member.id().cloned());
                    failure = Some(error);
                }
            }
        }
        let elsewhere = |member: &Arc<Member>| {
            member.health.is_writable() && member.state().takes_writes() && member.usable().is_some_and(|id| !failed.contains(id))
        };
        match failure {
            // It may well be there. Who pushes it again makes it be there for sure; if nobody can, that is what there is to say.
            Some(error) if cluster.members.iter().any(elsewhere) => Err(Error::not_found(digest).with_source(error)),
            Some(error) => Err(error),
            None => Err(Error::not_found(digest)),
        }
    }

    async fn read(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
        read::open(&self.cluster, digest, options).await
    }

    async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
        upload::begin(&self.cluster, options).await
    }

    async fn resume(&self, options: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
        upload::resume(&self.cluster, options).await
    }

    async fn put(&self, digest: &Digest, options: WriteOptions, content: ByteStream) -> Result<BlobInfo> {
        write::put(&self.cluster, digest, options, content).await
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        self.condemn(digest, None).await
    }

    async fn delete_before(&self, digest: &Digest, deadline: std::time::Instant) -> Result<()> {
        // First the look, then the clock, then the deed, and that only if nobody has meant to write the blob since the look: so a process that stands still
        // before the last step cannot take away what was pushed in the meantime.
        let placements = self.cluster.ledger.placements(&[*digest]).await?;
        let touched_at = placements.iter().map(|placement| placement.touched_at).max().unwrap_or_default();
        if Instant::now().into_std() >= deadline {
            return Err(Error::new(ErrorKind::TimedOut, "too late to delete").with_key(digest));
        }
        self.condemn(digest, Some(touched_at)).await
    }

    fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo> {
        let shards = options.shards();
        let cluster = &self.cluster;
        Box::pin(stream::iter(shards).flat_map(move |shard| {
            let pages = Listing { cluster, shard, options: options.clone(), after: None, ended: false };
            stream::unfold(pages, |mut pages| async move {
                let page = pages.next().await?;
                Some((page, pages))
            })
            .flat_map(|page| match page {
                Ok(page) => stream::iter(page.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(error) => stream::iter(vec![Err(error)]),
            })
        }))
    }

    fn uploads(&self, older_than: Timestamp) -> ItemStream<'_, PendingUpload> {
        let works = |member: &&Arc<Member>| !member.health.is_open();
        let members = self.cluster.members.iter().filter(works).filter_map(|member| Some((member, member.usable()?)));
        // Before the first there may be many that are none.
        let limit = self.cluster.options.commit_timeout;
        let listed = members.map(move |(member, id)| {
            // One zone that is down or hangs must not keep what was abandoned in the others.
            stream::unfold(Some(member.store.uploads(older_than)), move |uploads| async move {
                let mut uploads = uploads?;
                match in_time(limit, &member.name, uploads.try_next()).await {
                    Ok(upload) => {
                        let upload = upload?;
                        Some((Ok(PendingUpload::new(format!("{id}/{}", upload.id), upload.modified, upload.size)), Some(uploads)))
                    }
                    Err(error) => {
                        tracing::info!(zone = member.name, %error, "could not list abandoned uploads");
                        None
                    }
                }
            })
        });
        Box::pin(stream::iter(listed).flatten())
    }

    async fn discard(&self, id: &str) -> Result<()> {
        // Ids have the zone before a slash; what has none is no upload of this store, and so is not there.
        let Some((zone, upload)) = id.split_once('/') else { return Ok(()) };
        let member = self.cluster.member(&ZoneId::new(zone));
        let member = member.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the upload's zone is not known").with_zone(zone))?;
        member.ask(&self.cluster.options, member.store.discard(upload)).await
    }

    async fn download_url(&self, method: &http::Method, digest: &Digest, options: DownloadOptions) -> Result<Option<http::Uri>> {
        let cluster = &self.cluster;
        let placements = visible(cluster, digest).await?;
        for source in cluster.readable(&placements).await {
            let member = &source.member;
            if member.health.is_open() || !member.store.capabilities().presign {
                continue;
            }
            // A client that is sent there must find it.
            match member.ask(&cluster.options, member.store.stat(digest)).await {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    cluster.suspect(member, digest, source.generation, "it is not there").await;
                    continue;
                }
                Err(_) => continue,
            }
            if let Ok(Some(url)) = member.ask(&cluster.options, member.store.download_url(method, digest, options.clone())).await {
                metrics::read(&member.name);
                return Ok(Some(url));
            }
        }
        Ok(None)
    }

    async fn retain(&self, digest: &Digest, scope: &str) -> Result<()> {
        let cluster = &self.cluster;
        if cluster.take_fresh(digest, scope) {
            return Ok(());
        }
        let targets = cluster.targets(Some(scope));
        if cluster.ledger.retain(digest, &targets).await? {
            cluster.wake(&targets);
        }
        Ok(())
    }

    async fn release(&self, digest: &Digest, _scope: &str) -> Result<()> {
        let cluster = &self.cluster;
        let Some(metadata) = &cluster.metadata else { return Ok(()) };
        let holders = metadata.holders(digest).await?;
        if holders.is_empty() {
            // Garbage collection sees to it.
            return Ok(());
        }
        let targets = cluster.union(holders.iter().map(registry_core::RepositoryName::as_str));
        let options = &cluster.options;
        let retarget = Retarget { targets, untouched_for: options.narrow_after, trash_delay: options.trash_delay };
        cluster.ledger.retarget(digest, &retarget).await?;
        cluster.wake(&cluster.ids());
        Ok(())
    }

    async fn await_copies(&self, digests: &[Digest], scope: &str) -> Result<Assurance> {
        let cluster = &self.cluster;
        let rule = cluster.policy.rule(Some(scope));
        if rule.min_copies <= 1 {
            return Ok(Assurance::Met);
        }
        let deadline = Instant::now() + rule.min_copies_timeout;
        loop {
            let progress = cluster.progress.notified();
            let placements = cluster.ledger.placements(digests).await?;
            let complete = complete_in(&placements, digests, rule.zones(), cluster);
            if complete >= rule.min_copies as usize {
                return Ok(Assurance::Met);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let message = format!("there are copies of all of it in {complete} zones, and not in {} yet", rule.min_copies);
                return match rule.too_few {
                    TooFewCopies::Warn => Ok(Assurance::Fewer(message)),
                    TooFewCopies::Refuse => Err(Error::new(ErrorKind::Unavailable, message).with_retry_after(Duration::from_secs(5))),
                };
            }
            // In this process it is told, in others it has to be looked for.
            drop(tokio::time::timeout(left.min(WATCH), progress).await);
        }
    }

    fn named(&self) -> Option<&dyn NamedObjects> {
        // Each zone has its own.
        None
    }

    async fn probe(&self) -> ProbeReport {
        registry_core::blob::probe(self).await
    }

    fn capabilities(&self) -> Capabilities {
        let all = |can: fn(&Capabilities) -> bool| self.cluster.members.iter().all(|member| can(&member.store.capabilities()));
        let any = |can: fn(&Capabilities) -> bool| self.cluster.members.iter().any(|member| can(&member.store.capabilities()));
        // What exists is the ledger's to say, and that is exact.
        Capabilities::default().with_presign(any(|zone| zone.presign)).with_resume(all(|zone| zone.resume)).with_named_objects(false)
    }
}

/// How many of these zones have all the blobs, as they are to be.
fn complete_in(placements: &[Placement], digests: &[Digest], zones: &ZoneSet, cluster: &Cluster) -> usize {
    let digests: BTreeSet<_> = digests.iter().collect();
    let mut counts: BTreeMap<&ZoneId, usize> = BTreeMap::new();
    for placement in placements.iter().filter(|placement| placement.desired == Desired::Present && placement.is_source()) {
        if cluster.member(&placement.zone).is_some_and(|member| zones.contains(&member.name)) {
            *counts.entry(&placement.zone).or_default() += 1;
        }
    }
    counts.into_values().filter(|count| *count == digests.len()).count()
}

/// A walk through a shard of the ledger.
struct Listing<'a> {
    cluster: &'a Cluster,
    shard: u8,
    options: ListOptions,
    after: Option<(Digest, ZoneId)>,
    ended: bool,
}

impl Listing<'_> {
    /// The next blobs that somebody wants and that are there.
    async fn next(&mut self) -> Option<Result<Vec<BlobInfo>>> {
        if self.ended {
            return None;
        }
        let list = ListPlacements::new(PAGE).with_shard(Some(self.shard)).with_after(self.after.clone());
        let mut page = match self.cluster.ledger.list(&list).await {
            Ok(page) => page,
            Err(error) => {
                self.ended = true;
                return Some(Err(error));
            }
        };
        if page.len() < PAGE as usize {
            self.ended = true;
        } else if let Some(last) = page.last().map(|placement| placement.digest) {
            // The last one's placements may go on on the next page; no blob has a page full of them.
            page.retain(|placement| placement.digest != last);
        }
        self.after = page.last().map(|placement| (placement.digest, placement.zone.clone()));
        let blobs = page.chunk_by(|one, next| one.digest == next.digest);
        let there = blobs.filter(|placements| {
            self.options.selects(&placements[0].digest)
                && crate::cluster::is_visible(placements)
                && placements.iter().any(Placement::is_source)
        });
        Some(Ok(there.filter_map(|placements| Some(BlobInfo::new(placements[0].digest, read::size_of(placements)?))).collect()))
    }
}
