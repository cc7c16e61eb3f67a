//! Starting and ending the example programs.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::http::Client;

/// How long a program may take to begin serving, on a busy machine.
const START: Duration = Duration::from_secs(60);

/// How long a command may take, on a busy machine.
const LONGEST: Duration = Duration::from_secs(180);

/// The built example of this name, beside the test binary: `target/<profile>/examples/<name>`.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.is_file(), "{} is missing: `cargo test` builds it, `cargo test --test it` does not", path.display());
    path
}

/// A command that sees nothing of the settings that this process was started with.
pub(crate) fn command(name: &str) -> Command {
    let mut command = Command::new(example(name));
    for (name, _) in std::env::vars() {
        if (name.starts_with("REGISTRY_") && !name.starts_with("REGISTRY_TEST_")) || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs `registry` to its end in `dir`; one that has none is told to stop, so that what it says is seen.
pub(crate) fn registry(dir: &Path, args: &[&str]) -> Output {
    let mut command = command("registry");
    let child = command.current_dir(dir).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let (ended, end) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        for signal in [Signal::TERM, Signal::KILL] {
            if end.recv_timeout(LONGEST) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = kill_process(pid, signal);
            }
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    watch.join().unwrap();
    output
}

/// Standard output and standard error as text.
pub(crate) fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// A program that serves, killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// What it had printed when it said where it serves.
    pub(crate) welcome: String,
    /// Where it serves: `127.0.0.1:12345`.
    pub(crate) address: String,
    log: PathBuf,
}

impl Server {
    /// Starts `registry` over this data directory on a free port.
    pub(crate) fn start(data: &Path, args: &[&str]) -> Self {
        let mut command = command("registry");
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(data).args(args);
        Self::spawn(command, data.parent().unwrap())
    }

    /// Starts a program that prints where it serves; its log goes to a file in `logs`.
    pub(crate) fn spawn(mut command: Command, logs: &Path) -> Self {
        std::fs::create_dir_all(logs).unwrap();
        let log = logs.join(format!("server-{}.log", registry_core::random_id()));
        let mut child = command.stdout(Stdio::piped()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            // Read to the end even when nobody listens any more, so that the program never waits for a full pipe.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let mut server = Self { child, welcome: String::new(), address: String::new(), log };
        let deadline = Instant::now() + START;
        while server.address.is_empty() {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => server.note(&line),
                Err(error) => panic!("{command:?} does not serve ({error}):\n{}", server.log()),
            }
        }
        // What follows at once belongs to the welcome too.
        while let Ok(line) = lines.recv_timeout(Duration::from_millis(50)) {
            server.note(&line);
        }
        server
    }

    fn note(&mut self, line: &str) {
        self.welcome.push_str(line);
        self.welcome.push('\n');
        let here = ["serves on http://", "serving on http://", "serves on https://"].iter().find_map(|words| line.split_once(words));
        if let Some((_, rest)) = here.filter(|_| self.address.is_empty()) {
            self.address = rest.split([' ', ';']).next().unwrap().to_owned();
        }
    }

    /// The address of the admin listener.
    pub(crate) fn admin(&self) -> Client {
        let (_, rest) = self.welcome.split_once("Health and metrics:  http://").expect("an admin listener");
        Client::new(rest.split('/').next().unwrap())
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.address)
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it, whatever it does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end within {patience:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        assert!(self.wait(Duration::from_secs(40)).success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("the last of the server's log:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}
