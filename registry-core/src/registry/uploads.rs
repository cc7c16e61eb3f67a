//! The upload session: begin, append, finish, status, cancel.
//!
//! ```text
//!   start ──> [open: compare-and-set of the offset, epoch + 1] ──> resume ──> write … ──> suspend ──> save token     (append)
//!                                                                └──> write … ──> intend ──> commit ──> link + end   (finish)
//! ```
//!
//! A process may be killed between any two of these: the session then stands where it was last saved, and the next request resumes there. Bytes behind
//! that offset are dropped by `resume`; what a superseded writer still sends can neither be saved nor reach the newer writer's bytes.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::{Inner, Registry, to_the_end};
use crate::blob::{BlobInfo, ByteStream, ReadOptions, ResumeOptions, WriteOptions, once};
use crate::metadata::{NewUpload, OpenUpload, UploadKey};
use crate::{Algorithm, BlobUpload, Digest, Error, ErrorKind, Hasher, RepositoryName, Result, UploadToken, random_id};

/// Where an upload stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UploadStatus {
    /// How many bytes the registry has.
    pub offset: u64,
}

impl Registry {
    /// Begins an upload on behalf of `owner` (an identity, or empty), hashing with `algorithm` as bytes arrive.
    ///
    /// The id is 128 random bits; every later call has to name the same repository and owner.
    pub async fn start_upload(&self, repository: &RepositoryName, owner: &str, algorithm: Algorithm) -> Result<UploadKey> {
        self.writable()?;
        let key = UploadKey { id: random_id(), repository: repository.clone(), owner: owner.to_owned() };
        self.inner.metadata.create_upload(NewUpload { key: key.clone(), algorithm }).await?;
        Ok(key)
    }

    /// Appends bytes at `start`, or wherever the upload stands.
    ///
    /// [`ErrorKind::RangeInvalid`] if it stands elsewhere, with the right offset; the upload lives on. If the content ends early
    /// ([`ErrorKind::Interrupted`]), what arrived is kept; after any other error of the content nothing of it is, but for what an upload of many hours
    /// has put aside in between.
    pub async fn append(&self, key: &UploadKey, start: Option<u64>, content: ByteStream) -> Result<UploadStatus> {
        self.writable()?;
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        to_the_end(async move {
            let mut open = inner.metadata.open_upload(&key, start).await?;
            if open.session.finished.is_some() {
                return Err(upload_unknown(&key));
            }
            let mut upload = inner.take_up(&key, &open).await?;
            let received = match inner.receive(&key, &mut open, &mut upload, content).await {
                Err(error) if error.kind() == ErrorKind::Conflict => Err(inner.superseded(&key, error).await),
                other => other,
            };
            if received.as_ref().is_err_and(|error| error.kind() != ErrorKind::Interrupted) {
                return received.map(|()| UploadStatus { offset: upload.offset() });
            }
            let saved = inner.put_aside(&key, open.epoch, &mut *upload).await;
            received?;
            saved
        })
        .await
    }

    /// Appends the last bytes, if any, and makes the upload the blob of this digest.
    ///
    /// [`ErrorKind::DigestInvalid`] if the content has another digest, and [`ErrorKind::RangeInvalid`] as with [`append`](Self::append): the upload lives
    /// on where it stood before this call. Finishing again what was finished succeeds for some minutes, for clients that missed the answer.
    pub async fn finish_upload(
        &self,
        key: &UploadKey,
        digest: &Digest,
        start: Option<u64>,
        content: Option<ByteStream>,
    ) -> Result<BlobInfo> {
        self.finish_sized(key, digest, start, None, content).await
    }

    /// The same, when it is known that `size` more bytes come.
    pub async fn finish_sized(
        &self,
        key: &UploadKey,
        digest: &Digest,
        start: Option<u64>,
        size: Option<u64>,
        content: Option<ByteStream>,
    ) -> Result<BlobInfo> {
        self.writable()?;
        let (inner, key, digest) = (Arc::clone(&self.inner), key.clone(), *digest);
        to_the_end(async move {
            let mut open = inner.metadata.open_upload(&key, start).await?;
            let stood_at = open.session.offset;
            match open.session.finished {
                Some((finished, size)) if finished == digest => return Ok(BlobInfo::new(digest, size)),
                Some(_) => return Err(upload_unknown(&key)),
                None => {}
            }
            let content = content.unwrap_or_else(|| once(bytes::Bytes::new()));
            if open.session.token.is_none() {
                // Nothing is staged and the digest is known: straight to its place.
                let upload = Some((key.clone(), open.epoch));
                return inner.put_and_link(&key.repository, &digest, size, content, upload).await;
            }
            let mut upload = match inner.take_up(&key, &open).await {
                Err(error) if error.kind() == ErrorKind::UploadUnknown => return inner.committed_before(&key, &open, &digest, error).await,
                other => other?,
            };
            match inner.receive(&key, &mut open, &mut upload, content).await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    inner.put_aside(&key, open.epoch, &mut *upload).await?;
                    return Err(error);
                }
                Err(error) if error.kind() == ErrorKind::Conflict => return Err(inner.superseded(&key, error).await),
                Err(error) => return Err(error),
            }
            // What this request brought is kept only if it was right: a client that is refused sends all of it again.
            let keep = upload.offset() == stood_at;
            inner.commit(&key, open.epoch, &mut *upload, &digest, keep).await
        })
        .await
    }

    /// Where the upload stands.
    pub async fn upload_status(&self, key: &UploadKey) -> Result<UploadStatus> {
        let session = self.inner.metadata.upload(key).await?;
        if session.finished.is_some() { Err(upload_unknown(key)) } else { Ok(UploadStatus { offset: session.offset }) }
    }

    /// Ends the upload and drops its bytes.
    pub async fn cancel_upload(&self, key: &UploadKey) -> Result<()> {
        self.writable()?;
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        to_the_end(async move {
            let open = inner.metadata.cancel_upload(&key).await?;
            if open.session.token.is_some() {
                // The session is gone already; bytes that cannot be dropped now are found as an abandoned upload later.
                let dropped = async { inner.take_up(&key, &open).await?.abort().await };
                match dropped.await {
                    Ok(()) => {}
                    Err(error) => tracing::debug!(upload = key.id, %error, "a cancelled upload's bytes are left for later"),
                }
            }
            Ok(())
        })
        .await
    }
}

fn upload_unknown(key: &UploadKey) -> Error {
    Error::new(ErrorKind::UploadUnknown, "there is no such upload: it ended, expired or never was").with_key(&key.id)
}

impl Inner {
    /// Writes all of the content. One that takes long is put aside and taken up again now and then: so the session never looks abandoned, and a crash
    /// costs no more than what came since.
    async fn receive(
        &self,
        key: &UploadKey,
        open: &mut OpenUpload,
        upload: &mut Box<dyn BlobUpload>,
        mut content: ByteStream,
    ) -> Result<()> {
        let interval = self.options.upload_expiry / 4;
        let mut saved_at = Instant::now();
        while let Some(chunk) = content.next().await {
            upload.write(chunk?).await?;
            if saved_at.elapsed() >= interval {
                self.put_aside(key, open.epoch, &mut **upload).await?;
                *open = self.metadata.open_upload(key, Some(upload.offset())).await?;
                *upload = self.take_up(key, open).await?;
                saved_at = Instant::now();
            }
        }
        Ok(())
    }

    async fn take_up(&self, key: &UploadKey, open: &OpenUpload) -> Result<Box<dyn BlobUpload>> {
        let session = &open.session;
        let result = match &session.token {
            Some(token) => self.blobs.resume(ResumeOptions::new(UploadToken::decode(token)?, open.epoch)).await,
            None => {
                let options = WriteOptions::default().with_scope(key.repository.as_str());
                self.blobs.begin(options.with_algorithm(session.algorithm).with_epoch(open.epoch)).await
            }
        };
        match result {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(upload_unknown(key).with_source(error)),
            Err(error) if error.kind() == ErrorKind::Conflict => Err(self.superseded(key, error).await),
            other => other,
        }
    }

    /// suspend → save.
    async fn put_aside(&self, key: &UploadKey, epoch: u64, upload: &mut dyn BlobUpload) -> Result<UploadStatus> {
        let token = match upload.suspend().await {
            Err(error) if error.kind() == ErrorKind::Conflict => return Err(self.superseded(key, error).await),
            other => other?,
        };
        let offset = upload.offset();
        match self.metadata.save_upload(key, epoch, offset, token.encode()?).await {
            Err(error) if error.kind() == ErrorKind::Conflict => Err(self.superseded(key, error).await),
            other => other.map(|()| UploadStatus { offset }),
        }
    }

    /// Staged bytes may be gone because they became the blob, and only the acknowledgement was lost: then it is linked now. The midstate says which bytes
    /// this upload was sent, so that nobody gets hold of somebody else's blob in this way.
    async fn committed_before(&self, key: &UploadKey, open: &OpenUpload, digest: &Digest, unknown: Error) -> Result<BlobInfo> {
        let session = &open.session;
        let sent = session.token.as_ref().and_then(|token| UploadToken::decode(token).ok()?.hasher()).map(Hasher::finalize);
        if sent != Some(*digest) {
            return Err(unknown);
        }
        let intent = self.intend(digest).await?;
        let info = match self.verify_stored(digest).await {
            Ok(Some(info)) => info,
            Ok(None) => return Err(unknown),
            Err(error) => return Err(error),
        };
        match self.link(&key.repository, &info, intent.generation, Some((key.clone(), open.epoch))).await {
            Err(error) if error.kind() == ErrorKind::Conflict => Err(self.superseded(key, error).await),
            other => other.map(|()| info),
        }
    }

    /// Hashes what the store has of a blob, which is as good as having written it; `None` if that is nothing, or something else.
    async fn verify_stored(&self, digest: &Digest) -> Result<Option<BlobInfo>> {
        let mut reader = match self.blobs.read(digest, ReadOptions::default()).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut hasher = Hasher::new(digest.algorithm());
        while let Some(chunk) = reader.stream.next().await {
            match chunk {
                Ok(chunk) => hasher.update(&chunk),
                // A store that verifies by itself says so: what it has is something else.
                Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok((hasher.finalize() == *digest).then_some(reader.info))
    }

    /// intend → commit → link and end of the session.
    async fn commit(&self, key: &UploadKey, epoch: u64, upload: &mut dyn BlobUpload, digest: &Digest, keep: bool) -> Result<BlobInfo> {
        let committed = async {
            let intent = self.intend(digest).await?;
            Ok::<_, Error>((upload.commit(digest).await?, intent))
        };
        let (info, intent) = match committed.await {
            Ok(committed) => committed,
            Err(error) if error.kind() == ErrorKind::Conflict => return Err(self.superseded(key, error).await),
            Err(error) if keep && (error.kind() == ErrorKind::DigestInvalid || error.is_retryable()) => {
                // Only the digest was wrong, or the moment. The session stands where it stood, under this writer's hand.
                if let Err(error) = self.put_aside(key, epoch, upload).await {
                    tracing::warn!(upload = key.id, %error, "could not put an upload aside");
                }
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        match self.link(&key.repository, &info, intent.generation, Some((key.clone(), epoch))).await {
            // Either a deletion overtook us, and the bytes just committed may be gone: the client has to push them again. Or a newer writer has the
            // upload: it decides.
            Err(error) if error.kind() == ErrorKind::Conflict => Err(self.superseded(key, error).await),
            other => other.map(|()| info),
        }
    }

    /// What the loser of an upload is told: where the winner stands.
    async fn superseded(&self, key: &UploadKey, error: Error) -> Error {
        match self.metadata.upload(key).await {
            Ok(session) => {
                let offset = session.finished.map_or(session.offset, |(_, size)| size);
                Error::range_invalid(offset, "another request has taken over this upload").with_key(&key.id).with_source(error)
            }
            Err(error) => error,
        }
    }
}
