//! A server under test.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::client::Connection;
use crate::measure::Result;

/// A registry in a process of its own that answers. Dropping it kills the process and removes its data.
#[derive(Debug)]
pub struct Daemon {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process.
    pub pid: u32,
    /// Dropped before the folder: a process that is being killed must not write on.
    process: Child,
    data: TempDir,
}

impl Daemon {
    /// Starts what `command` makes of an address to listen at and an empty folder in `folder`, and waits until it answers.
    pub async fn start(folder: &Path, command: impl FnOnce(SocketAddr, &Path) -> Result<Command>) -> Result<Self> {
        let data = tempfile::Builder::new().prefix("registry-bench-").tempdir_in(folder)?;
        let address = free_address()?;
        let mut command = command(address, data.path())?;
        let log = data.path().join("log");
        command.stdin(Stdio::null()).stdout(fs::File::create(&log)?).stderr(fs::File::options().append(true).open(&log)?);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("REGISTRY_") {
                command.env_remove(name);
            }
        }
        let mut process = command.kill_on_drop(true).spawn().map_err(|error| format!("cannot start {:?}: {error}", command.as_std()))?;
        let pid = process.id().ok_or("the server ended at once")?;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Ok(mut connection) = Connection::open(address).await
                && connection.get("/v2/", "").await.is_ok()
            {
                return Ok(Self { address, pid, process, data });
            }
            if process.try_wait()?.is_some() || Instant::now() > deadline {
                return Err(format!("the server does not answer: {}", fs::read_to_string(&log)?).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it and waits until its data is gone, so that the next one finds the memory free.
    pub async fn stop(mut self) -> Result<()> {
        self.process.kill().await?;
        self.data.close()?;
        Ok(())
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The example server, which writes no line per request: that would measure the log.
pub fn registry(program: &Path, address: SocketAddr, data: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--listen").arg(address.to_string()).arg("--data").arg(data.join("data")).args(["--log", "warn"]);
    command
}
