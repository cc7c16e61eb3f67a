//! A disk that is really full: a tiny tmpfs.

use std::path::{Path, PathBuf};
use std::process::Command;

use registry_core::Digest;
use registry_core::testing::Rng;

use crate::http::{Client, begin_upload, push_blob, push_manifest};
use crate::image::MANIFEST;
use crate::process::Server;
use crate::tools::{run, skip};

/// A mounted tmpfs, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(path);
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self(path.to_owned())),
            Ok(output) => {
                skip("a disk that is really full", &format!("mount fails: {}", String::from_utf8_lossy(&output.stderr).trim()));
                None
            }
            Err(error) => {
                skip("a disk that is really full", &format!("mount: {error}"));
                None
            }
        }
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut filler = std::fs::File::create(self.0.join("filler")).unwrap();
        for size in [1 << 20, 64 << 10, 4 << 10, 512] {
            while std::io::Write::write_all(&mut filler, &vec![7; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Refused for want of room, in words that a client understands.
fn is_full(status: u16) -> bool {
    matches!(status, 507 | 503)
}

async fn push_all_ways(client: &Client, seed: u64) -> Vec<(u16, Vec<u8>)> {
    let mut rng = Rng::new(seed);
    let mut answers = Vec::new();
    for len in [1000, 600_000, 3_000_000] {
        let content = rng.bytes(len);
        let digest = Digest::sha256(&content);
        let answer = client.send("POST", &format!("/v2/app/blobs/uploads/?digest={digest}"), &[], &content).await;
        answers.push((answer.status, content.clone()));
        let status = match begin_upload(client, "app").await {
            Err(error) => error.to_string().split(':').next().unwrap().parse().unwrap(),
            Ok(location) => match client.send("PATCH", &location, &[], &content).await.status {
                202 => client.send("PUT", &format!("{location}?digest={digest}"), &[], b"").await.status,
                other => other,
            },
        };
        answers.push((status, content));
    }
    answers
}

async fn fills_up(logs: &Path, data: &Path, disk: &Disk, args: &[&str]) {
    // The log on another disk: it is wanted when something fails here.
    let mut command = crate::process::command("registry");
    command.args(["--listen", "127.0.0.1:0", "--data"]).arg(data).args(args);
    let server = Server::spawn(command, logs);
    let client = server.client();
    let content = Rng::new(1).bytes(2_000_000);
    let digest = push_blob(&client, "app", &content).await.unwrap();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{digest}","size":2000000}},"layers":[]}}"#
    );
    push_manifest(&client, "app", "v1", manifest.as_bytes()).await.unwrap();
    let location = begin_upload(&client, "app").await.unwrap();
    let halves = Rng::new(2).bytes(2_000_000);
    client.send("PATCH", &location, &[], &halves[..1_000_000]).await.expect(202);

    disk.fill();
    let answers = push_all_ways(&client, 3).await;
    assert!(answers.iter().any(|(status, _)| is_full(*status)), "{:?}", answers.iter().map(|(status, _)| status).collect::<Vec<_>>());
    for (status, content) in &answers {
        let digest = Digest::sha256(content);
        let read = client.get(&format!("/v2/app/blobs/{digest}")).await;
        match status {
            // Some way of pushing the same content found room: then it is there.
            _ if answers.iter().any(|(status, other)| *status == 201 && other == content) => {
                assert!(read.status == 200 && read.body == *content);
            }
            status => {
                assert!(is_full(*status), "{status}");
                assert_eq!(read.status, 404, "nothing torn is visible");
            }
        }
    }
    // Reads go on.
    assert!(client.get(&format!("/v2/app/blobs/{digest}")).await.expect(200).body == content);
    assert_eq!(client.get("/v2/app/manifests/v1").await.expect(200).text(), manifest);
    client.get("/v2/app/tags/list").await.expect(200);
    let more = client.send("PATCH", &location, &[], &halves[1_000_000..]).await;
    assert!(is_full(more.status) || more.status == 202, "{} {}", more.status, more.text());

    // And with room again, so do pushes, without a restart: the upload that was refused too, from where it stands.
    disk.free();
    for (status, _) in push_all_ways(&client, 4).await {
        assert_eq!(status, 201);
    }
    let offset = usize::try_from(client.get(&location).await.expect(204).offset()).unwrap();
    assert!((1_000_000..=2_000_000).contains(&offset), "{offset}");
    let digest = Digest::sha256(&halves);
    client.send("PUT", &format!("{location}?digest={digest}"), &[], &halves[offset..]).await.expect(201);
    assert!(client.get(&format!("/v2/app/blobs/{digest}")).await.expect(200).body == halves);
}

#[tokio::test]
async fn when_the_disk_of_the_blobs_is_full_pushes_are_refused_and_reads_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(&dir.path().join("disk"), "32m") else { return };
    let zone = format!("name=local,path={}", disk.0.join("zone").display());
    fills_up(dir.path(), &dir.path().join("data"), &disk, &["--zone", &zone]).await;
}

#[tokio::test]
async fn when_the_disk_of_blobs_and_database_is_full_pushes_are_refused_and_reads_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(&dir.path().join("disk"), "32m") else { return };
    fills_up(dir.path(), &disk.0.join("data"), &disk, &["--zone", "name=local"]).await;
}

#[test]
fn validate_says_that_the_disk_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(&dir.path().join("disk"), "4m") else { return };
    let zone = format!("name=local,path={}", disk.0.join("zone").display());
    let args = ["--data", "data", "--zone", zone.as_str(), "validate"];
    run(crate::process::command("registry").current_dir(dir.path()).args(args));
    disk.fill();
    let output = crate::process::registry(dir.path(), &args);
    let (_, errors) = crate::process::texts(&output);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("zone local: write: ") && errors.to_lowercase().contains("space"), "{errors}");
}
