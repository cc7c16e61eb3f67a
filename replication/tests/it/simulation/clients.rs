//! What clients do, and what they believe to know afterwards.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use registry_core::blob::{ByteRange, ByteStream, once};
use registry_core::metadata::UploadKey;
use registry_core::testing::Rng;
use registry_core::{Algorithm, Digest, Error, ErrorKind, Reference, Result};
use replication::ledger::{Desired, Observed, Placement};
use tokio::time::Instant;

use super::plan::{ACTIVE, PROCESSES, REPOSITORIES};
use super::world::{Image, Running, World, repository};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a client may rely on what it was told of a blob. A HEAD is noted only now and then.
const RELIABLE: Duration = Duration::from_secs(7);

/// How a request ended for its client.
#[derive(Debug)]
enum Failed {
    /// It will never know.
    Lost,
    Refused(Error),
}

impl Failed {
    fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Lost => None,
            Self::Refused(error) => Some(error.kind()),
        }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost => f.write_str("no answer"),
            Self::Refused(error) => write!(f, "{:?} {}", error.kind(), error.message()),
        }
    }
}

/// A client.
pub(super) struct Client {
    world: Arc<World>,
    rng: Rng,
    name: String,
    /// The one process that it knows, if it does not know all.
    only: Option<usize>,
}

async fn ask<T>(running: &Running, call: impl Future<Output = Result<T>>) -> Result<T, Failed> {
    tokio::select! {
        biased;
        answer = call => answer.map_err(Failed::Refused),
        () = running.life.died() => Err(Failed::Lost),
        () = tokio::time::sleep(PATIENCE) => Err(Failed::Lost),
    }
}

fn manifest(world: &World, index: usize, blobs: &[Digest]) -> Bytes {
    let descriptor = |digest: &Digest| {
        let size = world.content(digest).map_or(0, |content| content.len());
        format!(r#"{{"mediaType":"application/octet-stream","digest":"{digest}","size":{size}}}"#)
    };
    let layers: Vec<_> = blobs[1..].iter().map(descriptor).collect();
    Bytes::from(format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}],"annotations":{{"of":"{}"}}}}"#,
        descriptor(&blobs[0]),
        layers.join(","),
        REPOSITORIES[index]
    ))
}

impl Client {
    pub(super) fn new(world: &Arc<World>, number: u64) -> Self {
        let rng = Rng::new(world.seed.wrapping_mul(31).wrapping_add(number).wrapping_mul(0xc11e));
        Self { world: Arc::clone(world), rng, name: format!("c{number}"), only: None }
    }

    /// Asks this process and no other.
    pub(super) fn only(mut self, process: usize) -> Self {
        self.only = Some(process);
        self
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.rng.below(n as u64)).unwrap()
    }

    fn any_blob(&mut self) -> Digest {
        let index = self.below(self.world.blobs.len());
        self.world.blobs[index]
    }

    async fn pause(&mut self, longest: u64) {
        tokio::time::sleep(Duration::from_millis(self.rng.below(longest))).await;
    }

    /// Any process that runs.
    async fn server(&mut self) -> Running {
        loop {
            let first = self.below(PROCESSES);
            let all = (0..PROCESSES).map(|n| (first + n) % PROCESSES).filter(|process| self.only.is_none_or(|only| only == *process));
            if let Some(running) = all.filter_map(|process| self.world.running(process)).next() {
                return running;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// What may go wrong while things go wrong.
    fn tolerate(&self, what: &str, failed: &Failed) {
        self.world.note("refusals", format_args!("{} {what}: {failed}", self.name));
        let tolerable = failed.kind().is_none_or(|kind| {
            matches!(
                kind,
                ErrorKind::Unavailable
                    | ErrorKind::TimedOut
                    | ErrorKind::Interrupted
                    | ErrorKind::StorageFull
                    | ErrorKind::UploadUnknown
                    | ErrorKind::RangeInvalid
            )
        });
        if !tolerable {
            self.world.violation(format_args!("{} {what}: {failed:?}", self.name));
        }
    }

    /// All that it does.
    pub(super) async fn run(mut self) {
        let end = Instant::now() + ACTIVE;
        while Instant::now() < end {
            let index = self.below(REPOSITORIES.len());
            match self.rng.below(100) {
                0..25 => self.push_image(index).await,
                25..35 => self.push_only(index).await,
                35..50 => self.push_what_goes().await,
                50..65 => self.pull().await,
                65..82 => self.delete_manifest().await,
                82..90 => self.delete_blob(index).await,
                90..95 => self.abandon(index).await,
                _ => self.look(index).await,
            }
            self.pause(3_000).await;
        }
    }

    async fn push_image(&mut self, index: usize) {
        let world = Arc::clone(&self.world);
        let mut blobs: Vec<Digest> = Vec::new();
        for _ in 0..1 + self.rng.below(3) {
            let digest = world.blobs[self.below(world.blobs.len())];
            if !blobs.contains(&digest) {
                blobs.push(digest);
            }
        }
        let bytes = manifest(&world, index, &blobs);
        let digest = world.introduce(&bytes);
        let deletes = |world: &World| -> Vec<_> {
            let model = world.model();
            blobs.iter().chain([&digest]).map(|digest| model.deletes.get(&(index, *digest)).copied().unwrap_or_default()).collect()
        };
        let before = deletes(&world);
        let start = Instant::now();
        for blob in &blobs {
            if !self.ensure(index, blob).await {
                return;
            }
        }
        world.pushes(index, &digest);
        let (tag, name) = (format!("t{}", self.rng.below(3)), repository(index));
        for attempt in 0..3 {
            let running = self.server().await;
            let reference = Reference::Tag(tag.parse().unwrap());
            let pushed = ask(&running, running.registry.put_manifest(&name, &reference, None, bytes.clone(), Vec::new())).await;
            let undisturbed = deletes(&world) == before && before.iter().all(|(under_way, _)| *under_way == 0);
            match pushed {
                Ok(pushed) => {
                    let warned = if pushed.warning.is_some() { "warned" } else { "pushes" };
                    let image = world.name_of(&digest);
                    world.note(warned, format_args!("{} {name}:{tag} = {image} by {}", self.name, running.life.name));
                    if undisturbed {
                        self.check_copies(index, &running, pushed.warning.is_some(), &blobs);
                        world.model().images.insert((index, digest), Image { blobs: blobs.clone() });
                    }
                    return;
                }
                Err(Failed::Refused(error)) if error.kind() == ErrorKind::ManifestBlobUnknown => {
                    if undisturbed && start.elapsed() < RELIABLE {
                        world.violation(format_args!("{}: {:?} were promised and are unknown now", self.name, error.digests()));
                    }
                    return;
                }
                Err(failed) => self.tolerate("manifest", &failed),
            }
            self.pause(1_000 << attempt).await;
        }
    }

    /// As many zones as were asked for have the blobs of an image that was just acknowledged.
    fn check_copies(&self, index: usize, running: &Running, warned: bool, blobs: &[Digest]) {
        let rule = self.world.plan.policies[running.policy].rule(Some(REPOSITORIES[index]));
        let enough = |digest: &Digest| {
            (0..self.world.media.len()).filter(|zone| self.world.is_good(*zone, digest)).count() >= rule.min_copies() as usize
        };
        if self.world.plan.honest && !warned && !blobs.iter().all(enough) {
            self.world.violation(format_args!("{}: an image was acknowledged with too few copies", self.name));
        }
    }

    /// Sees to it that the repository has the blob, as clients do; whether it has.
    async fn ensure(&mut self, index: usize, digest: &Digest) -> bool {
        for attempt in 0..4 {
            if self.rng.chance(0.7) && self.head(index, digest).await {
                return true;
            }
            let kind = self.rng.below(10);
            let done = match kind {
                0..3 => self.mount(index, digest).await,
                3..6 => self.put(index, digest).await,
                _ => self.upload(index, digest).await,
            };
            match done {
                Ok(true) => return true,
                Ok(false) => continue,
                Err(failed) => self.tolerate("push", &failed),
            }
            self.pause(400 << attempt).await;
        }
        false
    }

    async fn head(&mut self, index: usize, digest: &Digest) -> bool {
        let running = self.server().await;
        match ask(&running, running.registry.blob_info(&repository(index), digest)).await {
            Ok(info) => {
                let somewhere = (0..self.world.media.len()).any(|zone| self.world.is_good(zone, digest));
                if self.world.plan.honest
                    && (!somewhere || Some(info.size) != self.world.content(digest).map(|content| content.len() as u64))
                {
                    self.world.violation(format_args!("{}: HEAD lied about {}", self.name, self.world.name_of(digest)));
                }
                true
            }
            Err(failed) => {
                if failed.kind() != Some(ErrorKind::BlobUnknown) {
                    self.tolerate("head", &failed);
                }
                false
            }
        }
    }

    async fn mount(&mut self, index: usize, digest: &Digest) -> Result<bool, Failed> {
        self.world.pushes(index, digest);
        let running = self.server().await;
        let mounted = ask(&running, running.registry.mount_blob(&repository(index), digest, None)).await?;
        if mounted.is_some() {
            self.world.note("mounts", format_args!("{} {} {}", self.name, repository(index), self.world.name_of(digest)));
        }
        Ok(mounted.is_some())
    }

    /// A stream of parts of these bytes, which may be slow, and may break.
    fn sending(&mut self, content: Bytes, may_break: bool) -> ByteStream {
        let slow = self.rng.chance(0.2).then(|| self.rng.below(1_500));
        let broken = may_break && self.rng.chance(0.05);
        let size = 16 + self.below(200);
        let mut chunks: Vec<_> = content.chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        if broken {
            chunks.truncate(self.below(chunks.len() + 1));
            chunks.push(Err(Error::new(ErrorKind::Interrupted, "the client went away")));
        }
        Box::pin(stream::iter(chunks).then(move |chunk| async move {
            if let Some(pause) = slow {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            chunk
        }))
    }

    async fn put(&mut self, index: usize, digest: &Digest) -> Result<bool, Failed> {
        self.world.pushes(index, digest);
        let running = self.server().await;
        let content = self.world.content(digest).unwrap();
        let size = self.rng.chance(0.5).then_some(content.len() as u64);
        let sending = self.sending(content, true);
        ask(&running, running.registry.push_blob(&repository(index), digest, size, sending)).await?;
        self.world
            .note("puts", format_args!("{} {} {} by {}", self.name, repository(index), self.world.name_of(digest), running.life.name));
        Ok(true)
    }

    /// An upload in pieces, each to any process, that goes on after failures where the registry says it stands.
    async fn upload(&mut self, index: usize, digest: &Digest) -> Result<bool, Failed> {
        self.world.pushes(index, digest);
        let running = self.server().await;
        let key = ask(&running, running.registry.start_upload(&repository(index), "", Algorithm::Sha256)).await?;
        let content = self.world.content(digest).unwrap();
        let mut offset = 0;
        let mut failures = 0;
        while offset < content.len() && !(content.len() - offset < 100 && self.rng.chance(0.5)) {
            let end = (offset + 40 + self.below(400)).min(content.len());
            let sent = self.append(&key, offset as u64, content.slice(offset..end)).await;
            match sent {
                Ok(status) => offset = status,
                Err(failed) => {
                    failures += 1;
                    if failures > 4 || failed.kind() == Some(ErrorKind::UploadUnknown) {
                        return Err(failed);
                    }
                    self.tolerate("append", &failed);
                    self.pause(500).await;
                    let running = self.server().await;
                    match ask(&running, running.registry.upload_status(&key)).await {
                        Ok(status) => offset = usize::try_from(status.offset).unwrap(),
                        Err(failed) if failed.kind() == Some(ErrorKind::UploadUnknown) => return Err(failed),
                        Err(failed) => self.tolerate("status", &failed),
                    }
                }
            }
        }
        loop {
            let running = self.server().await;
            let rest = content.slice(offset..);
            let rest = (!rest.is_empty()).then(|| self.sending(rest, false));
            let finished = ask(&running, running.registry.finish_upload(&key, digest, Some(offset as u64), rest)).await;
            match finished {
                Ok(_) => {
                    let name = self.world.name_of(digest);
                    self.world.note("uploads", format_args!("{} {} {name} by {}", self.name, repository(index), running.life.name));
                    return Ok(true);
                }
                Err(failed) if failures > 3 || failed.kind().is_some_and(|kind| !retryable(kind)) => return Err(failed),
                Err(failed) => self.tolerate("finish", &failed),
            }
            failures += 1;
            self.pause(1_000).await;
        }
    }

    /// Sends a piece; now and then to two processes at once, as an impatient proxy does.
    async fn append(&mut self, key: &UploadKey, offset: u64, piece: Bytes) -> Result<usize, Failed> {
        let running = self.server().await;
        let sending = self.sending(piece.clone(), true);
        let first = ask(&running, running.registry.append(key, Some(offset), sending));
        if !self.rng.chance(0.1) {
            return first.await.map(|status| usize::try_from(status.offset).unwrap());
        }
        let other = self.server().await;
        let delay = self.rng.below(600);
        let sending = self.sending(piece, true);
        let second = async {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            ask(&other, other.registry.append(key, Some(offset), sending)).await
        };
        self.world.count("races for an upload", 1);
        let (first, second) = futures_util::future::join(first, second).await;
        second.or(first).map(|status| usize::try_from(status.offset).unwrap())
    }

    /// A blob that no manifest needs yet: kept for a while all the same.
    async fn push_only(&mut self, index: usize) {
        let digest = self.any_blob();
        let deletes = |world: &World| world.model().deletes.get(&(index, digest)).copied().unwrap_or_default();
        let before = deletes(&self.world);
        let start = Instant::now();
        if !self.ensure(index, &digest).await {
            return;
        }
        self.pause(4_000).await;
        let read = self.read(index, &digest).await;
        let undisturbed = deletes(&self.world) == before && before.0 == 0 && start.elapsed() < RELIABLE;
        if let Err(failed) = read
            && undisturbed
        {
            self.complain("pull of what was just pushed", &failed);
        }
    }

    /// A blob some copy of which is being deleted at this moment, or is about to be, into any repository.
    async fn push_what_goes(&mut self) {
        for _ in 0..100 {
            let world = Arc::clone(&self.world);
            let going = |row: &Placement| {
                let unwanted = row.desired == Desired::Absent && row.observed != Observed::Absent;
                unwanted || row.observed == Observed::Deleting || world.holders(&row.digest).is_empty()
            };
            let going: Vec<_> = world.all_placements().into_iter().filter(|row| world.blobs.contains(&row.digest) && going(row)).collect();
            if !going.is_empty() {
                let (digest, index) = (going[self.below(going.len())].digest, self.below(REPOSITORIES.len()));
                match self.put(index, &digest).await {
                    Ok(_) => self.world.count("pushes of what goes", 1),
                    Err(failed) => self.tolerate("push of what goes", &failed),
                }
                return;
            }
            self.pause(100).await;
        }
    }

    /// A read of what was acknowledged failed: that is bearable only as long as things go wrong.
    fn complain(&self, what: &str, failed: &Failed) {
        let unknown = matches!(failed.kind(), Some(ErrorKind::BlobUnknown | ErrorKind::ManifestUnknown | ErrorKind::NotFound));
        let damaged = matches!(failed.kind(), Some(ErrorKind::Corrupt | ErrorKind::SizeInvalid));
        if !self.world.plan.honest && (unknown || damaged) {
            self.world.note("damage noticed", format_args!("{} {what}: {failed}", self.name));
        } else if unknown {
            self.world.violation(format_args!("{} {what}: it was acknowledged, and {failed:?}", self.name));
        } else {
            self.tolerate(what, failed);
        }
    }

    /// Reads all of a blob, or a part.
    async fn read(&mut self, index: usize, digest: &Digest) -> Result<(), Failed> {
        let running = self.server().await;
        let content = self.world.content(digest).unwrap();
        let range = (content.len() > 1 && self.rng.chance(0.25)).then(|| {
            let from = self.below(content.len() - 1);
            (from, from + self.below(content.len() - from))
        });
        let asked = range.map(|(from, last)| ByteRange::FromTo(from as u64, Some(last as u64)));
        let found = ask(&running, async { running.registry.blob(&repository(index), digest, asked).await?.collect().await }).await?;
        let expected = range.map_or(content.clone(), |(from, last)| content.slice(from..=last));
        // Parts are not verified.
        if found != expected && (range.is_none() || self.world.plan.honest || found.len() != expected.len()) {
            self.world.violation(format_args!("{} completed a wrong {} by {}", self.name, self.world.name_of(digest), running.life.name));
        }
        self.world.count(if range.is_some() { "parts read" } else { "blobs read" }, 1);
        Ok(())
    }

    async fn pull(&mut self) {
        let images: Vec<_> = self.world.model().images.iter().map(|(key, image)| (*key, image.clone())).collect();
        if images.is_empty() {
            return;
        }
        let (key, image) = images[self.below(images.len())].clone();
        self.pull_image(key, &image).await;
    }

    /// Whether all of an image that was acknowledged could be read.
    pub(super) async fn pull_image(&mut self, (index, digest): (usize, Digest), image: &Image) -> bool {
        let running = self.server().await;
        let read = async {
            let reference = Reference::Digest(digest);
            let found = ask(&running, running.registry.manifest(&repository(index), &reference)).await?;
            if Digest::sha256(&found.bytes) != digest {
                self.world.violation(format_args!("{}: a wrong manifest", self.name));
            }
            for blob in &image.blobs {
                self.read(index, blob).await?;
            }
            Ok(())
        };
        let read: Result<(), Failed> = read.await;
        match read {
            Ok(()) => {
                self.world.note("pulls", format_args!("{} {}", self.name, self.world.name_of(&digest)));
                true
            }
            Err(failed) => {
                if self.world.model().images.contains_key(&(index, digest)) {
                    self.complain("pull", &failed);
                }
                false
            }
        }
    }

    async fn delete_manifest(&mut self) {
        let keys: Vec<_> = self.world.model().images.keys().copied().collect();
        if keys.is_empty() {
            return;
        }
        let (index, digest) = keys[self.below(keys.len())];
        self.begin_delete(index, digest);
        let running = self.server().await;
        let deleted = ask(&running, running.registry.delete_manifest(&repository(index), &Reference::Digest(digest))).await;
        self.end_delete(index, digest, &running, deleted.as_ref().err());
    }

    async fn delete_blob(&mut self, index: usize) {
        let digest = self.any_blob();
        self.begin_delete(index, digest);
        let running = self.server().await;
        let deleted = ask(&running, running.registry.delete_blob(&repository(index), &digest)).await;
        self.end_delete(index, digest, &running, deleted.as_ref().err());
    }

    fn begin_delete(&self, index: usize, digest: Digest) {
        let mut model = self.world.model();
        model.images.retain(|(at, manifest), image| *at != index || (*manifest != digest && !image.blobs.contains(&digest)));
        let deletes = model.deletes.entry((index, digest)).or_default();
        *deletes = (deletes.0 + 1, deletes.1 + 1);
    }

    fn end_delete(&self, index: usize, digest: Digest, running: &Running, failed: Option<&Failed>) {
        // A process that is not dead may do it yet.
        if !matches!(failed, Some(Failed::Lost)) || running.life.is_dead() {
            self.world.model().deletes.entry((index, digest)).or_default().0 -= 1;
        }
        let outcome = failed.map_or_else(|| "done".to_owned(), ToString::to_string);
        let name = self.world.name_of(&digest);
        self.world.note("deletes", format_args!("{} {} {name} by {}: {outcome}", self.name, repository(index), running.life.name));
        if let Some(failed) = failed
            && !matches!(failed.kind(), Some(ErrorKind::BlobUnknown | ErrorKind::ManifestUnknown))
        {
            self.tolerate("delete", failed);
        }
    }

    /// An upload that is left where it stands, or cancelled.
    async fn abandon(&mut self, index: usize) {
        let digest = self.any_blob();
        self.world.pushes(index, &digest);
        let running = self.server().await;
        let started = ask(&running, running.registry.start_upload(&repository(index), "", Algorithm::Sha256)).await;
        let Ok(key) = started else { return };
        let content = self.world.content(&digest).unwrap();
        let half = content.slice(..content.len() / 2);
        let _ = self.append(&key, 0, half).await;
        if self.rng.chance(0.5) {
            let running = self.server().await;
            if let Err(failed) = ask(&running, running.registry.cancel_upload(&key)).await {
                self.tolerate("cancel", &failed);
            }
        }
        self.world.note("uploads abandoned", &self.name);
    }

    /// What any client may expect when nothing goes wrong: that the first attempt succeeds; or the next, made when the first one was told to.
    pub(super) async fn push_in_peace(&mut self, index: usize) {
        let (running, digest) = (self.server().await, self.any_blob());
        let name = repository(index);
        self.world.pushes(index, &digest);
        let content = self.world.content(&digest).unwrap();
        let mut may_wait = true;
        loop {
            let pushed = async {
                let key = running.registry.start_upload(&name, "", Algorithm::Sha256).await?;
                let half = content.len() / 2;
                running.registry.append(&key, Some(0), once(content.slice(..half))).await?;
                running.registry.finish_upload(&key, &digest, None, Some(once(content.slice(half..)))).await?;
                running.registry.blob(&name, &digest, None).await?.collect().await
            };
            match ask(&running, pushed).await {
                Ok(found) if found == content => return,
                Err(Failed::Refused(error)) if may_wait && error.retry_after().is_some() => {
                    may_wait = false;
                    tokio::time::sleep(error.retry_after().unwrap()).await;
                }
                other => {
                    self.world.violation(format_args!("a push to {name} in peace by {} ended as {other:?}", running.life.name));
                    return;
                }
            }
        }
    }

    async fn look(&mut self, index: usize) {
        let digest = self.any_blob();
        self.head(index, &digest).await;
    }
}

fn retryable(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
