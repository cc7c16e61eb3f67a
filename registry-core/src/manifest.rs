//! Reading manifests: what a pushed document refers to.
//!
//! The bytes are kept and served exactly as they came; all that is read out of them is what the registry acts on. Unknown fields are nobody's business.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::{Digest, Error, ErrorKind, Result};

/// Media types that the registry acts on.
pub mod media_type {
    /// An OCI image manifest (image-spec, `manifest.md`).
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index (image-spec, `image-index.md`).
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// A Docker schema 2 manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// A Docker schema 1 manifest, signed; refused.
    pub const DOCKER_V1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    /// A Docker schema 1 manifest; refused.
    pub const DOCKER_V1: &str = "application/vnd.docker.distribution.manifest.v1+json";
}

/// What the registry reads out of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParsedManifest {
    /// The media type to serve it as.
    pub media_type: String,
    /// Config and layers that have to be in the repository.
    pub blobs: Vec<Digest>,
    /// Layers that are not distributed and need not be.
    pub foreign: Vec<Digest>,
    /// Manifests of an index.
    pub manifests: Vec<Digest>,
    /// What it is about.
    pub subject: Option<Digest>,
    /// `artifactType`, or for an image without one its config's media type (distribution-spec, "Listing Referrers").
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Object<Descriptor>>,
    layers: Option<Vec<Object<Descriptor>>>,
    manifests: Option<Vec<Object<Descriptor>>>,
    subject: Option<Object<Descriptor>>,
    annotations: Option<BTreeMap<String, String>>,
    /// Only in Docker schema 1.
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: String,
    size: i64,
}

impl Descriptor {
    fn digest(&self) -> Result<Digest> {
        if self.size < 0 {
            return Err(invalid(format!("a descriptor of {} bytes", self.size)).with_key(&self.digest));
        }
        self.digest.parse().map_err(|error: crate::DigestError| invalid(format!("a descriptor's digest: {error}")))
    }

    /// Layers that stay at their vendor's (image-spec, `layer.md`, "Non-Distributable Layers"; Docker's foreign layers).
    fn is_foreign(&self) -> bool {
        self.media_type.as_deref().is_some_and(|t| {
            t.starts_with("application/vnd.oci.image.layer.nondistributable.")
                || t.starts_with("application/vnd.docker.image.rootfs.foreign.")
        })
    }
}

/// A JSON object and nothing else: serde would read a struct from an array, too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::ManifestInvalid, message)
}

fn digests<'a>(descriptors: impl IntoIterator<Item = &'a Object<Descriptor>>) -> Result<Vec<Digest>> {
    descriptors.into_iter().map(|descriptor| descriptor.0.digest()).collect()
}

impl ParsedManifest {
    /// Reads a manifest that was pushed as `content_type`. [`ErrorKind::ManifestInvalid`] if it is none, or contradicts its content type.
    ///
    /// An image is told from an index by the media type, or, for types the registry does not know, by its members: so artifacts of types that are yet to
    /// be invented are accepted as long as they have the shape of one of the two.
    pub fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Self> {
        let Object(document): Object<Document> =
            serde_json::from_slice(bytes).map_err(|error| invalid(format!("not a manifest: {error}")).with_source(error))?;
        let content_type = content_type.map(|t| t.split(';').next().unwrap_or_default().trim().to_owned()).filter(|t| !t.is_empty());
        if let (Some(header), Some(field)) = (&content_type, &document.media_type)
            && !header.eq_ignore_ascii_case(field)
        {
            return Err(invalid(format!("pushed as {header}, but its mediaType is {field}")));
        }
        let media_type = content_type
            .or_else(|| document.media_type.clone())
            .or_else(|| document.manifests.is_some().then(|| media_type::OCI_INDEX.to_owned()))
            .ok_or_else(|| invalid("neither a Content-Type nor a mediaType tells what it is"))?;
        if matches!(media_type.as_str(), media_type::DOCKER_V1 | media_type::DOCKER_V1_SIGNED) || document.fs_layers.is_some() {
            return Err(invalid("Docker schema 1 manifests are not accepted: push the image with a client of this decade"));
        }
        if document.schema_version.is_some_and(|version| version != 2) || document.schema_version.is_none() && is_known(&media_type) {
            return Err(invalid("schemaVersion is not 2"));
        }
        let is_index = matches!(media_type.as_str(), media_type::OCI_INDEX | media_type::DOCKER_LIST)
            || !is_known(&media_type) && document.manifests.is_some();
        if is_index && (document.config.is_some() || document.layers.is_some()) || !is_index && document.manifests.is_some() {
            return Err(invalid("it has the members of an image and of an index: which one is it?"));
        }
        let subject = document.subject.as_ref().map(|subject| subject.0.digest()).transpose()?;
        let annotations = document.annotations.unwrap_or_default();
        if is_index {
            let manifests = document.manifests.ok_or_else(|| invalid("an index without manifests"))?;
            return Ok(Self {
                media_type,
                manifests: digests(&manifests)?,
                subject,
                artifact_type: document.artifact_type.filter(|t| !t.is_empty()),
                annotations,
                ..Self::default()
            });
        }
        if is_known(&media_type) && document.config.is_none() {
            return Err(invalid("an image manifest without config"));
        }
        let layers = document.layers.unwrap_or_default();
        let (foreign, own): (Vec<_>, Vec<_>) = layers.iter().partition(|layer| layer.0.is_foreign());
        Ok(Self {
            media_type,
            blobs: digests(document.config.iter().chain(own))?,
            foreign: digests(foreign)?,
            manifests: Vec::new(),
            subject,
            artifact_type: document
                .artifact_type
                .filter(|t| !t.is_empty())
                .or_else(|| document.config.and_then(|config| config.0.media_type)),
            annotations,
        })
    }
}

fn is_known(media_type: &str) -> bool {
    matches!(media_type, media_type::OCI_MANIFEST | media_type::OCI_INDEX | media_type::DOCKER_MANIFEST | media_type::DOCKER_LIST)
}
