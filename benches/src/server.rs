//! Starts and stops the servers under test.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;

use benches::daemon::{self, Daemon};
use tokio::process::Command;

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

/// A server that answers. Dropping it kills the process, if it is ours, and removes its data.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    daemon: Option<Daemon>,
}

impl Server {
    /// Starts a fresh one over an empty folder.
    pub(crate) async fn start(kind: Kind, arguments: &Arguments) -> Result<Self> {
        if let (Kind::Running, Some(Running { address, pid })) = (kind, arguments.running) {
            return Ok(Self { address, pid, daemon: None });
        }
        let daemon = Daemon::start(&arguments.folder, |address, data| match kind {
            Kind::Registry => Ok(daemon::registry(&arguments.program, address, data)),
            _ => {
                let config = data.join("config.yml");
                fs::write(&config, docker_registry_config(address, &data.join("data")))?;
                let mut command = Command::new("docker-registry");
                command.arg("serve").arg(config);
                Ok(command)
            }
        });
        let daemon = daemon.await.map_err(|error| format!("{kind}: {error}"))?;
        Ok(Self { address: daemon.address, pid: daemon.pid, daemon: Some(daemon) })
    }

    /// Ends it and waits until its data is gone, so that the next one finds the memory free.
    pub(crate) async fn stop(self) -> Result<()> {
        match self.daemon {
            Some(daemon) => daemon.stop().await,
            None => Ok(()),
        }
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

/// What docker-registry says its version is, if it is installed.
pub(crate) async fn docker_registry_version() -> Option<String> {
    let output = Command::new("docker-registry").arg("--version").output().await.ok()?;
    Some(String::from_utf8_lossy(&output.stdout).split_whitespace().last()?.to_owned())
}
