//! [`LineFile`]: a file that lines are appended to.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Lines that wait to be written; more are dropped, and that is logged.
const WAITING: usize = 10_000;

/// How long the end of a process waits for the last of them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Appends lines to a file, from a thread of its own: a disk that stands still holds nobody up. The file is opened for each batch, so that it may be moved
/// away at any time.
#[derive(Debug)]
pub(crate) struct LineFile {
    queue: Option<SyncSender<String>>,
    /// Is heard of when all was written.
    written: Mutex<Receiver<()>>,
}

/// Opens it as it is written to, and makes it if it is not there.
pub(crate) fn open(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

impl LineFile {
    /// Begins to append to this file, in which there are `what`. It is not made before there is a line.
    pub(crate) fn start(path: &Path, what: &'static str) -> std::io::Result<Self> {
        let ((queue, waiting), (tell, written)) = (sync_channel(WAITING), sync_channel(1));
        let path = path.to_owned();
        let work = move || {
            write(&path, what, &waiting);
            drop(tell);
        };
        std::thread::Builder::new().name("lines".to_owned()).spawn(work)?;
        Ok(Self { queue: Some(queue), written: Mutex::new(written) })
    }

    /// Takes a line in, without its end; whether there was room for it.
    pub(crate) fn append(&self, line: String) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.try_send(line).is_ok())
    }
}

fn write(path: &Path, what: &str, waiting: &Receiver<String>) {
    while let Ok(first) = waiting.recv() {
        let lines: String = std::iter::once(first).chain(waiting.try_iter()).map(|line| line + "\n").collect();
        if let Err(error) = open(path).and_then(|mut file| file.write_all(lines.as_bytes())) {
            tracing::error!(file = %path.display(), %error, lines = lines.lines().count(), "could not write {what}");
        }
    }
}

impl Drop for LineFile {
    fn drop(&mut self) {
        self.queue = None;
        let written = self.written.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = written.recv_timeout(PATIENCE);
    }
}
