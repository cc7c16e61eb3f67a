//! Tests that look at, or interfere with, single operations on the filesystem.

mod faults;
mod order;
mod stalled;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use registry_core::blob::{ByteStream, ListOptions, WriteOptions};
use registry_core::{BlobStore as _, BlobStoreExt as _, Digest, Result, Timestamp};
use rustix::io::Errno;

use crate::sys::{Hook, Op, Sys, Verdict};
use crate::writer::BATCH;
use crate::{Durability, FsBlobStore};

pub(super) const END_OF_TIME: Timestamp = Timestamp::from_millis(253_402_300_799_000);

/// A directory in memory, where there is one: thousands of syncs are asked for here, and what is tested is that they are.
pub(super) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap()
}

/// A store with a hook in it.
pub(super) fn hooked(root: &Path, durability: Durability, hook: Hook) -> Result<FsBlobStore> {
    let fd = std::fs::File::open(root).unwrap();
    let mut sys = Sys::new(fd.into(), durability == Durability::PowerLoss);
    sys.hook = Some(hook);
    Ok(FsBlobStore::over(FsBlobStore::builder(root).durability(durability).over(sys, root)?))
}

/// Notes what is done, and decides what becomes of the n-th operation from where it is armed.
pub(super) struct Script {
    log: Mutex<Vec<Op>>,
    seen: AtomicUsize,
    /// Which operations fail, and how; `None` until armed.
    plan: Mutex<Option<Plan>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// The first operation that fails, counted from arming.
    pub(super) at: usize,
    /// Whether all later ones fail, too: as if the process had been killed there.
    pub(super) dead: bool,
    pub(super) verdict: Verdict,
}

impl Script {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { log: Mutex::default(), seen: AtomicUsize::new(0), plan: Mutex::default() })
    }

    pub(super) fn hook(self: &Arc<Self>) -> Hook {
        let script = Arc::clone(self);
        Arc::new(move |op| {
            script.log.lock().unwrap().push(op.clone());
            let plan = *script.plan.lock().unwrap();
            let Some(plan) = plan else { return Verdict::Go };
            let index = script.seen.fetch_add(1, Ordering::SeqCst);
            match index.cmp(&plan.at) {
                std::cmp::Ordering::Equal => plan.verdict,
                std::cmp::Ordering::Greater if plan.dead => Verdict::Fail(Errno::IO),
                _ => Verdict::Go,
            }
        })
    }

    /// From here on.
    pub(super) fn arm(&self, plan: Plan) {
        self.seen.store(0, Ordering::SeqCst);
        *self.plan.lock().unwrap() = Some(plan);
    }

    /// Nothing fails any more; says whether the plan's operation was reached.
    pub(super) fn disarm(&self) -> bool {
        self.plan.lock().unwrap().take().is_some_and(|plan| self.seen.load(Ordering::SeqCst) > plan.at)
    }

    /// What was done since the last time.
    pub(super) fn take(&self) -> Vec<Op> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

/// Bytes that differ at every position and by seed.
pub(super) fn content(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        out.extend_from_slice(&next().to_le_bytes());
    }
    out.truncate(len);
    out.into()
}

/// A stream in frames of 64 KiB.
pub(super) fn frames(content: &Bytes) -> ByteStream {
    let frames: Vec<_> = content.chunks(64 << 10).map(|frame| Ok(content.slice_ref(frame))).collect();
    Box::pin(stream::iter(frames))
}

/// More than two batches.
pub(super) const LARGE: usize = 2 * BATCH + 12_345;

/// Every listed blob has the bytes of its name, and only these are listed.
pub(super) async fn assert_holds(store: &FsBlobStore, allowed: &[Digest]) -> Vec<Digest> {
    let listed: Vec<_> = store.list(ListOptions::default()).map_ok(|info| info.digest).try_collect().await.unwrap();
    for digest in &listed {
        assert!(allowed.contains(digest), "{digest} is nobody's");
        let bytes = store.read_all(digest).await.unwrap();
        assert_eq!(Digest::of(digest.algorithm(), &bytes), *digest, "a torn blob is visible");
    }
    listed
}

/// Names in `uploads/`.
pub(super) fn staged(root: &Path) -> Vec<String> {
    std::fs::read_dir(root.join("uploads")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What is left in `uploads/` is found there, and gone once it is discarded.
pub(super) async fn assert_leftovers_can_be_dropped(store: &FsBlobStore, root: &Path) {
    let found: Vec<_> = store.uploads(END_OF_TIME).try_collect().await.unwrap();
    let mut names: Vec<_> = found.iter().map(|upload| upload.id.clone()).collect();
    let mut there = staged(root);
    names.sort();
    there.sort();
    assert_eq!(names, there, "every leftover is found");
    for name in names {
        store.discard(&name).await.unwrap();
    }
    assert_eq!(staged(root), Vec::<String>::new(), "every leftover can be dropped");
}

pub(super) fn put_options(content: &Bytes) -> WriteOptions {
    WriteOptions::default().with_size(content.len() as u64)
}
