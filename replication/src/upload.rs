//! [`ReplicatedUpload`]: an upload whose digest is not known yet, in one zone.
//!
//! What a client sends in one request is kept in memory as long as it is little and nothing of it was put aside: until then the upload can move to another
//! zone when the first one fails. Afterwards it is bound to its zone; if that dies, clients begin again, in another.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut as _, Bytes, BytesMut};
use registry_core::blob::{BlobInfo, BlobUpload, ResumeOptions, UploadToken, WriteOptions};
use registry_core::{Digest, Error, ErrorKind, Result};
use tokio::time::Instant;

use crate::bandwidth::Class;
use crate::cluster::Cluster;
use crate::health::is_zones_fault;
use crate::ledger::{ZoneId, ZoneState};
use crate::member::Member;
use crate::write::{being_deleted, choose, commit, intend, try_again};

/// An upload in one of the zones.
#[derive(Debug)]
pub(crate) struct ReplicatedUpload {
    cluster: Arc<Cluster>,
    options: WriteOptions,
    member: Arc<Member>,
    upload: Box<dyn BlobUpload>,
    /// All bytes so far, while it can still move.
    kept: Option<Kept>,
    tried: Vec<ZoneId>,
}

#[derive(Debug, Default)]
struct Kept {
    chunks: Vec<Bytes>,
    bytes: usize,
}

/// Begins an upload in the closest zone that takes it.
pub(crate) async fn begin(cluster: &Arc<Cluster>, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
    let mut tried = Vec::new();
    let (member, upload) = begin_somewhere(cluster, &options, &mut tried).await?;
    Ok(Box::new(ReplicatedUpload { cluster: Arc::clone(cluster), options, member, upload, kept: Some(Kept::default()), tried }))
}

async fn begin_somewhere(
    cluster: &Arc<Cluster>,
    options: &WriteOptions,
    tried: &mut Vec<ZoneId>,
) -> Result<(Arc<Member>, Box<dyn BlobUpload>)> {
    let mut failure = None;
    loop {
        let member = match choose(cluster, options.scope.as_deref(), tried) {
            Ok(member) => member,
            Err(none_left) => return Err(failure.map_or(none_left, try_again)),
        };
        tried.extend(member.id().cloned());
        if let Err(error) = member.be_sure(&*cluster.ledger, cluster.options.request_timeout).await {
            member.trip(&error);
            failure = Some(error);
            continue;
        }
        match member.ask(&cluster.options, member.store.begin(options.clone())).await {
            Ok(upload) => return Ok((member, upload)),
            Err(error) if is_zones_fault(&error) => failure = Some(error),
            Err(error) => return Err(error),
        }
    }
}

/// Takes up an upload in the zone that has it.
pub(crate) async fn resume(cluster: &Arc<Cluster>, options: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
    let ResumeOptions { token, epoch, .. } = options;
    let (zone, scope, token) = unwrap_token(token)?;
    let gone = |message: &str| Error::new(ErrorKind::UploadUnknown, message).with_zone(zone.as_str());
    let member = Arc::clone(cluster.member(&zone).ok_or_else(|| gone("its zone is not one of this registry's any more"))?);
    if !cluster.policy.rule(scope.as_deref()).zones.contains(&member.name) {
        return Err(gone("its zone may not hold blobs of this repository any more"));
    }
    if member.state() == ZoneState::Removed {
        return Err(gone("its zone was removed"));
    }
    if member.health.is_open() {
        // Clients begin again, and get another zone.
        return Err(gone("its zone is down"));
    }
    let algorithm = token.algorithm;
    let resume = member.store.resume(ResumeOptions::new(token, epoch));
    // The bytes may have to be read again, if the midstate cannot be.
    let upload = member.ask_within(cluster.options.commit_timeout, &cluster.options, resume).await;
    let upload = upload.map_err(|error| if is_zones_fault(&error) { try_again(error) } else { error })?;
    let mut write = WriteOptions::default().with_algorithm(algorithm).with_epoch(epoch);
    write.scope = scope;
    Ok(Box::new(ReplicatedUpload { cluster: Arc::clone(cluster), options: write, member, upload, kept: None, tried: Vec::new() }))
}

/// Writes zone and scope into a token of the zone's store.
fn wrap_token(mut token: UploadToken, zone: &ZoneId, scope: Option<&str>) -> UploadToken {
    let scope = scope.unwrap_or_default();
    let mut note = BytesMut::with_capacity(4 + scope.len() + token.zone.len() + token.backend.len());
    for part in [scope, &token.zone] {
        note.put_u16(u16::try_from(part.len()).unwrap_or(0));
        note.put_slice(&part.as_bytes()[..part.len().min(usize::from(u16::MAX))]);
    }
    note.put_slice(&token.backend);
    token.backend = note.freeze();
    token.zone = zone.as_str().to_owned();
    token
}

/// The opposite: zone, scope, and the token of the zone's store.
fn unwrap_token(mut token: UploadToken) -> Result<(ZoneId, Option<String>, UploadToken)> {
    let unknown = || Error::new(ErrorKind::UploadUnknown, "not a token of this store");
    let mut note = token.backend.clone();
    let mut part = || {
        let len = usize::from(u16::from_be_bytes(note.get(..2)?.try_into().ok()?));
        let text = std::str::from_utf8(note.get(2..2 + len)?).ok()?.to_owned();
        let _ = note.split_to(2 + len);
        Some(text)
    };
    let scope = part().ok_or_else(unknown)?;
    let inner_zone = part().ok_or_else(unknown)?;
    token.backend = note;
    let zone = ZoneId::new(std::mem::replace(&mut token.zone, inner_zone));
    Ok((zone, (!scope.is_empty()).then_some(scope), token))
}

impl ReplicatedUpload {
    /// Makes a request of the upload's zone, and notes how it ended.
    async fn ask<T>(member: &Member, cluster: &Cluster, limit: Duration, request: impl Future<Output = Result<T>>) -> Result<T> {
        member.ask_within(limit, &cluster.options, request).await
    }

    /// Where the blob is to be. What was begun in a zone before somebody began to empty it ends there, and is moved like all that is in it.
    fn targets(&self) -> Vec<ZoneId> {
        let mut targets = self.cluster.targets(self.options.scope.as_deref());
        let is_wanted = self.cluster.policy.rule(self.options.scope.as_deref()).zones.contains(&self.member.name);
        if let Some(own) = self.member.id().filter(|own| self.member.state() == ZoneState::Draining && is_wanted && !targets.contains(own))
        {
            targets.push(own.clone());
        }
        targets
    }

    /// Moves to another zone after `error`, if that is possible; `error` if it is not.
    async fn move_on(&mut self, error: Error) -> Result<()> {
        if !is_zones_fault(&error) {
            return Err(error);
        }
        let Some(kept) = &self.kept else { return Err(try_again(error)) };
        tracing::info!(zone = self.member.name, %error, "an upload moves to another zone");
        let mut failure = error;
        'zones: loop {
            let begun = begin_somewhere(&self.cluster, &self.options, &mut self.tried).await;
            let Ok((member, mut upload)) = begun else { return Err(try_again(failure)) };
            for chunk in &kept.chunks {
                match Self::ask(&member, &self.cluster, self.cluster.options.stall_timeout, upload.write(chunk.clone())).await {
                    Ok(()) => {}
                    Err(error) if is_zones_fault(&error) => {
                        failure = error;
                        continue 'zones;
                    }
                    Err(error) => return Err(error),
                }
            }
            self.member = member;
            self.upload = upload;
            return Ok(());
        }
    }
}

#[async_trait]
impl BlobUpload for ReplicatedUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        if let Some(kept) = &mut self.kept {
            kept.bytes += chunk.len();
            kept.chunks.push(chunk.clone());
        }
        self.member.throttle.write.pass(Class::Client, chunk.len()).await;
        // What is let through slowly fills a store's parts slowly, and who waits for one of them waits for long.
        let options = &self.cluster.options;
        let stall = if self.member.throttle.write.is_limited() { options.commit_timeout } else { options.stall_timeout };
        let written = Self::ask(&self.member, &self.cluster, stall, self.upload.write(chunk)).await;
        if let Err(error) = written {
            // What is kept has this chunk too.
            self.move_on(error).await?;
        }
        if self.kept.as_ref().is_some_and(|kept| kept.bytes > self.cluster.options.replay) {
            self.kept = None;
        }
        Ok(())
    }

    fn offset(&self) -> u64 {
        self.upload.offset()
    }

    async fn suspend(&mut self) -> Result<UploadToken> {
        loop {
            let limit = self.cluster.options.commit_timeout;
            match Self::ask(&self.member, &self.cluster, limit, self.upload.suspend()).await {
                Ok(token) => {
                    // From now on the token is what counts.
                    self.kept = None;
                    let Some(zone) = self.member.id() else { return Err(Error::new(ErrorKind::Internal, "a zone without identity")) };
                    return Ok(wrap_token(token, zone, self.options.scope.as_deref()));
                }
                Err(error) => self.move_on(error).await?,
            }
        }
    }

    async fn commit(&mut self, digest: &Digest) -> Result<BlobInfo> {
        let patience = Instant::now() + self.cluster.options.deletion_patience;
        loop {
            let targets = self.targets();
            let intent = intend(&self.cluster, digest, Some(self.upload.offset()), &targets).await?;
            let target = self.member.id().and_then(|id| intent.target(id)).cloned();
            let Some(target) = target else {
                return Err(Error::new(ErrorKind::UploadUnknown, "its zone may not hold blobs of this repository"));
            };
            if let Some(wait) = target.fenced_for {
                if Instant::now() >= patience {
                    return Err(being_deleted(digest, wait));
                }
                tokio::time::sleep(wait.clamp(Duration::from_millis(1), Duration::from_millis(250))).await;
                continue;
            }
            let limit = self.cluster.options.commit_timeout;
            match Self::ask(&self.member, &self.cluster, limit, self.upload.commit(digest)).await {
                Ok(info) => {
                    commit(&self.cluster, &self.member, &info, target.generation).await?;
                    self.cluster.freshly_written(digest, self.options.scope.as_deref());
                    if self.member.state() == ZoneState::Draining {
                        crate::jobs::drain_again(&self.cluster, &target.zone).await;
                    }
                    return Ok(info);
                }
                Err(error) => self.move_on(error).await?,
            }
        }
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let Self { cluster, member, upload, .. } = *self;
        member.ask(&cluster.options, upload.abort()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry_core::{Algorithm, Hasher};

    #[test]
    fn tokens_come_back_as_they_were() {
        for (scope, inner) in [(None, ""), (Some("team/app"), ""), (Some("team/app"), "inner zone")] {
            let token = UploadToken::new(7, &Hasher::new(Algorithm::Sha256), &b"backend"[..]).with_zone(inner);
            let (zone, found, unwrapped) = unwrap_token(wrap_token(token.clone(), &ZoneId::new("id"), scope)).unwrap();
            assert_eq!((zone.as_str(), found.as_deref(), unwrapped), ("id", scope, token));
        }
        let foreign = UploadToken::new(7, &Hasher::new(Algorithm::Sha256), &b"\xff\xff"[..]);
        assert_eq!(unwrap_token(foreign).unwrap_err().kind(), ErrorKind::UploadUnknown);
    }
}
