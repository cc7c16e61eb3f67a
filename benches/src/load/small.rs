//! Pushes of small blobs: POST, then one PUT with the bytes, as buildkit, oras and crane do.

use benches::push::{begin, finishing};

use super::Load;
use crate::Result;
use crate::client::{Body, Connection};
use crate::content::Content;

#[derive(Debug)]
pub(crate) struct Small(pub(crate) Content);

impl Load for Small {
    async fn run(&self, connection: &mut Connection, n: u64) -> Result<()> {
        let location = begin(connection).await?;
        let kind = "Content-Type: application/octet-stream\r\n";
        connection.expect(201, "PUT", &finishing(&location, &self.0.digest(n)), kind, Body::Whole(&self.0, n)).await?;
        Ok(())
    }
}
