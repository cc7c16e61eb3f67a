//! Where events go: a file with one [CloudEvents] object in each line.
//!
//! [CloudEvents]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md

use std::path::Path;

use replication::{Event, EventSink};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::lines::{self, LineFile};
use crate::stores::Purpose;

/// Appends events to a file.
#[derive(Debug)]
pub(crate) struct EventFile(LineFile);

impl EventFile {
    /// Begins to append to this file, and for a server looks whether that can be done. Commands make no file before there is anything to be written: most tell
    /// of nothing, and may be given by somebody else than who runs the server.
    pub(crate) fn start(path: &Path, purpose: Purpose) -> Result<Self, Failure> {
        let failed = |error| Failure::because(format!("cannot write events to {}", path.display()), &error).hint("see replication.events");
        if purpose == Purpose::Serve {
            lines::open(path).map_err(failed)?;
        }
        LineFile::start(path, "events").map(Self).map_err(failed)
    }
}

impl EventSink for EventFile {
    fn tell(&self, event: &Event) {
        if !self.0.append(cloud_event(event).to_string()) {
            tracing::error!(event = event.kind(), zone = event.zone(), "an event was dropped: they are not written as fast as they come");
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
