//! Where events go: a file with one [CloudEvents] object in each line.
//!
//! [CloudEvents]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use replication::{Event, EventSink};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::stores::Purpose;

/// Events that wait to be written; more are dropped, and that is logged.
const WAITING: usize = 10_000;

/// How long the end of a process waits for the last of them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Appends events to a file, from a thread of its own: a disk that stands still holds nobody up. The file is opened for each batch, so that it may be moved
/// away at any time.
#[derive(Debug)]
pub(crate) struct EventFile {
    queue: Option<SyncSender<String>>,
    /// Is heard of when all was written.
    written: Mutex<Receiver<()>>,
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl EventFile {
    /// Begins to append to this file, and for a server looks whether that can be done. Commands make no file before there is anything to be written: most tell
    /// of nothing, and may be given by somebody else than who runs the server.
    pub(crate) fn start(path: &Path, purpose: Purpose) -> Result<Self, Failure> {
        let failed = |error| Failure::because(format!("cannot write events to {}", path.display()), &error).hint("see replication.events");
        if purpose == Purpose::Serve {
            open(path).map_err(failed)?;
        }
        let ((queue, waiting), (tell, written)) = (sync_channel(WAITING), sync_channel(1));
        let path = path.to_owned();
        let work = move || {
            write(&path, &waiting);
            drop(tell);
        };
        std::thread::Builder::new().name("events".to_owned()).spawn(work).map_err(failed)?;
        Ok(Self { queue: Some(queue), written: Mutex::new(written) })
    }
}

fn write(path: &Path, waiting: &Receiver<String>) {
    while let Ok(first) = waiting.recv() {
        let lines: String = std::iter::once(first).chain(waiting.try_iter()).collect();
        if let Err(error) = open(path).and_then(|mut file| file.write_all(lines.as_bytes())) {
            tracing::error!(file = %path.display(), %error, events = lines.lines().count(), "could not write events");
        }
    }
}

impl EventSink for EventFile {
    fn tell(&self, event: &Event) {
        let line = format!("{}\n", cloud_event(event));
        if self.queue.as_ref().is_some_and(|queue| queue.try_send(line).is_err()) {
            tracing::error!(event = event.kind(), zone = event.zone(), "an event was dropped: they are not written as fast as they come");
        }
    }
}

impl Drop for EventFile {
    fn drop(&mut self) {
        self.queue = None;
        let written = self.written.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = written.recv_timeout(PATIENCE);
    }
}

fn cloud_event(event: &Event) -> Value {
    let mut data = json!({ "zone": event.zone() });
    let mut say = |name: &str, value: Value| data[name] = value;
    match event {
        Event::Replicated { digest, size, waited, .. } => {
            say("digest", digest.to_string().into());
            say("size", (*size).into());
            say("waited_seconds", waited.as_secs_f64().into());
        }
        Event::Repaired { digest, size, .. } => {
            say("digest", digest.to_string().into());
            say("size", (*size).into());
        }
        Event::Corrupt { digest, reason, .. } => {
            say("digest", digest.to_string().into());
            say("reason", reason.as_str().into());
        }
        Event::Missing { digest, .. } => say("digest", digest.to_string().into()),
        Event::Late { lag, copies, .. } => {
            say("lag_seconds", lag.as_secs_f64().into());
            say("copies", (*copies).into());
        }
        Event::ZoneDown { reason, .. } => say("reason", reason.as_str().into()),
        Event::JobFailed { job, reason, .. } => {
            say("job", (*job).into());
            say("reason", reason.as_str().into());
        }
        _ => {}
    }
    json!({
        "specversion": "1.0",
        "id": registry_core::random_id(),
        "source": "/registry",
        "type": format!("registry.replication.{}", event.kind()),
        "subject": event.zone(),
        "time": chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        "datacontenttype": "application/json",
        "data": data,
    })
}
