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
    /// The layers of an ORAS artifact manifest (application/vnd.oci.artifact.manifest.v1+json), which never became part of the image-spec.
    blobs: Option<Vec<Object<Descriptor>>>,
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

    /// Children of an index that are no manifests: BuildKit keeps its cache as an index of layers and a configuration.
    fn is_blob(&self) -> bool {
        self.media_type.as_deref().is_some_and(|t| {
            t.starts_with("application/vnd.oci.image.layer.")
                || t.starts_with("application/vnd.docker.image.rootfs.")
                || t == "application/vnd.buildkit.cacheconfig.v0"
        })
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
        check_media_type(&media_type)?;
        let has_children = document.manifests.is_some();
        let has_content = document.config.is_some() || document.layers.is_some() || document.blobs.is_some();
        let is_index =
            matches!(media_type.as_str(), media_type::OCI_INDEX | media_type::DOCKER_LIST) || !is_known(&media_type) && has_children;
        if is_index && has_content || !is_index && has_children {
            return Err(invalid("it has the members of an image and of an index: which one is it?"));
        }
        if !has_content && !has_children {
            return Err(invalid("it has neither config and layers nor manifests: what it refers to could not be kept"));
        }
        let descriptors = [&document.layers, &document.blobs, &document.manifests].into_iter().flatten().map(Vec::len).sum::<usize>();
        if descriptors > MAX_DESCRIPTORS {
            return Err(invalid(format!("it refers to {descriptors} things, and the limit is {MAX_DESCRIPTORS}")));
        }
        let subject = document.subject.as_ref().map(|subject| subject.0.digest()).transpose()?;
        let annotations = document.annotations.unwrap_or_default();
        let artifact_type = document.artifact_type.filter(|t| !t.is_empty());
        if is_index {
            let children = document.manifests.ok_or_else(|| invalid("an index without manifests"))?;
            let (blobs, manifests): (Vec<_>, Vec<_>) = children.iter().partition(|child| child.0.is_blob());
            check_artifact_type(artifact_type.as_deref())?;
            return Ok(Self {
                media_type,
                blobs: digests(blobs)?,
                manifests: digests(manifests)?,
                subject,
                artifact_type,
                annotations,
                ..Self::default()
            });
        }
        if is_known(&media_type) && document.config.is_none() {
            return Err(invalid("an image manifest without config"));
        }
        let layers: Vec<_> = document.layers.into_iter().chain(document.blobs).flatten().collect();
        let (foreign, own): (Vec<_>, Vec<_>) = layers.iter().partition(|layer| layer.0.is_foreign());
        let blobs = digests(document.config.iter().chain(own))?;
        let artifact_type = artifact_type.or_else(|| document.config.and_then(|config| config.0.media_type));
        check_artifact_type(artifact_type.as_deref())?;
        Ok(Self { media_type, blobs, foreign: digests(foreign)?, manifests: Vec::new(), subject, artifact_type, annotations })
    }
}

/// More than any image, index or build cache has, and few enough for one transaction.
const MAX_DESCRIPTORS: usize = 8_192;

/// The longest media type: two names of at most 127 characters (RFC 6838, section 4.2) and the slash.
const MAX_MEDIA_TYPE: usize = 255;

/// A media type is served as a header, so it has to be one: `type/subtype`, each of RFC 6838's restricted characters.
fn check_media_type(media_type: &str) -> Result<()> {
    let name = |name: &str| {
        name.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric())
            && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'!' | b'#' | b'$' | b'&' | b'-' | b'^' | b'_' | b'.' | b'+'))
    };
    let good = media_type.len() <= MAX_MEDIA_TYPE && media_type.split_once('/').is_some_and(|(a, b)| name(a) && name(b));
    if good { Ok(()) } else { Err(invalid("its media type is not a type/subtype of RFC 6838")) }
}

/// An artifact type should be a media type, but clients are not held to that.
fn check_artifact_type(artifact_type: Option<&str>) -> Result<()> {
    match artifact_type {
        Some(text) if text.len() > MAX_MEDIA_TYPE || text.chars().any(char::is_control) => {
            Err(invalid("its artifact type is not a media type"))
        }
        _ => Ok(()),
    }
}

fn is_known(media_type: &str) -> bool {
    matches!(media_type, media_type::OCI_MANIFEST | media_type::OCI_INDEX | media_type::DOCKER_MANIFEST | media_type::DOCKER_LIST)
}
