//! How much memory an upload takes.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use registry_core::blob::WriteOptions;
use registry_core::testing::Rng;
use registry_core::{Algorithm, BlobStore as _, Digest, Hasher};
use storage_swift::SwiftBlobStore;

use crate::Arguments;
use crate::measure::{Result, forget_peak, peak};
use crate::service::Service;

/// Bytes that a store is given at a time: what a server reads from a connection.
const CHUNK: usize = 64 << 10;

/// So many bytes. Each chunk is a new one, as those from a connection are: a store that keeps them has to have room for them.
fn chunks(mib: u64) -> impl Iterator<Item = Bytes> + Send + 'static {
    let chunk = Rng::new(mib).bytes(CHUNK);
    let all = (mib << 20) / CHUNK as u64;
    (0..all).map(move |_| Bytes::copy_from_slice(&chunk))
}

fn digest(mib: u64) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    chunks(mib).for_each(|chunk| hasher.update(&chunk));
    hasher.finalize()
}

async fn put(store: &SwiftBlobStore, mib: u64, digest: &Digest) -> Result<()> {
    store.put(digest, WriteOptions::default().with_size(mib << 20), stream::iter(chunks(mib).map(Ok)).boxed()).await?;
    Ok(())
}

async fn upload(store: &SwiftBlobStore, mib: u64, digest: &Digest) -> Result<()> {
    let mut upload = store.begin(WriteOptions::default()).await?;
    for chunk in chunks(mib) {
        upload.write(chunk).await?;
    }
    upload.commit(digest).await?;
    Ok(())
}

/// Uploads blobs of growing size; the peak must not follow.
pub(crate) async fn measure(arguments: &Arguments, service: &Service) -> Result<()> {
    let store = service.store("memory", arguments.segment << 20).await?;
    println!(
        "| uploaded blob, MiB | peak memory of the process, MiB: size and digest known (`put`) | neither known (`begin`, `write`, `commit`) |\n|---|---|---|"
    );
    for mib in [1, 64, arguments.large].into_iter().filter(|mib| *mib <= arguments.large) {
        let digest = digest(mib);
        let mut peaks = [0.0; 2];
        for (known, peaked) in [true, false].into_iter().zip(&mut peaks) {
            forget_peak()?;
            let uploaded = if known { put(&store, mib, &digest).await } else { upload(&store, mib, &digest).await };
            uploaded?;
            *peaked = peak()?;
            store.delete(&digest).await?;
        }
        println!("| {mib} | {:.0} | {:.0} |", peaks[0], peaks[1]);
    }
    println!();
    Ok(())
}
