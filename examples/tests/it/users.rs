//! `registry user` as operators see it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{ChildStderr, Output, Stdio};

use registry_http::auth::{Htpasswd, Password, Users as _};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use serde_json::Value;

use crate::process::{command, registry, texts};

/// Runs `registry user` with this on its standard input.
fn user(dir: &Path, args: &[&str], input: &str) -> Output {
    let mut child = command("registry");
    child.current_dir(dir).arg("user").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    // One that fails before it reads has closed its end.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    let (text, errors) = texts(output);
    assert!(output.status.success() && errors.is_empty(), "{text}{errors}");
    text
}

#[track_caller]
fn refused(output: &Output, wanted: &[&str]) {
    let (text, errors) = texts(output);
    assert_eq!(output.status.code(), Some(1), "{text}{errors}");
    assert!(text.is_empty() && wanted.iter().all(|wanted| errors.contains(wanted)), "{wanted:?} is not in\n{errors}");
}

fn list(dir: &Path) -> Value {
    let (text, errors) = texts(&registry(dir, &["user", "list", "--json"]));
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{errors}"))
}

async fn may_log_in(dir: &Path, name: &str, password: &str) -> bool {
    let users = Htpasswd::open(dir.join("data/users")).unwrap();
    users.log_in(name, &Password::new(password)).await.unwrap().is_some()
}

#[tokio::test]
async fn users_are_added_changed_and_removed_and_each_is_told_what_it_means() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert!(done(&registry(dir, &["user", "list"])).contains("everybody is let in"));
    assert_eq!(fs::read_dir(dir).unwrap().count(), 0, "looking makes nothing");

    let text = done(&user(dir, &["add", "alice", "--group", "writers", "--group", "ops", "--password-stdin"], "a password of hers\n"));
    for wanted in ["alice is added, in writers, ops", "may pull", "[[access]]", "nobody gets in without logging in", "within seconds"] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
    fs::write(dir.join("secret"), "another password").unwrap();
    let text = done(&registry(dir, &["user", "add", "bob", "--password-file", "secret"]));
    assert!(text.contains("bob is added.") && !text.contains("first user"), "{text}");
    assert!(may_log_in(dir, "alice", "a password of hers").await && may_log_in(dir, "bob", "another password").await);
    assert_eq!(fs::metadata(dir.join("data/users")).unwrap().mode() & 0o777, 0o600);

    done(&user(dir, &["passwd", "bob", "--password-stdin"], "a third password\r\n"));
    assert!(may_log_in(dir, "bob", "a third password").await && !may_log_in(dir, "bob", "another password").await);
    done(&registry(dir, &["user", "groups", "alice"]));
    done(&registry(dir, &["user", "groups", "bob", "admins", "a.b"]));
    let wanted = serde_json::json!([{ "name": "alice", "groups": [] }, { "name": "bob", "groups": ["admins", "a.b"] }]);
    assert_eq!((&list(dir)["users"], &list(dir)["exists"]), (&wanted, &Value::Bool(true)));
    let text = done(&registry(dir, &["user", "list"]));
    assert!(text.starts_with("USER") && text.lines().any(|line| line.starts_with("bob") && line.ends_with("admins, a.b")), "{text}");

    assert_eq!(done(&registry(dir, &["user", "remove", "alice"])), "alice is removed.\n");
    assert!(done(&registry(dir, &["user", "remove", "bob"])).contains("the last user"));
    assert!(done(&registry(dir, &["user", "list"])).contains("nobody is let in"));
}

#[test]
fn what_cannot_be_done_is_said_with_the_way_out_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    refused(&registry(dir, &["user", "add", "alice"]), &["no terminal", "--password-stdin"]);
    refused(&user(dir, &["add", "a:b", "--password-stdin"], "a password\n"), &["cannot add a:b", "no colon"]);
    refused(&user(dir, &["add", "alice", "--group", "a,b", "--password-stdin"], "a password\n"), &["a group's name"]);
    for (password, problem) in
        [("1234567\n", "fewer than 8"), ("two\nlines of it\n", "more than one line"), (&"x".repeat(73), "more than 72")]
    {
        refused(&user(dir, &["add", "alice", "--password-stdin"], password), &[problem]);
    }
    refused(&registry(dir, &["user", "add", "alice", "--password-file", "away"]), &["cannot read the password from away"]);
    refused(&registry(dir, &["user", "passwd", "alice"]), &["there is no user alice", "registry user list"]);
    refused(&registry(dir, &["user", "groups", "alice", "a"]), &["there is no user alice", "registry user add alice"]);
    refused(&registry(dir, &["user", "remove", "alice"]), &["there is no user alice"]);
    assert_eq!(fs::read_dir(dir).unwrap().count(), 0);

    done(&user(dir, &["add", "alice", "--password-stdin"], "a password\n"));
    let before = fs::read(dir.join("data/users")).unwrap();
    refused(&registry(dir, &["user", "add", "alice"]), &["there is a user alice already", "registry user passwd alice"]);
    let output = registry(dir, &["user", "add", "bob", "--password", "on the command line"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read(dir.join("data/users")).unwrap(), before);

    fs::write(dir.join("data/users"), "alice:hunter22\n").unwrap();
    let output = registry(dir, &["user", "list"]);
    refused(&output, &["data/users, line 1: ", "hint: write the line"]);
    assert!(!texts(&output).1.contains("hunter22"));
    fs::remove_file(dir.join("data/users")).unwrap();
    refused(&registry(dir, &["user", "list"]), &["is gone", "data/users.lock"]);
}

#[test]
fn commands_at_once_lose_nobody() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for n in 0..6 {
            let dir = dir.path();
            scope.spawn(move || done(&user(dir, &["add", &format!("user{n}"), "--password-stdin"], "a password\n")));
        }
    });
    assert_eq!(list(dir.path())["users"].as_array().unwrap().len(), 6);
}

/// A terminal: the side of who types, and that of the command.
fn terminal() -> (File, File) {
    let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&keyboard).unwrap();
    unlockpt(&keyboard).unwrap();
    let name = ptsname(&keyboard, Vec::new()).unwrap();
    let screen = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    (File::from(keyboard), screen)
}

/// Waits until it asks for this.
fn asks(errors: &mut ChildStderr, wanted: &str) {
    let mut text = Vec::new();
    while !text.ends_with(wanted.as_bytes()) {
        let mut byte = [0];
        assert_eq!(errors.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&text));
        text.push(byte[0]);
    }
}

/// Types at the command's questions. What it says in the end, and what the terminal showed.
fn type_at(dir: &Path, answers: &[&str]) -> (Output, Vec<u8>) {
    let (mut keyboard, screen) = terminal();
    let before = tcgetattr(&screen).unwrap().local_modes;
    assert!(before.contains(LocalModes::ECHO));
    let mut child = command("registry");
    child.current_dir(dir).args(["user", "add", "alice"]).stdin(screen.try_clone().unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut errors = child.stderr.take().unwrap();
    for (answer, question) in answers.iter().zip(["Password for alice: ", "The same again: "]) {
        asks(&mut errors, question);
        keyboard.write_all(answer.as_bytes()).unwrap();
    }
    child.stderr = Some(errors);
    let output = child.wait_with_output().unwrap();
    assert_eq!(tcgetattr(&screen).unwrap().local_modes, before, "the terminal is as it was");
    // The end of what it showed: the line discipline echoes this.
    keyboard.write_all(b"#\n").unwrap();
    let mut shown = Vec::new();
    while !shown.ends_with(b"\n") {
        let mut byte = [0];
        keyboard.read_exact(&mut byte).unwrap();
        shown.push(byte[0]);
    }
    (output, shown)
}

#[tokio::test]
async fn a_password_is_asked_for_twice_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (output, shown) = type_at(dir.path(), &["a passwort\u{7f}d\r", "a password\r"]);
    assert!(output.status.success(), "{:?}", texts(&output));
    assert_eq!(shown, b"#\r\n");
    assert!(may_log_in(dir.path(), "alice", "a password").await);
}

#[test]
fn two_passwords_a_short_one_and_ctrl_c_change_nothing_and_leave_the_terminal_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &str); 4] = [
        (&["a password\r", "another password\r"], "two passwords"),
        (&["short\r"], "fewer than 8"),
        (&["a pass\u{3}"], "called off"),
        (&["a password\r", "\u{3}"], "called off"),
    ];
    for (answers, wanted) in cases {
        let (output, shown) = type_at(dir.path(), answers);
        refused(&output, &[wanted]);
        assert_eq!(shown, b"#\r\n");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
