//! Manifests, tags, referrers and lists.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{Inner, Registry, to_the_end};
use crate::blob::{Assurance, WriteOptions, once};
use crate::manifest::ParsedManifest;
use crate::metadata::{Page, PutManifest, Referrer, ReferrersQuery, StoredManifest};
use crate::{Digest, Error, ErrorKind, Reference, RepositoryName, Result, Tag};

/// What became of a pushed manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushedManifest {
    /// Its digest.
    pub digest: Digest,
    /// What it is about.
    pub subject: Option<Digest>,
    /// The tags that now point to it.
    pub tags: Vec<Tag>,
    /// What the client is to be told although all went well: the image has fewer copies, for now, than it is to have.
    pub warning: Option<String>,
}

/// One page of the manifests that refer to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Referrers {
    /// The referrers, in the order of their digests.
    pub items: Vec<Referrer>,
    /// Behind which digest the next page begins; `None` on the last.
    pub next: Option<Digest>,
}

fn manifest_unknown(reference: &Reference) -> Error {
    Error::new(ErrorKind::ManifestUnknown, "the repository has no such manifest").with_key(reference)
}

impl Registry {
    /// A manifest by digest or tag, with the very bytes that were pushed. [`ErrorKind::ManifestUnknown`] if there is none. That it was used is noted about
    /// once an hour ([`MetadataStore::note_uses`](crate::MetadataStore::note_uses)); nobody waits for that.
    pub async fn manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<StoredManifest> {
        let stored = self.inner.metadata.manifest(repository, reference).await?.ok_or_else(|| manifest_unknown(reference))?;
        self.inner.used(repository, &stored.digest);
        Ok(stored)
    }

    /// Stores a manifest, under its digest and under the tags: that of `reference`, and `tags` besides.
    ///
    /// `content_type` is what the client says it is. Fails, and changes nothing, with [`ErrorKind::DigestInvalid`] if `reference` is the digest of
    /// something else, [`ErrorKind::ManifestInvalid`], [`ErrorKind::TooLarge`], or [`ErrorKind::ManifestBlobUnknown`] if the repository does not hold
    /// everything it refers to (its subject excepted).
    ///
    /// Once all is written down, waits until the store has as many copies as it demands, of the manifest and of all that it requires
    /// ([`await_copies`](crate::BlobStore::await_copies)). Fewer are a [warning](PushedManifest::warning), or, where the store insists, its error, mostly
    /// [`ErrorKind::Unavailable`]: the manifest then stays, and the same push may be repeated. A caller that is dropped stops waiting, and no more.
    pub async fn put_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        content_type: Option<&str>,
        bytes: Bytes,
        tags: Vec<Tag>,
    ) -> Result<PushedManifest> {
        self.writable()?;
        if bytes.len() as u64 > self.max_manifest_size() {
            let message = format!("the manifest has {} bytes, and the limit is {}", bytes.len(), self.max_manifest_size());
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let (digest, first_tag) = match reference {
            Reference::Digest(expected) => {
                let found = Digest::of(expected.algorithm(), &bytes);
                if found != *expected {
                    return Err(Error::digest_mismatch(expected, &found));
                }
                (found, None)
            }
            Reference::Tag(tag) => (Digest::sha256(&bytes), Some(tag.clone())),
        };
        let parsed = ParsedManifest::parse(content_type, &bytes)?;
        let mut all_tags: Vec<Tag> = first_tag.into_iter().collect();
        for tag in tags {
            if !all_tags.contains(&tag) {
                all_tags.push(tag);
            }
        }
        let mut pushed = PushedManifest { digest, subject: parsed.subject, tags: all_tags.clone(), warning: None };
        let (optional, manifests) = if self.inner.options.sparse_indexes {
            ([parsed.foreign, parsed.manifests].concat(), Vec::new())
        } else {
            (parsed.foreign, parsed.manifests)
        };
        let required = required(digest, &parsed.blobs, &manifests);
        let command = PutManifest {
            repository: repository.clone(),
            digest,
            media_type: parsed.media_type,
            bytes,
            generation: 0,
            blobs: parsed.blobs,
            manifests,
            optional,
            subject: parsed.subject,
            artifact_type: parsed.artifact_type,
            annotations: parsed.annotations,
            tags: all_tags,
        };
        let inner = Arc::clone(&self.inner);
        to_the_end(async move { inner.retry_lost_races(|| inner.store_manifest(command.clone())).await }).await?;
        // Outside of that task: nothing is half done here, and who has hung up waits for nothing.
        if let Assurance::Fewer(text) = self.inner.blobs.await_copies(&required, repository.as_str()).await? {
            pushed.warning = Some(text);
        }
        Ok(pushed)
    }

    /// Deletes a tag, or by digest a manifest with all the tags that point to it. [`ErrorKind::ManifestUnknown`] if there is none.
    pub async fn delete_manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<()> {
        self.writable()?;
        let (inner, repository, reference) = (Arc::clone(&self.inner), repository.clone(), reference.clone());
        to_the_end(async move {
            let found = match &reference {
                Reference::Tag(tag) => inner.metadata.delete_tag(&repository, tag).await?,
                Reference::Digest(digest) => {
                    let found = inner.metadata.delete_manifest(&repository, digest).await?;
                    if found {
                        inner.let_go(&repository, &[*digest]).await;
                    }
                    found
                }
            };
            if found { Ok(()) } else { Err(manifest_unknown(&reference)) }
        })
        .await
    }

    /// The tags of a repository in lexical order. [`ErrorKind::RepositoryUnknown`] if it is not known.
    pub async fn tags(&self, repository: &RepositoryName, page: &Page) -> Result<Vec<Tag>> {
        check_text(page.after.as_deref())?;
        let tags = self.inner.metadata.tags(repository, page).await?;
        tags.ok_or_else(|| Error::new(ErrorKind::RepositoryUnknown, "the repository is not known").with_key(repository))
    }

    /// The repositories that hold a manifest, in lexical order.
    pub async fn repositories(&self, page: &Page) -> Result<Vec<RepositoryName>> {
        check_text(page.after.as_deref())?;
        self.inner.metadata.repositories(page).await
    }

    /// What refers to a manifest. Unknown repositories and subjects have no referrers.
    ///
    /// A page ends after [`ReferrersQuery::limit`] items, or before its descriptors, as JSON, pass 4 MiB less some room for the rest of an index; at
    /// least one is on it. No more than a few times that is ever in memory.
    pub async fn referrers(&self, query: &ReferrersQuery) -> Result<Referrers> {
        check_text(query.artifact_type.as_deref())?;
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let mut page = Referrers::default();
        let (mut bytes, mut step) = (0, FIRST_STEP);
        let mut part = query.clone();
        while page.items.len() < limit {
            let wanted = step.min(limit - page.items.len());
            part.limit = u32::try_from(wanted + 1).unwrap_or(u32::MAX);
            let mut found = self.inner.metadata.referrers(&part).await?;
            let more = found.len() > wanted;
            found.truncate(wanted);
            for item in found {
                bytes += json_len(&item);
                if bytes > MAX_PAGE_BYTES && !page.items.is_empty() {
                    page.next = page.items.last().map(|item| item.digest);
                    return Ok(page);
                }
                part.after = Some(item.digest);
                page.items.push(item);
            }
            if !more {
                page.next = None;
                return Ok(page);
            }
            page.next = part.after;
            // Small ones come in large steps, large ones never more than fill another page.
            step = (MAX_PAGE_BYTES * page.items.len() / bytes.max(1)).clamp(FIRST_STEP, 1_000);
        }
        Ok(page)
    }
}

/// What an image consists of: the manifest itself and all that it requires, each once.
fn required(manifest: Digest, blobs: &[Digest], manifests: &[Digest]) -> Vec<Digest> {
    let mut named = BTreeSet::new();
    std::iter::once(&manifest).chain(blobs).chain(manifests).copied().filter(|digest| named.insert(*digest)).collect()
}

/// How many referrers are asked for before it is known how large they are. A manifest, and so its annotations, may have 4 MiB.
const FIRST_STEP: usize = 4;

/// 4 MiB is what clients have to accept of an index.
const MAX_PAGE_BYTES: usize = (4 << 20) - (64 << 10);

/// The length of a referrer's descriptor in JSON, at least.
fn json_len(item: &Referrer) -> usize {
    // The fixed members, with the longest digest and size.
    const FIXED: usize = 300;
    let text = |text: &str| serde_json::to_string(text).map_or(text.len(), |json| json.len());
    let annotations: usize = item.annotations.iter().map(|(k, v)| text(k) + text(v) + 2).sum();
    FIXED + annotations + text(&item.media_type) + item.artifact_type.as_deref().map_or(0, text)
}

/// Text that a client gives to look for: no name or type has control characters in it, and not every database takes them.
fn check_text(text: Option<&str>) -> Result<()> {
    match text {
        Some(text) if text.len() > 1024 || text.chars().any(char::is_control) => {
            Err(Error::new(ErrorKind::InvalidInput, "no name or type is like that"))
        }
        _ => Ok(()),
    }
}

impl Inner {
    /// intend → put the bytes → retain → one transaction for all the rest.
    async fn store_manifest(&self, mut command: PutManifest) -> Result<()> {
        let (digest, scope) = (command.digest, command.repository.clone());
        command.generation = self.intend(&digest).await?.generation;
        let options = WriteOptions::default().with_scope(scope.as_str()).with_algorithm(digest.algorithm());
        let options = options.with_size(command.bytes.len() as u64);
        self.blobs.put(&digest, options, once(command.bytes.clone())).await?;
        self.blobs.retain(&digest, scope.as_str()).await?;
        self.metadata.put_manifest(command).await
    }
}
