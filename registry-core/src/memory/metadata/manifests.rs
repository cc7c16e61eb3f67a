//! Manifests, tags and referrers.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::state::{ManifestRow, State};
use crate::metadata::{EventKind, ManifestUse, Page, PutManifest, Referrer, ReferrersQuery, StoredManifest, UsedManifest};
use crate::{Digest, Error, ErrorKind, Reference, RepositoryName, Result, Tag, Timestamp};

/// What the repository lacks of what a manifest requires: blobs first, each once.
fn missing(state: &State, manifest: &PutManifest) -> Vec<Digest> {
    let repository = state.repositories.get(&manifest.repository);
    let has_manifest = |digest: &Digest| repository.is_some_and(|repository| repository.manifests.contains_key(digest));
    let has_blob = |digest: &Digest| repository.is_some_and(|repository| repository.links.contains_key(digest)) || has_manifest(digest);
    let blobs = manifest.blobs.iter().filter(|digest| !has_blob(digest));
    let manifests = manifest.manifests.iter().filter(|digest| !has_manifest(digest));
    let mut named = BTreeSet::new();
    blobs.chain(manifests).copied().filter(|digest| named.insert(*digest)).collect()
}

impl State {
    pub(super) fn put_manifest(&mut self, manifest: PutManifest, now: Timestamp) -> Result<()> {
        // All that may fail comes before all that changes something.
        self.row_at(&manifest.digest, manifest.generation)?;
        let missing = missing(self, &manifest);
        if !missing.is_empty() {
            let names: Vec<_> = missing.iter().map(ToString::to_string).collect();
            let message = format!("the repository does not hold {}", names.join(", "));
            return Err(Error::new(ErrorKind::ManifestBlobUnknown, message).with_key(manifest.digest).with_digests(missing));
        }
        let PutManifest { repository: name, digest, media_type, bytes, generation, blobs, manifests, optional, .. } = manifest;
        let row = self.row_at(&digest, generation)?;
        row.size = bytes.len() as u64;
        row.touched_at = now;
        row.verified_at = now;
        row.suspect = false;
        let repository = self.repositories.entry(name.clone()).or_default();
        let edges: BTreeSet<_> = blobs.into_iter().chain(manifests).chain(optional).collect();
        repository.remove_manifest(&digest);
        for edge in &edges {
            repository.needs.insert((*edge, digest));
            if let Some(relied_at) = repository.links.get_mut(edge) {
                *relied_at = now;
            }
        }
        let mut moved = Vec::new();
        for tag in manifest.tags {
            if repository.tags.insert(tag.clone(), digest) != Some(digest) {
                moved.push(tag);
            }
        }
        let (subject, artifact_type, annotations) = (manifest.subject, manifest.artifact_type, manifest.annotations);
        repository.manifests.insert(digest, ManifestRow { media_type, bytes, edges, subject, artifact_type, annotations, used_at: now });
        self.tell(EventKind::ManifestPushed, &name, digest, None, now);
        for tag in moved {
            self.tell(EventKind::TagMoved, &name, digest, Some(tag), now);
        }
        Ok(())
    }

    pub(super) fn manifest(&self, repository: &RepositoryName, reference: &Reference) -> Option<StoredManifest> {
        let repository = self.repositories.get(repository)?;
        let digest = match reference {
            Reference::Digest(digest) => *digest,
            Reference::Tag(tag) => *repository.tags.get(tag)?,
        };
        let row = repository.manifests.get(&digest)?;
        Some(StoredManifest::new(digest, row.media_type.clone(), row.bytes.clone()))
    }

    pub(super) fn note_uses(&mut self, uses: &[(RepositoryName, Digest)], now: Timestamp) {
        for (name, digest) in uses {
            if let Some(row) = self.repositories.get_mut(name).and_then(|repository| repository.manifests.get_mut(digest)) {
                row.used_at = row.used_at.max(now);
            }
        }
    }

    pub(super) fn manifests_by_use(&self, after: Option<&ManifestUse>, limit: u32) -> Vec<UsedManifest> {
        let key = |used: &ManifestUse| (std::cmp::Reverse(used.used_at), used.repository.clone(), used.digest);
        let after = after.map(key);
        let rows = self.repositories.iter().flat_map(|(name, repository)| repository.manifests.iter().map(move |row| (name, row)));
        let mut used: Vec<_> = rows
            .map(|(name, (digest, row))| {
                let last_use = ManifestUse { used_at: row.used_at, repository: name.clone(), digest: *digest };
                UsedManifest::new(last_use, row.edges.iter().copied().collect())
            })
            .filter(|used| after.as_ref().is_none_or(|after| key(&used.last_use) > *after))
            .collect();
        used.sort_by_key(|used| key(&used.last_use));
        used.truncate(limit as usize);
        used
    }

    pub(super) fn delete_manifest(&mut self, name: &RepositoryName, digest: &Digest, now: Timestamp) -> bool {
        let Some(repository) = self.repositories.get_mut(name) else { return false };
        if repository.remove_manifest(digest).is_none() {
            return false;
        }
        let tags: Vec<_> = repository.tags.iter().filter(|(_, tagged)| *tagged == digest).map(|(tag, _)| tag.clone()).collect();
        repository.tags.retain(|_, tagged| tagged != digest);
        self.tell(EventKind::ManifestDeleted, name, *digest, None, now);
        for tag in tags {
            self.tell(EventKind::TagDeleted, name, *digest, Some(tag), now);
        }
        true
    }

    pub(super) fn delete_tag(&mut self, name: &RepositoryName, tag: &Tag, now: Timestamp) -> bool {
        let digest = self.repositories.get_mut(name).and_then(|repository| repository.tags.remove(tag));
        if let Some(digest) = digest {
            self.tell(EventKind::TagDeleted, name, digest, Some(tag.clone()), now);
        }
        digest.is_some()
    }

    pub(super) fn tags(&self, repository: &RepositoryName, page: &Page) -> Option<Vec<Tag>> {
        let tags = self.repositories.get(repository)?.tags.keys();
        Some(tags.filter(|tag| is_behind(tag.as_str(), page)).take(page.limit as usize).cloned().collect())
    }

    pub(super) fn repositories(&self, page: &Page) -> Vec<RepositoryName> {
        let holding = self.repositories.iter().filter(|(_, repository)| !repository.manifests.is_empty()).map(|(name, _)| name);
        holding.filter(|name| is_behind(name.as_str(), page)).take(page.limit as usize).cloned().collect()
    }

    pub(super) fn referrers(&self, query: &ReferrersQuery) -> Vec<Referrer> {
        let Some(repository) = self.repositories.get(&query.repository) else { return Vec::new() };
        let after = query.after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = repository.manifests.range((after, Bound::Unbounded)).filter(|(_, row)| {
            row.subject == Some(query.subject) && (query.artifact_type.is_none() || row.artifact_type == query.artifact_type)
        });
        let describe = |(digest, row): (&Digest, &ManifestRow)| {
            let size = row.bytes.len() as u64;
            Referrer::new(*digest, row.media_type.clone(), size, row.artifact_type.clone(), row.annotations.clone())
        };
        found.take(query.limit as usize).map(describe).collect()
    }
}

fn is_behind(name: &str, page: &Page) -> bool {
    page.after.as_deref().is_none_or(|after| name > after)
}
