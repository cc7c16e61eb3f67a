//! Programs that a test needs and that may be missing.

use std::process::{Command, Output, Stdio};

/// Whether what is missing is a failure.
fn required() -> bool {
    std::env::var("REGISTRY_TEST_REQUIRE_SERVICES").is_ok_and(|value| value == "1")
}

/// Whether tests may use gigabytes and minutes.
pub(crate) fn large() -> bool {
    std::env::var("REGISTRY_TEST_LARGE").is_ok_and(|value| value == "1")
}

/// Where chance begins; printed, so that a run can be repeated.
pub(crate) fn seed(test: &str) -> u64 {
    let given = std::env::var("REGISTRY_TEST_SEED").ok().map(|seed| seed.parse().expect("REGISTRY_TEST_SEED is a number"));
    let seed = given.unwrap_or_else(|| u64::from_str_radix(&registry_core::random_id()[..12], 16).unwrap());
    println!("{test}: REGISTRY_TEST_SEED={seed}");
    seed
}

/// Says that a test is passed over, and why; a failure where everything is to be run.
pub(crate) fn skip(what: &str, why: &str) {
    assert!(!required(), "{what} cannot run: {why}");
    // To the terminal itself: the harness hides what a test that passes prints.
    let line = format!("SKIPPED {what}: {why}\n");
    let terminal = std::fs::OpenOptions::new().append(true).open("/dev/stderr");
    if terminal.and_then(|mut terminal| std::io::Write::write_all(&mut terminal, line.as_bytes())).is_err() {
        eprint!("{line}");
    }
}

/// Whether a client is there; says so if it is not.
pub(crate) fn have(client: &str) -> bool {
    have_for(&format!("pushes and pulls by {client}"), client)
}

/// Whether the program is there that this needs; says so if it is not.
pub(crate) fn have_for(what: &str, program: &str) -> bool {
    let found =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !found {
        skip(what, &format!("{program} is not installed"));
    }
    found
}

/// Runs a program that must succeed; what it prints.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = told(&output);
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All that a program said.
pub(crate) fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
