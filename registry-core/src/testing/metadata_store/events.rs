//! The outbox.

use super::Fixture;
use super::kit::{GRACE, HOUR, MINUTE, blob, fails, repo, tag};
use crate::metadata::{Event, EventKind};
use crate::{Clock, Digest, ErrorKind};

/// Kind, manifest and tag of each.
fn told(events: &[Event]) -> Vec<(EventKind, Digest, Option<String>)> {
    events.iter().map(|event| (event.kind, event.digest, event.tag.as_ref().map(ToString::to_string))).collect()
}

fn some(name: &str) -> Option<String> {
    Some(name.to_owned())
}

pub(super) async fn events_tell_what_happened_in_order(f: Fixture) {
    use EventKind::{ManifestDeleted, ManifestPushed, TagDeleted, TagMoved};
    assert!(f.events().await.is_empty());
    f.push("team/app", "blobs are nobody's news").await;
    let image = f.put_tagged("team/app", "image", &["latest"]).await;
    f.pass(MINUTE);
    let moved = f.clock.now();
    let other = f.put_tagged("team/app", "another image", &["latest", "b", "a"]).await;
    assert!(f.store.delete_tag(&repo("team/app"), &tag("latest")).await.expect("delete_tag"));
    assert!(f.delete_manifest("team/app", &other).await);
    let events = f.events().await;
    assert!(events.windows(2).all(|pair| pair[0].id < pair[1].id), "{events:?}");
    assert!(events.iter().all(|event| event.id > 0 && event.repository == repo("team/app")));
    assert_eq!(events.iter().filter(|event| event.at == moved).count(), events.len() - 2, "each tells its time");
    let mut told = told(&events);
    // Whether tags of one push come in the order given or in their own is nobody's business.
    told[3..6].sort_by(|a, b| a.2.cmp(&b.2));
    let expected = [
        (ManifestPushed, image, None),
        (TagMoved, image, some("latest")),
        (ManifestPushed, other, None),
        (TagMoved, other, some("a")),
        (TagMoved, other, some("b")),
        (TagMoved, other, some("latest")),
        (TagDeleted, other, some("latest")),
        (ManifestDeleted, other, None),
        (TagDeleted, other, some("a")),
        (TagDeleted, other, some("b")),
    ];
    assert_eq!(told, expected);
}

pub(super) async fn a_moved_tag_is_an_event_and_an_unmoved_one_is_not(f: Fixture) {
    let first = f.put_tagged("team/app", "first", &["latest"]).await;
    let second = f.put_tagged("team/app", "second", &[]).await;
    let last = f.events().await.last().expect("an event").id;
    f.put_tagged("team/app", "first", &["latest"]).await;
    let since = f.store.events(last, 100).await.expect("events");
    assert_eq!(told(&since), [(EventKind::ManifestPushed, first, None)], "the tag points where it pointed");
    f.put_tagged("other", "second", &["latest"]).await;
    f.put_tagged("team/app", "second", &["latest"]).await;
    let since = f.store.events(since[0].id, 100).await.expect("events");
    let here: Vec<_> = since.into_iter().filter(|event| event.repository == repo("team/app")).collect();
    assert_eq!(told(&here), [(EventKind::ManifestPushed, second, None), (EventKind::TagMoved, second, some("latest"))]);
}

pub(super) async fn events_are_read_in_pages(f: Fixture) {
    for n in 0..7 {
        f.put_tagged("team/app", &format!("image {n}"), &["latest"]).await;
    }
    let all = f.events().await;
    assert_eq!(all.len(), 14);
    let mut read = Vec::new();
    let other = f.other().await;
    loop {
        let after = read.last().map_or(0, |event: &Event| event.id);
        let page = other.events(after, 4).await.expect("events");
        assert!(page.len() <= 4);
        if page.is_empty() {
            break;
        }
        read.extend(page);
        assert!(read.len() <= all.len(), "an event came twice");
    }
    assert_eq!(read, all);
    assert!(f.store.events(0, 0).await.expect("events").is_empty());
    assert!(f.store.events(all[13].id + 1_000, 10).await.expect("events").is_empty());
    assert_eq!(f.store.events(0, u32::MAX).await.expect("events").len(), 14);
}

pub(super) async fn a_failed_push_leaves_no_event(f: Fixture) {
    let mut image = f.manifest("team/app", "image").await;
    image.tags = vec![tag("latest")];
    image.blobs = vec![blob("missing")];
    fails(f.store.put_manifest(image.clone()).await, ErrorKind::ManifestBlobUnknown);
    image.blobs = Vec::new();
    image.generation += 1_000_000;
    fails(f.store.put_manifest(image).await, ErrorKind::Conflict);
    assert!(f.events().await.is_empty());
    let pushed = f.put_tagged("team/app", "another image", &[]).await;
    assert_eq!(told(&f.events().await), [(EventKind::ManifestPushed, pushed, None)]);
}

pub(super) async fn deleting_nothing_leaves_no_event(f: Fixture) {
    f.put_tagged("team/app", "image", &["latest"]).await;
    let before = f.events().await;
    assert!(!f.delete_manifest("team/app", &blob("unknown")).await);
    assert!(!f.delete_manifest("other", &blob("image")).await);
    assert!(!f.store.delete_tag(&repo("team/app"), &tag("unknown")).await.expect("delete_tag"));
    assert_eq!(f.events().await, before);
}

pub(super) async fn old_events_are_forgotten(f: Fixture) {
    let old = f.put_tagged("team/app", "old", &["latest"]).await;
    f.pass(GRACE);
    let young = f.put_tagged("team/app", "young", &[]).await;
    f.pass(HOUR);
    let before = f.events().await;
    f.store.tidy(GRACE * 2).await.expect("tidy");
    assert_eq!(f.events().await, before, "none is that old");
    f.store.tidy(2 * HOUR).await.expect("tidy");
    let left = f.events().await;
    assert_eq!(told(&left), [(EventKind::ManifestPushed, young, None)]);
    f.pass(HOUR * 2);
    f.store.tidy(2 * HOUR).await.expect("tidy");
    assert!(f.events().await.is_empty());
    // A consumer that remembers the last id it saw misses nothing that comes after.
    f.put_tagged("team/app", "new", &[]).await;
    assert_eq!(f.store.events(left[0].id, 10).await.expect("events").len(), 1);
    assert_eq!(f.tagged("team/app", "latest").await, Some(old), "only the news of it was forgotten");
}
