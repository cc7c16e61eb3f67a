//! What survives a power loss is decided by the order of system calls: strace writes down that of the real server, for the real answer to a client.

use std::path::Path;
use std::process::Command;

use registry_core::Digest;
use registry_core::testing::Rng;
use rustix::process::Signal;

use crate::http::begin_upload;
use crate::process::{Server, example};
use crate::tools::have_for;

/// The lines of a trace, each behind its process id, with calls that were interrupted by others put together again.
fn calls(trace: &Path) -> Vec<String> {
    let text = String::from_utf8_lossy(&std::fs::read(trace).unwrap()).into_owned();
    let mut begun = std::collections::HashMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((pid, call)) = line.split_once(char::is_whitespace) else { continue };
        let call = call.trim_start();
        if let Some(start) = call.strip_suffix("<unfinished ...>") {
            begun.insert(pid.to_owned(), start.to_owned());
        } else if call.starts_with("<... ") {
            // A call counts where it ended: only then is it done.
            let start = begun.remove(pid).unwrap_or_default();
            calls.push(format!("{start}{call}"));
        } else {
            calls.push(call.to_owned());
        }
    }
    calls
}

#[tokio::test]
async fn bytes_then_name_then_directory_then_database_then_answer() {
    if !have_for("the order of system calls", "strace") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let mut command = Command::new("strace");
    let watched = "trace=fsync,fdatasync,rename,renameat,renameat2,write,writev,sendto,sendmsg";
    // -y tells the path of each file descriptor, -s enough of what is sent to see the status.
    command.args(["-f", "-y", "-s", "64", "-e", watched, "-o"]).arg(&trace).arg(example("registry"));
    command.args(["--listen", "127.0.0.1:0", "--log", "error", "--data"]).arg(folder.path().join("data"));
    let server = Server::spawn(command, folder.path());
    let client = server.client();

    // A large blob in the way of Docker, and a small one in one request.
    let (large, small) = (Rng::new(1).bytes(2_000_000), Rng::new(2).bytes(100));
    let location = begin_upload(&client, "order").await.unwrap();
    let location = client.send("PATCH", &location, &[], &large).await.expect(202).header("location").to_owned();
    client.send("PUT", &format!("{location}?digest={}", Digest::sha256(&large)), &[], b"").await.expect(201);
    let path = format!("/v2/order/blobs/uploads/?digest={}", Digest::sha256(&small));
    client.send("POST", &path, &[], &small).await.expect(201);
    server.signal(Signal::TERM);
    drop(server);

    let calls = calls(&trace);
    let mut from = 0;
    for content in [&large, &small] {
        let hex = Digest::sha256(content).hex();
        let find = |what: &str, from: usize, is: &dyn Fn(&str) -> bool| {
            let found = calls[from..].iter().position(|call| is(call));
            from + found.unwrap_or_else(|| panic!("no {what} behind call {from} of:\n{}", calls.join("\n")))
        };
        let rename = find("rename", from, &|call| call.starts_with("rename") && call.contains(&hex));
        let staged = calls[rename].split("uploads/").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
        let synced = calls[..rename].iter().rposition(|call| call.contains("sync(") && call.contains(&staged));
        assert!(synced.is_some(), "the bytes of {staged} are synced before they get their name:\n{}", calls.join("\n"));
        let shard = format!("blobs/sha256/{}>", &hex[..2]);
        let directory = find("sync of the directory", rename, &|call| call.contains("sync(") && call.contains(&shard));
        let database = find("sync of the database", directory, &|call| call.contains("sync(") && call.contains("-wal>"));
        let answer = find("answer", database, &|call| call.contains("HTTP/1.1 201"));
        let too_soon = calls[from..answer].iter().any(|call| call.contains("HTTP/1.1 201"));
        assert!(!too_soon, "an answer before all was durable:\n{}", calls.join("\n"));
        from = answer + 1;
    }
}
