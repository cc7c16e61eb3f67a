//! Where events go: a file with one [CloudEvents] object in each line.
//!
//! [CloudEvents]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use replication::{Event, EventSink};
use serde_json::{Value, json};

use crate::failure::Failure;

/// Events that wait to be written; more are dropped, and that is logged.
const WAITING: usize = 10_000;

/// Appends events to a file, from a thread of its own: a disk that stands still holds nobody up. The file is opened for each batch, so that it may be moved
/// away at any time.
#[derive(Debug)]
pub(crate) struct EventFile {
    queue: Option<SyncSender<String>>,
    writer: Option<JoinHandle<()>>,
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl EventFile {
    /// Begins to append to this file.
    pub(crate) fn start(path: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::because(format!("cannot write events to {}", path.display()), &error).hint("see replication.events");
        open(path).map_err(failed)?;
        let (queue, waiting) = sync_channel(WAITING);
        let path = path.to_owned();
        let writer = std::thread::Builder::new().name("events".to_owned()).spawn(move || write(&path, &waiting)).map_err(failed)?;
        Ok(Self { queue: Some(queue), writer: Some(writer) })
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
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
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
