//! The command line: one file a command.

mod certs;
mod config;
mod gc;
pub(crate) mod image;
mod job;
mod password;
mod reconcile;
mod replay;
mod scrub;
mod serve;
mod status;
mod text;
mod user;
mod validate;
mod wait;
mod zone;

use std::future::Future;
use std::io::Write as _;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::config::{Config, Values, args, unknown_variables, zone_beside_another};
use crate::failure::Failure;
use crate::logging;

pub(crate) use self::user::failure as user_failure;

/// A container registry: push images to it, pull them from it.
#[derive(Debug, Parser)]
#[command(
    name = "registry",
    version,
    args_conflicts_with_subcommands = false,
    long_about = "A container registry: push images to it, pull them from it.\n\n\
                  With nothing given it serves on http://127.0.0.1:5000 and keeps everything in ./data.\n\
                  -h shows the settings to begin with, --help all of them; every setting can also be given by environment variable or in a file.",
    after_help = "Examples:\n  \
        registry                                    serve on http://127.0.0.1:5000, data in ./data\n  \
        registry --listen 0.0.0.0:5000 --data /srv/registry\n  \
        registry config example > registry.toml     a file with every setting, explained\n  \
        registry --config registry.toml validate    try the configuration before it is used\n  \
        registry status                             how each zone is\n  \
        registry zone drain boston                  empty a zone\n  \
        registry gc --dry-run                       what garbage collection would remove\n\n\
        Exit codes:\n  \
        0    done, or stopped by a signal and everything in progress ended\n  \
        1    failed: standard error says why and what to do\n  \
        2    the command line or the configuration is wrong\n  \
        130  stopped at once by a second signal"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve (what happens when no command is given)
    Serve,
    /// Try the configuration: write to each zone and read back, ask the database
    #[command(after_help = "Nothing that is stored is changed. Each step is printed; the exit code is 1 if one failed.")]
    Validate(validate::Options),
    /// Show how each zone is, or where an image is
    #[command(after_help = "Examples:\n  \
                            registry status                     each zone: how it is, what it has, what is still to be copied\n  \
                            registry status team/app:v1         which zones have all of that image\n  \
                            registry status --failures          what could not be copied, and why")]
    Status(status::Options),
    /// Wait until an image can be pulled from a zone
    #[command(after_help = "For pipelines that push in one place and deploy in another:\n  \
                      registry wait team/app:v1 --zone leo --timeout 5m\n\n\
                      The exit code is 1 if it is not there in time, and at once if nobody has pushed it. A server's admin listener answers the same at\n  \
                      /replication/wait?image=team/app:v1&zone=leo&timeout=5m")]
    Wait(wait::Options),
    /// Try failed copies again at once
    #[command(
        after_help = "A failed copy is tried again by itself, ever more rarely. After this it is due at once; a running server makes it."
    )]
    Replay(replay::Options),
    /// Add a zone, take one out of use for a while, or for good
    #[command(
        subcommand,
        after_help = "Examples:\n  \
                      registry zone add tokyo             after its [[zone]] was added and the servers restarted: how far it is filled\n  \
                      registry zone cordon boston         nothing new is written there, while its storage is looked after\n  \
                      registry zone uncordon boston\n  \
                      registry zone drain boston          everything is moved to the other zones\n  \
                      registry zone remove boston         and then the registry forgets it"
    )]
    Zone(zone::Command),
    /// Compare what is in the zones with what is known of it, and put it right
    #[command(
        after_help = "Copies that are gone are made again. Blobs that repositories hold and the database of placements has lost are read and then trusted. What nobody\n\
                            knows is deleted once it is older than replication.keep_unknown. A zone that lacks more than one in twenty of its blobs is not believed: nothing\n\
                            is changed then."
    )]
    Reconcile(reconcile::Options),
    /// Read what is stored, and make again from another zone what has rotted
    #[command(after_help = "A server does the same by itself every replication.scrub_interval, give or take a sixth.")]
    Scrub(scrub::Options),
    /// Remove what no image needs any more, beside a running server
    #[command(
        after_help = "A blob goes when no manifest of any repository has needed it for gc.grace, and its bytes gc.trash_delay later.\n\
                            A server does the same by itself every gc.interval."
    )]
    Gc(gc::Options),
    /// Who may log in: add users, change and remove them
    #[command(
        subcommand,
        after_help = "Examples:\n  \
                      registry user add alice --group writers     asks for the password\n  \
                      registry user add ci --group writers --password-file ci.password\n  \
                      registry user groups alice admins           puts her into this group and no other\n  \
                      registry user list\n\n\
                      The users are in a file of Apache's htpasswd form (auth.users). Running servers notice changes within seconds."
    )]
    User(user::Command),
    /// Make an own certificate authority, and the server's certificate with it
    #[command(
        subcommand,
        after_help = "Examples:\n  \
                      registry certs ca\n  \
                      registry certs issue --host registry.example.com --ip 10.0.0.1\n  \
                      registry certs issue                the same names for another year"
    )]
    Certs(certs::Command),
    /// Show the configuration, or a file to begin one with
    #[command(subcommand)]
    Config(config::Command),
}

/// All that may be said. Every command takes every setting; its help shows its own options, and where the others are.
fn command_line() -> clap::Command {
    fn hide_settings(command: &mut clap::Command) {
        for command in command.get_subcommands_mut().filter(|command| command.get_name() != "serve") {
            let is_setting = |arg: &clap::Arg| arg.is_global_set() && !SHOWN.contains(&arg.get_id().as_str());
            *command = std::mem::take(command).mut_args(|arg| if is_setting(&arg) { arg.hide(true) } else { arg });
            hide_settings(command);
        }
    }
    const SHOWN: [&str; 2] = ["config", "data"];
    let mut command = Cli::command().args(args());
    for name in ["reconcile", "scrub", "wait"] {
        command = command.mut_subcommand(name, |command| command.arg(zone_beside_another()));
    }
    command.build();
    hide_settings(&mut command);
    command
}

/// Runs the command that the process was started with.
pub(crate) fn run() -> Result<(), Failure> {
    let matches = command_line().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let command = cli.command.unwrap_or(Command::Serve);
    match &command {
        Command::Config(config::Command::Example) => return config::example(),
        Command::Config(config::Command::FromQuay { file }) => return config::from_quay(file),
        Command::Certs(command) => return certs::run(command),
        _ => {}
    }
    let values = Values::gather(&matches)?;
    if let Command::Config(config::Command::Show) = command {
        return config::show(&values);
    }
    let config = values.resolve()?;
    logging::start(&config, matches!(command, Command::Serve));
    for (name, problem) in unknown_variables() {
        tracing::warn!("environment variable {name}: {problem}");
    }
    match command {
        Command::Serve => on_threads(&config, serve::run(&config)),
        Command::Validate(options) => on_threads(&config, validate::run(&config, &options)),
        Command::Status(options) => on_threads(&config, status::run(&config, &options)),
        Command::Wait(options) => on_threads(&config, wait::run(&config, &options)),
        Command::Replay(options) => on_threads(&config, replay::run(&config, &options)),
        Command::Zone(command) => on_threads(&config, zone::run(&config, &command)),
        Command::Reconcile(options) => on_threads(&config, reconcile::run(&config, &options)),
        Command::Scrub(options) => on_threads(&config, scrub::run(&config, &options)),
        Command::Gc(options) => on_threads(&config, gc::run(&config, &options)),
        Command::User(command) => user::run(&config.auth.users, &command),
        Command::Config(_) | Command::Certs(_) => Ok(()),
    }
}

/// Runs a command on a runtime of the configured size.
fn on_threads(config: &Config, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = config.worker_threads {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_all().build().map_err(|error| Failure::because("cannot start threads", &error))?;
    let outcome = runtime.block_on(work);
    // What still hangs in a blocking call, on a disk that does not answer, must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}

/// Prints to standard output. A reader that went away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::because("cannot write to standard output", &error)),
        _ => Ok(()),
    }
}

/// Prints a value as one line of JSON.
fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value}\n"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    /// As clap wants it, and only says where debug assertions are compiled in.
    #[track_caller]
    fn each_flag_is_there_once(command: &clap::Command) {
        let mut known = HashSet::new();
        for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(known.insert(flag), "{} has --{flag} twice", command.get_name());
        }
        command.get_subcommands().for_each(each_flag_is_there_once);
    }

    #[test]
    fn no_command_has_a_flag_twice() {
        each_flag_is_there_once(&super::command_line());
    }
}
