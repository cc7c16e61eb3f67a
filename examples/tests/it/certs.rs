//! `registry certs`: what it makes is trusted by clients, what it says can be followed, and no key is ever seen by others.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::process::{example, registry, texts};
use crate::tools::have_for;

fn said(dir: &Path, args: &[&str]) -> String {
    let output = registry(dir, &[&["certs"], args].concat());
    let (text, errors) = texts(&output);
    assert!(output.status.success(), "{args:?}: {errors}");
    text
}

fn json(dir: &Path, args: &[&str]) -> Value {
    let text = said(dir, &[args, &["--json"]].concat());
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn refused(dir: &Path, args: &[&str], code: i32, wanted: &[&str]) {
    let output = registry(dir, &[&["certs"], args].concat());
    let (_, errors) = texts(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
    assert!(wanted.iter().all(|wanted| errors.contains(wanted)), "{args:?}: {errors}");
    assert!(!errors.contains("PRIVATE KEY-----\n"), "{errors}");
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// Speaks TLS with the server's files, as a client that trusts only this CA and calls the server by this name.
async fn handshake(server: &Path, ca: &Path, name: &str) -> Result<(), String> {
    let chain = CertificateDer::pem_file_iter(server.join("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(server.join("server-key.pem")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();

    let (near, far) = tokio::io::duplex(1 << 16);
    let serve = async {
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(far).await.map_err(|error| error.to_string())?;
        stream.write_all(b"hello").await.map_err(|error| error.to_string())?;
        stream.shutdown().await.map_err(|error| error.to_string())
    };
    let ask = async {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, near).await.map_err(|error| error.to_string())?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.map_err(|error| error.to_string())?;
        assert_eq!(text, "hello");
        Ok(())
    };
    let (served, asked) = tokio::join!(serve, ask);
    asked.and(served)
}

#[tokio::test]
async fn clients_that_trust_the_ca_connect_by_every_name_and_by_no_other() {
    let dir = tempfile::tempdir().unwrap();
    said(dir.path(), &["ca"]);
    said(dir.path(), &["ca", "--dir", "other"]);
    let args = ["issue", "--host", "Registry.Example", "--host", "*.wild.example", "--ip", "10.0.0.1", "--ip", "fd00::1"];
    said(dir.path(), &args);
    let (certs, ca) = (dir.path().join("certs"), dir.path().join("certs/ca.pem"));
    for name in ["registry.example", "a.wild.example", "10.0.0.1", "fd00::1"] {
        handshake(&certs, &ca, name).await.unwrap();
        let told = handshake(&certs, &dir.path().join("other/ca.pem"), name).await.unwrap_err();
        assert!(told.contains("UnknownIssuer"), "{told}");
    }
    for name in ["other.example", "wild.example", "10.0.0.2"] {
        let told = handshake(&certs, &ca, name).await.unwrap_err();
        assert!(told.contains("not valid for name"), "{told}");
    }
    // Renewed, for the same clients and with the same names.
    let before = fs::read(certs.join("server.pem")).unwrap();
    said(dir.path(), &["issue"]);
    assert_ne!(fs::read(certs.join("server.pem")).unwrap(), before);
    for name in ["registry.example", "a.wild.example", "10.0.0.1", "fd00::1"] {
        handshake(&certs, &ca, name).await.unwrap();
    }
    said(dir.path(), &["issue", "--new-key"]);
    handshake(&certs, &ca, "registry.example").await.unwrap();
}

#[test]
fn files_are_for_whom_they_should_be_whatever_the_umask() {
    for umask in ["000", "022", "077", "277"] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("certs")).unwrap();
        for args in ["ca", "issue --host a.example"] {
            let line = format!("umask {umask} && exec \"$0\" certs {args}");
            let status =
                Command::new("sh").args(["-c", &line]).arg(example("registry")).current_dir(dir.path()).stdout(Stdio::null()).status();
            assert!(status.unwrap().success());
        }
        let modes = ["ca.pem", "ca-key.pem", "server.pem", "server-key.pem"].map(|name| mode(&dir.path().join("certs").join(name)));
        assert_eq!(modes, [0o644, 0o600, 0o644, 0o600], "with umask {umask}");
        let others = fs::read_dir(dir.path().join("certs")).unwrap().filter(|entry| entry.as_ref().unwrap().file_name() != ".lock");
        assert_eq!(others.count(), 4, "nothing else is left");
    }
}

/// Looks at the directory all the time, and remembers every mode that a key was seen with.
fn watch(dir: &Path, end: &AtomicBool) -> (BTreeSet<u32>, usize) {
    let (mut modes, mut temporary) = (BTreeSet::new(), 0);
    while !end.load(Ordering::Relaxed) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            // One that has gone meanwhile was looked at too late.
            if let Ok(metadata) = entry.metadata().map_err(drop)
                && name.contains("key")
            {
                temporary += usize::from(name.starts_with('.'));
                modes.insert(metadata.mode() & 0o7777);
            }
        }
    }
    (modes, temporary)
}

#[test]
fn at_no_moment_can_others_read_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("certs");
    let (end, runs) = (AtomicBool::new(false), 25);
    let (modes, temporary) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&certs, &end));
        // Nothing but the program's own care is between the keys and others.
        let line = format!(
            "umask 000 && \"$0\" certs ca && \"$0\" certs issue --host a.example && for n in $(seq {runs}); do \"$0\" certs issue --new-key || exit 1; done"
        );
        let status = Command::new("sh").args(["-c", &line]).arg(example("registry")).current_dir(dir.path()).stdout(Stdio::null()).status();
        end.store(true, Ordering::Relaxed);
        assert!(status.unwrap().success());
        watching.join().unwrap()
    });
    assert_eq!(modes, BTreeSet::from([0o600]));
    assert!(temporary > 0, "no key was seen before it had its name: the test has not looked often enough");
}

/// What the polling above could miss, and what survives a power loss: by the order of system calls.
#[test]
fn a_key_is_private_from_its_first_moment_and_each_file_is_on_disk_before_it_has_its_name() {
    if !have_for("the order of system calls", "strace") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (args, wanted) in [(&["ca"][..], ["ca-key.pem", "ca.pem"]), (&["issue", "--host", "a.example"], ["server-key.pem", "server.pem"])] {
        let trace = dir.path().join("trace");
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-e", "trace=openat,fchmod,write,fsync,renameat,renameat2", "-o"]).arg(&trace).arg(example("registry"));
        assert!(command.arg("certs").args(args).current_dir(dir.path()).stdout(Stdio::null()).status().unwrap().success());
        let trace = fs::read_to_string(&trace).unwrap();
        let calls: Vec<_> = trace.lines().filter(|line| line.contains(".pem") || line.contains("/certs>)")).collect();
        let mut calls = calls.iter().filter(|call| !call.contains("O_RDONLY"));
        let mut next = |parts: &[&str]| {
            let call = calls.next().unwrap_or_else(|| panic!("{parts:?} is not in\n{trace}"));
            assert!(parts.iter().all(|part| call.contains(part)), "{parts:?} is not {call} in\n{trace}");
        };
        for (name, mode) in [(wanted[0], "0600"), (wanted[1], "0644")] {
            let temporary = format!(".{name}.");
            next(&["openat(", &temporary, "O_CREAT|O_EXCL", mode]);
            next(&["fchmod(", &temporary, mode]);
            next(&["write(", &temporary]);
            next(&["fsync(", &temporary]);
        }
        for name in wanted {
            next(&["renameat", &format!("\"{name}\"")]);
            next(&["fsync(", "/certs>)"]);
        }
    }
}

/// At each step, and not only where chance has it.
#[tokio::test]
async fn whatever_step_a_run_is_killed_at_the_next_goes_on() {
    if !have_for("kills at each step", "strace") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("certs");
    let killed_at = |args: &[&str], step: &str| {
        let mut command = Command::new("strace");
        command
            .args(["-f", "-o", "/dev/null", "-e", &format!("inject={step}:signal=KILL")])
            .arg(example("registry"))
            .arg("certs")
            .args(args);
        let status = command.current_dir(dir.path()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(!status.success(), "{args:?} is not killed at {step}");
    };
    let renames = [1, 2].map(|n| format!("renameat,renameat2:when={n}"));
    let syncs = [1, 2, 3, 4].map(|n| format!("fsync:when={n}"));
    for step in renames.iter().chain(&syncs) {
        let _ = fs::remove_dir_all(&certs);
        fs::create_dir(&certs).unwrap();
        killed_at(&["ca"], step);
        if !certs.join("ca.pem").exists() {
            said(dir.path(), &["ca"]);
        }
        killed_at(&["issue", "--host", "a.example"], step);
        said(dir.path(), &["issue", "--host", "a.example"]);
        handshake(&certs, &certs.join("ca.pem"), "a.example").await.unwrap();
        killed_at(&["issue", "--new-key"], step);
        said(dir.path(), &["issue"]);
        handshake(&certs, &certs.join("ca.pem"), "a.example").await.unwrap();
    }
}

/// A run that is killed anywhere leaves what the next one can go on with.
#[tokio::test]
async fn a_killed_run_leaves_no_broken_pair_that_the_next_does_not_mend() {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("certs");
    let killed = |args: &[&str], after: Duration| {
        let mut command = Command::new(example("registry"));
        let mut child =
            command.arg("certs").args(args).current_dir(dir.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(after);
        let _ = child.kill();
        child.wait().unwrap();
    };
    for step in 0..30 {
        let _ = fs::remove_dir_all(&certs);
        killed(&["ca"], Duration::from_micros(step * 500));
        if certs.join("ca.pem").exists() {
            refused(dir.path(), &["ca"], 1, &["there is a CA already"]);
        } else {
            said(dir.path(), &["ca"]);
        }
        said(dir.path(), &["issue", "--host", "a.example"]);
        // A certificate of the kept key always fits.
        killed(&["issue"], Duration::from_micros(step * 500));
        handshake(&certs, &certs.join("ca.pem"), "a.example").await.unwrap();
        killed(&["issue", "--new-key"], Duration::from_micros(step * 500));
        said(dir.path(), &["issue"]);
        handshake(&certs, &certs.join("ca.pem"), "a.example").await.unwrap();
        let names = fs::read_dir(&certs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let left: BTreeSet<_> = names.filter(|name| name.ends_with(".new")).collect();
        assert_eq!(left, BTreeSet::new());
    }
}

#[tokio::test]
async fn many_at_once_leave_one_ca_and_a_pair_that_fits() {
    let dir = tempfile::tempdir().unwrap();
    let at_once = |args: &[&str]| {
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..6).map(|_| scope.spawn(|| registry(dir.path(), args).status.success())).collect();
            runs.into_iter().map(|run| run.join().unwrap()).filter(|done| *done).count()
        })
    };
    assert_eq!(at_once(&["certs", "ca"]), 1);
    assert_eq!(at_once(&["certs", "issue", "--host", "a.example"]), 6);
    assert_eq!(at_once(&["certs", "issue", "--new-key"]), 6);
    let certs = dir.path().join("certs");
    handshake(&certs, &certs.join("ca.pem"), "a.example").await.unwrap();
}

#[test]
fn what_is_printed_can_be_followed_with_the_real_names() {
    let dir = tempfile::tempdir().unwrap();
    let made = said(dir.path(), &["ca", "--name", "Example Corp", "--dir", "my certs"]);
    for wanted in
        ["my certs/ca.pem", "my certs/ca-key.pem", "Example Corp ", "registry certs issue --dir 'my certs' --host", "/example-corp-"]
    {
        assert!(made.contains(wanted), "{wanted} is not in\n{made}");
    }
    let issued = said(dir.path(), &["issue", "--dir", "my certs", "--host", "*.b.example", "--host", "a.example", "--ip", "fd00::1"]);
    let fingerprint = made.lines().find(|line| line.starts_with("SHA-256")).unwrap().rsplit(' ').next().unwrap();
    for wanted in [
        "for *.b.example, a.example, fd00::1, until 2",
        "its key, a new one",
        fingerprint,
        "--tls-certificate 'my certs/server.pem' --tls-key 'my certs/server-key.pem'",
        "REGISTRY_TLS_CERTIFICATE='my certs/server.pem' REGISTRY_TLS_KEY='my certs/server-key.pem'",
        "kubectl create secret tls registry-tls --cert='my certs/server.pem' --key='my certs/server-key.pem'",
        "ca-key.pem belongs neither in it nor on a server",
        "/etc/pki/ca-trust/source/anchors/example-corp-",
        "update-ca-trust",
        "/usr/local/share/ca-certificates/example-corp-",
        "update-ca-certificates",
        "for host in 'a.example:5000' '[fd00::1]:5000'; do",
        "\"/etc/docker/certs.d/$host/ca.crt\"",
        "\"/etc/containers/certs.d/$host/ca.crt\"",
        "--cert-dir",
    ] {
        assert!(issued.contains(wanted), "{wanted} is not in\n{issued}");
    }
    let renewed = said(dir.path(), &["issue", "--dir", "my certs"]);
    assert!(renewed.contains("its key, as it was") && renewed.contains("Clients that trust the CA have nothing to do"), "{renewed}");
}

#[test]
fn programs_read_the_same_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let ca = json(dir.path(), &["ca", "--days", "30"]);
    assert_eq!((&ca["ca"], &ca["ca_key"]), (&"certs/ca.pem".into(), &"certs/ca-key.pem".into()));
    let fingerprint = ca["fingerprint"].as_str().unwrap();
    assert!(fingerprint.len() == 32 * 3 - 1 && fingerprint.split(':').all(|byte| u8::from_str_radix(byte, 16).is_ok()), "{fingerprint}");
    let issued = json(dir.path(), &["issue", "--host", "A.example", "--host", "a.example.", "--ip", "10.0.0.1"]);
    assert_eq!(issued["names"], serde_json::json!(["a.example", "10.0.0.1"]));
    assert_eq!((&issued["certificate"], &issued["key"]), (&"certs/server.pem".into(), &"certs/server-key.pem".into()));
    assert_eq!((&issued["fingerprint"], &issued["not_after"]), (&ca["fingerprint"], &ca["not_after"]));
    assert_eq!((&issued["new_key"], issued["notes"].as_array().unwrap().len()), (&true.into(), 1), "it was shortened: {issued}");
    let until = issued["not_after"].as_str().unwrap();
    assert!(until.len() == "2027-01-15T08:00:00Z".len() && until.starts_with('2') && until.ends_with('Z'), "{until}");
}

#[test]
fn wrong_command_lines_are_told_the_right_one_and_make_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let long = "x".repeat(56);
    for (args, wanted) in [
        (&["issue", "--host", "10.0.0.1"][..], "--ip 10.0.0.1"),
        (&["issue", "--host", "https://a.example/"], "without https://"),
        (&["issue", "--host", "a.example:5000"], "without a port"),
        (&["issue", "--host", "münchen.example"], "punycode"),
        (&["issue", "--ip", "a.example"], "--host"),
        (&["issue", "--days", "826"], "at most 825: Apple"),
        (&["issue", "--days", "0"], "a day at least"),
        (&["issue", "--days=-1"], "no number of days"),
        (&["ca", "--days", "0"], "1..=36500"),
        (&["ca", "--name", " "], "1 to 55"),
        (&["ca", "--name", "a\nb"], "1 to 55"),
        (&["ca", "--name", &long], "1 to 55"),
    ] {
        refused(dir.path(), args, 2, &[wanted]);
    }
    refused(dir.path(), &["issue", "--host", "a.example"], 1, &["there is no CA", "hint: `registry certs ca` makes one"]);
    fs::create_dir(dir.path().join("empty")).unwrap();
    refused(dir.path(), &["issue", "--dir", "empty", "--host", "a.example"], 1, &["there is no CA", "`registry certs ca --dir empty`"]);
    assert_eq!(fs::read_dir(dir.path().join("empty")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_directory_that_everybody_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().join("real");
    fs::create_dir(&real).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o777)).unwrap();
    symlink(&real, dir.path().join("certs")).unwrap();
    refused(dir.path(), &["ca"], 1, &["everybody may write to the directory certs", "chmod o-w"]);
    assert_eq!(fs::read_dir(&real).unwrap().count(), 0);
    fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).unwrap();
    said(dir.path(), &["ca"]);
    assert_eq!(mode(&real.join("ca-key.pem")), 0o600);
}
