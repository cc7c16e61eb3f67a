//! Copying a blob from the nearest zones that have it.
//!
//! The bytes are read as a client's would be: from the closest verified copy, and on from the next when one fails. They are hashed once, by the store that
//! takes them in, which is the one that must be right about them. A long blob is an upload that is put aside every so many bytes, with its token in the
//! ledger, so that whoever claims the work after a crash goes on from there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use registry_core::blob::{ByteStream, ResumeOptions, UploadToken, WriteOptions};
use registry_core::{BlobUpload, Digest, Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot};

use crate::bandwidth::Class;
use crate::cluster::{Cluster, Source};
use crate::health::is_zones_fault;
use crate::ledger::{Outcome, Placement, Task};
use crate::member::{Member, in_time};
use crate::read::{Reading, size_of};
use crate::replay::Replay;

/// Chunks that are read ahead of the zone that takes them in.
const AHEAD: usize = 4;

/// A claim's epoch leaves room for so many pieces of one upload, each of which is written under an epoch of its own.
const PIECES: u64 = 1 << 20;

/// What is owed to a zone so much later than somebody last wrote the blob is not owed because it was pushed.
const PUSHED: Duration = Duration::from_secs(600);

/// Makes the copy.
pub(super) async fn run(cluster: &Arc<Cluster>, member: &Arc<Member>, task: &Task) -> Result<Outcome> {
    member.be_sure(&*cluster.ledger, cluster.options.request_timeout).await?;
    let digest = &task.digest;
    let placements = cluster.ledger.placements(&[*digest]).await?;
    let mut sources = cluster.sources(&placements);
    sources.retain(|source| !Arc::ptr_eq(&source.member, member));
    // Those whose hours it is not are asked last.
    let now = cluster.clock.now();
    sources.sort_by_key(|source| source.member.throttle.is_closed(now));
    let Some(size) = size_of(&placements).filter(|_| !sources.is_empty()) else {
        return Err(Error::new(ErrorKind::Unavailable, "no zone that has the blob can be read").with_key(digest));
    };
    let copy = Copy { cluster, member, task, size, class: class_of(task, &placements) };
    if size > cluster.options.copy_whole && member.store.capabilities().resume {
        copy.in_pieces(sources).await
    } else {
        copy.whole(sources).await
    }
}

/// A copy that is being made.
#[derive(Clone, Copy)]
struct Copy<'a> {
    cluster: &'a Arc<Cluster>,
    member: &'a Arc<Member>,
    task: &'a Task,
    /// The blob's length in bytes.
    size: u64,
    class: Class,
}

/// Whether anybody is to wait for less than this one.
fn class_of(task: &Task, placements: &[Placement]) -> Class {
    let is_old = |placement: &Placement| placement.since.is_some_and(|since| since.since(placement.touched_at) > PUSHED);
    let own = placements.iter().find(|placement| placement.zone == task.zone);
    if !task.repairs && own.is_some_and(is_old) { Class::Fill } else { Class::Copy }
}

/// A read that goes on by itself, a little ahead of its reader, and what it says in the end of where the bytes came from.
struct Pump {
    chunks: mpsc::Receiver<Result<Bytes>>,
    contributors: oneshot::Receiver<Vec<Source>>,
}

impl Pump {
    fn start(copy: Copy<'_>, from: u64, sources: Vec<Source>) -> Self {
        let Copy { cluster, task, size, class, .. } = copy;
        let (sender, chunks) = mpsc::channel(AHEAD);
        let (tell, contributors) = oneshot::channel();
        let mut reading = Reading::new(cluster, &task.digest, size, from..size, sources);
        reading.class = class;
        // It ends as soon as nobody takes its chunks any more.
        drop(tokio::spawn(async move {
            while let Some(chunk) = reading.next().await {
                let failed = chunk.is_err();
                if sender.send(chunk).await.is_err() || failed {
                    break;
                }
            }
            let _ = tell.send(reading.contributors().to_vec());
        }));
        Self { chunks, contributors }
    }

    fn stream(mut chunks: mpsc::Receiver<Result<Bytes>>) -> ByteStream {
        Box::pin(futures_util::stream::poll_fn(move |context| chunks.poll_recv(context)))
    }
}

/// The zone that took in the bytes says that they are not the blob's: so one of those that gave them has a damaged copy.
async fn accuse(cluster: &Cluster, digest: &Digest, contributors: oneshot::Receiver<Vec<Source>>) {
    for source in contributors.await.unwrap_or_default() {
        cluster.suspect(&source.member, digest, source.generation, "a copy that was made of it had another digest").await;
    }
}

/// What the failure of the destination says about it.
fn note_destination(cluster: &Cluster, member: &Member, error: &Error) {
    if is_zones_fault(error) {
        member.failed(error, &cluster.options);
    }
}

impl Copy<'_> {
    async fn whole(self, sources: Vec<Source>) -> Result<Outcome> {
        let Self { cluster, member, task, size, class } = self;
        let digest = &task.digest;
        let Pump { chunks, contributors } = Pump::start(self, 0, sources);
        let content = Replay::new(Pump::stream(chunks), 0);
        let options = WriteOptions::default().with_size(size).with_algorithm(digest.algorithm()).with_epoch(task.epoch);
        let put = member.store.put(digest, options, content.attempt(member, class));
        match content.watch(&cluster.options, &member.name, put).await {
            Ok(info) => Ok(Outcome::Copied(info.size)),
            Err(error) => {
                let broken = content.is_broken();
                drop(content);
                match error.kind() {
                    ErrorKind::DigestInvalid => accuse(cluster, digest, contributors).await,
                    // The source's failure was noted by whoever read it.
                    _ if !broken => note_destination(cluster, member, &error),
                    _ => {}
                }
                Err(if broken { error } else { error.with_zone(&member.name) })
            }
        }
    }

    async fn in_pieces(self, sources: Vec<Source>) -> Result<Outcome> {
        let Self { cluster, member, task, size, class } = self;
        let options = &cluster.options;
        let mut epoch = task.epoch.saturating_mul(PIECES);
        let mut upload = self.take_up(epoch).await?;
        let from = upload.offset();
        if from > size {
            return self.give_up(upload, Error::new(ErrorKind::Internal, "more was copied than there is")).await;
        }
        let Pump { mut chunks, contributors } = Pump::start(self, from, sources);
        let mut noted = from;
        while let Some(chunk) = chunks.recv().await {
            // What arrived so far stays for the next attempt: the failure is the source's.
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    self.put_aside(&mut *upload).await?;
                    return Err(error);
                }
            };
            member.throttle.write.pass(class, chunk.len()).await;
            // A store that sends several parts at a time has none of them done for long, if its line is slow; that it stands still, it finds out itself.
            if let Err(error) = member.ask_within(options.commit_timeout, options, upload.write(chunk)).await {
                // Without a note of where it is, nobody will go on from what was written; if the zone is full, it is in the way.
                return if noted == 0 { self.abandon(upload, error).await } else { Err(error) };
            }
            if upload.offset() - noted >= options.checkpoint && upload.offset() < size {
                let token = self.put_aside(&mut *upload).await?;
                noted = upload.offset();
                epoch += 1;
                let resume = member.store.resume(ResumeOptions::new(token, epoch));
                upload = member.ask_within(options.commit_timeout, options, resume).await?;
            }
        }
        drop(chunks);
        match member.ask_within(options.commit_timeout, options, upload.commit(&task.digest)).await {
            Ok(info) => Ok(Outcome::Copied(info.size)),
            Err(error) if matches!(error.kind(), ErrorKind::DigestInvalid | ErrorKind::SizeInvalid) => {
                accuse(cluster, &task.digest, contributors).await;
                self.give_up(upload, error).await
            }
            Err(error) => Err(error),
        }
    }

    /// Goes on where the last one stood, if that is still there.
    async fn take_up(self, epoch: u64) -> Result<Box<dyn BlobUpload>> {
        let Self { cluster, member, task, .. } = self;
        let options = &cluster.options;
        if let Some(token) = task.progress.as_ref().and_then(|progress| UploadToken::decode(progress).ok()) {
            match member.ask_within(options.commit_timeout, options, member.store.resume(ResumeOptions::new(token, epoch))).await {
                Ok(upload) => return Ok(upload),
                Err(error) if is_zones_fault(&error) => return Err(error),
                Err(error) => tracing::info!(zone = member.name, digest = %task.digest, %error, "a copy begins anew"),
            }
        }
        let write = WriteOptions::default().with_algorithm(task.digest.algorithm()).with_epoch(epoch);
        member.ask(options, member.store.begin(write)).await
    }

    /// Makes all bytes so far durable, and writes down where they are.
    async fn put_aside(self, upload: &mut dyn BlobUpload) -> Result<UploadToken> {
        let Self { cluster, member, task, .. } = self;
        let options = &cluster.options;
        let token = member.ask_within(options.commit_timeout, options, upload.suspend()).await?;
        cluster.ledger.renew(task, options.lease, Some(token.encode()?)).await?;
        Ok(token)
    }

    /// Drops what was copied: it is wrong, and nobody is to go on from it.
    async fn give_up(self, upload: Box<dyn BlobUpload>, error: Error) -> Result<Outcome> {
        let Self { cluster, task, .. } = self;
        if let Err(error) = cluster.ledger.renew(task, cluster.options.lease, Some(Bytes::new())).await {
            tracing::debug!(%error, "could not forget how far a copy was");
        }
        self.abandon(upload, error).await
    }

    /// Drops what was copied, and fails.
    async fn abandon(self, upload: Box<dyn BlobUpload>, error: Error) -> Result<Outcome> {
        let Self { cluster, member, .. } = self;
        if let Err(error) = in_time(cluster.options.request_timeout, &member.name, upload.abort()).await {
            tracing::debug!(%error, "could not drop a copy's bytes; they are found as an abandoned upload");
        }
        Err(error)
    }
}
