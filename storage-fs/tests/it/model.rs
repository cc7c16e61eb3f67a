//! Any order of what writers can do to an upload, from two processes, against a model of what it must hold.

use bytes::Bytes;
use proptest::prelude::*;
use registry_core::blob::{BlobUpload, ResumeOptions, WriteOptions};
use registry_core::{Algorithm, BlobStore as _, BlobStoreExt as _, Digest, ErrorKind, UploadToken};
use storage_fs::{Durability, FsBlobStore};

use super::{all_whole, content, drop_leftovers, scratch};

#[derive(Clone, Debug)]
enum Step {
    /// A new writer takes the upload up, from the process with this number; the older ones are not asked.
    Open {
        process: usize,
    },
    Write {
        writer: prop::sample::Index,
        len: usize,
    },
    Suspend {
        writer: prop::sample::Index,
    },
    Commit {
        writer: prop::sample::Index,
        sha512: bool,
    },
    CommitWrong {
        writer: prop::sample::Index,
    },
    Drop {
        writer: prop::sample::Index,
    },
    Abort {
        writer: prop::sample::Index,
    },
    /// Drops whatever is abandoned, as long as that is not what the saved token names.
    Tidy,
}

fn step() -> impl Strategy<Value = Step> {
    let writer = any::<prop::sample::Index>;
    let len = prop_oneof![Just(0_usize), 1_usize..5000, 60_000_usize..70_000, (512_usize << 10)..(600 << 10)];
    prop_oneof![
        4 => (0_usize..2).prop_map(|process| Step::Open { process }),
        6 => (writer(), len).prop_map(|(writer, len)| Step::Write { writer, len }),
        4 => writer().prop_map(|writer| Step::Suspend { writer }),
        2 => (writer(), any::<bool>()).prop_map(|(writer, sha512)| Step::Commit { writer, sha512 }),
        1 => writer().prop_map(|writer| Step::CommitWrong { writer }),
        1 => writer().prop_map(|writer| Step::Drop { writer }),
        1 => writer().prop_map(|writer| Step::Abort { writer }),
        1 => Just(Step::Tidy),
    ]
}

/// One handle, and what it must believe.
struct Writer {
    handle: Box<dyn BlobUpload>,
    epoch: u64,
    bytes: Vec<u8>,
    /// It gave its upload away, or its bytes are a blob: nothing more can be done with it.
    over: Option<Digest>,
    suspended: bool,
    /// Whether the newest writer, at some moment of its life, was another.
    overtaken: bool,
}

/// What the metadata store keeps of the session.
struct Session {
    epoch: u64,
    token: Option<UploadToken>,
    bytes: Vec<u8>,
    /// The newest writer committed or aborted: the session is over.
    ended: bool,
}

struct World {
    stores: [FsBlobStore; 2],
    session: Session,
    writers: Vec<Writer>,
    committed: Vec<Digest>,
    salt: u64,
}

impl World {
    async fn step(&mut self, step: Step) {
        match step {
            Step::Open { process } => self.open(process).await,
            Step::Write { writer, len } => self.write(writer, len).await,
            Step::Suspend { writer } => self.suspend(writer).await,
            Step::Commit { writer, sha512 } => self.commit(writer, sha512).await,
            Step::CommitWrong { writer } => {
                let Some(writer) = pick(&mut self.writers, writer) else { return };
                let refused = writer.handle.commit(&Digest::sha256(b"something else")).await.unwrap_err().kind();
                match writer.over.is_some() || writer.suspended || (writer.overtaken && refused == ErrorKind::Conflict) {
                    true => assert_eq!(refused, ErrorKind::Conflict),
                    false => assert_eq!(refused, ErrorKind::DigestInvalid),
                }
            }
            Step::Drop { writer } => {
                if !self.writers.is_empty() {
                    drop(self.writers.swap_remove(writer.index(self.writers.len())));
                }
            }
            Step::Abort { writer } => {
                if !self.writers.is_empty() {
                    let writer = self.writers.swap_remove(writer.index(self.writers.len()));
                    writer.handle.abort().await.unwrap();
                    // The newest one's bytes are those of the session. One that aborts what it suspended drops them as well.
                    if writer.epoch == self.session.epoch {
                        self.session.ended = true;
                    }
                }
            }
            Step::Tidy => self.tidy().await,
        }
    }

    async fn open(&mut self, process: usize) {
        if self.session.ended {
            self.session = Session { epoch: self.session.epoch, token: None, bytes: Vec::new(), ended: false };
        }
        self.session.epoch += 1;
        let epoch = self.session.epoch;
        let store = &self.stores[process];
        let handle = match &self.session.token {
            None => store.begin(WriteOptions::default().with_epoch(epoch)).await.unwrap(),
            Some(token) => store.resume(ResumeOptions::new(token.clone(), epoch)).await.unwrap(),
        };
        assert_eq!(handle.offset(), self.session.bytes.len() as u64);
        for writer in &mut self.writers {
            writer.overtaken = true;
        }
        self.writers.push(Writer { handle, epoch, bytes: self.session.bytes.clone(), over: None, suspended: false, overtaken: false });
    }

    async fn write(&mut self, writer: prop::sample::Index, len: usize) {
        self.salt += 1;
        let Some(writer) = pick(&mut self.writers, writer) else { return };
        let chunk = content(self.salt, len);
        match writer.handle.write(chunk.clone()).await {
            Ok(()) => {
                assert!(writer.over.is_none() && !writer.suspended, "an upload that is over takes no bytes");
                writer.bytes.extend_from_slice(&chunk);
                assert_eq!(writer.handle.offset(), writer.bytes.len() as u64);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Conflict);
                assert!(writer.over.is_some() || writer.suspended || writer.overtaken);
            }
        }
    }

    async fn suspend(&mut self, writer: prop::sample::Index) {
        let Some(writer) = pick(&mut self.writers, writer) else { return };
        match writer.handle.suspend().await {
            Ok(token) => {
                assert!(writer.over.is_none() && !writer.suspended);
                assert_eq!(token.offset, writer.bytes.len() as u64);
                writer.suspended = true;
                // The compare-and-set of the metadata store: only the newest may save.
                if writer.epoch == self.session.epoch {
                    self.session.token = Some(token);
                    self.session.bytes = writer.bytes.clone();
                }
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Conflict);
                assert!(writer.over.is_some() || writer.suspended || writer.overtaken, "{error}");
            }
        }
    }

    async fn commit(&mut self, writer: prop::sample::Index, sha512: bool) {
        let Some(writer) = pick(&mut self.writers, writer) else { return };
        let algorithm = if sha512 { Algorithm::Sha512 } else { Algorithm::Sha256 };
        let digest = Digest::of(algorithm, &writer.bytes);
        match writer.handle.commit(&digest).await {
            Ok(info) => {
                assert_eq!((info.digest, info.size), (digest, writer.bytes.len() as u64));
                assert!(!writer.suspended && writer.over.is_none_or(|before| before == digest));
                writer.over = Some(digest);
                self.committed.push(digest);
                for store in &self.stores {
                    assert!(store.read_all(&digest).await.unwrap() == writer.bytes, "what was committed is what was written");
                }
                if writer.epoch == self.session.epoch {
                    self.session.ended = true;
                }
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Conflict);
                assert!(writer.over.is_some() || writer.suspended || writer.overtaken, "{error}");
            }
        }
    }

    async fn tidy(&mut self) {
        use futures_util::StreamExt as _;
        let keep = self.session.token.as_ref().map(|token| String::from_utf8(token.backend.to_vec()).unwrap());
        let id = keep.as_deref().map_or("none", |name| &name[..32]).to_owned();
        let found: Vec<_> = self.stores[0].uploads(super::END_OF_TIME).collect().await;
        for upload in found {
            let upload = upload.unwrap();
            if self.session.ended || !upload.id.starts_with(&id) {
                self.stores[1].discard(&upload.id).await.unwrap();
            }
        }
    }
}

fn pick(writers: &mut [Writer], index: prop::sample::Index) -> Option<&mut Writer> {
    (!writers.is_empty()).then(|| index.get_mut(writers))
}

async fn run(steps: Vec<Step>) {
    let dir = scratch();
    let open = || FsBlobStore::builder(dir.path()).durability(Durability::ProcessCrash).build();
    let stores = [open().await.unwrap(), open().await.unwrap()];
    let session = Session { epoch: 0, token: None, bytes: Vec::new(), ended: false };
    let mut world = World { stores, session, writers: Vec::new(), committed: Vec::new(), salt: 0 };
    for step in steps {
        world.step(step).await;
    }
    // Whatever happened, the newest token can be taken up, and what it covers is what was acknowledged.
    world.open(1).await;
    let last = world.writers.len() - 1;
    let more = Bytes::from_static(b"the end");
    world.writers[last].handle.write(more.clone()).await.unwrap();
    world.writers[last].bytes.extend_from_slice(&more);
    let digest = Digest::sha256(&world.writers[last].bytes);
    world.writers[last].handle.commit(&digest).await.unwrap();
    world.committed.push(digest);
    world.writers.clear();
    let mut listed = all_whole(&world.stores[0]).await;
    listed.sort_unstable();
    world.committed.sort_unstable();
    world.committed.dedup();
    assert_eq!(listed, world.committed, "the blobs are those that were acknowledged");
    drop_leftovers(&world.stores[1], dir.path()).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn an_upload_holds_what_its_newest_writer_wrote(steps in prop::collection::vec(step(), 1..30)) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(run(steps));
    }
}
