//! Pushes of large blobs as Docker and skopeo do them: POST, one PATCH whose length is not announced, PUT.

use std::net::SocketAddr;

use crate::client::{Body, Connection};
use crate::content::Content;
use crate::measure::Result;

/// The repository that everything is pushed to; two segments, as most are.
pub const REPOSITORY: &str = "bench/app";

/// Begins an upload. Gives where it goes on.
pub async fn begin(connection: &mut Connection) -> Result<String> {
    let target = format!("/v2/{REPOSITORY}/blobs/uploads/");
    let begun = connection.expect(202, "POST", &target, "", Body::Bytes(b"")).await?;
    begun.location.ok_or_else(|| "POST: no Location".into())
}

/// The same location with the digest of what was uploaded.
pub fn finishing(location: &str, digest: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={digest}")
}

/// Pushes blob `n`.
pub async fn push(connection: &mut Connection, content: &Content, n: u64) -> Result<()> {
    let location = begin(connection).await?;
    let kind = "Content-Type: application/octet-stream\r\n";
    let patched = connection.expect(202, "PATCH", &location, kind, Body::Stream(content, n)).await?;
    let location = patched.location.ok_or("PATCH: no Location")?;
    connection.expect(201, "PUT", &finishing(&location, &content.digest(n)), "", Body::Bytes(b"")).await?;
    Ok(())
}

/// So many clients push one blob each, at the same time.
pub async fn at_once(address: SocketAddr, clients: u64, content: &Content) -> Result<()> {
    let mut tasks = Vec::new();
    for n in 0..clients {
        let mut connection = Connection::open(address).await?;
        let content = content.clone();
        tasks.push(tokio::spawn(async move { push(&mut connection, &content, n).await }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}
