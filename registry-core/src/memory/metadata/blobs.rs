//! Blobs and links.

use std::ops::Bound;
use std::time::Duration;

use super::state::{BlobRow, Life, State};
use crate::metadata::{BlobLink, HeldBlob, Intent, LinkBlob, MountBlob, Observation};
use crate::{Digest, Error, ErrorKind, RepositoryName, Result, Timestamp};

impl State {
    pub(super) fn intend_blob(&mut self, digest: &Digest, now: Timestamp) -> Result<Intent> {
        let life = self.blobs.get(digest).map(|row| row.life);
        if let Some(Life::Deleting { until }) = life
            && now < until
        {
            let wait = until.since(now).max(Duration::from_millis(1));
            return Err(Error::new(ErrorKind::Unavailable, "the blob is being deleted").with_key(digest).with_retry_after(wait));
        }
        if let (Some(Life::Live), Some(row)) = (life, self.blobs.get_mut(digest)) {
            row.touched_at = now;
            return Ok(Intent { generation: row.generation });
        }
        // A row that comes back does so under another generation: whoever thinks to be deleting it must not take the new bytes' row along.
        let generation = self.next_generation(now);
        let row = self.blobs.entry(*digest).or_insert(BlobRow {
            life: Life::Live,
            generation,
            size: 0,
            touched_at: now,
            verified_at: Timestamp::default(),
            suspect: false,
        });
        row.life = Life::Live;
        row.generation = generation;
        row.touched_at = now;
        Ok(Intent { generation })
    }

    pub(super) fn link_blob(&mut self, link: LinkBlob, now: Timestamp) -> Result<()> {
        let LinkBlob { repository, digest, size, generation, upload } = link;
        // All that may fail comes before all that changes something.
        self.row_at(&digest, generation)?;
        if let Some((key, epoch)) = &upload {
            self.may_finish(key, *epoch, &digest)?;
        }
        let row = self.row_at(&digest, generation)?;
        row.size = size;
        row.touched_at = now;
        row.verified_at = now;
        row.suspect = false;
        self.repositories.entry(repository).or_default().links.insert(digest, now);
        if let Some((key, _)) = &upload {
            self.finish_upload(key, digest, size, now);
        }
        Ok(())
    }

    pub(super) fn mount_blob(&mut self, mount: MountBlob, now: Timestamp) -> Option<BlobLink> {
        let MountBlob { from, to, digest } = mount;
        let is_linked = match from {
            Some(from) => self.repositories.get(&from).is_some_and(|repository| repository.links.contains_key(&digest)),
            None => self.repositories.values().any(|repository| repository.links.contains_key(&digest)),
        };
        let row = self.blobs.get_mut(&digest).filter(|row| is_linked && row.life == Life::Live && !row.suspect)?;
        row.touched_at = now;
        let link = BlobLink::new(row.size, row.verified_at, row.suspect);
        self.repositories.entry(to).or_default().links.insert(digest, now);
        Some(link)
    }

    pub(super) fn unlink_blob(&mut self, repository: &RepositoryName, digest: &Digest) -> bool {
        self.repositories.get_mut(repository).is_some_and(|repository| repository.links.remove(digest).is_some())
    }

    pub(super) fn blob_link(&self, repository: &RepositoryName, digest: &Digest) -> Option<BlobLink> {
        self.repositories.get(repository)?.links.get(digest)?;
        self.blobs.get(digest).map(|row| BlobLink::new(row.size, row.verified_at, row.suspect))
    }

    pub(super) fn rely_on_blob(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        at_most_every: Duration,
        now: Timestamp,
    ) -> Option<BlobLink> {
        let relied_at = self.repositories.get_mut(repository)?.links.get_mut(digest)?;
        if now.since(*relied_at) >= at_most_every {
            // Never back, whatever the clock does: somebody was told then.
            *relied_at = now.max(*relied_at);
        }
        self.blob_link(repository, digest)
    }

    pub(super) fn holders(&self, digest: &Digest) -> Vec<RepositoryName> {
        let holders = self.repositories.iter().filter(|(_, repository)| repository.holds(digest));
        holders.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn held_blobs(&self, after: Option<&Digest>, limit: u32) -> Vec<HeldBlob> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.blobs.range((after, Bound::Unbounded));
        let all = rows.map(|(digest, row)| HeldBlob::new(*digest, row.size, self.holders(digest)));
        all.filter(|blob| !blob.repositories.is_empty()).take(limit as usize).collect()
    }

    pub(super) fn unknown_blobs(&self, digests: &[Digest]) -> Vec<Digest> {
        digests.iter().filter(|digest| !self.blobs.contains_key(digest)).copied().collect()
    }

    pub(super) fn observe_blob(&mut self, digest: &Digest, observation: Observation, now: Timestamp) {
        let Some(row) = self.blobs.get_mut(digest) else { return };
        row.suspect = observation == Observation::Suspect;
        if observation == Observation::Verified {
            row.verified_at = now;
        }
    }
}
