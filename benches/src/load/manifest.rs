//! GET of one manifest by its tag: what every pull begins with.

use super::{Load, REPOSITORY, image};
use crate::Result;
use crate::client::Connection;
use crate::server::Server;

#[derive(Debug)]
pub(crate) struct ManifestByTag {
    target: String,
    accept: String,
    size: u64,
}

impl ManifestByTag {
    pub(crate) async fn prepare(server: &Server) -> Result<Self> {
        let manifest = image::push_blobs(server).await?;
        let mut connection = Connection::open(server.address).await?;
        image::tag(&mut connection, &manifest, "hot").await?;
        image::check(&mut connection, &manifest, "hot").await?;
        Ok(Self { target: format!("/v2/{REPOSITORY}/manifests/hot"), accept: image::accept(), size: manifest.len() as u64 })
    }
}

impl Load for ManifestByTag {
    async fn run(&self, connection: &mut Connection, _n: u64) -> Result<()> {
        let got = connection.get(&self.target, &self.accept).await?;
        if got == self.size { Ok(()) } else { Err(format!("GET {}: {got} bytes", self.target).into()) }
    }
}
