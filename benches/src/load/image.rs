//! A small image: eleven blobs and a manifest of some 2 KiB that names them.

use super::{Load, REPOSITORY};
use crate::Result;
use crate::client::{Body, Connection};
use crate::content::{Content, digest_of};
use crate::server::Server;

const MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Pushes the image's blobs. Gives its manifest.
pub(crate) async fn push_blobs(server: &Server) -> Result<Vec<u8>> {
    let mut connection = Connection::open(server.address).await?;
    let content = Content::new(4096);
    let small = super::small::Small(content.clone());
    // Numbers from the far end, so that no other load pushes the same ones.
    let numbers = u64::MAX - 10..=u64::MAX;
    let mut descriptors = Vec::new();
    for n in numbers {
        small.run(&mut connection, n).await?;
        descriptors.push(format!(r#""size":{},"digest":"{}""#, content.size(), content.digest(n)));
    }
    let layers = descriptors[1..].iter().map(|d| format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",{d}}}"#));
    Ok(format!(
        r#"{{"schemaVersion":2,"mediaType":"{MEDIA_TYPE}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json",{}}},"layers":[{}]}}"#,
        descriptors[0],
        layers.collect::<Vec<_>>().join(",")
    )
    .into_bytes())
}

/// Puts the manifest under a tag.
pub(crate) async fn tag(connection: &mut Connection, manifest: &[u8], tag: &str) -> Result<()> {
    let kind = format!("Content-Type: {MEDIA_TYPE}\r\n");
    connection.expect(201, "PUT", &format!("/v2/{REPOSITORY}/manifests/{tag}"), &kind, Body::Bytes(manifest)).await?;
    Ok(())
}

/// The manifest under a tag, which must be this one.
pub(crate) async fn check(connection: &mut Connection, manifest: &[u8], tag: &str) -> Result<()> {
    let head = connection.send("GET", &format!("/v2/{REPOSITORY}/manifests/{tag}"), &accept(), Body::None).await?;
    let found = connection.collect(&head).await?;
    if head.status == 200 && found == manifest {
        return Ok(());
    }
    Err(format!("GET of manifest {tag}: {}, content {} rather than {}", head.status, digest_of(&found), digest_of(manifest)).into())
}

/// The header without which docker-registry would convert the manifest.
pub(crate) fn accept() -> String {
    format!("Accept: {MEDIA_TYPE}\r\n")
}
