//! Starts and stops the servers under test.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::str::FromStr;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::client::Connection;
use crate::{Arguments, Result};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// The example server of this repository.
    Registry,
    /// docker-registry as Debian packages it.
    DockerRegistry,
    /// One that runs already, see --running.
    #[value(skip)]
    Running,
}

impl Kind {
    pub(crate) const COMPARED: [Self; 2] = [Self::Registry, Self::DockerRegistry];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Registry => "this registry",
            Self::DockerRegistry => "docker-registry",
            Self::Running => "the running server",
        })
    }
}

/// A server that somebody else started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    address: SocketAddr,
    pid: u32,
}

impl FromStr for Running {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (address, pid) = text.split_once(',').ok_or("must be ADDRESS,PID such as 127.0.0.1:5000,4711")?;
        Ok(Self { address: address.parse().map_err(|error| format!("{error}"))?, pid: pid.parse().map_err(|error| format!("{error}"))? })
    }
}

/// A server that answers. Dropping it kills the process and removes its data.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    /// Dropped before the folder: a process that is being killed must not write on.
    _process: Option<Child>,
    _data: Option<TempDir>,
}

impl Server {
    /// Starts a fresh one over an empty folder.
    pub(crate) async fn start(kind: Kind, arguments: &Arguments) -> Result<Self> {
        if let (Kind::Running, Some(Running { address, pid })) = (kind, arguments.running) {
            return Ok(Self { address, pid, _process: None, _data: None });
        }
        let data = tempfile::Builder::new().prefix("registry-bench-").tempdir_in(&arguments.folder)?;
        let address = free_address()?;
        let mut command = match kind {
            Kind::Registry => {
                let mut command = Command::new(&arguments.program);
                // Neither server writes a line per request: that would measure the loggers.
                command.arg("--listen").arg(address.to_string()).arg("--data").arg(data.path().join("data")).args(["--log", "warn"]);
                command
            }
            _ => {
                let config = data.path().join("config.yml");
                fs::write(&config, docker_registry_config(address, &data.path().join("data")))?;
                let mut command = Command::new("docker-registry");
                command.arg("serve").arg(config);
                command
            }
        };
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
                return Ok(Self { address, pid, _process: Some(process), _data: Some(data) });
            }
            if process.try_wait()?.is_some() || Instant::now() > deadline {
                return Err(format!("{kind} does not answer: {}", fs::read_to_string(&log)?).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it and waits until its data is gone, so that the next one finds the memory free.
    pub(crate) async fn stop(mut self) -> Result<()> {
        if let Some(mut process) = self._process.take() {
            process.kill().await?;
        }
        if let Some(data) = self._data.take() {
            data.close()?;
        }
        Ok(())
    }
}

/// Debian's default configuration, on loopback, without a password and with little logging.
fn docker_registry_config(address: SocketAddr, data: &Path) -> String {
    format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  cache:\n    blobdescriptor: inmemory\n  filesystem:\n    \
         rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: {address}\n",
        data.display()
    )
}

fn free_address() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// What docker-registry says its version is, if it is installed.
pub(crate) async fn docker_registry_version() -> Option<String> {
    let output = Command::new("docker-registry").arg("--version").output().await.ok()?;
    Some(String::from_utf8_lossy(&output.stdout).split_whitespace().last()?.to_owned())
}
