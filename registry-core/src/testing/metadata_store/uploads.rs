//! Upload sessions: who has one, and where it stands.

use bytes::Bytes;

use super::Fixture;
use super::kit::{HOUR, MINUTE, SECOND, blob, fails, key, repo};
use crate::metadata::{LinkBlob, NewUpload, UploadKey};
use crate::{Algorithm, ErrorKind};

/// A link made by committing an upload.
async fn commit(f: &Fixture, key: &UploadKey, epoch: u64, content: &str) -> LinkBlob {
    let digest = blob(content);
    let generation = f.intend(&digest).await;
    LinkBlob { upload: Some((key.clone(), epoch)), ..Fixture::link_of(key.repository.as_str(), &digest, generation) }
}

pub(super) async fn a_session_begins_empty(f: Fixture) {
    for algorithm in Algorithm::ALL {
        let key = UploadKey { id: format!("{algorithm}-session"), ..key("") };
        f.store.create_upload(NewUpload { key: key.clone(), algorithm }).await.expect("create_upload");
        let session = f.store.upload(&key).await.expect("upload");
        assert_eq!((session.algorithm, session.offset, session.token, session.finished), (algorithm, 0, None, None));
    }
}

pub(super) async fn a_session_is_taken_over_where_it_stands(f: Fixture) {
    let key = f.create("session").await;
    let first = f.store.open_upload(&key, Some(0)).await.expect("open_upload");
    assert_eq!((first.session.offset, first.session.token, first.session.finished), (0, None, None));
    let token = Bytes::from_static(b"\0 not text \xff");
    let offset = 5_000_000_000;
    f.store.save_upload(&key, first.epoch, offset, token.clone()).await.expect("save_upload");
    assert_eq!(f.store.upload(&key).await.expect("upload").offset, offset);
    for expected in [Some(offset), None] {
        let open = f.store.open_upload(&key, expected).await.expect("open_upload");
        assert_eq!((open.session.offset, open.session.token), (offset, Some(token.clone())));
        assert_eq!(open.session.algorithm, Algorithm::Sha256);
    }
}

pub(super) async fn opening_raises_the_epoch(f: Fixture) {
    let key = f.create("session").await;
    let other = f.other().await;
    let mut newest = None;
    for store in [&f.store, &other, &f.store, &other] {
        let epoch = store.open_upload(&key, Some(0)).await.expect("open_upload").epoch;
        assert!(Some(epoch) > newest, "{epoch} after {newest:?}");
        newest = Some(epoch);
    }
    f.store.upload(&key).await.expect("upload");
    f.store.save_upload(&key, newest.expect("an epoch"), 1, "token".into()).await.expect("to look is not to take over");
}

pub(super) async fn opening_elsewhere_tells_the_offset_and_changes_nothing(f: Fixture) {
    let key = f.create("session").await;
    let writer = f.store.open_upload(&key, None).await.expect("open_upload");
    f.store.save_upload(&key, writer.epoch, 10, "ten".into()).await.expect("save_upload");
    for wrong in [0, 9, 11, u64::from(u32::MAX) + 11] {
        let error = fails(f.store.open_upload(&key, Some(wrong)).await, ErrorKind::RangeInvalid);
        assert_eq!(error.offset(), Some(10));
    }
    f.store.save_upload(&key, writer.epoch, 20, "twenty".into()).await.expect("the writer before is still the writer");
}

pub(super) async fn an_old_writer_cannot_save(f: Fixture) {
    let key = f.create("session").await;
    let old = f.store.open_upload(&key, None).await.expect("open_upload").epoch;
    f.store.save_upload(&key, old, 10, "old".into()).await.expect("save_upload");
    let new = f.other().await.open_upload(&key, None).await.expect("open_upload").epoch;
    fails(f.store.save_upload(&key, old, 30, "old".into()).await, ErrorKind::Conflict);
    let session = f.store.upload(&key).await.expect("upload");
    assert_eq!((session.offset, session.token), (10, Some("old".into())), "nothing was changed");
    for offset in [20, 25] {
        f.store.save_upload(&key, new, offset, "new".into()).await.expect("the newer writer saves as often as it likes");
    }
    fails(f.store.save_upload(&key, old, 30, "old".into()).await, ErrorKind::Conflict);
    let session = f.store.upload(&key).await.expect("upload");
    assert_eq!((session.offset, session.token), (25, Some("new".into())));
}

pub(super) async fn a_session_is_seen_by_its_owner_only(f: Fixture) {
    let own = f.create("session").await;
    let strangers = [
        UploadKey { owner: "mallory".to_owned(), ..own.clone() },
        UploadKey { owner: String::new(), ..own.clone() },
        UploadKey { owner: "Alice".to_owned(), ..own.clone() },
        UploadKey { repository: repo("team/other"), ..own.clone() },
        UploadKey { id: "Session".to_owned(), ..own.clone() },
    ];
    for stranger in &strangers {
        fails(f.store.upload(stranger).await, ErrorKind::UploadUnknown);
        fails(f.store.open_upload(stranger, None).await, ErrorKind::UploadUnknown);
        fails(f.store.open_upload(stranger, Some(7)).await, ErrorKind::UploadUnknown);
        for epoch in 0..3 {
            fails(f.store.save_upload(stranger, epoch, 1, "token".into()).await, ErrorKind::UploadUnknown);
        }
        fails(f.store.cancel_upload(stranger).await, ErrorKind::UploadUnknown);
    }
    let session = f.store.upload(&own).await.expect("its owner still has it");
    assert_eq!((session.offset, session.token), (0, None));
    // Without authentication everybody is the same nobody.
    let nobody = UploadKey { id: "open".to_owned(), owner: String::new(), ..own };
    f.store.create_upload(NewUpload { key: nobody.clone(), algorithm: Algorithm::Sha256 }).await.expect("create_upload");
    f.store.upload(&nobody).await.expect("upload");
}

pub(super) async fn a_cancelled_session_is_gone(f: Fixture) {
    let key = f.create("session").await;
    let kept = f.create("kept").await;
    let writer = f.store.open_upload(&key, None).await.expect("open_upload");
    f.store.save_upload(&key, writer.epoch, 10, "ten".into()).await.expect("save_upload");
    let cancelled = f.other().await.cancel_upload(&key).await.expect("cancel_upload");
    assert!(cancelled.epoch > writer.epoch, "whoever cancels is the newest writer");
    assert_eq!((cancelled.session.offset, cancelled.session.token), (10, Some("ten".into())), "it tells what is to be discarded");
    for epoch in [writer.epoch, cancelled.epoch] {
        fails(f.store.save_upload(&key, epoch, 20, "twenty".into()).await, ErrorKind::UploadUnknown);
    }
    fails(f.store.upload(&key).await, ErrorKind::UploadUnknown);
    fails(f.store.open_upload(&key, None).await, ErrorKind::UploadUnknown);
    fails(f.store.cancel_upload(&key).await, ErrorKind::UploadUnknown);
    f.store.upload(&kept).await.expect("the other session is untouched");
}

pub(super) async fn an_unknown_session_is_unknown(f: Fixture) {
    let key = key("never begun");
    fails(f.store.upload(&key).await, ErrorKind::UploadUnknown);
    fails(f.store.open_upload(&key, None).await, ErrorKind::UploadUnknown);
    fails(f.store.save_upload(&key, 1, 1, "token".into()).await, ErrorKind::UploadUnknown);
    fails(f.store.cancel_upload(&key).await, ErrorKind::UploadUnknown);
    let link = commit(&f, &key, 1, "layer").await;
    fails(f.store.link_blob(link).await, ErrorKind::UploadUnknown);
    assert!(!f.has("team/app", &blob("layer")).await);
}

pub(super) async fn linking_finishes_the_session_and_its_result_is_kept(f: Fixture) {
    let key = f.create("session").await;
    let epoch = f.store.open_upload(&key, None).await.expect("open_upload").epoch;
    f.store.save_upload(&key, epoch, 7, "token".into()).await.expect("save_upload");
    let link = commit(&f, &key, epoch, "layer").await;
    f.store.link_blob(link.clone()).await.expect("link_blob");
    assert!(f.has("team/app", &blob("layer")).await);
    let result = Some((blob("layer"), 7));
    assert_eq!(f.store.upload(&key).await.expect("upload").finished, result);
    // The client that missed the answer asks again; so may whoever lost the answer of the commit.
    for _ in 0..2 {
        assert_eq!(f.other().await.open_upload(&key, None).await.expect("open_upload").session.finished, result);
    }
    fails(f.store.cancel_upload(&key).await, ErrorKind::UploadUnknown);
    fails(f.store.save_upload(&key, epoch, 9, "more".into()).await, ErrorKind::Conflict);
    assert_eq!(f.store.upload(&key).await.expect("upload").finished, result);
    let again = f.create("committed twice").await;
    let epoch = f.store.open_upload(&again, None).await.expect("open_upload").epoch;
    let link = LinkBlob { upload: Some((again, epoch)), ..link };
    f.store.link_blob(link.clone()).await.expect("link_blob");
    f.store.link_blob(link).await.expect("the same commit again is the same commit");
}

pub(super) async fn an_old_writer_cannot_link(f: Fixture) {
    let key = f.create("session").await;
    let old = f.store.open_upload(&key, None).await.expect("open_upload").epoch;
    let new = f.other().await.open_upload(&key, None).await.expect("open_upload").epoch;
    let link = commit(&f, &key, old, "layer").await;
    fails(f.store.link_blob(link.clone()).await, ErrorKind::Conflict);
    assert!(!f.has("team/app", &link.digest).await, "a commit of bytes that somebody else is writing over");
    assert_eq!(f.store.upload(&key).await.expect("upload").finished, None);
    let link = LinkBlob { upload: Some((key.clone(), new)), ..link };
    f.store.link_blob(link.clone()).await.expect("the newer writer commits");
    assert_eq!(f.store.upload(&key).await.expect("upload").finished, Some((link.digest, 7)));
    // A blob that moved on does not end the session either.
    let key = f.create("another session").await;
    let epoch = f.store.open_upload(&key, None).await.expect("open_upload").epoch;
    let mut link = commit(&f, &key, epoch, "another layer").await;
    link.generation += 1_000_000;
    fails(f.store.link_blob(link).await, ErrorKind::Conflict);
    assert_eq!(f.store.upload(&key).await.expect("upload").finished, None);
    f.store.save_upload(&key, epoch, 1, "token".into()).await.expect("it can go on");
}

pub(super) async fn a_cancelled_session_cannot_link(f: Fixture) {
    let key = f.create("session").await;
    let epoch = f.store.open_upload(&key, None).await.expect("open_upload").epoch;
    let link = commit(&f, &key, epoch, "layer").await;
    f.store.cancel_upload(&key).await.expect("cancel_upload");
    fails(f.store.link_blob(link).await, ErrorKind::UploadUnknown);
    assert!(!f.has("team/app", &blob("layer")).await);
    assert_eq!(f.tags("team/app", None, 10).await, None, "nothing was changed");
}

pub(super) async fn a_stranger_cannot_link(f: Fixture) {
    let own = f.create("session").await;
    let epoch = f.store.open_upload(&own, None).await.expect("open_upload").epoch;
    let strangers = [UploadKey { owner: "mallory".to_owned(), ..own.clone() }, UploadKey { repository: repo("team/other"), ..own.clone() }];
    for stranger in strangers {
        let link = commit(&f, &stranger, epoch, "layer").await;
        fails(f.store.link_blob(link).await, ErrorKind::UploadUnknown);
        assert!(!f.has(stranger.repository.as_str(), &blob("layer")).await);
    }
    assert_eq!(f.store.upload(&own).await.expect("upload").finished, None);
}

pub(super) async fn idle_sessions_expire(f: Fixture) {
    let expire = || async { f.store.expire_uploads(HOUR, HOUR * 100, 100).await.expect("expire_uploads") };
    let [idle, opened, saved] = [f.create("idle").await, f.create("opened").await, f.create("saved").await];
    let epoch = f.store.open_upload(&saved, None).await.expect("open_upload").epoch;
    f.pass(HOUR - MINUTE);
    assert_eq!(expire().await, 0, "a minute too early");
    f.store.open_upload(&opened, None).await.expect("open_upload");
    f.store.save_upload(&saved, epoch, 1, "token".into()).await.expect("save_upload");
    f.pass(2 * MINUTE);
    assert_eq!(expire().await, 1);
    fails(f.store.upload(&idle).await, ErrorKind::UploadUnknown);
    for busy in [&opened, &saved] {
        f.store.upload(busy).await.expect("somebody touched it two minutes ago");
    }
    f.pass(HOUR);
    assert_eq!(expire().await, 2);
    fails(f.store.save_upload(&saved, epoch, 2, "token".into()).await, ErrorKind::UploadUnknown);
}

pub(super) async fn finished_sessions_are_kept_for_a_while(f: Fixture) {
    let key = f.create("session").await;
    let epoch = f.store.open_upload(&key, None).await.expect("open_upload").epoch;
    f.pass(HOUR);
    let link = commit(&f, &key, epoch, "layer").await;
    f.store.link_blob(link).await.expect("link_blob");
    f.pass(9 * MINUTE);
    let expire = || async { f.store.expire_uploads(HOUR * 100, 10 * MINUTE, 100).await.expect("expire_uploads") };
    assert_eq!(expire().await, 0, "it counts from the end, not from the beginning");
    assert!(f.store.upload(&key).await.expect("upload").finished.is_some());
    f.pass(MINUTE + SECOND);
    let unfinished = f.create("unfinished").await;
    f.pass(20 * MINUTE);
    assert_eq!(expire().await, 1);
    fails(f.store.upload(&key).await, ErrorKind::UploadUnknown);
    f.store.upload(&unfinished).await.expect("that rule is for finished ones");
    assert!(f.has("team/app", &blob("layer")).await, "the blob stays");
}

pub(super) async fn sessions_expire_a_few_at_a_time(f: Fixture) {
    for n in 0..7 {
        f.create(&format!("session {n}")).await;
    }
    f.pass(HOUR + SECOND);
    for expected in [3, 3, 1, 0] {
        assert_eq!(f.store.expire_uploads(HOUR, HOUR, 3).await.expect("expire_uploads"), expected);
    }
}

pub(super) async fn of_two_writers_only_one_can_save(f: Fixture) {
    let other = f.other().await;
    for n in 0..10_u64 {
        let key = f.create(&format!("session {n}")).await;
        let (one, two) = futures_util::future::join(f.store.open_upload(&key, Some(0)), other.open_upload(&key, Some(0))).await;
        let (one, two) = (one.expect("open_upload").epoch, two.expect("both may open it, since neither saved").epoch);
        assert_ne!(one, two);
        let saves =
            futures_util::future::join(f.store.save_upload(&key, one, 1, "one".into()), other.save_upload(&key, two, 2, "two".into()));
        let (winner, loser) = match saves.await {
            (Ok(()), lost) => ((1, "one", one, two), lost),
            (lost, Ok(())) => ((2, "two", two, one), lost),
            both => panic!("nobody could save: {both:?}"),
        };
        fails(loser, ErrorKind::Conflict);
        assert!(winner.2 > winner.3, "the newer writer wins");
        let session = f.store.upload(&key).await.expect("upload");
        assert_eq!((session.offset, session.token), (winner.0, Some(winner.1.into())));
    }
}
