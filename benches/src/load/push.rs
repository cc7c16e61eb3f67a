//! Pushes of large blobs as Docker and skopeo do them: POST, one PATCH whose length is not announced, PUT.

use super::{Load, REPOSITORY};
use crate::Result;
use crate::client::{Body, Connection};
use crate::content::Content;

#[derive(Debug)]
pub(crate) struct Push(pub(crate) Content);

impl Load for Push {
    async fn run(&self, connection: &mut Connection, n: u64) -> Result<()> {
        push(connection, &self.0, n).await
    }
}

/// Begins an upload. Gives where it goes on.
pub(super) async fn begin(connection: &mut Connection) -> Result<String> {
    let target = format!("/v2/{REPOSITORY}/blobs/uploads/");
    let begun = connection.expect(202, "POST", &target, "", Body::Bytes(b"")).await?;
    begun.location.ok_or_else(|| "POST: no Location".into())
}

/// The same location with the digest of what was uploaded.
pub(super) fn finishing(location: &str, digest: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={digest}")
}

pub(super) async fn push(connection: &mut Connection, content: &Content, n: u64) -> Result<()> {
    let location = begin(connection).await?;
    let kind = "Content-Type: application/octet-stream\r\n";
    let patched = connection.expect(202, "PATCH", &location, kind, Body::Stream(content, n)).await?;
    let location = patched.location.ok_or("PATCH: no Location")?;
    connection.expect(201, "PUT", &finishing(&location, &content.digest(n)), "", Body::Bytes(b"")).await?;
    Ok(())
}
