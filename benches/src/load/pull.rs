//! Pulls of one large blob.

use super::{Load, REPOSITORY};
use crate::Result;
use crate::client::{Body, Connection};
use crate::content::{Content, digest};
use crate::server::Server;

#[derive(Clone, Debug)]
pub(crate) struct Pull {
    target: String,
    size: u64,
}

impl Pull {
    /// Pushes the blob, and pulls it once to see that its bytes are right: later pulls only count them.
    pub(crate) async fn prepare(server: &Server, content: &Content) -> Result<Self> {
        let mut connection = Connection::open(server.address).await?;
        benches::push::push(&mut connection, content, 0).await?;
        let expected = content.digest(0);
        let target = format!("/v2/{REPOSITORY}/blobs/{expected}");
        let head = connection.send("GET", &target, "", Body::None).await?;
        let mut hash = <sha2::Sha256 as sha2::Digest>::new();
        connection.body(&head, |piece| sha2::Digest::update(&mut hash, piece)).await?;
        let found = digest(&sha2::Digest::finalize(hash));
        if head.status != 200 || found != expected {
            return Err(format!("GET {target}: {}, with content {found}", head.status).into());
        }
        Ok(Self { target, size: content.size() })
    }
}

impl Load for Pull {
    async fn run(&self, connection: &mut Connection, _n: u64) -> Result<()> {
        let got = connection.get(&self.target, "").await?;
        if got == self.size { Ok(()) } else { Err(format!("GET {}: {got} bytes rather than {}", self.target, self.size).into()) }
    }
}
