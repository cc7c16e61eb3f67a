//! Listing a container, and deleting many objects.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::NaiveDateTime;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use object_store::path::Path;
use object_store::{ListResult, ObjectMeta, PutPayload};
use registry_core::ErrorKind;
use serde::Deserialize;

use crate::client::{Call, Client, Target, encoded};
use crate::failure::Failure;

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Entry {
    Folder { subdir: String },
    Object { name: String, bytes: u64, hash: Option<String>, last_modified: String, slo_etag: Option<String>, content_type: Option<String> },
}

impl Entry {
    fn name(&self) -> &str {
        match self {
            Self::Folder { subdir } => subdir,
            Self::Object { name, .. } => name,
        }
    }

    fn meta(self) -> Option<ObjectMeta> {
        let Self::Object { name, bytes, hash, last_modified, slo_etag, content_type } = self else { return None };
        // Names that others gave may be none that a path can have; nothing of ours is among them.
        let location = Path::parse(&name).ok()?;
        let last_modified = last_modified.trim_end_matches('Z');
        let last_modified = NaiveDateTime::parse_from_str(last_modified, "%Y-%m-%dT%H:%M:%S%.f").ok()?.and_utc();
        let e_tag = slo_etag.or(hash).map(|tag| tag.trim_matches('"').to_owned());
        let size = content_type.as_deref().and_then(size_in).unwrap_or(bytes);
        Some(ObjectMeta { location, last_modified, size, e_tag, version: None })
    }
}

/// The parameter of a content type that tells the size of a large object: RadosGW lists such a one with the size of its manifest.
const SIZE: &str = "; blob-size=";

/// The content type of a large object of so many bytes.
pub(crate) fn type_with_size(size: u64) -> HeaderValue {
    let text = format!("application/octet-stream{SIZE}{size}");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

fn size_in(content_type: &str) -> Option<u64> {
    content_type.split_once(SIZE)?.1.parse().ok()
}

/// One page of names that begin with `prefix`, behind `marker`.
async fn page(client: &Client, prefix: &str, marker: &str, by_folder: bool) -> Result<Vec<Entry>, Failure> {
    // Without a limit of ours it is the cluster's; a larger one is an error.
    let mut call = Call::new(Method::GET, Target::Container).query("format", "json");
    for (name, value) in [("prefix", prefix), ("marker", marker), ("delimiter", if by_folder { "/" } else { "" })] {
        if !value.is_empty() {
            call = call.query(name, value);
        }
    }
    let (body, what) = client.fetch(&call, "listing the container").await?;
    if body.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice(&body).map_err(|error| Failure::new(ErrorKind::Internal, format!("{what}: the list cannot be read: {error}")))
}

/// Behind which name to go on. A page that is shorter than a full one is the last; where nobody knows how long that is, only an empty one.
fn next(page: &[Entry], full_page: Option<usize>) -> Option<&str> {
    page.last().filter(|_| full_page.is_none_or(|full| page.len() >= full)).map(Entry::name)
}

fn folder(prefix: Option<&Path>) -> String {
    match prefix.map(AsRef::as_ref).filter(|prefix: &&str| !prefix.is_empty()) {
        Some(prefix) => format!("{prefix}/"),
        None => String::new(),
    }
}

/// All objects in a folder, in the order of their names, behind `after`.
pub(crate) fn list(
    client: &Arc<Client>,
    prefix: Option<&Path>,
    after: Option<&Path>,
    full_page: Option<usize>,
) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
    struct Walk {
        client: Arc<Client>,
        prefix: String,
        marker: Option<String>,
        page: VecDeque<Entry>,
        full_page: Option<usize>,
    }
    let marker = after.map_or_else(String::new, |after| after.as_ref().to_owned());
    let walk = Walk { client: Arc::clone(client), prefix: folder(prefix), marker: Some(marker), page: VecDeque::new(), full_page };
    let entries = stream::try_unfold(walk, |mut walk| async move {
        loop {
            if let Some(entry) = walk.page.pop_front() {
                return Ok(Some((entry, walk)));
            }
            let Some(marker) = walk.marker.take() else { return Ok(None) };
            let page = page(&walk.client, &walk.prefix, &marker, false).await.map_err(|failure| failure.told(&walk.prefix))?;
            walk.marker = next(&page, walk.full_page).map(ToOwned::to_owned);
            walk.page = page.into();
        }
    });
    entries.try_filter_map(|entry| std::future::ready(Ok(entry.meta()))).boxed()
}

/// The objects directly in a folder, and the folders in it.
pub(crate) async fn list_folder(client: &Client, prefix: Option<&Path>, full_page: Option<usize>) -> Result<ListResult, Failure> {
    let (folder, mut marker) = (folder(prefix), String::new());
    let mut result = ListResult { common_prefixes: Vec::new(), objects: Vec::new(), extensions: Default::default() };
    loop {
        let page = page(client, &folder, &marker, true).await?;
        let next = next(&page, full_page).map(ToOwned::to_owned);
        for entry in page {
            match entry {
                Entry::Folder { subdir } => result.common_prefixes.extend(Path::parse(subdir.trim_end_matches('/')).ok()),
                entry => result.objects.extend(entry.meta()),
            }
        }
        match next {
            Some(next) => marker = next,
            None => return Ok(result),
        }
    }
}

/// The verdict in the body of an answer that is always 200.
#[derive(Debug, Deserialize)]
pub(crate) struct Verdict {
    #[serde(rename = "Response Status")]
    pub(crate) status: String,
    #[serde(rename = "Response Body", default)]
    pub(crate) body: String,
    #[serde(rename = "Errors", default)]
    pub(crate) errors: Vec<Vec<String>>,
}

impl Verdict {
    /// What the body says; an error if it is none, or none that is good.
    pub(crate) fn read(body: &[u8], what: &str) -> Result<(), Failure> {
        // While it works, Swift sends white space.
        let verdict: Self = serde_json::from_slice(body.trim_ascii())
            .map_err(|_| Failure::new(ErrorKind::Unavailable, format!("{what}: the answer broke off before it said how it went")))?;
        let is_bad = |error: &&Vec<String>| error.get(1).is_none_or(|status| !status.starts_with("404"));
        let bad: Vec<_> = verdict.errors.iter().filter(is_bad).map(|error| error.join(": ")).collect();
        if bad.is_empty() && (verdict.status.starts_with('2') || verdict.status.starts_with("404") || !verdict.errors.is_empty()) {
            return Ok(());
        }
        let mut all = bad;
        all.truncate(5);
        Err(Failure::new(ErrorKind::Unavailable, format!("{what}: {} {} {}", verdict.status, verdict.body, all.join(", "))))
    }
}

/// Deletes these objects, as they are: of a large one only the manifest. Those that are not there count as deleted.
pub(crate) async fn delete_plain(client: &Client, paths: &[Path], max_bulk: usize) -> Result<(), Failure> {
    if paths.len() < 3 || max_bulk == 0 {
        let deletes = stream::iter(paths.iter().map(Ok)).try_for_each_concurrent(8, |path| async move {
            match client.send(&Call::object(Method::DELETE, path)).await {
                Err(failure) if !failure.is_missing() => Err(failure),
                _ => Ok(()),
            }
        });
        return deletes.await;
    }
    for some in paths.chunks(max_bulk.min(1000)) {
        let names: String = some.iter().map(|path| encoded(&client.container, Some(path.as_ref())) + "\n").collect();
        let mut call = Call::new(Method::POST, Target::Account).query("bulk-delete", "").body(PutPayload::from(names));
        call = call.header(CONTENT_TYPE, "text/plain").header(ACCEPT, "application/json");
        let (body, what) = client.fetch(&call, "deleting objects").await?;
        Verdict::read(&body, &what)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Entry, Verdict};

    #[test]
    fn a_list_has_objects_and_folders() {
        let json = r#"[{"subdir":"a/"},{"name":"b","bytes":5,"hash":"ff","last_modified":"2026-11-24T05:37:16.476000","content_type":"x"},
            {"name":"c","bytes":9,"hash":"aa","slo_etag":"\"bb\"","last_modified":"2026-11-24T05:37:16Z"},
            {"name":"/odd//","bytes":1,"hash":null,"last_modified":"2026-11-24T05:37:16"}]"#;
        let entries: Vec<Entry> = serde_json::from_str(json).unwrap();
        let metas: Vec<_> = entries.into_iter().filter_map(Entry::meta).collect();
        let seen: Vec<_> = metas.iter().map(|meta| (meta.location.as_ref(), meta.size, meta.e_tag.as_deref())).collect();
        assert_eq!(seen, [("b", 5, Some("ff")), ("c", 9, Some("bb"))]);
        assert_eq!(metas[0].last_modified.timestamp_millis() % 1000, 476);
    }

    #[test]
    fn the_verdict_is_in_the_body() {
        let read = |body: &str| Verdict::read(body.as_bytes(), "x");
        read(r#"  {"Response Status":"200 OK","Response Body":"","Number Deleted":2,"Number Not Found":1,"Errors":[]}"#).unwrap();
        read(r#"{"Response Status":"404 Not Found","Number Not Found":1}"#).unwrap();
        let error = read(r#"{"Response Status":"400 Bad Request","Errors":[["c/a","409 Conflict"],["c/b","404 Not Found"]]}"#).unwrap_err();
        assert_eq!(error.error.message(), "x: 400 Bad Request  c/a: 409 Conflict");
        for cut in ["", "   ", r#"{"Response Status":"20"#] {
            assert!(read(cut).unwrap_err().is_passing(), "{cut:?}");
        }
        assert!(read(r#"{"Response Status":"400 Bad Request","Response Body":"Not an SLO manifest"}"#).is_err());
    }
}
