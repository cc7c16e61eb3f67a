//! TLS and log-in as operators and clients see them: real clients, several processes behind several names, one certificate.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::clients::assert_same;
use crate::image::Layout;
use crate::process::{Server, command, registry, texts};
use crate::tools::{have, run, told};

const NAMES: [&str; 3] = ["one.registry.test", "two.registry.test", "three.registry.test"];

/// A proxy that knows where names are, so that they need not be known to the system.
struct Names {
    address: String,
}

impl Names {
    fn start(servers: Vec<(String, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let servers = servers.clone();
                std::thread::spawn(move || connect(client, &servers));
            }
        });
        Self { address }
    }
}

/// `CONNECT name:443 HTTP/1.1`
fn connect(mut client: TcpStream, servers: &[(String, String)]) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let name = head.strip_prefix("CONNECT ")?.split(':').next()?;
    let Some((_, address)) = servers.iter().find(|(known, _)| known == name) else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").ok();
    };
    let mut server = TcpStream::connect(address).ok()?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (mut from_client, mut to_server) = (client.try_clone().ok()?, server.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        to_server.shutdown(std::net::Shutdown::Write)
    });
    let _ = std::io::copy(&mut server, &mut client);
    client.shutdown(std::net::Shutdown::Write).ok()
}

/// Runs a command that has to succeed.
#[track_caller]
fn ok(dir: &Path, args: &[&str]) -> String {
    let output = registry(dir, args);
    let (text, errors) = texts(&output);
    assert!(output.status.success(), "{args:?}: {errors}");
    text
}

fn add_user(dir: &Path, name: &str, groups: &[&str]) {
    std::fs::write(dir.join("password"), "correct horse\n").unwrap();
    let mut args = vec!["user", "add", name, "--password-file", "password"];
    args.extend(groups.iter().flat_map(|group| ["--group", group]));
    ok(dir, &args);
}

/// A CA, a certificate for the three names, and a directory that a client finds the CA in.
fn certificates(dir: &Path) -> PathBuf {
    ok(dir, &["certs", "ca"]);
    let mut args = vec!["certs", "issue", "--ip", "127.0.0.1"];
    args.extend(NAMES.iter().flat_map(|name| ["--host", name]));
    ok(dir, &args);
    trusted(dir, "trusted", &dir.join("certs/ca.pem"))
}

fn trusted(dir: &Path, name: &str, ca: &Path) -> PathBuf {
    let trusted = dir.join(name);
    std::fs::create_dir_all(&trusted).unwrap();
    std::fs::copy(ca, trusted.join("ca.crt")).unwrap();
    trusted
}

fn serve(dir: &Path, more: &[&str]) -> Server {
    let mut command = command("registry");
    command.current_dir(dir).args([
        "--listen",
        "127.0.0.1:0",
        "--tls-certificate",
        "certs/server.pem",
        "--tls-key",
        "certs/server-key.pem",
    ]);
    command.args(more);
    Server::spawn(command, dir)
}

struct Client<'a> {
    dir: &'a Path,
    proxy: &'a str,
    trusted: PathBuf,
    account: &'a str,
}

impl Client<'_> {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Its own accounts, and nothing of the machine's.
        command
            .env("HTTPS_PROXY", self.proxy)
            .env_remove("NO_PROXY")
            .env("HOME", self.dir)
            .env("XDG_RUNTIME_DIR", self.dir)
            .env("TMPDIR", self.dir);
        command
    }

    fn accounts(&self) -> PathBuf {
        self.dir.join(format!("accounts-{}.json", self.account))
    }

    fn log_in(&self, host: &str, password: &str) -> Output {
        let mut skopeo = self.command("skopeo");
        skopeo.arg("login").args(["--username", self.account, "--password", password]).arg("--cert-dir").arg(&self.trusted);
        skopeo.arg("--authfile").arg(self.accounts()).arg(host).output().unwrap()
    }

    /// `skopeo copy`, with the account if it has logged in.
    fn copy(&self, from: &str, to: &str) -> Output {
        let mut skopeo = self.command("skopeo");
        skopeo.args(["copy", "--all", "--quiet", "--preserve-digests"]);
        for (flag, place) in [("--src", from), ("--dest", to)] {
            if place.starts_with("docker:") {
                skopeo.arg(format!("{flag}-cert-dir")).arg(&self.trusted);
                if !self.accounts().exists() {
                    skopeo.arg(format!("{flag}-no-creds"));
                }
            }
        }
        if self.accounts().exists() {
            skopeo.arg("--authfile").arg(self.accounts());
        }
        skopeo.args([from, to]).output().unwrap()
    }
}

#[track_caller]
fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", told(output));
}

#[track_caller]
fn fails(output: &Output, words: &[&str]) {
    let told = told(output);
    assert!(!output.status.success() && words.iter().any(|word| told.contains(word)), "{told}");
}

#[test]
fn clients_log_in_push_pull_and_are_refused_at_three_processes_with_one_certificate() {
    if !have("skopeo") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let trusted_ca = certificates(dir);
    add_user(dir, "alice", &["writers"]);
    add_user(dir, "bob", &[]);
    let servers: Vec<_> = NAMES.iter().map(|_| serve(dir, &["--auth-audit", "audit.log"])).collect();
    assert!(servers[0].welcome.contains("Log in first:  skopeo login 127.0.0.1:"), "{}", servers[0].welcome);
    let proxy =
        Names::start(NAMES.iter().map(|name| (*name).to_owned()).zip(servers.iter().map(|server| server.address.clone())).collect());
    let client = |account| Client { dir, proxy: &proxy.address, trusted: trusted_ca.clone(), account };
    let source = dir.join("source");
    let mut layout = Layout::new(&source);
    layout.add_image("v1", 1, &[0, 70_000, 3 << 20]);
    layout.finish();
    let image = format!("oci:{}:v1", source.display());
    let at = |name: &str| format!("docker://{name}/team/app:v1");

    // Logged in at the first and the second, pushed by the one and pulled by the other.
    let alice = client("alice");
    fails(&alice.log_in(NAMES[0], "wrong horse"), &["invalid username/password", "unauthorized"]);
    for name in NAMES {
        succeeds(&alice.log_in(name, "correct horse"));
    }
    succeeds(&alice.copy(&image, &at(NAMES[0])));
    let back = dir.join("back");
    succeeds(&alice.copy(&at(NAMES[1]), &format!("oci:{}:v1", back.display())));
    assert_same(&source, &back);
    succeeds(&alice.copy(&at(NAMES[2]), &format!("docker://{}/team/copy:v1", NAMES[0])));

    // Who may only pull.
    let bob = client("bob");
    succeeds(&bob.log_in(NAMES[1], "correct horse"));
    succeeds(&bob.copy(&at(NAMES[1]), &format!("oci:{}:v1", dir.join("bob").display())));
    fails(&bob.copy(&image, &format!("docker://{}/team/app:v2", NAMES[1])), &["denied", "may not push"]);
    // Who has not logged in, and who trusts another CA.
    let nobody = client("nobody");
    fails(
        &nobody.copy(&at(NAMES[0]), &format!("oci:{}:v1", dir.join("nobody").display())),
        &["unauthorized", "authentication required", "log in first"],
    );
    ok(dir, &["certs", "ca", "--dir", "other"]);
    let misled = Client { trusted: trusted(dir, "mistrusted", &dir.join("other/ca.pem")), ..client("alice") };
    fails(&misled.copy(&at(NAMES[0]), &format!("oci:{}:v1", dir.join("misled").display())), &["x509", "certificate"]);
    fails(&misled.log_in(NAMES[0], "correct horse"), &["x509", "certificate"]);

    // A user who is removed is out, with all that was given out.
    ok(dir, &["user", "remove", "bob"]);
    std::thread::sleep(Duration::from_millis(1500));
    fails(
        &bob.copy(&at(NAMES[1]), &format!("oci:{}:v1", dir.join("late").display())),
        &["unauthorized", "authentication required", "invalid username"],
    );

    // All of it is told, from wherever it was.
    let audit: Vec<Value> =
        std::fs::read_to_string(dir.join("audit.log")).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let has = |user: &str, action: &str, outcome: &str| {
        audit
            .iter()
            .any(|event| event["user"] == user && event["action"] == action && event["outcome"] == outcome && event["from"] == "127.0.0.1")
    };
    assert!(has("alice", "log_in", "failed") && has("alice", "log_in", "allowed") && has("alice", "push", "allowed"));
    assert!(has("bob", "push", "denied") && has("", "log_in", "failed"));
    for server in &servers {
        assert!(!server.log().contains("horse"));
    }
}

#[test]
fn podman_logs_in_pushes_and_pulls_over_tls() {
    if !have("podman") {
        return;
    }
    let dir = tempfile::Builder::new().prefix(&registry_core::random_id()).rand_bytes(0).tempdir().unwrap();
    let dir = dir.path();
    let trusted_ca = certificates(dir);
    add_user(dir, "alice", &["writers"]);
    let server = serve(dir, &[]);
    let proxy = Names::start(vec![(NAMES[0].to_owned(), server.address.clone())]);
    let source = dir.join("source");
    let mut layout = Layout::new(&source);
    layout.add_image("v1", 7, &[1000, 300_000]);
    layout.finish();
    let podman = |store: &str| {
        let mut command = crate::clients::tool("podman", &dir.join(store));
        command.env("HTTPS_PROXY", &proxy.address).env_remove("NO_PROXY");
        std::fs::create_dir_all(dir.join(store)).unwrap();
        command
    };
    let Some(id) =
        crate::clients::may("log-in by podman", podman("here").args(["pull", "--quiet", &format!("oci:{}:v1", source.display())]))
    else {
        return;
    };
    let accounts = dir.join("accounts.json");
    let secure = |command: &mut Command| {
        command.arg("--cert-dir").arg(&trusted_ca).arg("--authfile").arg(&accounts);
    };
    let remote = format!("{}/by/podman:v1", NAMES[0]);
    let mut early = podman("here");
    early.args(["push", "--quiet"]);
    early.arg("--cert-dir").arg(&trusted_ca).args([&id, &remote]);
    fails(&early.output().unwrap(), &["unauthorized", "authentication required", "log in first"]);
    let mut log_in = podman("here");
    log_in.args(["login", "--username", "alice", "--password", "correct horse"]);
    secure(&mut log_in);
    run(log_in.arg(NAMES[0]));
    let mut push = podman("here");
    push.args(["push", "--quiet"]);
    secure(&mut push);
    run(push.args([&id, &remote]));
    let mut pull = podman("there");
    pull.args(["pull", "--quiet"]);
    secure(&mut pull);
    assert_eq!(run(pull.arg(&remote)).trim(), id);
    for store in ["here", "there"] {
        run(podman(store).args(["rmi", "--all", "--force"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_under_load_and_no_request_fails() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certificates(dir);
    let server = serve(dir, &["--admin", "127.0.0.1:0"]);
    let ca = reqwest::Certificate::from_pem(&std::fs::read(dir.join("certs/ca.pem")).unwrap()).unwrap();
    let client = move || reqwest::Client::builder().tls_certs_only([ca.clone()]).tls_info(true).build().unwrap();
    let url = format!("https://{}/v2/", server.address);
    let shown = async |client: &reqwest::Client| {
        let answer = client.get(&url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap().peer_certificate().unwrap().to_vec()
    };
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..4)
        .map(|n| {
            let (client, url, stop, asked) = (client.clone(), url.clone(), Arc::clone(&stop), Arc::clone(&asked));
            tokio::spawn(async move {
                let mut kept = client();
                while !stop.load(Ordering::Relaxed) {
                    if n % 2 == 0 {
                        kept = client();
                    }
                    assert_eq!(kept.get(&url).send().await.unwrap().status(), 200);
                    asked.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
        })
        .collect();
    let mut before = shown(&client()).await;
    for more in [&[][..], &["--new-key"], &["--new-key"]] {
        let args: Vec<_> = ["certs", "issue"].iter().chain(more).copied().collect();
        ok(dir, &args);
        let begun = Instant::now();
        loop {
            let now = shown(&client()).await;
            if now != before {
                before = now;
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "the new certificate is not noticed: {}", server.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for one in load {
        one.await.unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) > 100, "{asked:?}");
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_warned_of_in_status_metrics_and_log() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certificates(dir);
    let status = |wanted: &str| {
        let text = ok(dir, &["status", "--tls-certificate", "certs/server.pem", "--tls-key", "certs/server-key.pem"]);
        assert!(text.contains(wanted), "{text}");
    };
    let server = serve(dir, &["--admin", "127.0.0.1:0"]);
    status("The certificate for one.registry.test, two.registry.test, three.registry.test, 127.0.0.1 ends in 36");
    assert!(!server.log().contains("ends soon"));
    ok(dir, &["certs", "issue", "--days", "9"]);
    status(
        "warning: the certificate for one.registry.test, two.registry.test, three.registry.test, 127.0.0.1 ends in 8 days: renew it with",
    );
    let begun = Instant::now();
    while !server.log().contains("the certificate ends soon; replace it") {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", server.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let metrics = server.admin().get("/metrics").await.expect(200).text();
    let ends: f64 =
        metrics.lines().find_map(|line| line.strip_prefix("registry_tls_certificate_expiry_timestamp_seconds ")).unwrap().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((8.0..9.1).contains(&((ends - now) / 86_400.0)), "{ends}");
    let json: Value =
        serde_json::from_str(&ok(dir, &["status", "--json", "--tls-certificate", "certs/server.pem", "--tls-key", "certs/server-key.pem"]))
            .unwrap();
    assert_eq!(json["certificate"]["days_left"], 8);
}

#[test]
fn what_cannot_be_served_with_is_named_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certificates(dir);
    std::fs::write(dir.join("users"), "alice:plain\n").unwrap();
    std::fs::write(dir.join("spaces.toml"), "[[access]]\ngroups = [\"corp:registry admins\"]\n").unwrap();
    std::fs::write(dir.join("empty.toml"), "access = []\n").unwrap();
    for (args, words) in [
        (&["--tls-certificate", "certs/server.pem"][..], &["tls.key is missing"][..]),
        (
            &["--tls-certificate", "certs/server.pem", "--tls-key", "certs/ca-key.pem"],
            &["is not that of the certificate", "registry certs"],
        ),
        (&["--tls-certificate", "none.pem", "--tls-key", "certs/server-key.pem"], &["cannot read none.pem"]),
        (&["--ca-file", "none.pem"], &["ca_file", "cannot read"]),
        (&["--auth-users", "users"], &["auth.users", "line 1"]),
        (&["--auth-token-lifetime", "2h"], &["auth.token_lifetime", "from \"1m\" to \"1h\""]),
        (&["--access", "repositories=team/**"], &["it is for nobody"]),
        (&["--access", "users=alice,actions=fly"], &["an action is pull, push, delete or admin"]),
        (&["--access", "user=alice"], &["did you mean users?"]),
        (
            &["--access", "users=x", "--issuer", "name=corp,issuer=https://x.example,audience=me,keys=http://x.example/keys"],
            &["it has to be https"],
        ),
        (&["--access", "users=x", "--issuer", "name=corp,issuer=https://x.example,keys=keys.json"], &["audience"]),
        (&["--issuer", "name=corp,issuer=https://x.example,audience=me,keys=keys.json"], &["there is no [[access]]"]),
        (&["--auth-service", "a \"b"], &["auth.service", "a word of letters"]),
        (&["--config", "spaces.toml"], &["spaces.toml:2", "has a comma or a space in it"]),
        (&["--config", "empty.toml"], &["a access begins with [[access]]"]),
    ] {
        let output = registry(dir, &[&["--listen", "127.0.0.1:0"], args].concat());
        let (_, errors) = texts(&output);
        assert!(!output.status.success() && words.iter().all(|word| errors.contains(word)), "{args:?}: {errors}");
        assert!(!errors.contains("plain"), "{errors}");
    }
}

/// A mistake in its name must not open the registry to everybody, nor must its loss.
#[tokio::test]
async fn a_users_file_that_is_named_has_to_be_there_and_one_that_was_there_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let server = Server::start(&dir.join("data"), &["--auth-users", "nowhere"]);
    server.client().get("/v2/").await.expect(401);
    drop(server);
    // Made by other means than `registry user`, and gone after a server has seen it.
    std::fs::write(dir.join("data/users"), "alice:$2y$05$abcdefghijklmnopqrstuuD3mHdCr44zlIZ.VZCaYRpfQhXMYnEo.\n").unwrap();
    let mut server = Server::start(&dir.join("data"), &[]);
    server.client().get("/v2/").await.expect(401);
    server.stop();
    std::fs::remove_file(dir.join("data/users")).unwrap();
    let output = registry(dir, &["--data", "data", "--listen", "127.0.0.1:0"]);
    let (_, errors) = texts(&output);
    assert!(!output.status.success() && errors.contains("auth.users"), "{errors}");
}
