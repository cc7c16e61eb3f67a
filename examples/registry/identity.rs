//! Is the zone still the one it was?
//!
//! A disk that is not mounted looks like an empty directory, and an empty zone answers every pull with "not found", takes pushes that vanish when the disk
//! is back, and lets garbage collection believe that deletes succeeded. So each zone carries a random id, the data directory remembers it, and a server
//! does not start over a zone that has another id or none.
//!
//! That is for one plain store. Of several zones the ledger remembers who they are, and one that is not itself is passed over.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use registry_core::BlobStore;
use registry_core::blob::StoreIdentity;
use serde::{Deserialize, Serialize};

use crate::config::Zone;
use crate::failure::Failure;

/// What the data directory remembers.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    version: u32,
    /// Ids by the zones' names.
    zones: BTreeMap<String, String>,
}

const VERSION: u32 = 1;

/// How blobs are laid out in a zone of ours, as opposed to one that was adopted from another registry.
const LAYOUT: &str = "native";

/// Compares the zone with what the data directory remembers of it, and remembers it if it is new here.
pub(crate) async fn confirm(data: &Path, zone: &Zone, store: &dyn BlobStore, may_write: bool) -> Result<(), Failure> {
    let Some(objects) = store.named() else { return Ok(()) };
    let file = data.join("zones.json");
    // Two servers that start over one new directory must not both name the zone.
    let _lock = may_write.then(|| lock(data)).transpose()?;
    let mut known = read(&file)?;
    let cannot = |error: registry_core::Error| {
        Failure::because(format!("cannot read or write the identity of zone {} in {}", zone.name, zone.place()), &error)
    };
    let found = StoreIdentity::read(objects).await.map_err(cannot)?;
    judge(&known, zone, found.as_ref(), &deliberate(data))?;
    if !may_write || known.zones.contains_key(&zone.name) {
        return Ok(());
    }
    let identity = StoreIdentity::read_or_write(objects, &zone.name, LAYOUT).await.map_err(cannot)?;
    known.zones.insert(zone.name.clone(), identity.id);
    write(&file, &known).map_err(|error| Failure::because(format!("cannot write {}", file.display()), &error))
}

/// What to do if a zone is not what it was and that is as it should be.
pub(crate) fn deliberate(data: &Path) -> String {
    format!("If it was emptied or replaced on purpose, remove its line from {} and start again", data.join("zones.json").display())
}

fn judge(known: &Known, zone: &Zone, found: Option<&StoreIdentity>, deliberate: &str) -> Result<(), Failure> {
    let (name, path) = (&zone.name, zone.place());
    match (known.zones.get(name), found) {
        (Some(_), None) => {
            Err(Failure::new(format!("zone {name}: {path} does not hold the zone that was there before: it has no identity"))
                .hint(format!("is its disk mounted, or its container the right one? {deliberate}")))
        }
        (Some(id), Some(found)) if *id != found.id => {
            Err(Failure::new(format!("zone {name}: {path} holds another zone than before (id {}, expected {id})", found.id))
                .hint(format!("is the right disk mounted, or its container the right one? {deliberate}")))
        }
        (_, Some(found)) if found.name != *name => {
            Err(Failure::new(format!("zone {name}: {path} holds a zone that calls itself {}", found.name))
                .hint(format!("write name = \"{}\" in its [[zone]], or give the new zone a path of its own", found.name)))
        }
        (None, _) if !known.zones.is_empty() => {
            let others = known.zones.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Err(Failure::new(format!("zone {name} is not the one that this data directory was used with: {others}"))
                .hint(format!("what was pushed is there, and would not be found here. {deliberate}")))
        }
        _ => Ok(()),
    }
}

/// The zones that the data directory remembers from when there was one plain store: ids by names.
pub(crate) fn known(data: &Path) -> Result<BTreeMap<String, String>, Failure> {
    Ok(read(&data.join("zones.json"))?.zones)
}

/// The ledger knows by now what the data directory remembered.
pub(crate) fn forget(data: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(data.join("zones.json")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Held while zones are named, by one process at a time.
pub(crate) fn lock(data: &Path) -> Result<File, Failure> {
    let path = data.join("zones.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).and_then(|file| {
        file.lock()?;
        Ok(file)
    });
    file.map_err(|error| {
        Failure::because(format!("the data directory {} is not writable", data.display()), &error)
            .hint("make it writable for the user that the registry runs as, or choose another with --data DIR")
    })
}

fn read(file: &Path) -> Result<Known, Failure> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Known { version: VERSION, ..Known::default() }),
        Err(error) => return Err(Failure::because(format!("cannot read {}", file.display()), &error)),
    };
    let known: Known =
        serde_json::from_slice(&text).map_err(|error| Failure::because(format!("cannot read {}", file.display()), &error))?;
    if known.version > VERSION {
        return Err(Failure::new(format!("{} was written by a newer release", file.display())).hint("run that release, or one still newer"));
    }
    Ok(known)
}

/// In one step and durably: half a file would keep the server from starting.
fn write(file: &Path, known: &Known) -> std::io::Result<()> {
    let temporary: PathBuf = file.with_extension("json.new");
    let mut out = File::create(&temporary)?;
    out.write_all(&serde_json::to_vec_pretty(known)?)?;
    out.write_all(b"\n")?;
    out.sync_all()?;
    std::fs::rename(&temporary, file)?;
    file.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}
