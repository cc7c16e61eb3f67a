//! Garbage collection.

use std::ops::Bound;
use std::time::Duration;

use super::state::{BlobRow, Life, State, conflict, is_idle};
use crate::metadata::{Deletion, GcPreview, Sweep, SweepPage};
use crate::{Digest, Error, ErrorKind, RepositoryName, Result, Timestamp};

fn bad_cursor(cursor: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "not a cursor of this sweep").with_key(cursor)
}

/// A link's place in the sweep. Neither half has a space in it.
fn read_cursor(cursor: &str) -> Result<(RepositoryName, Digest)> {
    let (name, digest) = cursor.split_once(' ').ok_or_else(|| bad_cursor(cursor))?;
    Ok((name.parse().map_err(|_| bad_cursor(cursor))?, digest.parse().map_err(|_| bad_cursor(cursor))?))
}

/// How many rows to look at: one at least, since a sweep that looks at none never ends.
fn page_size(sweep: &Sweep) -> usize {
    sweep.limit.max(1) as usize
}

impl State {
    pub(super) fn expire_links(&mut self, sweep: &Sweep, now: Timestamp) -> Result<SweepPage<(RepositoryName, Digest)>> {
        let cursor = sweep.cursor.as_deref().map(read_cursor).transpose()?;
        let first = cursor.as_ref().map_or(Bound::Unbounded, |(name, _)| Bound::Included(name));
        let mut visited = 0;
        let mut last = None;
        let mut removed = Vec::new();
        let mut next = None;
        'page: for (name, repository) in self.repositories.range::<RepositoryName, _>((first, Bound::Unbounded)) {
            let after = cursor.as_ref().filter(|(at, _)| at == name).map_or(Bound::Unbounded, |(_, digest)| Bound::Excluded(*digest));
            for (digest, relied_at) in repository.links.range((after, Bound::Unbounded)) {
                if visited == page_size(sweep) {
                    next = last.map(|(name, digest): (&RepositoryName, &Digest)| format!("{name} {digest}"));
                    break 'page;
                }
                visited += 1;
                last = Some((name, digest));
                if is_idle(*relied_at, sweep.grace, now) && !repository.needs(digest) {
                    removed.push((name.clone(), *digest));
                }
            }
        }
        for (name, digest) in &removed {
            self.unlink_blob(name, digest);
        }
        Ok(SweepPage { removed, next })
    }

    pub(super) fn condemn_blobs(&mut self, sweep: &Sweep, now: Timestamp) -> Result<SweepPage<Digest>> {
        let after = match &sweep.cursor {
            Some(cursor) => Bound::Excluded(cursor.parse::<Digest>().map_err(|_| bad_cursor(cursor))?),
            None => Bound::Unbounded,
        };
        let limit = page_size(sweep);
        let mut digests: Vec<_> = self.blobs.range((after, Bound::Unbounded)).map(|(digest, _)| *digest).take(limit + 1).collect();
        let more = digests.len() > limit;
        digests.truncate(limit);
        let next = digests.last().filter(|_| more).map(ToString::to_string);
        Ok(SweepPage { removed: self.condemn(&digests, sweep.grace, now), next })
    }

    pub(super) fn condemn(&mut self, digests: &[Digest], grace: Duration, now: Timestamp) -> Vec<Digest> {
        let mut condemned = Vec::new();
        for digest in digests {
            let is_idle = self.blobs.get(digest).is_some_and(|row| row.life == Life::Live && is_idle(row.touched_at, grace, now));
            if is_idle && !self.is_held(digest) {
                self.move_on(digest, Life::Condemned { at: now }, now);
                condemned.push(*digest);
            }
        }
        condemned
    }

    pub(super) fn claim_deletions(&mut self, trash_delay: Duration, lease: Duration, limit: u32, now: Timestamp) -> Vec<Deletion> {
        let is_due = |row: &BlobRow| match row.life {
            Life::Live => false,
            Life::Condemned { at } => at <= now - trash_delay,
            Life::Deleting { until } => until <= now,
        };
        let due: Vec<_> = self.blobs.iter().filter(|(_, row)| is_due(row)).map(|(digest, _)| *digest).take(limit as usize).collect();
        let mut claimed = Vec::new();
        for digest in due {
            if self.is_held(&digest) {
                // It cannot be, since whatever makes a holder makes the blob live. But bytes are not deleted on the strength of that alone.
                self.move_on(&digest, Life::Live, now);
                continue;
            }
            // Each delete has to end within half the lease. The fence outlasts that by a whole one, for a claimer that was held up and looked at its
            // watch too late.
            self.move_on(&digest, Life::Deleting { until: now + lease + lease / 2 }, now);
            claimed.extend(self.blobs.get(&digest).map(|row| Deletion { digest, size: row.size, generation: row.generation }));
        }
        claimed
    }

    fn claimed(&mut self, deletion: &Deletion) -> Result<&mut BlobRow> {
        let row = self.blobs.get_mut(&deletion.digest);
        let row = row.filter(|row| matches!(row.life, Life::Deleting { .. }) && row.generation == deletion.generation);
        row.ok_or_else(|| conflict("the deletion is no longer this claim's", &deletion.digest))
    }

    pub(super) fn renew_deletion(&mut self, deletion: &Deletion, lease: Duration, now: Timestamp) -> Result<()> {
        self.claimed(deletion)?.life = Life::Deleting { until: now + lease + lease / 2 };
        Ok(())
    }

    pub(super) fn complete_deletion(&mut self, deletion: &Deletion) -> Result<()> {
        self.claimed(deletion)?;
        self.blobs.remove(&deletion.digest);
        Ok(())
    }

    /// Moves a blob between its lives, under a new generation.
    fn move_on(&mut self, digest: &Digest, life: Life, now: Timestamp) {
        let generation = self.next_generation(now);
        if let Some(row) = self.blobs.get_mut(digest) {
            row.life = life;
            row.generation = generation;
        }
    }

    pub(super) fn preview_collection(&self, grace: Duration, now: Timestamp) -> GcPreview {
        let mut preview = GcPreview::default();
        let mut held = std::collections::BTreeSet::new();
        for repository in self.repositories.values() {
            held.extend(repository.manifests.keys());
            for (digest, relied_at) in &repository.links {
                if is_idle(*relied_at, grace, now) && !repository.needs(digest) {
                    preview.links += 1;
                } else {
                    held.insert(digest);
                }
            }
        }
        for (digest, row) in &self.blobs {
            if !held.contains(digest) && (row.life != Life::Live || is_idle(row.touched_at, grace, now)) {
                preview.blobs += 1;
                preview.bytes += row.size;
            }
        }
        preview
    }

    pub(super) fn tidy(&mut self, keep_events: Duration, now: Timestamp) {
        let oldest = now - keep_events;
        self.events.retain(|_, event| event.at >= oldest);
        self.repositories.retain(|_, repository| !repository.holds_nothing());
    }
}
