//! `registry status IMAGE` and `registry wait IMAGE`: which zones have all of an image.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use registry_core::manifest::ParsedManifest;
use registry_core::{BlobStoreExt as _, Digest, ErrorKind, Reference, Registry, RepositoryName, Result};
use serde_json::{Value, json};

use super::text::{count, table};
use crate::config::Config;
use crate::failure::Failure;
use crate::stores::Stores;

/// An image: `team/app:v1` or `team/app@sha256:…`; without either, the tag `latest`.
#[derive(Debug)]
pub(crate) struct Image {
    repository: RepositoryName,
    reference: Reference,
    name: String,
}

/// One zone's part of it.
struct Zone {
    name: String,
    wanted: bool,
    present: u64,
    missing: Vec<Digest>,
}

/// Where it is.
pub(crate) struct Status {
    name: String,
    digest: Digest,
    blobs: u64,
    zones: Vec<Zone>,
}

impl Image {
    /// Reads a name as it is given to `podman pull`, less the server.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let (repository, reference) = match text.split_once('@') {
            Some((repository, digest)) => (repository, digest),
            None => text.rsplit_once(':').unwrap_or((text, "latest")),
        };
        let no_image = |problem: String| {
            Failure::new(format!("{text:?} is no image: {problem}"))
                .hint("write REPOSITORY:TAG or REPOSITORY@DIGEST, without the server's address")
        };
        Ok(Self {
            repository: repository.parse().map_err(|error: registry_core::NameError| no_image(error.to_string()))?,
            reference: reference.parse().map_err(|error| no_image(format!("{error}")))?,
            name: text.to_owned(),
        })
    }

    /// Whose it is.
    pub(crate) fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// Which.
    pub(crate) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Looks for it.
    pub(crate) async fn status(&self, config: &Config, stores: &Stores) -> Result<Status> {
        let registry = stores.registry(config);
        let (digest, digests) = walk(&registry, &self.repository, &self.reference).await?;
        self.status_of(config, stores, digest, &digests).await
    }

    /// Waits until the zone of this name, or every zone that is to have it, has all of it; whether that was so in time, and how it is then.
    pub(crate) async fn wait(&self, config: &Config, stores: &Stores, zone: Option<&str>, timeout: Duration) -> Result<(bool, Status)> {
        let (digest, digests) = walk(&stores.registry(config), &self.repository, &self.reference).await?;
        let in_time = match &stores.zones {
            Some(zones) => {
                let wait = zones.replicated.await_image(Some(self.repository.as_str()), &digests, zone);
                tokio::time::timeout(timeout, wait).await.ok().transpose()?.is_some()
            }
            // In one zone it was as soon as it was pushed.
            None => true,
        };
        Ok((in_time, self.status_of(config, stores, digest, &digests).await?))
    }

    async fn status_of(&self, config: &Config, stores: &Stores, digest: Digest, digests: &[Digest]) -> Result<Status> {
        let zones = match &stores.zones {
            Some(zones) => {
                let found = zones.replicated.image_status(Some(self.repository.as_str()), digests).await?;
                let zone = |zone: replication::ImageZone| Zone {
                    name: zone.name,
                    wanted: zone.wanted,
                    present: zone.present,
                    missing: zone.missing,
                };
                found.into_iter().map(zone).collect()
            }
            None => {
                let mut missing = Vec::new();
                for digest in digests {
                    if !stores.blobs.contains(digest).await? {
                        missing.push(*digest);
                    }
                }
                let present = (digests.len() - missing.len()) as u64;
                let name = config.zones.first().map(|zone| zone.name.clone()).unwrap_or_default();
                vec![Zone { name, wanted: true, present, missing }]
            }
        };
        Ok(Status { name: self.name.clone(), digest, blobs: digests.len() as u64, zones })
    }
}

/// An image of a repository: its manifest's digest, and everything that it consists of: the manifest, those below it, configurations and layers.
pub(crate) async fn walk(registry: &Registry, repository: &RepositoryName, reference: &Reference) -> Result<(Digest, Vec<Digest>)> {
    let root = registry.manifest(repository, reference).await?.digest;
    let (mut found, mut queue) = (BTreeSet::new(), VecDeque::from([root]));
    while let Some(digest) = queue.pop_front() {
        if found.contains(&digest) {
            continue;
        }
        let manifest = match registry.manifest(repository, &Reference::Digest(digest)).await {
            // An index may lack manifests, where that is allowed: what was never pushed is not missed.
            Err(error) if error.kind() == ErrorKind::ManifestUnknown && digest != root => continue,
            other => other?,
        };
        found.insert(digest);
        let parsed = ParsedManifest::parse(Some(&manifest.media_type), &manifest.bytes)?;
        found.extend(parsed.blobs);
        queue.extend(parsed.manifests);
    }
    Ok((root, found.into_iter().collect()))
}

impl Status {
    /// For machines.
    pub(crate) fn as_json(&self) -> Value {
        let zones = self.zones.iter().map(|zone| {
            let missing: Vec<_> = zone.missing.iter().map(ToString::to_string).collect();
            json!({ "name": zone.name, "wanted": zone.wanted, "complete": missing.is_empty(), "present": zone.present, "missing": missing })
        });
        json!({ "image": self.name, "digest": self.digest.to_string(), "blobs": self.blobs, "zones": zones.collect::<Vec<_>>() })
    }

    /// For people.
    pub(crate) fn as_text(&self) -> String {
        let mut rows = vec![vec!["ZONE".to_owned(), "WANTED".to_owned(), "COMPLETE".to_owned()]];
        for zone in &self.zones {
            let wanted = if zone.wanted { "yes" } else { "no" };
            let complete = if zone.missing.is_empty() { "yes" } else { "no" };
            rows.push(vec![zone.name.clone(), wanted.to_owned(), format!("{complete}, {} of {}", zone.present, self.blobs)]);
        }
        let mut text = format!("{} is {}, {}\n\n{}", self.name, self.digest, count(self.blobs, "blob"), table(&rows));
        // What is not meant to be there is not missed.
        for zone in self.zones.iter().filter(|zone| zone.wanted && !zone.missing.is_empty()) {
            text.push_str(&format!("\nmissing in {}:\n", zone.name));
            text.extend(zone.missing.iter().map(|digest| format!("  {digest}\n")));
        }
        text
    }
}
