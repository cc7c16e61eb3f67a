//! The file as users and servers see it.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use futures_util::FutureExt as _;
use registry_core::ErrorKind;
use tempfile::TempDir;

use super::error::Problem;
use super::hash::Bcrypt;
use super::hash::tests::{TWO_A, TWO_Y};
use super::*;

const HORSE: &str = "correct horse battery";
const TOKYO: &str = "Grüße, 東京!";

/// A directory for a users file, and where it is.
fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users");
    (dir, path)
}

fn with(text: &str) -> (TempDir, PathBuf, Htpasswd) {
    let (dir, path) = place();
    fs::write(&path, text).unwrap();
    let users = Htpasswd::open(&path).unwrap();
    (dir, path, users)
}

/// Until the file is looked at again.
async fn a_second() {
    tokio::time::advance(Duration::from_secs(1)).await;
}

async fn log_in(users: &Htpasswd, name: &str, password: &str) -> Option<String> {
    users.log_in(name, &Password::new(password)).await.unwrap().map(|user| format!("{} {}", user.name(), user.groups().join("+")))
}

async fn find(users: &Htpasswd, name: &str) -> Option<String> {
    users.find(name).await.unwrap().map(|user| user.groups().join("+"))
}

/// With no place to check a password in, so that whoever's has to be checked waits for ever.
fn without_places(path: &PathBuf) -> Htpasswd {
    Htpasswd { checks: Checks::new(0), ..Htpasswd::open(path).unwrap() }
}

async fn waits(users: &Htpasswd, name: &str, password: &str) -> bool {
    let password = Password::new(password);
    tokio::time::timeout(Duration::from_millis(10), users.log_in(name, &password)).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn who_is_in_the_file_logs_in_with_the_own_password_alone() {
    let (_dir, _, users) = with(&format!("alice:{TWO_Y}:writers,admins\nbob:{TWO_A}\n"));
    for _ in 0..2 {
        assert_eq!(log_in(&users, "alice", HORSE).await.as_deref(), Some("alice writers+admins"));
        assert_eq!(log_in(&users, "bob", TOKYO).await.as_deref(), Some("bob "));
        for (name, password) in
            [("alice", TOKYO), ("bob", HORSE), ("Alice", HORSE), ("alice", ""), ("", ""), ("eve", HORSE), ("alice", TWO_Y)]
        {
            assert_eq!(log_in(&users, name, password).await, None, "{name}");
        }
    }
    assert_eq!(find(&users, "alice").await.as_deref(), Some("writers+admins"));
    assert_eq!(find(&users, "eve").await, None);
    assert!(users.exists().await);
}

#[tokio::test(start_paused = true)]
async fn who_logs_in_often_is_not_checked_each_time() {
    let (_dir, path, users) = with(&format!("alice:{TWO_Y}\n"));
    let users = Htpasswd { verified: users.verified, ..without_places(&path) };
    assert!(waits(&users, "alice", HORSE).await);
    users.verified.insert(users.verified.credentials("alice", HORSE), Bcrypt::parse(TWO_Y).unwrap());
    assert!(log_in(&users, "alice", HORSE).await.is_some());
    tokio::time::advance(Duration::from_secs(300)).await;
    assert!(waits(&users, "alice", HORSE).await);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_there_waits_as_one_who_is() {
    let (_dir, path, _) = with(&format!("alice:{TWO_Y}\n"));
    let users = without_places(&path);
    let (long, nul) = (format!("{HORSE}{}", "x".repeat(60)), format!("{HORSE}\0"));
    for (name, password) in [("alice", "wrong"), ("eve", "wrong"), ("", ""), ("alice", long.as_str()), ("eve", &long), ("alice", &nul)] {
        assert!(waits(&users, name, password).await, "{name} {password:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_bcrypt_would_cut_is_nobody_s_password() {
    let full = "x".repeat(72);
    let hash = Bcrypt::of(&full, 4).unwrap();
    let (_dir, _, users) = with(&format!("alice:{}\nbob:{TWO_Y}\n", hash.expose()));
    assert!(hash.is_of(&format!("{full}y")), "bcrypt cuts it");
    assert!(log_in(&users, "alice", &full).await.is_some());
    assert_eq!(log_in(&users, "alice", &format!("{full}y")).await, None);
    assert_eq!(log_in(&users, "bob", &format!("{HORSE}\0")).await, None);
}

#[tokio::test(start_paused = true)]
async fn many_who_log_in_at_once_all_get_their_answer() {
    let (_dir, _, users) = with(&format!("alice:{TWO_Y}\nbob:{TWO_A}\n"));
    let one = |n: usize| log_in(&users, ["alice", "bob", "eve"][n % 3], [HORSE, TOKYO, HORSE][n % 3]);
    let answers = futures_util::future::join_all((0..30).map(one)).await;
    assert!(answers.iter().enumerate().all(|(n, answer)| answer.is_some() == (n % 3 < 2)), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_change_counts_within_a_second_whoever_has_logged_in_before() {
    let (_dir, path, users) = with(&format!("alice:{TWO_Y}:writers\nbob:{TWO_A}\n"));
    assert!(log_in(&users, "alice", HORSE).await.is_some() && log_in(&users, "bob", TOKYO).await.is_some());
    fs::write(&path, format!("alice:{TWO_A}:readers\n")).unwrap();
    assert_eq!(find(&users, "alice").await.as_deref(), Some("writers"), "it is looked at once a second");
    a_second().await;
    assert_eq!(find(&users, "alice").await.as_deref(), Some("readers"));
    assert_eq!((log_in(&users, "alice", HORSE).await, log_in(&users, "bob", TOKYO).await), (None, None));
    assert_eq!(log_in(&users, "alice", TOKYO).await.as_deref(), Some("alice readers"));
    // With other groups and the same password nobody is asked again, and the groups are the new ones.
    fs::write(&path, format!("alice:{TWO_A}:admins\n")).unwrap();
    a_second().await;
    assert_eq!(log_in(&users, "alice", TOKYO).await.as_deref(), Some("alice admins"));
}

#[tokio::test(start_paused = true)]
async fn whose_password_is_none_any_more_once_it_was_checked_is_not_let_in() {
    for after in [format!("bob:{TWO_A}\n"), format!("alice:{TWO_A}\nbob:{TWO_A}\n")] {
        let (_dir, path, users) = with(&format!("alice:{TWO_Y}\nbob:{TWO_A}\n"));
        let users = Htpasswd { checks: Checks::new(1), ..users };
        let (go, wait) = mpsc::channel::<()>();
        let mut other = Box::pin(users.checks.answer(([0; 32], Bcrypt::nobody(4)), move || wait.recv().is_ok()));
        assert!(other.as_mut().now_or_never().is_none());
        let password = Password::new(HORSE);
        let mut alice = users.log_in("alice", &password);
        assert!(alice.as_mut().now_or_never().is_none());
        fs::write(&path, after).unwrap();
        a_second().await;
        go.send(()).unwrap();
        assert!(other.await.unwrap());
        assert_eq!(alice.await.unwrap(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_never_there_is_told_from_one_without_users() {
    let (_dir, path) = place();
    let users = Htpasswd::open(&path).unwrap();
    assert!(!users.exists().await);
    assert_eq!((find(&users, "alice").await, log_in(&users, "alice", HORSE).await), (None, None));
    fs::write(&path, "# nobody yet\n").unwrap();
    a_second().await;
    assert!(users.exists().await);
    assert_eq!(log_in(&users, "alice", HORSE).await, None);
    fs::write(&path, format!("alice:{TWO_Y}\n")).unwrap();
    a_second().await;
    assert!(log_in(&users, "alice", HORSE).await.is_some());
    assert!(Htpasswd::open(&path).unwrap().exists().await);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_gone_or_cannot_be_read_lets_nobody_in_until_it_is_back() {
    let (dir, path, users) = with(&format!("alice:{TWO_Y}\n"));
    assert!(log_in(&users, "alice", HORSE).await.is_some());
    let away = dir.path().join("away");
    fs::rename(&path, &away).unwrap();
    for round in 0..2 {
        for _ in 0..2 {
            a_second().await;
            let error = users.log_in("alice", &Password::new(HORSE)).await.unwrap_err();
            assert_eq!((error.kind(), error.key()), (ErrorKind::Unavailable, path.to_str()));
            assert_eq!(users.find("alice").await.unwrap_err().kind(), ErrorKind::Unavailable);
            assert!(users.exists().await, "gone is not open");
        }
        if round == 0 {
            fs::create_dir(&path).unwrap();
        }
    }
    fs::rename(&path, dir.path().join("directory")).unwrap();
    fs::rename(&away, &path).unwrap();
    a_second().await;
    assert!(log_in(&users, "alice", HORSE).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_change_that_cannot_be_read_leaves_the_users_who_they_were() {
    let (_dir, path, users) = with(&format!("alice:{TWO_Y}\n"));
    fs::write(&path, format!("alice:{TWO_A}\nbob:secret\n")).unwrap();
    for _ in 0..3 {
        a_second().await;
        assert!(log_in(&users, "alice", HORSE).await.is_some());
        assert_eq!(find(&users, "bob").await, None);
    }
    fs::write(&path, format!("alice:{TWO_A}\nbob:{TWO_A}\n")).unwrap();
    a_second().await;
    assert!(log_in(&users, "alice", HORSE).await.is_none() && find(&users, "bob").await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_first_file_that_cannot_be_read_does_not_leave_the_registry_open() {
    let (_dir, path) = place();
    let users = Htpasswd::open(&path).unwrap();
    fs::write(&path, "alice:secret\n").unwrap();
    a_second().await;
    for _ in 0..3 {
        assert!(users.exists().await && users.find("alice").await.is_err());
        a_second().await;
    }
    fs::write(&path, format!("alice:{TWO_Y}\n")).unwrap();
    a_second().await;
    assert!(find(&users, "alice").await.is_some());
}

#[test]
fn a_wrong_line_is_named_at_the_start_and_not_shown() {
    let (_dir, path) = place();
    fs::write(&path, format!("alice:{TWO_Y}\nbob:secret\n")).unwrap();
    let error = Htpasswd::open(&path).unwrap_err();
    assert!(matches!(error, HtpasswdError::Line { line: 2, problem: Problem::Hash, .. }), "{error}");
    assert!(error.to_string().starts_with(&format!("{}, line 2: ", path.display())));
    assert!(!format!("{error} {error:?}").contains("secret"));
}

#[tokio::test(start_paused = true)]
async fn a_server_does_not_start_open_where_users_have_been_added() {
    let (_dir, path) = place();
    let editor = HtpasswdEditor::new(&path).with_cost(4);
    assert!(editor.add("alice", &Password::new("password"), &[]).unwrap());
    fs::remove_file(&path).unwrap();
    let error = Htpasswd::open(&path).unwrap_err();
    assert!(matches!(error, HtpasswdError::Gone { .. }) && error.to_string().contains("users.lock"), "{error}");
    fs::remove_file(path.with_extension("lock")).unwrap();
    assert!(!Htpasswd::open(&path).unwrap().exists().await);
}

#[tokio::test(start_paused = true)]
async fn nothing_secret_is_printed() {
    let (_dir, path, users) = with(&format!("alice:{TWO_Y}\n"));
    assert!(log_in(&users, "alice", HORSE).await.is_some());
    assert_eq!(format!("{users:?}"), format!("Htpasswd {{ path: {path:?}, .. }}"));
}
