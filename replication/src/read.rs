//! Reading a blob from whichever zones have it, as one stream.
//!
//! The closest copy is read first. A zone that fails, hangs, ends early or does not have what it should is left for the next at the very byte that comes
//! next, so that the reader sees nothing of it. The bytes are hashed as they pass, whichever zones they come from.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use registry_core::blob::{BlobInfo, BlobReader, ByteRange, ByteStream, ReadOptions};
use registry_core::{Digest, Error, ErrorKind, Hasher, Result, Timestamp, VerifyReads};
use tokio::time::Instant;

use crate::bandwidth::Class;
use crate::cluster::{Cluster, Source, unreadable, visible};
use crate::health::is_zones_fault;
use crate::ledger::{Placement, Sighting};
use crate::member::timed_out;
use crate::metrics;

/// How often one zone may fail in one read while it still moves forward.
const PATIENCE: u32 = 5;

/// After how long it is worth a write that a copy was found right once more.
const NEWS: Duration = Duration::from_secs(3600);

/// Opens a blob for a client.
pub(crate) async fn open(cluster: &Arc<Cluster>, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
    let placements = visible(cluster, digest).await?;
    let sources = cluster.readable(&placements).await;
    let Some(size) = size_of(&placements).filter(|_| !sources.is_empty()) else { return Err(unreadable(digest, &placements)) };
    let range = options.resolve(digest, size)?;
    let whole = range == (0..size);
    let mut reading = Reading::new(cluster, digest, size, range.clone(), sources);
    let now = cluster.clock.now();
    reading.verify = whole && reading.queue.iter().any(|source| must_verify(source, now));
    reading.start().await.map_err(|error| not_now(error, digest))?;
    let mut info = BlobInfo::new(*digest, size);
    info.modified = reading.modified;
    Ok(BlobReader::new(info, range, reading.into_stream()))
}

/// That no zone could be read is for now; the blob is known to be there.
fn not_now(error: Error, digest: &Digest) -> Error {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::TimedOut => error,
        _ => {
            let message = "no zone that should have the blob gives it";
            Error::new(ErrorKind::Unavailable, message).with_key(digest).with_retry_after(Duration::from_secs(2)).with_source(error)
        }
    }
}

pub(crate) fn size_of(placements: &[Placement]) -> Option<u64> {
    placements.iter().find_map(|placement| placement.size)
}

/// Whether what is read from this copy has to be hashed. This process's clock is good enough for an age of days.
fn must_verify(source: &Source, now: Timestamp) -> bool {
    match source.member.verify_reads {
        VerifyReads::Always => true,
        VerifyReads::Stale(age) => source.verified_at.is_none_or(|at| now.since(at) > age),
        VerifyReads::Never => false,
    }
}

/// A read in progress.
pub(crate) struct Reading {
    cluster: Arc<Cluster>,
    digest: Digest,
    size: u64,
    range: Range<u64>,
    /// The next byte to read.
    position: u64,
    queue: VecDeque<Source>,
    current: Option<Current>,
    /// Hash all of it, and hold the last chunk back until the digest is known to be right.
    pub(crate) verify: bool,
    /// On whose behalf.
    pub(crate) class: Class,
    hasher: Option<Hasher>,
    held: Option<Bytes>,
    /// Whether anything was handed out.
    yielded: bool,
    contributors: Vec<Source>,
    modified: Option<Timestamp>,
    error: Option<Error>,
    done: bool,
}

struct Current {
    source: Source,
    stream: ByteStream,
    /// A chunk that came while the source was opened.
    ahead: Option<Bytes>,
    /// Whether anything came of it.
    moved: bool,
}

/// What came of opening a source.
struct Opened {
    stream: ByteStream,
    first: Option<Bytes>,
    modified: Option<Timestamp>,
    took: Duration,
}

impl Reading {
    pub(crate) fn new(cluster: &Arc<Cluster>, digest: &Digest, size: u64, range: Range<u64>, sources: Vec<Source>) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            digest: *digest,
            size,
            position: range.start,
            range,
            queue: sources.into(),
            current: None,
            verify: false,
            class: Class::Client,
            hasher: None,
            held: None,
            yielded: false,
            contributors: Vec::new(),
            modified: None,
            error: None,
            done: false,
        }
    }

    /// Opens the first source that can be opened and gives a byte: what fails here can still be answered with an error.
    pub(crate) async fn start(&mut self) -> Result<()> {
        self.hasher = self.verify.then(|| Hasher::new(self.digest.algorithm()));
        self.advance().await
    }

    /// The bytes. Ends with an error if no zone is left, or if all of it has another digest than it should.
    pub(crate) fn into_stream(self) -> ByteStream {
        Box::pin(futures_util::stream::unfold(self, |mut reading| async move {
            let chunk = reading.next().await?;
            Some((chunk, reading))
        }))
    }

    /// Where the bytes came from so far.
    pub(crate) fn contributors(&self) -> &[Source] {
        &self.contributors
    }

    pub(crate) async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.done {
            return None;
        }
        loop {
            if self.current.is_none()
                && let Err(error) = self.advance().await
            {
                self.done = true;
                // Half of it was read: that the last zone to be asked has lost it does not make it a blob that never was.
                let is_missing = error.kind() == ErrorKind::NotFound;
                return Some(Err(if is_missing { not_now(error, &self.digest) } else { error }));
            }
            if self.position == self.range.end {
                match self.conclude().await {
                    Some(end) => {
                        self.done = true;
                        return end;
                    }
                    None => continue,
                }
            }
            match self.chunk().await {
                Ok(chunk) => {
                    if let Some(current) = &self.current {
                        current.source.member.throttle.read.pass(self.class, chunk.len()).await;
                    }
                    let Some(chunk) = self.take_in(chunk) else { continue };
                    if !self.verify {
                        self.yielded = true;
                        return Some(Ok(chunk));
                    }
                    if let Some(ready) = self.held.replace(chunk) {
                        self.yielded = true;
                        return Some(Ok(ready));
                    }
                }
                Err(error) => self.leave(error).await,
            }
        }
    }

    /// The next chunk of the source at hand.
    async fn chunk(&mut self) -> Result<Bytes> {
        let stall = self.cluster.options.stall_timeout;
        let Some(current) = &mut self.current else { return Err(Error::new(ErrorKind::Internal, "nothing is open")) };
        if let Some(ahead) = current.ahead.take() {
            return Ok(ahead);
        }
        match tokio::time::timeout(stall, current.stream.next()).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => Err(Error::new(ErrorKind::Interrupted, "the stream ended early")),
            Err(_) => Err(timed_out(&current.source.member.name)),
        }
    }

    /// Counts and hashes a chunk; `None` if there is nothing in it.
    fn take_in(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        // A store that gives more than it was asked for is not to be believed, but what was asked for may be right.
        let left = self.range.end - self.position;
        if chunk.len() as u64 > left {
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        if chunk.is_empty() {
            return None;
        }
        if let Some(current) = &mut self.current
            && !std::mem::replace(&mut current.moved, true)
            && !self.contributors.iter().any(|one| Arc::ptr_eq(&one.member, &current.source.member))
        {
            self.contributors.push(current.source.clone());
        }
        self.position += chunk.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&chunk);
        }
        Some(chunk)
    }

    /// All bytes are here. What to end with; `None` if all of it begins anew.
    async fn conclude(&mut self) -> Option<Option<Result<Bytes>>> {
        if !self.verify {
            return Some(None);
        }
        let found = self.hasher.take().map(Hasher::finalize);
        if found == Some(self.digest) {
            self.found_good().await;
            return Some(self.held.take().map(Ok));
        }
        let reason =
            if self.contributors.len() > 1 { "bytes from it and other zones have another digest" } else { "its bytes have another digest" };
        for source in std::mem::take(&mut self.contributors) {
            metrics::failover(&source.member.name, "corrupt");
            self.cluster.suspect(&source.member, &self.digest, source.generation, reason).await;
            self.queue.retain(|other| !Arc::ptr_eq(&other.member, &source.member));
        }
        self.current = None;
        self.held = None;
        let error = Error::new(ErrorKind::Corrupt, "the stored bytes have another digest").with_key(self.digest);
        if self.yielded {
            return Some(Some(Err(error)));
        }
        // Nothing has left the house yet, so that another zone may still save the day.
        self.error = Some(error);
        self.position = self.range.start;
        self.hasher = Some(Hasher::new(self.digest.algorithm()));
        match self.advance().await {
            Ok(()) => None,
            Err(error) => Some(Some(Err(error))),
        }
    }

    /// A copy that was read alone and is right is known to be so from now on.
    async fn found_good(&mut self) {
        let [source] = &self.contributors[..] else { return };
        let now = self.cluster.clock.now();
        let is_news = source.verified_at.is_none_or(|at| now.since(at) > NEWS);
        if let (true, Some(zone)) = (is_news, source.member.id()) {
            let noted = self.cluster.ledger.observe(&self.digest, zone, source.generation, &Sighting::Good).await;
            if let Err(error) = noted {
                tracing::debug!(%error, "could not note a verified copy");
            }
        }
    }

    /// Gives up the source at hand.
    async fn leave(&mut self, error: Error) {
        let Some(Current { mut source, moved, .. }) = self.current.take() else { return };
        source.failures += 1;
        self.blame(&source, &error).await;
        self.error = Some(error.with_zone(&source.member.name));
        // One that got somewhere may get on; behind all others.
        if moved && source.failures < PATIENCE {
            self.queue.push_back(source);
        }
    }

    /// What a failure says about the zone, or about its copy.
    async fn blame(&mut self, source: &Source, error: &Error) {
        let member = &source.member;
        metrics::failover(&member.name, metrics::reason(error));
        tracing::info!(zone = member.name, digest = %self.digest, position = self.position, %error, "left a zone for the next");
        match error.kind() {
            ErrorKind::NotFound => self.cluster.suspect(member, &self.digest, source.generation, "it is not there").await,
            ErrorKind::Corrupt | ErrorKind::SizeInvalid | ErrorKind::RangeInvalid => {
                self.cluster.suspect(member, &self.digest, source.generation, error.message()).await;
            }
            _ if is_zones_fault(error) => member.failed(error, &self.cluster.options),
            _ => {}
        }
    }

    /// Opens the next source that can be opened.
    async fn advance(&mut self) -> Result<()> {
        while let Some(source) = self.queue.pop_front() {
            let (source, opened) = self.race(source).await;
            match opened {
                Ok(opened) => {
                    source.member.health.answered(opened.took);
                    metrics::read(&source.member.name);
                    self.modified = self.modified.or(opened.modified);
                    self.current = Some(Current { source, stream: opened.stream, ahead: opened.first, moved: false });
                    return Ok(());
                }
                Err(error) => {
                    self.blame(&source, &error).await;
                    self.error = Some(error.with_zone(&source.member.name));
                }
            }
        }
        Err(self.error.take().unwrap_or_else(|| {
            Error::new(ErrorKind::Unavailable, "no zone is left to read from")
                .with_key(self.digest)
                .with_retry_after(Duration::from_secs(2))
        }))
    }

    /// Opens a source; if it has not sent a byte for [`hedge_after`](crate::Options::hedge_after), the next one too, and takes whichever is first.
    async fn race(&mut self, source: Source) -> (Source, Result<Opened>) {
        let (cluster, digest, size, rest) = (Arc::clone(&self.cluster), self.digest, self.size, self.position..self.range.end);
        let ask = move |source: &Source| Box::pin(open_source(Arc::clone(&cluster), source.clone(), digest, size, rest.clone()));
        let first = ask(&source);
        let (Some(hedge_after), false) = (self.cluster.options.hedge_after, self.queue.is_empty()) else { return (source, first.await) };
        let pause = Box::pin(tokio::time::sleep(hedge_after));
        let first = match select(first, pause).await {
            Either::Left((opened, _)) => return (source, opened),
            Either::Right(((), first)) => first,
        };
        let Some(other) = self.queue.pop_front() else { return (source, first.await) };
        let second = ask(&other);
        match select(first, second).await {
            Either::Left((Ok(opened), _)) => {
                self.queue.push_front(other);
                (source, Ok(opened))
            }
            Either::Right((Ok(opened), _)) => {
                self.queue.push_front(source);
                (other, Ok(opened))
            }
            Either::Left((Err(error), second)) => {
                self.blame(&source, &error).await;
                (other, second.await)
            }
            Either::Right((Err(error), first)) => {
                self.blame(&other, &error).await;
                (source, first.await)
            }
        }
    }
}

/// Opens a copy, and waits for its first chunk.
async fn open_source(cluster: Arc<Cluster>, source: Source, digest: Digest, size: u64, rest: Range<u64>) -> Result<Opened> {
    let limit = cluster.options.request_timeout;
    let start = Instant::now();
    let mut options = ReadOptions::default();
    if rest != (0..size) {
        options = options.with_range(ByteRange::FromTo(rest.start, Some(rest.end.saturating_sub(1))));
    }
    if rest.is_empty() && size > 0 {
        // Nothing is left to read.
        let stream: ByteStream = Box::pin(futures_util::stream::empty());
        return Ok(Opened { stream, first: None, modified: None, took: Duration::ZERO });
    }
    let open = async {
        let mut reader = source.member.store.read(&digest, options).await?;
        if reader.info.size != size {
            let message = format!("it has {} bytes instead of {size}", reader.info.size);
            return Err(Error::new(ErrorKind::Corrupt, message).with_key(digest));
        }
        if reader.range != rest {
            return Err(Error::new(ErrorKind::Internal, "the zone opened another range than it was asked for").with_key(digest));
        }
        let first = if rest.is_empty() { None } else { reader.stream.next().await.transpose()? };
        if first.is_none() && !rest.is_empty() {
            return Err(Error::new(ErrorKind::Interrupted, "the stream ended early"));
        }
        Ok((reader, first))
    };
    match tokio::time::timeout(limit, open).await {
        Ok(Ok((reader, first))) => Ok(Opened { modified: reader.info.modified, stream: reader.stream, first, took: start.elapsed() }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(timed_out(&source.member.name)),
    }
}
