//! Pushes of large blobs.

use super::Load;
use crate::Result;
use crate::client::Connection;
use crate::content::Content;

#[derive(Debug)]
pub(crate) struct Push(pub(crate) Content);

impl Load for Push {
    async fn run(&self, connection: &mut Connection, n: u64) -> Result<()> {
        benches::push::push(connection, &self.0, n).await
    }
}
