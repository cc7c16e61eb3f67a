//! Intending, linking, mounting, unlinking, and what readers find.

use super::Fixture;
use super::kit::{GRACE, MINUTE, blob, fails, repo};
use crate::metadata::{LinkBlob, Observation};
use crate::{Clock, ErrorKind};

pub(super) async fn it_answers(f: Fixture) {
    f.store.ping().await.expect("ping");
}

pub(super) async fn a_blob_is_linked_under_the_generation_it_was_intended_with(f: Fixture) {
    let digest = blob("layer");
    assert!(!f.has("team/app", &digest).await);
    let generation = f.intend(&digest).await;
    assert!(!f.has("team/app", &digest).await, "an intent is no link");
    f.pass(MINUTE);
    // More than 32 bits, because layers are.
    let size = 5_000_000_000;
    let link = LinkBlob { repository: repo("team/app"), digest, size, generation, upload: None };
    f.store.link_blob(link).await.expect("link_blob");
    let link = f.blob_link("team/app", &digest).await.expect("a link");
    assert_eq!((link.size, link.suspect), (size, false));
    assert_eq!(link.verified_at, f.clock.now(), "linking notes that the bytes were verified");
}

pub(super) async fn only_the_repository_that_linked_a_blob_has_it(f: Fixture) {
    let digest = f.push("team/app", "layer").await;
    assert!(f.has("team/app", &digest).await);
    for other in ["team/ap", "team/app/x", "team", "other"] {
        assert!(!f.has(other, &digest).await, "{other}");
    }
    assert!(!f.has("team/app", &blob("another layer")).await);
}

pub(super) async fn linking_without_intending_is_refused(f: Fixture) {
    let digest = blob("layer");
    for generation in [0, 1, 2] {
        fails(f.store.link_blob(Fixture::link_of("team/app", &digest, generation)).await, ErrorKind::Conflict);
    }
    assert!(!f.has("team/app", &digest).await);
}

pub(super) async fn an_old_generation_cannot_link_and_changes_nothing(f: Fixture) {
    let digest = blob("layer");
    let old = f.intend(&digest).await;
    f.pass(GRACE + MINUTE);
    assert!(f.condemn().await.contains(&digest));
    fails(f.store.link_blob(Fixture::link_of("team/app", &digest, old)).await, ErrorKind::Conflict);
    assert!(!f.has("team/app", &digest).await);
    assert_eq!(f.tags("team/app", None, 10).await, None, "a refused link makes no repository known");
    // Still refused when somebody else brought the blob back: the old writer cannot know whether its bytes were there all the time.
    let new = f.intend(&digest).await;
    assert!(new > old, "condemning raises the generation: {old}, then {new}");
    fails(f.store.link_blob(Fixture::link_of("team/app", &digest, old)).await, ErrorKind::Conflict);
    f.store.link_blob(Fixture::link_of("team/app", &digest, new)).await.expect("the newer writer links");
}

pub(super) async fn linking_again_is_harmless(f: Fixture) {
    let digest = blob("layer");
    let first = f.intend(&digest).await;
    let second = f.intend(&digest).await;
    // Two clients push one blob at once, to one repository and to another.
    f.store.link_blob(Fixture::link_of("team/app", &digest, second)).await.expect("link_blob");
    f.store.link_blob(Fixture::link_of("team/app", &digest, first)).await.expect("nothing moved towards deletion meanwhile");
    f.store.link_blob(Fixture::link_of("other", &digest, first)).await.expect("nor for another repository");
    assert!(f.has("team/app", &digest).await && f.has("other", &digest).await);
}

pub(super) async fn another_process_sees_what_was_done(f: Fixture) {
    let other = f.other().await;
    let layer = f.push("team/app", "layer").await;
    assert!(other.blob_link(&repo("team/app"), &layer).await.expect("blob_link").is_some());
    let image = f.put_tagged("team/app", "image", &["latest"]).await;
    let found = other.manifest(&repo("team/app"), &image.into()).await.expect("manifest");
    assert_eq!(found.map(|manifest| manifest.digest), Some(image));
    let key = f.create("session").await;
    let open = other.open_upload(&key, Some(0)).await.expect("open_upload");
    other.save_upload(&key, open.epoch, 5, "token".into()).await.expect("save_upload");
    assert_eq!(f.store.upload(&key).await.expect("upload").offset, 5);
    assert!(other.unlink_blob(&repo("team/app"), &layer).await.expect("unlink_blob"));
    assert!(!f.has("team/app", &layer).await);
}

pub(super) async fn a_blob_is_mounted_from_the_repository_that_has_it(f: Fixture) {
    let digest = f.push("from", "layer").await;
    let link = f.mount(Some("from"), "to", &digest).await.expect("a mount");
    assert_eq!((link.size, link.suspect), (7, false));
    assert!(f.has("to", &digest).await && f.has("from", &digest).await);
    // What it came from is nothing to it afterwards.
    assert!(f.unlink("from", &digest).await);
    f.pass(MINUTE);
    assert!(f.store.condemn(&[digest], MINUTE / 2).await.expect("condemn").is_empty());
    assert!(f.has("to", &digest).await);
}

pub(super) async fn a_blob_is_mounted_from_anywhere_if_nobody_says_where(f: Fixture) {
    let digest = f.push("somewhere", "layer").await;
    assert_eq!(f.mount(None, "to", &digest).await.expect("a mount").size, 7);
    assert!(f.has("to", &digest).await);
    assert!(f.mount(None, "to", &blob("nowhere")).await.is_none());
    assert!(!f.has("to", &blob("nowhere")).await);
}

pub(super) async fn what_the_named_repository_lacks_is_not_mounted_from_it(f: Fixture) {
    let digest = f.push("somewhere", "layer").await;
    f.push("from", "something else").await;
    for from in ["from", "unknown"] {
        assert!(f.mount(Some(from), "to", &digest).await.is_none(), "{from} does not have it");
        assert!(!f.has("to", &digest).await);
    }
}

pub(super) async fn an_unlinked_blob_is_not_mounted(f: Fixture) {
    let digest = f.push("from", "layer").await;
    assert!(f.unlink("from", &digest).await);
    assert!(f.mount(Some("from"), "to", &digest).await.is_none());
    assert!(f.mount(None, "to", &digest).await.is_none());
    let intended = blob("intended");
    f.intend(&intended).await;
    assert!(f.mount(None, "to", &intended).await.is_none(), "bytes that may not be there yet");
}

pub(super) async fn a_blob_being_deleted_is_not_mounted(f: Fixture) {
    let digest = f.push("from", "layer").await;
    assert!(f.unlink("from", &digest).await);
    let claim = f.claim_one(&digest).await;
    assert!(f.mount(Some("from"), "to", &digest).await.is_none());
    assert!(f.mount(None, "to", &digest).await.is_none());
    assert!(!f.has("to", &digest).await);
    f.store.complete_deletion(&claim).await.expect("a refused mount leaves the claim alone");
}

pub(super) async fn a_suspect_blob_is_not_mounted(f: Fixture) {
    let digest = f.push("from", "layer").await;
    f.store.observe_blob(&digest, Observation::Suspect).await.expect("observe_blob");
    assert!(f.mount(Some("from"), "to", &digest).await.is_none(), "it has to be pushed again");
    assert!(f.mount(None, "to", &digest).await.is_none());
    assert!(!f.has("to", &digest).await);
    f.store.observe_blob(&digest, Observation::Verified).await.expect("observe_blob");
    assert!(f.mount(Some("from"), "to", &digest).await.is_some());
}

pub(super) async fn unlinking_takes_it_from_one_repository_only(f: Fixture) {
    let digest = f.push("one", "layer").await;
    f.link("two", &digest).await;
    let kept = f.push("one", "another layer").await;
    assert!(f.unlink("one", &digest).await);
    assert!(!f.has("one", &digest).await && f.has("two", &digest).await && f.has("one", &kept).await);
    assert!(!f.unlink("one", &digest).await, "it is gone already");
    assert!(!f.unlink("unknown", &digest).await);
}

pub(super) async fn relying_on_what_is_not_there_is_none(f: Fixture) {
    let digest = f.push("team/app", "layer").await;
    let rely = |name: &'static str, digest| {
        let store = &f.store;
        async move { store.rely_on_blob(&repo(name), &digest, MINUTE).await.expect("rely_on_blob") }
    };
    assert_eq!(rely("team/app", digest).await, f.blob_link("team/app", &digest).await);
    assert_eq!(rely("other", digest).await, None);
    assert_eq!(rely("team/app", blob("unknown")).await, None);
    assert!(!f.has("other", &digest).await, "relying makes no link");
}

pub(super) async fn observations_are_remembered(f: Fixture) {
    let digest = f.push("team/app", "layer").await;
    f.link("other", &digest).await;
    let pushed = f.clock.now();
    f.pass(MINUTE);
    f.store.observe_blob(&digest, Observation::Suspect).await.expect("observe_blob");
    for name in ["team/app", "other"] {
        let link = f.blob_link(name, &digest).await.expect("a suspect blob is still linked");
        assert!(link.suspect, "{name}");
        assert_eq!(link.verified_at, pushed, "it was not found right just now");
    }
    f.pass(MINUTE);
    f.store.observe_blob(&digest, Observation::Verified).await.expect("observe_blob");
    let link = f.blob_link("team/app", &digest).await.expect("a link");
    assert_eq!((link.suspect, link.verified_at), (false, f.clock.now()));
}

pub(super) async fn observing_an_unknown_blob_is_passed_over(f: Fixture) {
    let digest = blob("unknown");
    for observation in [Observation::Verified, Observation::Suspect] {
        f.store.observe_blob(&digest, observation).await.expect("observe_blob");
    }
    f.pass(GRACE + MINUTE);
    assert!(f.condemn().await.is_empty(), "an observation makes no row");
}

pub(super) async fn linking_new_bytes_clears_suspicion(f: Fixture) {
    let digest = f.push("team/app", "layer").await;
    f.link("other", &digest).await;
    f.store.observe_blob(&digest, Observation::Suspect).await.expect("observe_blob");
    f.pass(MINUTE);
    f.link("team/app", &digest).await;
    for name in ["team/app", "other"] {
        let link = f.blob_link(name, &digest).await.expect("a link");
        assert_eq!((link.suspect, link.verified_at), (false, f.clock.now()), "pushing heals it for {name} too");
    }
}
