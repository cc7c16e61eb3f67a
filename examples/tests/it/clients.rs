//! Real clients: skopeo, podman, buildah.

use std::path::Path;
use std::process::Command;

use crate::image::{Layout, blobs, roots};
use crate::process::Server;
use crate::tools::{have, run, skip, told};

/// `skopeo copy` without TLS, byte for byte.
pub(crate) fn copy(from: &str, to: &str) {
    let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    let remote = [from.starts_with("docker:"), to.starts_with("docker:")];
    let flags = plain.iter().zip(remote).filter_map(|(flag, wanted)| wanted.then_some(*flag));
    run(Command::new("skopeo").args(["copy", "--all", "--quiet", "--preserve-digests"]).args(flags).args([from, to]));
}

/// The two layouts hold the same tags and the same bytes.
pub(crate) fn assert_same(one: &Path, other: &Path) {
    assert_eq!(roots(one), roots(other));
    assert_eq!(blobs(one), blobs(other));
}

#[test]
fn skopeo_pushes_and_pulls_an_image_byte_for_byte() {
    if !have("skopeo") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let (source, back) = (dir.path().join("source"), dir.path().join("back"));
    let mut layout = Layout::new(&source);
    layout.add_image("v1", 1, &[0, 1, 70_000, 3 << 20]);
    layout.finish();
    let remote = format!("docker://{}/team/deep/er/app:v1", server.address);
    copy(&format!("oci:{}:v1", source.display()), &remote);
    copy(&remote, &format!("oci:{}:v1", back.display()));
    assert_same(&source, &back);
    // Once more: everything is there already, and a second repository mounts it.
    copy(&format!("oci:{}:v1", source.display()), &remote);
    copy(&remote, &format!("docker://{}/another/app:v1", server.address));
}

#[test]
fn skopeo_pushes_and_pulls_an_image_for_many_platforms() {
    if !have("skopeo") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let (source, back) = (dir.path().join("source"), dir.path().join("back"));
    let mut layout = Layout::new(&source);
    layout.add_index("all", 10, &["amd64", "arm64", "riscv64"]);
    layout.finish();
    let remote = format!("docker://{}/multi:all", server.address);
    copy(&format!("oci:{}:all", source.display()), &remote);
    copy(&remote, &format!("oci:{}:all", back.display()));
    assert_same(&source, &back);
    let raw = run(Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &remote]));
    assert_eq!(registry_core::Digest::sha256(raw.as_bytes()).to_string(), roots(&source)[0]);
}

#[test]
fn skopeo_inspects_lists_tags_and_deletes() {
    if !have("skopeo") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let source = dir.path().join("source");
    let mut layout = Layout::new(&source);
    layout.add_image("v1", 1, &[1000]);
    layout.add_image("v2", 2, &[2000]);
    layout.finish();
    let remote = format!("docker://{}/app", server.address);
    for tag in ["v1", "v2"] {
        copy(&format!("oci:{}:{tag}", source.display()), &format!("{remote}:{tag}"));
    }
    let skopeo = |args: &[&str]| run(Command::new("skopeo").arg(args[0]).arg("--tls-verify=false").args(&args[1..]));
    let tags: serde_json::Value = serde_json::from_str(&skopeo(&["list-tags", &remote])).unwrap();
    assert_eq!(tags["Tags"], serde_json::json!(["v1", "v2"]));
    let inspected: serde_json::Value = serde_json::from_str(&skopeo(&["inspect", &format!("{remote}:v1")])).unwrap();
    assert!(roots(&source).contains(&inspected["Digest"].as_str().unwrap().to_owned()), "{inspected}");
    assert_eq!(inspected["Architecture"], "amd64");
    skopeo(&["delete", &format!("{remote}:v1")]);
    let tags: serde_json::Value = serde_json::from_str(&skopeo(&["list-tags", &remote])).unwrap();
    assert_eq!(tags["Tags"], serde_json::json!(["v2"]));
    let gone = Command::new("skopeo").args(["inspect", "--tls-verify=false", &format!("{remote}:v1")]).output().unwrap();
    assert!(!gone.status.success() && told(&gone).contains("manifest unknown"), "{}", told(&gone));
}

/// A container tool with storage of its own in `dir`.
pub(crate) fn tool(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--root").arg(dir.join("root")).arg("--runroot").arg(dir.join("run")).args(["--storage-driver", "vfs"]);
    if program == "podman" {
        command.args(["--cgroup-manager", "cgroupfs"]);
    }
    command.env("TMPDIR", dir);
    command
}

/// Runs a step that the kernel may refuse: `None` then, with the exact error told.
pub(crate) fn may(what: &str, command: &mut Command) -> Option<String> {
    let output = command.output().unwrap();
    if output.status.success() {
        return Some(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    skip(what, &format!("{command:?} fails: {}", told(&output).trim()));
    None
}

#[test]
fn buildah_builds_pushes_and_pulls() {
    if !have("buildah") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    std::fs::create_dir_all(&here).unwrap();
    std::fs::create_dir_all(&there).unwrap();
    std::fs::write(dir.path().join("hello"), "what buildah copied in").unwrap();
    // What needs the kernel's leave comes before what needs the registry.
    let what = "pushes and pulls by buildah";
    let Some(container) = may(what, tool("buildah", &here).args(["from", "scratch"])) else { return };
    let Some(_) = may(what, tool("buildah", &here).args(["copy", &container]).arg(dir.path().join("hello")).arg("/hello")) else { return };
    let Some(_) = may(what, tool("buildah", &here).args(["commit", &container, "built"])) else { return };
    let remote = format!("{}/built/by-buildah:v1", server.address);
    run(tool("buildah", &here).args(["push", "--tls-verify=false", "built", &format!("docker://{remote}")]));
    run(tool("buildah", &there).args(["pull", "--tls-verify=false", &remote]));
    let container = run(tool("buildah", &there).args(["from", "--pull-never", &remote]));
    let mounted = run(tool("buildah", &there).args(["mount", container.trim()]));
    assert_eq!(std::fs::read_to_string(Path::new(mounted.trim()).join("hello")).unwrap(), "what buildah copied in");
    run(tool("buildah", &there).args(["rm", "--all"]));
}

#[test]
fn podman_pulls_tags_and_pushes() {
    if !have("podman") {
        return;
    }
    // podman takes the path for a name, and names have no capitals.
    let dir = tempfile::Builder::new().prefix(&registry_core::random_id()).rand_bytes(0).tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let (here, there, source) = (dir.path().join("here"), dir.path().join("there"), dir.path().join("source"));
    std::fs::create_dir_all(&here).unwrap();
    std::fs::create_dir_all(&there).unwrap();
    let mut layout = Layout::new(&source);
    layout.add_image("v1", 7, &[1000, 300_000]);
    layout.finish();
    let what = "pushes and pulls by podman";
    let from = format!("oci:{}:v1", source.display());
    let Some(id) = may(what, tool("podman", &here).args(["pull", "--quiet", &from])) else { return };
    let remote = format!("{}/by/podman:v1", server.address);
    run(tool("podman", &here).args(["push", "--quiet", "--tls-verify=false", &id, &remote]));
    let pulled = run(tool("podman", &there).args(["pull", "--quiet", "--tls-verify=false", &remote]));
    // The id is the digest of the configuration, which names every layer's content.
    assert_eq!(pulled.trim(), id);
    let second = format!("{}/by/podman:v2", server.address);
    run(tool("podman", &there).args(["tag", &id, &second]));
    run(tool("podman", &there).args(["push", "--quiet", "--tls-verify=false", &second]));
    for store in [&here, &there] {
        run(tool("podman", store).args(["rmi", "--all", "--force"]));
    }
}
