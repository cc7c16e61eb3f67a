//! [`Broken`]: a sound store with one bug.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, future, stream};
use registry_core::blob::{
    Assurance, BlobInfo, BlobReader, ByteRange, ByteStream, Capabilities, ItemStream, ListOptions, NamedObjectInfo, PendingUpload,
    ProbeReport, ReadOptions, ResumeOptions, WriteOptions, once, probe,
};
use registry_core::memory::MemoryBlobStore;
use registry_core::{
    Algorithm, BlobStore, BlobStoreExt as _, BlobUpload, Digest, Error, ErrorKind, Hasher, NamedObjects, Result, Timestamp, UploadToken,
};

const END_OF_TIME: Timestamp = Timestamp::from_millis(253_402_300_799_000);

/// What is wrong with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    CommitUnchecked,
    PutUnchecked,
    PutVisibleEarly,
    UploadVisibleEarly,
    TornPut,
    StreamErrorIsTheEnd,
    EmptyChunkIsTheEnd,
    SizeUnchecked,
    WrongDigestKills,
    CommitOnce,
    NoSha512Unannounced,
    ReplacesInTwoSteps,
    FailedPutDeletes,
    OneWriterOnly,
    BeginStages,
    ShortRead,
    LongRead,
    StatWrongSize,
    StatHangs,
    MissingIsInternal,
    RangeOffByOne,
    SuffixOffByOne,
    RangeNotClamped,
    RangeWithoutSize,
    RangeOfEmptySucceeds,
    DeletesNothing,
    DeleteOfMissingFails,
    DeletesTwins,
    CachesPerProcess,
    ListMissesSha512,
    ListUnordered,
    ListRepeats,
    ListIgnoresShard,
    ListIgnoresAfter,
    ListStopsEarly,
    ListShowsDeleted,
    HintCatchesUp,
    HintNeverCatchesUp,
    ResumeKeepsBytes,
    LateWritesArrive,
    LateAbortKills,
    LateCommitKills,
    OlderEpochAccepted,
    SuspendedWritable,
    SuspendedCommits,
    NeedsMidstate,
    TokensPerProcess,
    ResumeForgetsHash,
    ResumesAnything,
    UploadsForgotten,
    UploadsIgnoreTime,
    UploadsKeepCommitted,
    AbortKeeps,
    DiscardKeeps,
    DiscardsAll,
    DiscardOfMissingFails,
    DiscardDeletesBlob,
    NamedPutKeepsFirst,
    NamedListUnordered,
    NamedListByFolder,
    NamesUnchecked,
    NamedUnlimited,
    NamedReplacedInTwoSteps,
    IdentityPerProcess,
    ReleaseDeletes,
    CopiesAreNeverEnough,
    NoCopiesAreTooFew,
    ProbeLeavesBlob,
    SaysItPresigns,
    SaysItHasNoNames,
    SaysItCannotResume,
}

#[derive(Clone, Debug)]
pub(super) struct Broken {
    inner: MemoryBlobStore,
    bug: Bug,
    disk: Arc<Mutex<Disk>>,
    process: Arc<Mutex<Process>>,
}

/// What all processes share.
#[derive(Debug, Default)]
struct Disk {
    /// Blobs that a sound store would not have like this: they hide the sound ones.
    blobs: BTreeMap<Digest, Bytes>,
    /// All bytes that an upload was sent, whoever sent them.
    uploads: Vec<Vec<u8>>,
    /// Which upload a token belongs to.
    tokens: BTreeMap<Bytes, usize>,
    /// What became of uploads, by the id that they were listed under.
    committed: BTreeMap<String, Digest>,
    deleted: Vec<BlobInfo>,
    leftovers: Vec<PendingUpload>,
    writing: BTreeSet<Digest>,
    lists: u32,
}

#[derive(Debug, Default)]
struct Process {
    number: u64,
    blobs: BTreeMap<Digest, Bytes>,
    tokens: BTreeSet<Bytes>,
}

impl Broken {
    pub(super) fn new(bug: Bug) -> Self {
        Self { inner: MemoryBlobStore::default(), bug, disk: Arc::default(), process: Arc::default() }
    }

    /// The store as another process over the same disk has it.
    pub(super) fn in_another_process(&self) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let process = Process { number: NUMBER.fetch_add(1, Ordering::Relaxed), ..Process::default() };
        Self { process: Arc::new(Mutex::new(process)), ..self.clone() }
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap()
    }

    /// The blob where the bug put it, if it did.
    fn wrong(&self, digest: &Digest) -> Option<Bytes> {
        let cached = self.process().blobs.get(digest).cloned();
        cached.or_else(|| self.disk().blobs.get(digest).cloned())
    }

    fn upload(&self, inner: Box<dyn BlobUpload>, number: usize, algorithm: Algorithm, resumed: bool) -> Box<dyn BlobUpload> {
        let seen = Hasher::new(Algorithm::Sha256);
        let store = self.clone();
        Box::new(Upload { store, inner, number, algorithm, resumed, seen, suspended: false, committed: false, dead: false })
    }

    async fn ids(&self) -> Vec<String> {
        self.inner.uploads(END_OF_TIME).map_ok(|upload| upload.id).try_collect().await.unwrap()
    }

    async fn discard_all(&self) {
        for id in self.ids().await {
            self.inner.discard(&id).await.unwrap();
        }
    }

    fn inner_named(&self) -> &dyn NamedObjects {
        self.inner.named().unwrap()
    }

    fn name(&self, name: &str) -> String {
        if self.is(Bug::IdentityPerProcess) { format!("p{}-{name}", self.process().number) } else { name.to_owned() }
    }
}

fn reader(digest: &Digest, content: &Bytes, options: &ReadOptions) -> Result<BlobReader> {
    let info = BlobInfo::new(*digest, content.len() as u64);
    let range = options.resolve(digest, info.size)?;
    let part = content.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
    Ok(BlobReader::new(info, range, once(part)))
}

#[async_trait]
impl BlobStore for Broken {
    async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
        if self.is(Bug::StatHangs) {
            future::pending::<()>().await;
        }
        if let Some(content) = self.wrong(digest) {
            return Ok(BlobInfo::new(*digest, content.len() as u64));
        }
        let mut info = match self.inner.stat(digest).await {
            Err(error) if self.is(Bug::MissingIsInternal) => return Err(error.with_kind(ErrorKind::Internal)),
            result => result?,
        };
        info.size += u64::from(self.is(Bug::StatWrongSize));
        Ok(info)
    }

    async fn read(&self, digest: &Digest, mut options: ReadOptions) -> Result<BlobReader> {
        if let Some(content) = self.wrong(digest) {
            return reader(digest, &content, &options);
        }
        let size = self.inner.stat(digest).await?.size;
        match (self.bug, options.range) {
            (Bug::RangeOffByOne, Some(ByteRange::FromTo(first, Some(last)))) if last > first => {
                options.range = Some(ByteRange::FromTo(first, Some(last - 1)));
            }
            (Bug::SuffixOffByOne, Some(ByteRange::Last(n))) if n > 1 => options.range = Some(ByteRange::Last(n - 1)),
            (Bug::RangeNotClamped, Some(ByteRange::FromTo(_, Some(last)))) if last >= size => {
                return Err(Error::range_invalid(size, "behind the end"));
            }
            (Bug::RangeOfEmptySucceeds, Some(_)) if size == 0 => options.range = None,
            _ => {}
        }
        let mut reader = match self.inner.read(digest, options).await {
            Err(error) if self.is(Bug::RangeWithoutSize) && error.kind() == ErrorKind::RangeInvalid => {
                return Err(Error::new(ErrorKind::RangeInvalid, "no such range"));
            }
            result => result?,
        };
        if self.is(Bug::CachesPerProcess) {
            let content = self.inner.read_all(digest).await?;
            self.process().blobs.insert(*digest, content);
        }
        if self.is(Bug::ShortRead) && !reader.is_empty() {
            let part = self.inner.read(digest, ReadOptions::default()).await?.collect().await?;
            reader.stream = once(part.slice(..part.len() - 1));
        }
        if self.is(Bug::LongRead) {
            reader.stream = Box::pin(reader.stream.chain(once(Bytes::from_static(b"!"))));
        }
        Ok(reader)
    }

    async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
        let algorithm = options.algorithm;
        let inner = self.inner.begin(options).await?;
        let number = {
            let mut disk = self.disk();
            if self.is(Bug::BeginStages) {
                disk.leftovers.push(PendingUpload::new("leftover", Timestamp::default(), None));
            }
            disk.uploads.push(Vec::new());
            disk.uploads.len() - 1
        };
        Ok(self.upload(inner, number, algorithm, false))
    }

    async fn resume(&self, mut options: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
        let token = options.token.clone();
        if self.is(Bug::NeedsMidstate) && token.hasher().is_none() {
            return Err(Error::new(ErrorKind::UploadUnknown, "the midstate cannot be read"));
        }
        if self.is(Bug::TokensPerProcess) && !self.process().tokens.contains(&token.backend) {
            return Err(Error::new(ErrorKind::UploadUnknown, "not here"));
        }
        if self.is(Bug::OlderEpochAccepted) {
            static EPOCH: AtomicU64 = AtomicU64::new(1_000_000);
            options.epoch = EPOCH.fetch_add(1, Ordering::Relaxed);
        }
        let inner = match self.inner.resume(options).await {
            Err(error) if self.is(Bug::ResumesAnything) && error.kind() == ErrorKind::UploadUnknown => {
                self.inner.begin(WriteOptions::default()).await?
            }
            result => result?,
        };
        let number = {
            let mut disk = self.disk();
            let number = disk.tokens[&token.backend];
            if !self.is(Bug::ResumeKeepsBytes) {
                disk.uploads[number].truncate(usize::try_from(token.offset).unwrap());
            }
            number
        };
        Ok(self.upload(inner, number, token.algorithm, true))
    }

    async fn put(&self, digest: &Digest, mut options: WriteOptions, content: ByteStream) -> Result<BlobInfo> {
        if self.is(Bug::SizeUnchecked) {
            options.size = None;
        }
        if self.is(Bug::ReplacesInTwoSteps) {
            self.inner.delete(digest).await?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if self.is(Bug::OneWriterOnly) {
            if !self.disk().writing.insert(*digest) {
                return Err(Error::new(ErrorKind::Conflict, "somebody is writing it"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let content: ByteStream = match self.bug {
            Bug::StreamErrorIsTheEnd => Box::pin(content.take_while(|chunk| future::ready(chunk.is_ok()))),
            Bug::EmptyChunkIsTheEnd => Box::pin(content.take_while(|chunk| future::ready(!chunk.as_ref().is_ok_and(Bytes::is_empty)))),
            _ => content,
        };
        let sent = Arc::new(Mutex::new(Vec::new()));
        let (store, name, log) = (self.clone(), *digest, Arc::clone(&sent));
        let content = content.inspect_ok(move |chunk| {
            let mut sent = log.lock().unwrap();
            sent.extend_from_slice(chunk);
            if store.is(Bug::PutVisibleEarly) {
                store.disk().blobs.insert(name, sent.clone().into());
            }
        });
        let result = self.inner.put(digest, options, Box::pin(content)).await;
        let sent = Bytes::from(std::mem::take(&mut *sent.lock().unwrap()));
        let mut disk = self.disk();
        disk.writing.remove(digest);
        match (self.bug, &result) {
            (Bug::PutVisibleEarly, _) => drop(disk.blobs.remove(digest)),
            (Bug::TornPut, Err(error)) if error.kind() == ErrorKind::Interrupted => drop(disk.blobs.insert(*digest, sent)),
            (Bug::PutUnchecked, Err(error)) if error.kind() == ErrorKind::DigestInvalid => {
                let info = BlobInfo::new(*digest, sent.len() as u64);
                disk.blobs.insert(*digest, sent);
                return Ok(info);
            }
            (Bug::FailedPutDeletes, Err(_)) => {
                let deleted = self.inner.delete(digest).now_or_never();
                assert!(deleted.is_some(), "the store in memory does not wait");
            }
            _ => {}
        }
        result
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        self.process().blobs.remove(digest);
        self.disk().blobs.remove(digest);
        match self.bug {
            Bug::DeletesNothing => return Ok(()),
            Bug::DeleteOfMissingFails => {
                self.inner.stat(digest).await?;
            }
            Bug::DeletesTwins => {
                if let Ok(content) = self.inner.read_all(digest).await {
                    for algorithm in Algorithm::ALL {
                        self.inner.delete(&Digest::of(algorithm, &content)).await?;
                    }
                }
            }
            Bug::ListShowsDeleted => {
                if let Ok(info) = self.inner.stat(digest).await {
                    self.disk().deleted.push(info);
                }
            }
            _ => {}
        }
        self.inner.delete(digest).await
    }

    fn list(&self, mut options: ListOptions) -> ItemStream<'_, BlobInfo> {
        match self.bug {
            Bug::ListIgnoresShard => options.shard = None,
            Bug::ListIgnoresAfter => options.after = None,
            _ => {}
        }
        let listed = async move {
            let mut infos: Vec<_> = self.inner.list(options.clone()).try_collect().await?;
            let lists = {
                let mut disk = self.disk();
                disk.lists += 1;
                disk.lists
            };
            match self.bug {
                Bug::ListMissesSha512 => infos.retain(|info| info.digest.algorithm() == Algorithm::Sha256),
                Bug::ListUnordered => infos.reverse(),
                Bug::ListRepeats => infos.extend(infos.last().cloned()),
                Bug::ListStopsEarly => infos.truncate(30),
                Bug::ListShowsDeleted => infos.extend(self.disk().deleted.iter().filter(|info| options.selects(&info.digest)).cloned()),
                Bug::HintCatchesUp if lists <= 3 => drop(infos.pop()),
                Bug::HintNeverCatchesUp => drop(infos.pop()),
                _ => {}
            }
            Ok::<_, Error>(stream::iter(infos.into_iter().map(Ok)))
        };
        Box::pin(stream::once(listed).try_flatten())
    }

    fn uploads(&self, older_than: Timestamp) -> ItemStream<'_, PendingUpload> {
        let older_than = if self.is(Bug::UploadsIgnoreTime) { END_OF_TIME } else { older_than };
        if self.is(Bug::UploadsForgotten) {
            return Box::pin(stream::empty());
        }
        let leftovers: Vec<_> = self.disk().leftovers.iter().cloned().map(Ok).collect();
        Box::pin(self.inner.uploads(older_than).chain(stream::iter(leftovers)))
    }

    async fn discard(&self, id: &str) -> Result<()> {
        match self.bug {
            Bug::DiscardKeeps => return Ok(()),
            Bug::DiscardsAll => self.discard_all().await,
            Bug::DiscardOfMissingFails if !self.ids().await.iter().any(|other| other == id) => return Err(Error::not_found(id)),
            Bug::DiscardDeletesBlob => {
                let digest = self.disk().committed.get(id).copied();
                if let Some(digest) = digest {
                    self.inner.delete(&digest).await?;
                }
            }
            _ => {}
        }
        self.inner.discard(id).await
    }

    async fn release(&self, digest: &Digest, _: &str) -> Result<()> {
        if self.is(Bug::ReleaseDeletes) { self.inner.delete(digest).await } else { Ok(()) }
    }

    async fn await_copies(&self, digests: &[Digest], _: &str) -> Result<Assurance> {
        match self.bug {
            Bug::CopiesAreNeverEnough => Ok(Assurance::Fewer("one copy".to_owned())),
            Bug::NoCopiesAreTooFew if digests.is_empty() => Err(Error::new(ErrorKind::Unavailable, "nothing came")),
            _ => Ok(Assurance::Met),
        }
    }

    fn named(&self) -> Option<&dyn NamedObjects> {
        Some(self)
    }

    async fn probe(&self) -> ProbeReport {
        if self.is(Bug::ProbeLeavesBlob) {
            self.inner.put_bytes(&Digest::sha256(b"probe"), Bytes::from_static(b"probe")).await.unwrap();
        }
        probe(self).await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
            .with_presign(self.is(Bug::SaysItPresigns))
            .with_named_objects(!self.is(Bug::SaysItHasNoNames))
            .with_resume(!self.is(Bug::SaysItCannotResume))
            .with_list_is_hint(matches!(self.bug, Bug::HintCatchesUp | Bug::HintNeverCatchesUp))
    }
}

#[async_trait]
impl NamedObjects for Broken {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.inner_named().get(&self.name(name)).await
    }

    async fn put(&self, name: &str, value: Bytes) -> Result<()> {
        let name = self.name(name);
        if self.is(Bug::NamedPutKeepsFirst) && self.inner_named().get(&name).await?.is_some() {
            return Ok(());
        }
        if self.is(Bug::NamedReplacedInTwoSteps) {
            self.inner_named().delete(&name).await?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        match self.inner_named().put(&name, value).await {
            Err(error) if self.is(Bug::NamesUnchecked) && error.kind() == ErrorKind::InvalidInput => Ok(()),
            Err(error) if self.is(Bug::NamedUnlimited) && error.kind() == ErrorKind::TooLarge => Ok(()),
            result => result,
        }
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.inner_named().delete(&self.name(name)).await
    }

    fn list(&self, prefix: &str) -> ItemStream<'_, NamedObjectInfo> {
        let prefix = prefix.to_owned();
        let listed = async move {
            let mut infos: Vec<_> = self.inner_named().list(&prefix).try_collect().await?;
            match self.bug {
                Bug::NamedListUnordered => infos.reverse(),
                Bug::NamedListByFolder if !prefix.is_empty() => {
                    let folder = format!("{}/", prefix.trim_end_matches('/'));
                    infos.retain(|info| info.name.starts_with(&folder) || info.name == prefix);
                }
                _ => {}
            }
            Ok::<_, Error>(stream::iter(infos.into_iter().map(Ok)))
        };
        Box::pin(stream::once(listed).try_flatten())
    }
}

#[derive(Debug)]
struct Upload {
    store: Broken,
    inner: Box<dyn BlobUpload>,
    /// In [`Disk::uploads`].
    number: usize,
    algorithm: Algorithm,
    resumed: bool,
    /// What this handle alone was sent.
    seen: Hasher,
    suspended: bool,
    committed: bool,
    dead: bool,
}

#[async_trait]
impl BlobUpload for Upload {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        if self.suspended && self.store.is(Bug::SuspendedWritable) {
            return Ok(());
        }
        self.seen.update(&chunk);
        match self.inner.write(chunk.clone()).await {
            Err(error) if self.store.is(Bug::LateWritesArrive) && error.kind() == ErrorKind::Conflict => {}
            result => result?,
        }
        let mut disk = self.store.disk();
        disk.uploads[self.number].extend_from_slice(&chunk);
        if self.store.is(Bug::UploadVisibleEarly) {
            disk.blobs.insert(self.seen.clone().finalize(), Bytes::new());
        }
        Ok(())
    }

    fn offset(&self) -> u64 {
        self.inner.offset()
    }

    async fn suspend(&mut self) -> Result<UploadToken> {
        let token = self.inner.suspend().await?;
        self.suspended = true;
        self.store.disk().tokens.insert(token.backend.clone(), self.number);
        self.store.process().tokens.insert(token.backend.clone());
        Ok(token)
    }

    async fn commit(&mut self, digest: &Digest) -> Result<BlobInfo> {
        let store = self.store.clone();
        let info = BlobInfo::new(*digest, self.inner.offset());
        match store.bug {
            Bug::NoSha512Unannounced if digest.algorithm() != self.algorithm => {
                return Err(Error::new(ErrorKind::Unsupported, "another algorithm was announced"));
            }
            Bug::CommitOnce if self.committed => return Err(Error::new(ErrorKind::UploadUnknown, "committed")),
            Bug::WrongDigestKills if self.dead => return Err(Error::new(ErrorKind::UploadUnknown, "dead")),
            Bug::SuspendedCommits if self.suspended => return Ok(info),
            Bug::ResumeForgetsHash if self.resumed && self.seen.clone().finalize() == *digest => return Ok(info),
            _ => {}
        }
        let before = store.ids().await;
        let result = self.inner.commit(digest).await;
        match (store.bug, &result) {
            (Bug::LateCommitKills, Err(error)) if error.kind() == ErrorKind::Conflict => store.discard_all().await,
            (Bug::WrongDigestKills, Err(_)) => self.dead = true,
            (Bug::CommitUnchecked, Err(error)) if error.kind() == ErrorKind::DigestInvalid => {
                let mut disk = store.disk();
                let sent = disk.uploads[self.number].clone();
                disk.blobs.insert(*digest, sent.into());
                return Ok(info);
            }
            _ => {}
        }
        let info = result?;
        self.committed = true;
        let after = store.ids().await;
        let mut disk = store.disk();
        for id in before.into_iter().filter(|id| !after.contains(id)) {
            if store.is(Bug::UploadsKeepCommitted) {
                disk.leftovers.push(PendingUpload::new(id.clone(), Timestamp::default(), None));
            }
            disk.committed.insert(id, *digest);
        }
        if matches!(store.bug, Bug::ResumeKeepsBytes | Bug::LateWritesArrive) {
            let sent = disk.uploads[self.number].clone();
            disk.blobs.insert(*digest, sent.into());
        }
        Ok(info)
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        match self.store.bug {
            Bug::AbortKeeps => return Ok(()),
            Bug::LateAbortKills => self.store.discard_all().await,
            _ => {}
        }
        self.inner.abort().await
    }
}
