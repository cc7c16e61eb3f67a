//! How much memory it takes to send and to read a blob.

use registry_core::BlobStore;

use crate::blob::Blob;
use crate::measure::{Result, forget_peak, peak};

/// Sends and reads blobs of so many MiB, and prints the peaks of this process, which must not follow.
pub async fn measure(store: &dyn BlobStore, sizes: impl IntoIterator<Item = u64>) -> Result<()> {
    println!(
        "| blob, MiB | peak memory of the process, MiB: sent, size and digest known (`put`) | sent, neither known (`begin`, `write`, `commit`) | read |\n|---|---|---|---|"
    );
    for mib in sizes {
        let blob = Blob::made(mib);
        forget_peak()?;
        blob.put(store).await?;
        let put = peak()?;
        store.delete(&blob.digest).await?;
        forget_peak()?;
        blob.upload(store).await?;
        let uploaded = peak()?;
        forget_peak()?;
        blob.get(store).await?;
        let read = peak()?;
        store.delete(&blob.digest).await?;
        println!("| {mib} | {put:.0} | {uploaded:.0} | {read:.0} |");
    }
    println!();
    Ok(())
}
