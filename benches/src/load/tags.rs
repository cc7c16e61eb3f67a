//! Pages of a long list of tags.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Load, REPOSITORY, image};
use crate::Result;
use crate::client::{Body, Connection};
use crate::server::Server;

const TAGS: usize = 10_000;
const PAGE: usize = 100;

/// A page from anywhere in the list.
#[derive(Debug)]
pub(crate) struct TagPage;

impl TagPage {
    /// Tags one manifest 10,000 times, by 16 clients at once. Gives the load, and whether the server pages at all.
    pub(crate) async fn prepare(server: &Server) -> Result<(Self, bool)> {
        let manifest: Arc<[u8]> = image::push_blobs(server).await?.into();
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = Vec::new();
        for _ in 0..16 {
            let (manifest, next) = (Arc::clone(&manifest), Arc::clone(&next));
            let mut connection = Connection::open(server.address).await?;
            tasks.push(tokio::spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= TAGS {
                        return Result::Ok(());
                    }
                    image::tag(&mut connection, &manifest, &tag(n)).await?;
                }
            }));
        }
        for task in tasks {
            task.await??;
        }
        let mut connection = Connection::open(server.address).await?;
        let head = connection.send("GET", &page_after(4999), "", Body::None).await?;
        let page = String::from_utf8(connection.collect(&head).await?)?;
        let listed = page.matches("\"v").count();
        let whole = [5000, 5099].into_iter().all(|n| page.contains(&format!("\"{}\"", tag(n))));
        if head.status != 200 || !whole {
            return Err(format!("the list of tags lacks some: {} {page:.200}", head.status).into());
        }
        Ok((Self, listed == PAGE))
    }
}

impl Load for TagPage {
    async fn run(&self, connection: &mut Connection, n: u64) -> Result<()> {
        // Strides through the list, so that no two pages in a row are the same.
        let last = n as usize * 617 % (TAGS - PAGE);
        connection.get(&page_after(last), "").await?;
        Ok(())
    }
}

fn tag(n: usize) -> String {
    format!("v{n:05}")
}

fn page_after(last: usize) -> String {
    format!("/v2/{REPOSITORY}/tags/list?n={PAGE}&last={}", tag(last))
}
